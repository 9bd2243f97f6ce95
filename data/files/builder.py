"""What builders of data sets have in common: settings that they read in one way, and what they return."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bigstep.config import DataConfig
from bigstep.errors import ConfigError
from bigstep.records.architecture import InputSpec
from bigstep.records.images import SPLIT_FIELDS, SplitName
from data.files.deferred import Deferred
from data.files.seen import Seen

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """One split: pixels uint8 (N, H, W, C), labels int64 (N,), bias int64 (N, A), ids and sources int64 (N,).

    The pixels are in memory, or still in image files; indexing chooses images either way, without decoding any.
    Images made from one source picture share its number: they are not independent.
    """

    images: NDArray[np.uint8] | Deferred
    labels: NDArray[np.int64]
    bias: NDArray[np.int64]
    ids: NDArray[np.int64]
    sources: NDArray[np.int64]

    @classmethod
    def at(
        cls,
        places_N: NDArray[np.int64],
        images: NDArray[np.uint8] | Deferred,
        labels_N: NDArray[np.int64],
        bias_NA: NDArray[np.int64],
    ) -> "Part":
        """Return a split of images that are made from one picture each, which lies at its place among the sources."""
        return cls(images, labels_N, bias_NA, ids=places_N, sources=places_N)

    def take(self, rows: NDArray[np.int64]) -> "Part":
        """Return some of the images, in the order of their rows."""
        return Part(*(getattr(self, field)[rows] for field in SPLIT_FIELDS))


@dataclass(frozen=True)
class Built:
    """A whole data set; `attributes` maps each column of `bias`, in order, to the names of its values.

    `core` and `spurious` say which pixels of each test image carry the label and which the bias: bool (N, H, W), or
    None where place does not matter (a colour on the digit itself, a corruption of the whole image). `mixed` says
    that training images are in random order already; else the stage puts them so. `judge` returns, or raises, the
    findings that only decoding can show, once every file has been decoded.
    """

    name: str
    labels: list[str]
    attributes: dict[str, list[str]]
    input: InputSpec
    parts: dict[SplitName, Part]
    core: NDArray[np.bool_] | None = None
    spurious: NDArray[np.bool_] | None = None
    findings: list[str] = field(default_factory=list)
    mixed: bool = False
    judge: Callable[[Seen], list[str]] | None = None


def square(config: DataConfig, default_px: int) -> InputSpec:
    """Return the input of images that become squares of `data.size_px` pixels, or else of the default side."""
    side = config.size_px or default_px
    return InputSpec(height_px=side, width_px=side, fit=config.fit)


def variant(config: DataConfig, variants: Mapping[str, T]) -> tuple[str, T]:
    """Return the name that `data.variant` gives, by default the first one, and what it stands for.

    Raises:
        ConfigError: there is no such variant.
    """
    name = config.variant or next(iter(variants))
    if name not in variants:
        raise ConfigError(
            f"{config.kind} has no such variant",
            got=repr(name),
            expected=f"one of {', '.join(variants)}",
            do="set data.variant",
        )
    return name, variants[name]

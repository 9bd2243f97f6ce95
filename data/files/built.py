"""What every builder returns: the splits of a data set, and what is known about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bigstep.records.architecture import InputSpec
from bigstep.records.images import SPLIT_FIELDS, SplitName
from data.files.deferred import Deferred
from data.files.seen import Seen


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
    ) -> Part:
        """Return a split of images that are made from one picture each, which lies at its place among the sources."""
        return cls(images, labels_N, bias_NA, ids=places_N, sources=places_N)

    def take(self, rows: NDArray[np.int64]) -> Part:
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

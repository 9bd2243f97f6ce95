"""The images of a run, sealed: four splits with labels and bias values, and what is known about them."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigstep.groups import aligned_members
from bigstep.records.architecture import InputSpec
from bigstep.records.sealed import Record, Value


class ImagesInfo(Value):
    """What is known of a data set: names of labels and bias attributes, which cells training over-represents, findings.

    `attributes` maps each bias attribute, in column order, to the names of its values (possibly no attribute);
    `aligned[attribute][label][value]` is true where training shows the value more often in the class than overall.
    """

    name: str
    labels: list[str]
    attributes: dict[str, list[str]]
    aligned: dict[str, list[list[bool]]]
    input: InputSpec
    counts: dict[str, int]
    findings: list[str]


@dataclass(frozen=True)
class Split:
    """One split: pixels uint8 (N, H, W, C), labels int64 (N,), bias int64 (N, A), ids and sources int64 (N,).

    Images of one `source` (one digit in several colours) are not independent: intervals are clustered by it.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    bias: NDArray[np.int64]
    ids: NDArray[np.int64]
    sources: NDArray[np.int64]
    aligned: NDArray[np.bool_] | None


SplitName = Literal["train", "validation_biased", "validation", "test"]
SPLIT_FIELDS = ("images", "labels", "bias", "ids", "sources")
FILES, FILES_HEADER = "files.csv", ("split", "id", "path", "sha256")


class SourceFile(NamedTuple):
    """The file that an image was made from: its path below the source folder, and the SHA-256 of its bytes."""

    id: int
    path: str
    sha256: str


@dataclass(frozen=True)
class Images(Record[ImagesInfo]):
    """A data set. The same configuration and seed give the same bytes."""

    kind: ClassVar[str] = "images"
    Info: ClassVar[type[Any]] = ImagesInfo

    def split(self, name: SplitName) -> Split:
        """Return one split, memory-mapped."""
        arrays = {field: self.array(f"{name}.{field}.npy") for field in SPLIT_FIELDS}
        tables = [np.array(self.info.aligned[a], dtype=np.bool_) for a in self.info.attributes]
        aligned = aligned_members(arrays["labels"], arrays["bias"], tables) if tables else None
        return Split(**arrays, aligned=aligned)

    def source_files(self, name: SplitName) -> list[SourceFile] | None:
        """Return the file of every image of a split, in order; None if images were not made from files of their own."""
        if not (self.folder / FILES).exists():
            return None
        with (self.folder / FILES).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.DictReader(file)
            return [SourceFile(int(r["id"]), r["path"], r["sha256"]) for r in rows if r["split"] == name]

    def mask(self, region: Literal["core", "spurious"]) -> NDArray[np.bool_] | None:
        """Return which pixels of each test image carry the label (core) or the bias (spurious), bool (N, H, W).

        None where that is not known, or where place does not matter.
        """
        name = f"test.{region}.npy"
        return self.array(name) if (self.folder / name).exists() else None

    def value_names(self) -> Mapping[str, list[str]]:
        """Return the names of the values of `label` and of every attribute, as `groups.members` takes them."""
        return {"label": self.info.labels, **self.info.attributes}

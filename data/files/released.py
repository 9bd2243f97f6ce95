"""The images of a released data set before one of them is decoded: which there are, and which split has which.

Shapes: N images, A bias attributes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec
from bigstep.records.images import SplitName
from data.files.builder import Part
from data.files.deferred import Deferred
from data.files.hashing import hash_files
from data.files.sources import existing
from data.files.splits import draw

CARVED: dict[SplitName, int] = {"train": 95, "validation_biased": 5}  # per cent of the train that is released
NUMBERED: tuple[SplitName, ...] = ("train", "validation", "test")  # as 0, 1 and 2 in the tables of several releases


@dataclass(frozen=True)
class Release:
    """What a release says of its images: labels int64 (N,), bias int64 (N, A), ids int64 (N,), and rows by split.

    `files` are N paths relative to `root`, the folder of the images; `tables` are the files that say all this.
    """

    root: Path
    files: Sequence[str]
    labels: NDArray[np.int64]
    bias: NDArray[np.int64]
    ids: NDArray[np.int64]
    splits: Mapping[SplitName, NDArray[np.int64]]
    tables: Sequence[Path] = ()

    def source_files(self) -> list[Path]:
        """Return every file that the release is read from; a DataError names those that are not there."""
        return [*self.tables, *existing(self.root, self.files)]

    def carved(self, cells_N: NDArray[np.int64], seed: int, shares: Mapping[SplitName, int] = CARVED) -> "Release":
        """Split the images of train at random, with exact shares per label and the cells spread evenly."""
        train = self.splits["train"]
        drawn = draw(self.labels[train], cells_N[train], self.ids[train], shares, np.random.default_rng(seed))
        splits = {name: train[rows] for name, rows in drawn.items()}
        return replace(self, splits=splits | {name: rows for name, rows in self.splits.items() if name not in splits})

    def differences(
        self, cells_N: NDArray[np.int64], released: Mapping[SplitName, Sequence[int]], of: str
    ) -> list[str]:
        """Say, as findings, in which splits the images of each cell are not as many as released; see below."""
        counts = {name: np.bincount(cells_N[self.splits[name]], minlength=len(released[name])) for name in released}
        return [line for name, found in counts.items() for line in differences(name, found, released[name], of)]

    def parts(self, spec: InputSpec, work: Path | None) -> dict[SplitName, Part]:
        """Hash the images, to be decoded when they are written; each is its own source.

        Args:
            work: where an interrupted run goes on from.

        Raises:
            DataError: a split is empty, or a file is missing.
        """
        for name, rows in self.splits.items():
            if not len(rows):
                raise DataError(f"the split {name} has no images", do="take the files from the release")
        existing(self.root, self.files)
        pixels = Deferred(hash_files(self.root, self.files, work), np.arange(len(self.files)), spec)
        return {
            name: Part.at(self.ids[rows], pixels[rows], self.labels[rows], self.bias[rows])
            for name, rows in self.splits.items()
        }


def numbered_splits(ids_N: NDArray[np.int64], numbers_N: NDArray[np.int64]) -> dict[SplitName, NDArray[np.int64]]:
    """Return the rows of each split, in the order of their ids, from a column that numbers the splits."""
    order = np.argsort(ids_N)
    return {name: order[numbers_N[order] == number] for number, name in enumerate(NUMBERED)}


def differences(split: str, counts: ArrayLike, released: Sequence[int], of: str) -> list[str]:
    """Say, as a finding, that counts are not those of the release; nothing if they are.

    Args:
        of: what is counted, for example `images per label x place`.
    """
    found: list[int] = np.asarray(counts).tolist()
    if found == list(released):
        return []
    ours, theirs = (" / ".join(f"{count:,}" for count in some) for some in (found, released))
    return [f"{split}: {ours} {of}, where the release has {theirs}"]

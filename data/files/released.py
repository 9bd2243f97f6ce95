"""What readers of released data sets share: files to look for, tables of labels, images listed before they are decoded.

Shapes: N images, A bias attributes.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec
from bigstep.records.images import SplitName
from data.files.built import Part
from data.files.deferred import Deferred
from data.files.hashing import hash_files
from data.files.splits import draw

CARVED: dict[SplitName, int] = {"train": 95, "validation_biased": 5}  # per cent of the train that is released
SUFFIXES = (".png", ".jpg", ".jpeg")
SHOWN = 5  # examples in a message


def find(root: Path, candidates: Sequence[str], do: str) -> Path:
    """Return the first of some files or folders that exists.

    Args:
        root: the source folder.
        candidates: paths relative to it, the most usual first.
        do: where the files come from, how large they are, and where they belong.

    Raises:
        DataError: none of them exists; the message lists them, and what is there instead.
    """
    for candidate in candidates:
        if (root / candidate).exists():
            return root / candidate
    there = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    got = f"in {root}: {_some(there) or 'nothing'}"
    raise DataError("source files are missing", got=got, expected=" or ".join(candidates), do=do)


def image_names(folder: Path) -> list[str]:
    """Return the PNG and JPEG files in a folder and below it as paths relative to it, sorted; not the hidden ones.

    Raises:
        DataError: a folder cannot be read.
    """
    found: list[str] = []
    for parent, _, names in os.walk(folder, onerror=_unreadable):
        below = Path(parent).relative_to(folder)
        found += [
            (below / name).as_posix() for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    return sorted(found)


def _unreadable(error: OSError) -> None:
    raise DataError("a folder cannot be read", got=error) from error


# ---- Tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Hold columns of text; the rows begin at line `first_line` of the file, counted from 1."""

    file: Path
    first_line: int
    columns: dict[str, list[str]]

    def codes(self, column: str, codes: Mapping[str, int]) -> NDArray[np.int64]:
        """Return a column as numbers, int64 (N,); a DataError names the line of a value that is not in `codes`."""
        texts = self.columns[column]
        for row, text in enumerate(texts):
            if text not in codes:
                raise self._error(row, f"{column} = {text!r}", "one of " + ", ".join(codes))
        return np.array([codes[text] for text in texts], dtype=np.int64)

    def numbers(self, column: str, texts: Iterable[str] | None = None) -> NDArray[np.int64]:
        """Return a column, or texts made from it, as whole numbers that occur once, int64 (N,)."""
        rows: dict[int, int] = {}
        for row, text in enumerate(self.columns[column] if texts is None else texts):
            if not (text.isascii() and text.isdecimal() and len(text) < 19):
                raise self._error(row, f"{column}: {text!r}", "a whole number")
            if rows.setdefault(int(text), row) != row:
                raise self._error(row, f"{column}: {text} a second time", "a number that occurs once")
        return np.array(list(rows), dtype=np.int64)

    def _error(self, row: int, got: str, expected: str) -> DataError:
        return DataError(
            f"{self.file}, line {self.first_line + row}: wrong value",
            got=got,
            expected=expected,
            do="take the file from the release",
        )


def read_table(
    file: Path,
    wanted: Sequence[str],
    parse: Callable[[TextIO], Iterator[list[str]]] = csv.reader,
    first_line: int = 2,
) -> Table:
    """Read columns of a table, by default of a CSV file that begins with a header.

    Args:
        wanted: names of columns.
        parse: yields the header and then every row; empty rows do not count.
        first_line: the line of the first row after the header, from 1.

    Raises:
        DataError: a column is absent, a row is too short or too long, or the file is no text.
    """
    do = "take the file from the release"
    columns: dict[str, list[str]] = {name: [] for name in wanted}
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            rows = parse(text)
            header = next(rows, [])
            if absent := [name for name in wanted if name not in header]:
                raise DataError(f"{file} lacks columns", got=_some(header), expected=", ".join(absent), do=do)
            places = [(header.index(name), columns[name]) for name in wanted]
            for number, row in enumerate(rows, start=first_line):
                if row and len(row) != len(header):
                    got, expected = f"{len(row)} fields", f"{len(header)}, as in the header"
                    raise DataError(f"{file}, line {number}: wrong number of fields", got=got, expected=expected, do=do)
                for place, column in places if row else ():
                    column.append(row[place])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is no table that can be read", got=error, expected="text in UTF-8", do=do) from error
    return Table(file, first_line, columns)


# ---- Images ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entries:
    """Hold images that are not yet decoded: labels int64 (N,), bias int64 (N, A), ids int64 (N,).

    `files` are N paths relative to the folder of the release.
    """

    files: Sequence[str]
    labels: NDArray[np.int64]
    bias: NDArray[np.int64]
    ids: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Entries:
        """Return some of the images, by row numbers or by a mask."""
        chosen = np.arange(len(self.labels))[rows]
        files = [self.files[row] for row in chosen]
        return Entries(files, self.labels[chosen], self.bias[chosen], self.ids[chosen])

    def split(self, cells_N: NDArray[np.int64], shares: Mapping[SplitName, int], seed: int) -> dict[SplitName, Entries]:
        """Split the images at random, with exact shares per label and the cells spread evenly (`data.files.splits`)."""
        rows = draw(self.labels, cells_N, self.ids, shares, np.random.default_rng(seed))
        return {name: self.take(chosen) for name, chosen in rows.items()}


@dataclass(frozen=True)
class Release:
    """Hold what a release says of its images, before one is decoded: the tables that were read, and each split.

    `root` is the folder in which the images lie.
    """

    root: Path
    tables: Sequence[Path]
    train: Entries
    validation: Entries
    test: Entries

    def splits(self) -> dict[SplitName, Entries]:
        """Return the splits by our names, as released."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def carved(self, cells_N: NDArray[np.int64], seed: int) -> dict[SplitName, Entries]:
        """Return the four splits, `validation_biased` being CARVED out of train with its share of every cell."""
        return {**self.train.split(cells_N, CARVED, seed), "validation": self.validation, "test": self.test}

    def files(self) -> list[Path]:
        """Return every file that the release is read from; a DataError names those that are not there."""
        names = [file for entries in self.splits().values() for file in entries.files]
        return [*self.tables, *existing(self.root, names)]


def in_files(
    root: Path, splits: Mapping[SplitName, Entries], spec: InputSpec, work: Path | None
) -> dict[SplitName, Part]:
    """Hash the listed images of every split, to be decoded when they are written; each is its own source.

    Args:
        root: the folder that their paths are relative to.
        work: where an interrupted run goes on from.

    Raises:
        DataError: a split is empty, or a file is missing.
    """
    for name, entries in splits.items():
        if not len(entries.labels):
            raise DataError(f"the split {name} has no images", do="take the files from the release")
    files = [file for entries in splits.values() for file in entries.files]
    existing(root, files)
    pixels = Deferred(hash_files(root, files, work), np.arange(len(files)), spec)
    parts, first = {}, 0
    for name, entries in splits.items():
        rows = np.arange(first, first + len(entries.labels))
        parts[name] = Part(pixels[rows], entries.labels, entries.bias, entries.ids, entries.ids)
        first += len(rows)
    return parts


def existing(root: Path, files: Sequence[str]) -> Iterator[Path]:
    """Yield the paths of files below a folder; a DataError names those that are not there."""
    if missing := [str(root / file) for file in files if not (root / file).is_file()]:
        got = f"{len(missing):,} of {len(files):,} are not there: {_some(missing)}"
        raise DataError("source files are missing", got=got, do="unpack the whole archive of the release")
    return (root / file for file in files)


def differences(split: str, counts: ArrayLike, released: Sequence[int], of: str) -> list[str]:
    """Say, as a finding, that counts are not those of the release; nothing if they are.

    Args:
        of: what is counted, for example `images per label x place`.
    """
    found: list[int] = np.asarray(counts).tolist()
    if found == list(released):
        return []
    return [f"{split}: {_listed(found)} {of}, where the release has {_listed(released)}"]


def _listed(counts: Sequence[int]) -> str:
    return " / ".join(f"{count:,}" for count in counts)


def _some(names: Sequence[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")

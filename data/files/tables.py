"""The tables of labels that released data sets come with, read strictly: a release is complete and of one form."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from bigstep.errors import DataError
from data.files.findings import shortened
from data.files.listing import is_whole

DO = "take the file from the release"


@dataclass(frozen=True)
class Table:
    """Columns of text; the rows begin at line `first_line` of the file, counted from 1."""

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
            if not is_whole(text):
                raise self._error(row, f"{column}: {text!r}", "a whole number")
            if rows.setdefault(int(text), row) != row:
                raise self._error(row, f"{column}: {text} a second time", "a number that occurs once")
        return np.array(list(rows), dtype=np.int64)

    def _error(self, row: int, got: str, expected: str) -> DataError:
        return DataError(
            f"{self.file}, line {self.first_line + row}: wrong value",
            got=got,
            expected=expected,
            do=DO,
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
        DataError: a column is absent, a row is too short or too long, or the file is not text.
    """
    columns: dict[str, list[str]] = {name: [] for name in wanted}
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            rows = parse(text)
            header = next(rows, [])
            if absent := [name for name in wanted if name not in header]:
                raise DataError(f"{file} lacks columns", got=shortened(header), expected=", ".join(absent), do=DO)
            places = [(header.index(name), columns[name]) for name in wanted]
            for number, row in enumerate(rows, start=first_line):
                if row and len(row) != len(header):
                    raise DataError(
                        f"{file}, line {number}: wrong number of fields",
                        got=f"{len(row)} fields",
                        expected=f"{len(header)}, as in the header",
                        do=DO,
                    )
                for place, column in places if row else ():
                    column.append(row[place])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{file} is not a table that can be read", got=error, expected="text in UTF-8", do=DO
        ) from error
    return Table(file, first_line, columns)

"""A CSV file that lists images: path, label, and optionally id, split and bias attributes."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bigstep.errors import DataError
from data.files.findings import Finding, present, quoted
from data.files.listing import NUMBERED, SPLITS, Listing, Row, cells_of, inside, split_of

DELIMITERS = ",;\t|"
REQUIRED = ("path", "label")
RESERVED = (*REQUIRED, "id", "split")
ALSO = {  # what other tools call them, without capitals, blanks, - and _; taken if there is exactly one
    "path": (
        *("file", "filename", "filepath", "image", "imagefile", "imagename", "imagepath"),
        "img",
        "imgname",
        "imgpath",
    ),
    "label": ("category", "class", "classid", "classname", "labelname", "labels", "target"),
}
OFTEN_ABSENT = frozenset(("na", "n/a", "#n/a", "null", "none", "-", "?"))  # or a class of that name
SHOWN = 30  # columns in a message
LONGEST = 100_000  # characters of a header that are looked at; Python's csv refuses longer cells


@dataclass(frozen=True)
class CsvTable:
    """The cells of a CSV file by line; `lines` are the numbers of the lines, from 1, at which rows end."""

    path: Path
    header: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """Return the cells of a column."""
        place = self.header.index(name)
        return [row[place] for row in self.rows]

    def values(self, name: str) -> list[str]:
        """Return the names in a column; see `data.files.listing.cells_of`."""
        return cells_of(self.column(name))


def read_csv(path: Path) -> tuple[CsvTable, list[Finding]]:
    """Read a CSV file: UTF-8 with or without BOM; commas, semicolons, tabs or bars; any line ends; empty lines.

    Returns:
        The table without the rows that have another number of cells than the header, and a finding that lists those.

    Raises:
        DataError: the file cannot be read, is not UTF-8 or not CSV, or has no columns path and label.
    """
    text = _text(path)
    delimiter = _delimiter(path, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    kept: list[list[str]] = []
    lines: list[int] = []
    uneven: list[str] = []
    try:
        found = [cell.strip() for cell in next(filter(_filled, reader))]
        header = tuple(_renamed(found))
        for row in reader:
            if not _filled(row):
                continue  # a spreadsheet writes its empty rows as ;;;
            if len(row) == len(header):
                kept.append(row)
                lines.append(reader.line_num)
            else:
                uneven.append(f"line {reader.line_num} has {len(row)}")
    except csv.Error as error:
        raise DataError(
            f"{path} is not a CSV file that can be read, at line {reader.line_num}",
            got=error,
            do='put a cell with separators, quotes or line ends between quotes, and write " inside as ""',
        ) from None
    taken = [f"{old} for {new}" for old, new in zip(found, header, strict=True) if old != new]
    return CsvTable(path, header, kept, lines), present(
        Finding("note", "columns taken for path or label by their names", taken),
        Finding(
            "error",
            f"lines without exactly {len(header)} cells, as the header has",
            uneven,
            "quote cells that hold the separator",
        ),
    )


def read_listing(path: Path, attributes: Sequence[str]) -> Listing:
    """List the images that a CSV file names, in the order of their paths.

    Args:
        attributes: the columns that hold bias attributes.

    Raises:
        DataError: as `read_csv`. Everything else that is wrong is in the findings.
    """
    table, found = read_csv(path)
    present = tuple(name for name in attributes if name in table.header and name not in RESERVED)
    found += _column_findings(table, attributes)
    rows, problems = _rows(table, present)
    kept, more = inside(path.parent.resolve(), rows)
    kept.sort(key=lambda row: (row.path, row.label, row.id))
    return Listing(path.parent.resolve(), f"CSV file {path}", present, kept, [*found, *problems, *more], table=path)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{path} is not in UTF-8", got="UTF-16", do="save it as CSV in UTF-8")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path} is not in UTF-8",
            got=f"byte {content[error.start]:#x} in line {line}",
            do="save it as CSV in UTF-8",
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read", got=error.strerror) from error


def _filled(row: Sequence[str]) -> bool:
    return any(cell.strip() for cell in row)


def _renamed(header: Sequence[str]) -> list[str]:
    """Return a header in which the columns path and label are called so, if other usual names tell which they are."""
    names = list(header)
    plain = [re.sub(r"[\s_-]", "", name).lower() for name in header]
    for wanted, others in ALSO.items():
        places = [place for place, name in enumerate(plain) if name == wanted]
        places = places or [place for place, name in enumerate(plain) if name in others]
        if wanted not in names and len(places) == 1:
            names[places[0]] = wanted
    return names


def _delimiter(path: Path, text: str) -> str:
    """Return the separator at which the header falls into columns that include path and label."""
    first = next((line for line in io.StringIO(text, newline=None) if line.strip(DELIMITERS + "\n ")), "")
    columns = {
        d: [cell.strip() for cell in next(csv.reader([first[:LONGEST]], delimiter=d, skipinitialspace=True))]
        for d in DELIMITERS
    }
    for delimiter, names in columns.items():
        if set(REQUIRED) <= set(_renamed(names)):
            return delimiter
    found = max(columns.values(), key=len)[:SHOWN]
    raise DataError(
        f"{path} has no columns path and label",
        got=", ".join(map(quoted, found)) if first else "an empty file",
        expected="a first line with path and label, optionally id, split and bias attributes",
        do="rename the columns; or, to use class folders, move the file out of them",
    )


def _column_findings(table: CsvTable, attributes: Sequence[str]) -> list[Finding]:
    there = ", ".join(quoted(name) for name in table.header if name not in RESERVED) or "none"
    return present(
        Finding(
            "error",
            "columns of data.bias that are absent",
            [name for name in attributes if name not in table.header],
            f"columns that could be one: {there}",
        ),
        Finding(
            "error",
            "columns of data.bias that mean something else",
            [name for name in attributes if name in RESERVED],
            "remove them from data.bias",
        ),
        Finding("error", "columns named twice in data.bias", _repeated(attributes), "name them once"),
        Finding(
            "error",
            "columns that occur twice",
            [name for name in _repeated(table.header) if name in (*RESERVED, *attributes)],
            "rename or remove one of each",
        ),
    )


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _rows(table: CsvTable, attributes: tuple[str, ...]) -> tuple[list[Row], list[Finding]]:
    """Turn cells into rows, and say which lines lack something."""
    n = len(table.rows)
    paths = table.column("path")
    labels = table.values("label")
    bias = [table.values(name) for name in attributes]
    ids = table.values("id") if "id" in table.header else [""] * n
    words = table.values("split") if "split" in table.header else None
    splits = [NUMBERED.get(word) or split_of(word) for word in words] if words else [None] * n
    filled = {"path": paths, "label": labels, **dict(zip(attributes, bias, strict=True))}
    filled |= {"id": ids} if "id" in table.header else {}
    found = present(
        *(
            Finding(
                "error",
                f"lines without a {name}",
                [f"line {line}" for line, cell in zip(table.lines, cells, strict=True) if not cell],
                "fill it in, or remove the lines",
            )
            for name, cells in filled.items()
        ),
        Finding(
            "error",
            "values of the column split that are unknown",
            sorted({word for word, split in zip(words or (), splits, strict=False) if not split}),
            "use train, validation and test (or 0, 1, 2)",
        ),
        Finding(
            "note",
            "values taken for a split by their names",
            sorted({f"{w} for {s}" for w, s in zip(words or (), splits, strict=False) if s and _guessed(w)}),
        ),
        Finding(
            "error",
            "ids that occur more than once",
            _repeated(filter(None, ids)),
            "remove the lines, or the column id",
        ),
    )
    for name in ("label", *attributes):
        found += _value_findings(name, table.column(name), table.values(name))
    each = zip(paths, labels, splits, zip(*bias, strict=True) if bias else [()] * n, ids, strict=True)
    known = (Row(*cells) for cells in each if cells[0] and cells[1] and all(cells[3]))
    return [row for row in known if row.split or not words], found


def _guessed(word: str) -> bool:
    return word.lower() not in SPLITS and word not in NUMBERED


def _value_findings(column: str, cells: Sequence[str], names: Sequence[str]) -> list[Finding]:
    """Say which values were read as others, and which may mean that there is none."""
    read_as = {cell.strip(): name for cell, name in zip(cells, names, strict=True)}
    return present(
        Finding(
            "note",
            f"values of {column} read as whole numbers",
            sorted(f"{cell} as {name}" for cell, name in read_as.items() if "." in cell and "." not in name and name),
        ),
        Finding(
            "warning",
            f"values of {column} that often stand for a missing one",
            sorted({name for name in names if name.lower() in OFTEN_ABSENT}),
            "they count as values: is that what they are?",
        ),
    )

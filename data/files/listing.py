"""Which images there are, with their labels, before any of them is read: from a CSV file or from folders."""

import os
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

from bigstep.records.images import SplitName
from data.files.findings import Finding, present

SPLITS: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training", "0"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "1"), "validation"),
    **dict.fromkeys(("test", "testing", "2"), "test"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One image: its path below the root, its label, and what else is known (split None: not given)."""

    path: str
    label: str
    split: SplitName | None = None
    bias: tuple[str, ...] = ()
    id: str = ""


@dataclass(frozen=True)
class Listing:
    """All images of a set in the order of their paths, and what was found while listing them.

    `origin` says in words what was read; `attributes` names the values in every row's `bias`.
    """

    root: Path
    origin: str
    attributes: tuple[str, ...]
    rows: Sequence[Row]
    findings: Sequence[Finding]
    table: Path | None = None


def name_of(text: str) -> str:
    """Return a label or value without surrounding blanks, in Unicode's NFC: macOS writes folder names in NFD."""
    return unicodedata.normalize("NFC", text.strip())


def is_whole(text: str) -> bool:
    """Say whether a text is a whole number that an int64 holds."""
    return text.isascii() and text.isdecimal() and len(text) < 19


def inside(root: Path, rows: Iterable[Row]) -> tuple[list[Row], list[Finding]]:
    """Keep the rows that name a regular file below the root, and say what is wrong with the others.

    Args:
        root: a folder without symbolic links (`Path.resolve`).
    """
    kept: list[Row] = []
    outside: list[str] = []
    missing: list[str] = []
    folders: dict[str, bool] = {}  # whether a folder really lies below the root: asked once, not for every image
    for row in rows:
        path = os.path.normpath(row.path)  # before any link is followed: a/link/../b is then a/b, whatever link is
        if path == ".." or path.startswith(("/", "../")) or PureWindowsPath(path).is_absolute() or "\0" in path:
            outside.append(row.path)
        elif not (found := _existing(root, path)):
            missing.append(row.path)
        elif not _below(root, found, folders):
            outside.append(row.path)
        else:
            kept.append(row if found == row.path else replace(row, path=found))
    return kept, present(
        Finding(
            "error",
            "paths that are absolute or lead out of the data folder",
            outside,
            "give paths below it; a symbolic link that leads out of it counts as outside",
        ),
        Finding(
            "error",
            "images that are missing, or are not files",
            missing,
            "paths are relative to the CSV file, with / between folders; or remove these lines",
        ),
    )


def _below(root: Path, path: str, folders: dict[str, bool]) -> bool:
    """Say whether a file that exists lies below the root once every symbolic link is followed."""
    folder, full = path.rpartition("/")[0], root / path
    if folder not in folders:
        folders[folder] = Path(os.path.realpath(root / folder)).is_relative_to(root)
    return folders[folder] and (not full.is_symlink() or Path(os.path.realpath(full)).is_relative_to(root))


def _existing(root: Path, path: str) -> str | None:
    """Return the path of a regular file as the file system spells it, which may be another form of Unicode."""
    spellings = [path] if path.isascii() else [path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD"))]
    for spelling in spellings:
        try:
            if stat.S_ISREG((root / spelling).stat().st_mode):
                return spelling
        except (OSError, ValueError):  # ValueError: a character that the file system's encoding does not have
            continue
    return None

"""Class folders: PATH/<label>/*.jpg, or with splits PATH/{train,validation,test}/<label>/*.jpg."""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from bigstep.errors import DataError
from data.files.findings import Finding, Level, present
from data.files.listing import SPLITS, Listing, Row, name_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff")
LITTER = {"thumbs.db", "desktop.ini", "__macosx"}  # what Windows and macOS leave behind, beside hidden files
SPLIT_FOLDERS = {name: split for name, split in SPLITS.items() if not name.isdecimal()}  # "0" is a label of digits

KINDS: tuple[tuple[str, Level, str, str], ...] = (  # of what lies beside the images
    ("outside", "error", "symbolic links that lead out of the data folder", "copy the images into it"),
    ("broken", "error", "links to nothing, and other things that are not files", "remove them"),
    ("beside", "error", "images beside the folders train, validation and test", "move them into one of these"),
    ("loose", "warning", "images in no class folder, left out", ""),
    ("linked", "warning", "symbolic links to folders, not followed", ""),
    ("other", "warning", "files whose names end in no image format, left out", ""),
    ("deep", "warning", "images in folders below a class folder, which count for its class", ""),
    ("hidden", "note", "hidden files and folders, left out", ""),
)


def read_listing(folder: Path) -> Listing:
    """List the images of class folders in the order of their paths; the splits are given if folders are named so.

    Folders below a class folder belong to its class. Splits count as given if there is a folder for train and one for
    validation or test, and no other.

    Raises:
        DataError: the folder cannot be read. Everything else that is wrong is in the findings.
    """
    root = folder.resolve()
    aside: defaultdict[str, list[str]] = defaultdict(list)
    paths = sorted(_images(root, "", aside))
    tops = sorted({path.split("/")[0] for path in paths if "/" in path})
    named = {SPLIT_FOLDERS.get(top.lower()) for top in tops}
    given = "train" in named and len(named - {None}) > 1
    rows: list[Row] = []
    for path in paths:
        parts = path.split("/")[given:]
        split = SPLIT_FOLDERS.get(path.split("/")[0].lower()) if given else None
        if given and split is None:
            aside["beside"].append(path)
        elif len(parts) < 2:
            aside["loose"].append(path)
        else:
            aside["deep"] += [path] if len(parts) > 2 else []
            rows.append(Row(path, name_of(parts[0]), split))
    layout = "class folders in train, validation and test folders" if given else "class folders"
    findings = present(*(Finding(severity, what, sorted(aside[kind]), do) for kind, severity, what, do in KINDS))
    return Listing(root, f"{layout} in {folder}", (), rows, findings)


def _images(root: Path, below: str, aside: dict[str, list[str]]) -> Iterator[str]:
    """Walk without following links to folders; what is not an image goes into `aside` by what it is."""
    try:
        with os.scandir(root / below) as entries:
            found = list(entries)
    except OSError as error:
        raise DataError(f"{root / below} cannot be read", got=error.strerror) from error
    for entry in found:
        path = f"{below}/{entry.name}" if below else entry.name
        if entry.name.startswith(".") or entry.name.lower() in LITTER:
            aside["hidden"].append(path)
        elif entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(root):
            aside["outside"].append(path)
        elif entry.is_symlink() and entry.is_dir():
            aside["linked"].append(path)
        elif entry.is_dir():
            yield from _images(root, path, aside)
        elif not entry.name.lower().endswith(SUFFIXES):
            aside["other"].append(path)
        elif entry.is_file():
            yield path
        else:
            aside["broken"].append(path)

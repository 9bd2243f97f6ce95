"""Which images there are, with their labels, before any of them is read: from a CSV file or from folders."""

import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

from bigstep.records.images import SplitName
from data.files.findings import Finding, present

SPLITS: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
NUMBERED: dict[str, SplitName] = {"0": "train", "1": "validation", "2": "test"}  # in tables; as a folder, 0 is a digit
SPLIT_WORDS: dict[str, SplitName] = {  # those that people also use, beside words that say nothing
    **SPLITS,
    "trn": "train",
    **dict.fromkeys(("devel", "development", "eval", "evaluation", "vali"), "validation"),
    **dict.fromkeys(("tests", "tst", "holdout"), "test"),
}
SAYS_NOTHING = frozenset(
    (
        *("data", "dataset", "ds", "folder", "image", "images", "img", "imgs", "photos", "pics", "pictures", "samples"),
        *(
            "all",
            "bmp",
            "cropped",
            "full",
            "jpeg",
            "jpg",
            "png",
            "px",
            "new",
            "part",
            "resized",
            "seg",
            "set",
            "small",
            "split",
            "subset",
        ),
    )
)
CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")  # begins a word in TrainSet
WORDS = re.compile(r"[^\W\d_]+")  # of train_set, train-2017
JOINED = re.compile(r"(?:data|images?|imgs?|sets?)+$")  # in trainset, testdata
ABSENT = frozenset(("nan", "<na>", "nat"))  # what pandas writes for a missing cell if it is made text
WHOLE_FLOAT = re.compile(r"([+-]?\d+)\.0*", flags=re.ASCII)


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

    `origin` says in words what was read; `attributes` names the values in every row's `bias`; `aside` are the paths of
    what lies beside the images and is spoken of in the findings.
    """

    root: Path
    origin: str
    attributes: tuple[str, ...]
    rows: Sequence[Row]
    findings: Sequence[Finding]
    table: Path | None = None
    aside: Sequence[str] = ()


def name_of(text: str) -> str:
    """Return a label or value without surrounding blanks, in Unicode's NFC: macOS writes folder names in NFD."""
    return unicodedata.normalize("NFC", text.strip())


def split_of(name: str) -> SplitName | None:
    """Return the split that a folder or a cell names: train, training_set, TestData, seg_train, val2017.

    None where a word says something else (`train_station`), or where there are two splits in it.
    """
    found = splits_in(name)
    return found.pop() if len(found) == 1 else None


def splits_in(name: str) -> set[SplitName | None]:
    """Return the splits that the words of a name stand for, and None for other words; see `split_of`."""
    return {SPLIT_WORDS.get(word) or SPLIT_WORDS.get(JOINED.sub("", word)) for word in _telling(name)}


def says_nothing(name: str) -> bool:
    """Say whether a folder's name tells neither a class nor a split: images, dataset, 2017."""
    return not _telling(name)


def _telling(name: str) -> set[str]:
    words = {word.lower() for word in WORDS.findall(CAPITAL.sub(" ", name)) if len(word) > 1}
    return words - SAYS_NOTHING


def cells_of(cells: Sequence[str]) -> list[str]:
    """Return the names in a column as `name_of` does, whichever way pandas wrote them.

    NaN becomes "". Whole numbers lose the `.0` that a column has as soon as one of its cells is missing, so that 0 and
    0.0 are one value; a column with any other value keeps all of its own.
    """
    names = ["" if name.lower() in ABSENT else name for name in map(name_of, cells)]
    whole = [match[1] if (match := WHOLE_FLOAT.fullmatch(name)) else name for name in names]
    numbers = all(not name or is_whole(name.lstrip("+-")) for name in whole)
    return whole if numbers else names


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
    read_as: list[str] = []
    folders: dict[str, bool] = {}  # whether a folder really lies below the root: asked once, not for every image
    for row in rows:
        readings = _readings(root, row.path)
        hits = [(k, found) for k, path in enumerate(readings) if path and (found := _existing(root, path))]
        if not hits:
            (outside if None in readings else missing).append(row.path)
            continue
        reading, found = hits[0]
        if not _below(root, found, folders):
            outside.append(row.path)
        else:
            read_as += [f"{row.path} as {found}"] if reading else []
            kept.append(row if found == row.path else replace(row, path=found))
    return kept, present(
        Finding(
            "error",
            "paths that lead out of the data folder",
            outside,
            "give paths below it; a symbolic link that leads out of it counts as outside",
        ),
        Finding(
            "error",
            "images that are missing, or are not files",
            missing,
            "paths are relative to the CSV file, with / between folders; or remove these lines",
        ),
        Finding("note", "paths read otherwise than they are written", read_as),
    )


def _readings(root: Path, path: str) -> list[str | None]:
    """Return what a path may mean, relative to the root: as written, with Windows' separators, from the root's parent.

    None stands for a reading that leads out.
    """
    readings = [_relative(root, path)]
    readings += [_relative(root, path.replace("\\", "/"))] if "\\" in path else []
    own = f"{root.name}/"
    return readings + [reading.removeprefix(own) for reading in readings if reading and reading.startswith(own)]


def _relative(root: Path, path: str) -> str | None:
    """Return a path below the root, relative to it; None if it leads out, as written or as Windows reads it.

    That is before any link is followed: a/link/../b is then a/b, whatever link is.
    """
    normal = os.path.normpath(path).removeprefix(f"{root}/")
    leads_out = normal == ".." or normal.startswith(("/", "../")) or PureWindowsPath(normal).is_absolute()
    return None if leads_out or "\0" in normal else normal


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

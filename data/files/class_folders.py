"""Class folders: PATH/<label>/*.jpg, or with splits PATH/{train,validation,test}/<label>/*.jpg.

They may lie deeper: folders that hold one folder alone are passed over. Splits may also lie below each class folder.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from bigstep.records.images import SplitName
from data.files.findings import Finding, Level, present
from data.files.listing import SPLITS, Listing, Row, name_of, says_nothing, split_of, splits_in
from data.files.walk import HIDDEN, LEFT_OUT, Tree, walk

NAMES = "train, validation and test"
KINDS: tuple[tuple[str, Level, str, str], ...] = (  # of what was found, the worst first
    *LEFT_OUT,
    ("beside", "error", f"images beside the folders {NAMES}", "move them into one of these, or out of the data"),
    (
        "lost",
        "error",
        "class folders without an image",
        "add images (links to folders are not followed), or move these folders out of the data",
    ),
    (
        "unclear",
        "error",
        "folders named like a split, where the others are not, or none is for train",
        f"name all of them {NAMES}; or name one that holds class folders in data.path",
    ),
    (
        "crossed",
        "warning",
        "class folders that hold folders of the same names",
        "if those are the classes, name one of these in data.path, or list the images in a CSV file",
    ),
    (
        "named",
        "warning",
        "class folders with splits in their names",
        "if those are splits, put the class folders into them",
    ),
    ("loose", "warning", "images in no class folder, left out", ""),
    ("deep", "warning", "images in folders below a class folder, which count for its class", ""),
    ("passed", "note", "folders that hold one folder alone, passed over", ""),
    ("guessed", "note", "folders taken for a split by their names", ""),
)


@dataclass(frozen=True)
class ClassFolder:
    """A folder whose images, and those below it, have one label, and one split if that is given."""

    path: str
    label: str
    split: SplitName | None = None


@dataclass(frozen=True)
class Folders:
    """The folders of a tree: which lie in which, and which hold images."""

    tree: Tree

    @cached_property
    def inner(self) -> Mapping[str, list[str]]:
        """Return the folders in each folder."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for path in self.tree.folders:
            found[path.rpartition("/")[0]].append(path)
        return found

    @cached_property
    def direct(self) -> frozenset[str]:
        """Return the folders with an image that lies in none of their folders."""
        return frozenset(path.rpartition("/")[0] for path in self.tree.images)

    @cached_property
    def holding(self) -> frozenset[str]:
        """Return the folders with an image in them or below."""
        return frozenset(folder for path in self.direct for folder in (path, *_above(path)))

    def filled(self, path: str) -> list[str]:
        """Return the folders in a folder that hold images."""
        return [inner for inner in self.inner.get(path, ()) if inner in self.holding]

    def inside(self, path: str, split: SplitName | None = None) -> Iterator[str]:
        """Yield a folder and, as long as it holds one folder alone, and that one no image but folders, the inner one.

        Args:
            split: that of the folder; then only one that says nothing else is passed over: train/train, train/images.
        """
        yield path
        inner = self.inner.get(path, [])
        if len(inner) == 1 and inner[0] not in self.direct and self.filled(inner[0]):
            name = _name(inner[0])
            if split is None or says_nothing(name) or split_of(name) == split:
                yield from self.inside(inner[0], split)


@dataclass(frozen=True)
class Layout:
    """How the images lie: in words, in which class folders, and in which folders beside those."""

    words: str
    classes: Sequence[ClassFolder]
    beside: Sequence[str] = ()


def read_listing(folder: Path) -> Listing:
    """List the images of class folders in the order of their paths; the splits are given if folders are named so.

    Folders below a class folder belong to its class. Splits count as given if there is a folder for train and one for
    validation or test, above the class folders or below each of them.

    Raises:
        DataError: the folder cannot be read. Everything else that is wrong is in the findings.
    """
    root = folder.resolve()
    tree = walk(root)
    aside = defaultdict(list, tree.aside)
    layout = _layout(Folders(tree), aside)
    rows = _rows(tree.images, layout, aside)
    labels = {row.label for row in rows}
    places = {above for one in layout.classes for above in _above(one.path)}
    links = [path for path in aside["linked"] if path.rpartition("/")[0] in places]
    aside["linked"] = [path for path in aside["linked"] if path not in links]
    aside["lost"] = [one.path for one in layout.classes if one.label not in labels] + links
    findings = present(*(Finding(level, what, aside[kind], do) for kind, level, what, do in KINDS))
    spoken_of = [path for kind, *_ in KINDS if kind not in (HIDDEN, "guessed") for path in aside[kind]]
    return Listing(root, f"{layout.words} in {folder}", (), rows, findings, aside=spoken_of)


def _layout(folders: Folders, aside: defaultdict[str, list[str]]) -> Layout:
    *passed, top = folders.inside("")
    aside["passed"] += [*passed[1:], top] if passed else []
    tops = folders.filled(top)
    splits = {path: split for path in tops if (split := split_of(_name(path)))}
    others = [path for path in tops if path not in splits]
    trains = [path for path, split in splits.items() if split == "train"]
    if trains and (any(map(folders.filled, trains)) or (len({*splits.values()}) > 1 and not others)):
        aside["guessed"] = _guesses(splits)
        return Layout(f"class folders in {NAMES} folders", list(_in_splits(folders, splits, aside)), others)
    below = {path: split_of(_name(path)) for one in tops for path in folders.filled(one)}
    if {"train"} < {*below.values()} and None not in below.values() and folders.direct.isdisjoint(tops):
        aside["guessed"] = _guesses(below)
        return Layout(f"class folders with {NAMES} folders", list(_around_splits(folders, top, below)))
    aside["unclear"] = [path for path in splits if path not in folders.direct]
    inner = Counter(_name(path) for path in below if not says_nothing(_name(path)))
    aside["crossed"] = tops if folders.direct.isdisjoint(tops) and max(inner.values(), default=0) > 1 else []
    named = {path: splits_in(_name(path)) - {None} for path in others}
    aside["named"] = [path for path in named if named[path]] if {"train"} < set().union(*named.values()) else []
    return Layout("class folders", [ClassFolder(path, name_of(_name(path))) for path in folders.inner.get(top, ())])


def _in_splits(
    folders: Folders, splits: Mapping[str, SplitName], aside: defaultdict[str, list[str]]
) -> Iterator[ClassFolder]:
    """Yield the class folders of each split: in its folder, or in one that is alone in it and repeats its name."""
    for path, split in splits.items():
        *passed, place = folders.inside(path, split)
        aside["passed"] += [*passed[1:], place] if passed else []
        yield from (ClassFolder(inner, name_of(_name(inner)), split) for inner in folders.inner.get(place, ()))


def _around_splits(folders: Folders, top: str, splits: Mapping[str, SplitName | None]) -> Iterator[ClassFolder]:
    """Yield the folders of each split of each class, and those of classes that have none."""
    for one in folders.inner[top]:
        for path in folders.filled(one) or [one]:
            yield ClassFolder(path, name_of(_name(one)), splits.get(path))


def _rows(images: Sequence[str], layout: Layout, aside: defaultdict[str, list[str]]) -> list[Row]:
    """Give every image the label of the class folder that it lies in, or say that it has none."""
    rows: list[Row] = []
    classes = {one.path: one for one in layout.classes}
    known: dict[str, ClassFolder | str] = {}  # by folder: its class folder, or why it is in none
    for path in images:
        folder = path.rpartition("/")[0]
        if folder not in known:
            around = (folder, *_above(folder))
            why = "loose" if {*around}.isdisjoint(layout.beside) else "beside"
            known[folder] = next((classes[one] for one in around if one in classes), why)
        found = known[folder]
        if isinstance(found, str):
            aside[found].append(path)
        else:
            aside["deep"] += [path] if folder != found.path else []
            rows.append(Row(path, found.label, found.split))
    return rows


def _guesses(splits: Mapping[str, SplitName | None]) -> list[str]:
    return [f"{path} for {split}" for path, split in splits.items() if _name(path).lower() not in SPLITS]


def _above(path: str) -> Iterator[str]:
    while path:
        path = path.rpartition("/")[0]
        yield path


def _name(path: str) -> str:
    return PurePosixPath(path).name

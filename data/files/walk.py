"""What lies in a folder of images: the images, the folders, and what is neither, told by names and by first bytes."""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bigstep.decode import FORMATS, format_of
from bigstep.errors import DataError
from data.files.findings import Level

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".png", ".apng", ".webp", ".bmp", ".dib"),
    *(".gif", ".tif", ".tiff", ".avif", ".avifs"),
)
UNREAD = (  # other images; most cameras' raw files are TIFF files, whose first picture is a small preview
    *(
        ".jp2",
        ".j2k",
        ".j2c",
        ".jpc",
        ".jpf",
        ".jpx",
        ".heic",
        ".heif",
        ".hif",
        ".jxl",
        ".jxr",
        ".wdp",
        ".psd",
        ".psb",
        ".tga",
        ".pcx",
        ".dds",
        ".exr",
        ".hdr",
        ".svg",
    ),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".ico", ".icns", ".dcm", ".dicom", ".fits", ".nii", ".xcf", ".eps"),
    *(".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw"),
)
TEXTS = (".txt", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".md", ".html", ".py", ".ini", ".log", ".toml")
LITTER = frozenset(  # what systems, storage and tools leave behind, beside everything whose name begins with a dot
    (
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "picasa.ini", "__macosx", "__pycache__", "lost+found"),
        *("@eadir", "#recycle", "@recycle", "@recently-snapshot", "@__thumb", "#snapshot"),
        *("$recycle.bin", "recycler", "system volume information"),
    )
)
HEAD_BYTES = 64  # of a file whose name tells nothing; the marks of formats lie there
HIDDEN = "hidden"
LEFT_OUT: tuple[tuple[str, Level, str, str], ...] = (  # what is neither an image nor a folder
    ("outside", "error", "symbolic links that lead out of the data folder", "copy the images into it"),
    ("broken", "error", "links to nothing, and other things that are not files", "remove them"),
    (
        "unread",
        "error",
        "images in formats that are not read",
        f"convert them, to JPEG or PNG for example, or move them out; read are {', '.join(FORMATS)}",
    ),
    ("linked", "warning", "symbolic links to folders, not followed", ""),
    ("other", "warning", "files that are not images, left out", ""),
    ("told", "note", "images known by their content, not by their names", ""),
    (HIDDEN, "note", "hidden files and folders, run folders, and what storage and tools left behind, left out", ""),
)


@dataclass(frozen=True)
class Tree:
    """The images and folders below a root: sorted paths relative to it; `aside` has what is neither, by its kind."""

    root: Path
    images: list[str]
    folders: list[str]
    aside: dict[str, list[str]]


def walk(root: Path) -> Tree:
    """Look through a folder and all below it, without following links to folders.

    Raises:
        DataError: a folder cannot be read.
    """
    aside: defaultdict[str, list[str]] = defaultdict(list)
    folders: list[str] = []
    images = sorted(_images(root, "", folders, aside))
    return Tree(root, images, sorted(folders), {kind: sorted(paths) for kind, paths in aside.items()})


def is_litter(name: str) -> bool:
    """Say whether a file or folder is hidden, or left behind by a system, storage or tool."""
    return name.startswith(".") or name.lower() in LITTER


def _images(root: Path, below: str, folders: list[str], aside: defaultdict[str, list[str]]) -> Iterator[str]:
    try:
        with os.scandir(root / below) as entries:
            found = list(entries)
    except OSError as error:
        raise DataError(f"{root / below} cannot be read", got=error.strerror) from error
    for entry in found:
        path = f"{below}/{entry.name}" if below else entry.name
        if is_litter(entry.name):
            aside[HIDDEN].append(path)
        elif entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(root):
            aside["outside"].append(path)
        elif entry.is_symlink() and entry.is_dir():
            aside["linked"].append(path)
        elif entry.is_dir() and _is_ours(Path(entry.path)):
            aside[HIDDEN].append(path)
        elif entry.is_dir():
            folders.append(path)
            yield from _images(root, path, folders, aside)
        elif not entry.name.lower().endswith(SUFFIXES):
            kind = _kind(entry)
            aside[kind].append(path)
            if kind == "told":
                yield path
        elif entry.is_file():
            yield path
        else:
            aside["broken"].append(path)


def _is_ours(folder: Path) -> bool:
    """Say whether a folder is a run folder of bigstep, or `runs` with some: who works among the images makes one there.

    Its contact sheets and plots would be a class.
    """
    places = folder.iterdir() if folder.name == "runs" else ()
    return any((place / "lock").is_file() and (place / "config.toml").is_file() for place in (folder, *places))


def _kind(entry: os.DirEntry[str]) -> str:
    """Say what a file is whose name ends in no format that is read: `told`, `unread` or `other`."""
    name = entry.name.lower()
    if name.endswith(UNREAD):
        return "unread"
    if name.endswith(TEXTS) or not entry.is_file():
        return "other"
    try:
        with Path(entry.path).open("rb") as file:
            found = format_of(file.read(HEAD_BYTES))
    except OSError:
        return "broken"
    return "other" if found is None else "told" if found in FORMATS else "unread"

"""Where the source files of a data set lie, and which of them are there."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from bigstep.config import DataConfig
from bigstep.errors import DataError
from data.files.findings import shortened
from data.files.walk import is_litter

VARIABLE = "BIGSTEP_DATA"
SUFFIXES = (".png", ".jpg", ".jpeg")


def source_folder(config: DataConfig) -> Path:
    """Return the folder that `config.path` names or, if it names none, the environment variable BIGSTEP_DATA.

    Raises:
        DataError: neither is set, or what is named is not a folder.
    """
    named = config.path or os.environ.get(VARIABLE)
    do = f"set data.path in the configuration, or the environment variable {VARIABLE}, to the folder that holds them"
    if not named:
        raise DataError(
            f"{config.kind} is made from source files, and nothing says where they are",
            got=f"no data.path, and {VARIABLE} is not set",
            do=do,
        )
    folder = Path(named).expanduser()
    if not folder.is_dir():
        origin = "data.path" if config.path else VARIABLE
        raise DataError(f"{config.kind} needs a folder of source files", got=f"{origin} = {named}, not a folder", do=do)
    return folder


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
    raise DataError(
        "source files are missing",
        got=f"in {root}: {shortened(there) or 'nothing'}",
        expected=" or ".join(candidates),
        do=do,
    )


def read_bytes(file: Path) -> bytes:
    """Return the content of a source file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read", got=error, do="remove it or copy it again") from error


def image_names(folder: Path) -> list[str]:
    """Return the PNG and JPEG files in a folder and below it as paths relative to it, sorted.

    What is hidden, or was left behind by storage and tools, is passed over: the thumbnails in `@eaDir` are not images.

    Raises:
        DataError: a folder cannot be read.
    """
    found: list[str] = []
    for parent, inner, names in os.walk(folder, onerror=_unreadable):
        inner[:] = [name for name in inner if not is_litter(name)]
        below = Path(parent).relative_to(folder)
        found += [
            (below / name).as_posix() for name in names if name.lower().endswith(SUFFIXES) and not is_litter(name)
        ]
    return sorted(found)


def _unreadable(error: OSError) -> None:
    raise DataError("a folder cannot be read", got=error) from error


def existing(root: Path, files: Sequence[str]) -> Iterator[Path]:
    """Yield the paths of files below a folder; a DataError names those that are not there."""
    if missing := [str(root / file) for file in files if not (root / file).is_file()]:
        raise DataError(
            "source files are missing",
            got=f"{len(missing):,} of {len(files):,} are not there: {shortened(missing)}",
            do="unpack the whole archive of the release",
        )
    return (root / file for file in files)

"""The pixels of image files, decoded straight into the record: block by block, by several threads, resumably.

A block is done when the journal has it, with a hash of what it was made from and a checksum of what was written. A
killed run goes on from there: blocks whose sources and bytes are as noted are kept, the others are made again. The
checksum is read from the disk, so that also a block that a loss of power took is made again.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigstep.errors import DataError
from bigstep.records import SplitName
from bigstep.sealed import WORK
from data.blocks import ArrayFile, blocks
from data.built import Part
from data.decoding import read_all
from data.deferred import Deferred, SourceChanged
from data.hashing import forget
from data.journal import Journal
from data.pictures import Picture
from data.seen import Seen, Thumb, summary, thumbnail

log = logging.getLogger("bigstep.data")


def write(parts: Mapping[SplitName, Part], out: Path, *, judged: bool) -> Seen | None:
    """Write the pixels of every split to `<split>.images.npy`.

    Where the place of what was painted over the images of test matters, `test.spurious.npy` is written too.

    Args:
        judged: images that cannot be used become zeros and are noted; else the first of them is an error.

    Returns:
        What was seen of the files if their pixels were deferred and are judged, else None.

    Raises:
        DataError: the disk has no room, a file changed since it was hashed, or an image cannot be used.
    """
    seen: Seen | None = None
    with ExitStack() as open_files:
        targets: dict[SplitName, list[ArrayFile]] = {}
        for name, part in parts.items():
            if not isinstance(part.images, Deferred):
                np.save(out / f"{name}.images.npy", part.images, allow_pickle=False)
                continue
            if judged and seen is None:
                seen = Seen(len(part.images.sources.paths), part.images.spec.channels)
            targets[name] = [open_files.enter_context(closing(file)) for file in _files(part.images, name, out)]
        _check_room(out, [file for files in targets.values() for file in files])
        for name, files in targets.items():
            images = parts[name].images
            assert isinstance(images, Deferred)
            try:
                _write_split(images, files, Journal(out / WORK / f"{name}.jsonl"), seen)
            except SourceChanged:
                forget(out / WORK)
                raise
    return seen


def look_at(images: Deferred, seen: Seen) -> None:
    """Decode images for what is to be seen of them alone, and note it."""
    looks = _looks(images, range(len(images.rows)), "images left out", judged=True)
    for rows in blocks(images.shape):
        found = [next(looks) for _ in range(rows.start, rows.stop)]
        seen.add(images.rows[rows], summary([picture for picture, _ in found], [thumb for _, thumb in found]))
    next(looks, None)


def _files(images: Deferred, name: str, out: Path) -> Iterator[ArrayFile]:
    yield ArrayFile(out / f"{name}.images.npy", np.uint8, images.shape)
    if name == "test" and images.paint and images.paint.has_region:
        yield ArrayFile(out / "test.spurious.npy", np.bool_, images.shape[:3])


def _check_room(out: Path, files: Sequence[ArrayFile]) -> None:
    needed, free = sum(file.missing_bytes for file in files), shutil.disk_usage(out).free
    if needed > free:
        raise DataError(
            f"the pixels do not fit on the disk of {out}",
            got=f"{free / 1e9:.1f} GB free",
            expected=f"{needed / 1e9:.1f} GB",
            do="make room, give another --run-dir, or set data.size_px to a smaller side",
        )


def _write_split(images: Deferred, files: Sequence[ArrayFile], journal: Journal, seen: Seen | None) -> None:
    what = journal.path.stem
    todo = _unfinished(images, files, journal, seen)
    positions = [k for rows in todo for k in range(rows.start, rows.stop)]
    if len(positions) < len(images.rows):
        log.info("%s: %d of %d images are there already", what, len(images.rows) - len(positions), len(images.rows))
    looks = _looks(images, positions, what, judged=seen is not None)
    most = max((rows.stop - rows.start for rows in todo), default=0)
    room = np.empty((most, *images.shape[1:3], images.spec.channels), dtype=np.uint8)  # for all: new pages take time
    for rows in todo:
        pixels = room[: rows.stop - rows.start]
        found, checksum = _fill(pixels, looks), 0
        for file, array in zip(files, images.painted(pixels, rows), strict=False):
            assert array is not None
            checksum = file.write(rows, array, checksum)
        entry = {"start": rows.start, "identity": images.identity(rows), "checksum": checksum}
        if seen is not None:
            seen.add(images.rows[rows], found)
            entry["seen"] = found
        journal.append(entry)
    next(looks, None)  # ends the threads, and reports the last images


def _unfinished(images: Deferred, files: Sequence[ArrayFile], journal: Journal, seen: Seen | None) -> list[slice]:
    """Return the blocks that are not there as the journal has them, and note what was seen of the others."""
    todo = {rows.start: rows for rows in blocks(images.shape)}
    for entry in journal.entries():
        rows = todo.get(entry["start"])
        if rows and entry["identity"] == images.identity(rows) and entry["checksum"] == _checksum(files, rows):
            if seen is not None:
                seen.add(images.rows[rows], entry["seen"])
            del todo[rows.start]
    return list(todo.values())


def _fill(pixels: NDArray[np.uint8], looks: Iterator[tuple[Picture, Thumb | None]]) -> dict[str, Any]:
    """Fill a block with the next pictures, zeros for those that cannot be used, and return what was seen of them."""
    pictures, thumbs = [], []
    for place in range(len(pixels)):
        picture, thumb = next(looks)
        pixels[place] = 0 if picture.pixels is None else picture.pixels
        pictures.append(replace(picture, pixels=None))  # they are in the block
        thumbs.append(thumb)
    return summary(pictures, thumbs)


def _looks(
    images: Deferred, positions: Sequence[int], what: str, *, judged: bool
) -> Iterator[tuple[Picture, Thumb | None]]:
    """Decode the images at some positions, in order, with the thumbnails that judging them takes."""

    def look(position: int) -> tuple[Picture, Thumb | None]:
        picture = images.read(position)
        if picture.error and not judged:
            path = images.sources.root / images.sources.paths[images.rows[position]]
            error = picture.error
            raise DataError(f"{path}: {error.what}", got=error.got, expected=error.expected, do="mend or remove it")
        return picture, thumbnail(picture) if judged else None

    return read_all(look, positions, what)


def _checksum(files: Sequence[ArrayFile], rows: slice) -> int:
    found = 0
    for file in files:
        found = file.checksum(rows, found)
    return found

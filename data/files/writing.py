"""The pixels of image files, decoded straight into the record: block by block, by several threads, resumably.

A thread makes a whole block, from reading the files to writing the pixels, so that nothing but a few numbers passes
between threads. A block is done when the journal has it, with a hash of what it was made from and a checksum of what
was written. A killed run goes on from there: blocks whose sources and bytes are as noted are kept, the others are made
again. The checksum is read from the disk, so that also a block that a loss of power took is made again.
"""

import logging
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bigstep.errors import DataError
from bigstep.records.images import SplitName
from bigstep.records.sealed import WORK, Hashed
from data.files.blocks import ArrayFile, blocks
from data.files.builder import Part
from data.files.deferred import Deferred, SourceChanged
from data.files.hashing import forget
from data.files.journal import Journal
from data.files.parallel import Progress, in_order
from data.files.seen import Seen, summary

log = logging.getLogger("bigstep.data")
MOST_FILES = 32  # of a block: who interrupts a run waits for those that are being decoded, photographs of any size


@dataclass(frozen=True)
class Written:
    """What is known once the pixels are written.

    Attributes:
        seen: what was seen of the files, if pixels were deferred and are judged.
        hashed: the hash of each file whose pixels were deferred, by its name.
    """

    seen: Seen | None
    hashed: dict[str, Hashed]


def write(parts: Mapping[SplitName, Part], out: Path, *, judged: bool) -> Written:
    """Write the pixels of every split to `<split>.images.npy`.

    Where the place of what was painted over the images of test matters, `test.spurious.npy` is written too.

    Args:
        judged: images that cannot be used become zeros and are noted; else the first of them is an error.

    Raises:
        DataError: the disk has no room, a file changed since it was hashed, or an image cannot be used.
    """
    seen: Seen | None = None
    with ExitStack() as open_files:
        targets: list[_Target] = []
        for name, part in parts.items():
            if not isinstance(part.images, Deferred):
                np.save(out / f"{name}.images.npy", part.images, allow_pickle=False)
                continue
            if judged and seen is None:
                seen = Seen(len(part.images.sources.paths), part.images.spec.channels)
            files = [open_files.enter_context(closing(file)) for file in _files(part.images, name, out)]
            targets.append(_Target(part.images, files, Journal(out / WORK / f"{name}.jsonl")))
        _check_room(out, [file for target in targets for file in target.files])
        try:
            _write_all(targets, seen)
        except SourceChanged:
            forget(out / WORK)
            raise
        files = [file for target in targets for file in target.files]
        return Written(seen, {file.path.name: file.finish() for file in files})


def look_at(images: Deferred, seen: Seen) -> None:
    """Decode images for what is to be seen of them alone, and note it."""
    target = _Target(images)
    todo = [(target, rows) for rows in blocks(images.shape, MOST_FILES)]
    with closing(_made(todo, "images left out", judged=True)) as results:
        for made in results:
            made.note(seen)


@dataclass(frozen=True)
class _Target:
    """The pixels of a split, the files that they are written to, and the journal of the blocks that are done."""

    images: Deferred
    files: Sequence[ArrayFile] = ()
    journal: Journal | None = None


@dataclass(frozen=True)
class _Made:
    """What is kept of a block once it is written."""

    target: _Target
    rows: slice
    checksum: int
    seen: dict[str, Any] | None

    def note(self, seen: Seen) -> None:
        """Add what was seen of the files."""
        assert self.seen is not None
        seen.add(self.target.images.rows[self.rows], self.seen)


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


def _write_all(targets: Sequence[_Target], seen: Seen | None) -> None:
    todo = [(target, rows) for target in targets for rows in _unfinished(target, seen)]
    total, left = sum(len(target.images.rows) for target in targets), sum(rows.stop - rows.start for _, rows in todo)
    if left < total:
        log.info("%d of %d images are there already", total - left, total)
    flushed: list[Future[None]] = []
    with (
        ThreadPoolExecutor(1, thread_name_prefix="disk") as disk,
        closing(_made(todo, "images", judged=seen is not None)) as results,
    ):
        for made in results:
            images, journal = made.target.images, made.target.journal
            entry = {"start": made.rows.start, "identity": images.identity(made.rows), "checksum": made.checksum}
            if seen:
                made.note(seen)
                entry["seen"] = made.seen
            if journal:
                journal.append(entry)
            for file in made.target.files:
                file.hash_to(made.rows.stop)
                if made.rows.stop == file.rows:
                    flushed.append(disk.submit(file.flush))  # so that sealing finds little left to do
    for one in flushed:
        one.result()  # the system reports an error of the disk once: it must not be lost


def _unfinished(target: _Target, seen: Seen | None) -> list[slice]:
    """Return the blocks that are not there as the journal has them, and note what was seen of the others."""
    images, files = target.images, target.files
    todo = {rows.start: rows for rows in blocks(images.shape, MOST_FILES)}
    for entry in target.journal.entries() if target.journal else ():
        rows = todo.get(entry["start"])
        if rows and entry["identity"] == images.identity(rows) and entry["checksum"] == _checksum(files, rows):
            if seen:
                seen.add(images.rows[rows], entry["seen"])
            del todo[rows.start]
    return list(todo.values())


def _made(todo: Sequence[tuple[_Target, slice]], what: str, *, judged: bool) -> Generator[_Made]:
    """Make blocks, and yield each in order when it is written."""
    progress = Progress(what, sum(rows.stop - rows.start for _, rows in todo))
    with closing(in_order(lambda one: _make(*one, judged=judged), todo)) as results:
        for made in results:
            yield made
            progress.add(made.rows.stop - made.rows.start)


def _make(target: _Target, rows: slice, *, judged: bool) -> _Made:
    """Decode, paint and write a block; images that cannot be used become zeros."""
    images, pictures = target.images, []
    pixels = np.empty((rows.stop - rows.start, *images.shape[1:3], images.spec.channels), dtype=np.uint8)
    for place, position in enumerate(range(rows.start, rows.stop)):
        picture = images.read(position)
        if picture.error and not judged:
            path, error = images.sources.root / images.sources.paths[images.rows[position]], picture.error
            raise DataError(f"{path}: {error.what}", got=error.got, expected=error.expected, do="mend or remove it")
        pixels[place] = 0 if picture.pixels is None else picture.pixels
        pictures.append(replace(picture, pixels=None))  # they are in the block
    checksum = 0
    for file, array in zip(target.files, images.painted(pixels, rows), strict=False):
        assert array is not None
        checksum = file.write(rows, array, checksum)
    return _Made(target, rows, checksum, summary(pictures, pixels) if judged else None)


def _checksum(files: Sequence[ArrayFile], rows: slice) -> int:
    found = 0
    for file in files:
        found = file.checksum(rows, found)
    return found

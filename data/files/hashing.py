"""The hashes of image files, before any is decoded: copies must be known before splits are drawn.

Shapes: N files, B = 32 bytes of a SHA-256.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigstep.records.sealed import Stamp, stamp
from data.files.journal import Journal
from data.files.parallel import read_all

HASHES = "hashes.jsonl"  # in the folder of unfinished work: path, stamp and hash of every file read so far
NOTED_AT_ONCE = 500  # files: what a killed process reads again at most
Entry = tuple[str, Stamp, str]  # path, stamp, SHA-256 in hexadecimal
READ_BYTES = 2**20  # at once: a large file is never whole in memory
UNREAD = bytes(32)  # stands for the hash of a file that cannot be read


@dataclass(frozen=True)
class Sources:
    """Image files below a folder, with the SHA-256 of each, uint8 (N, 32); all zero where it cannot be read."""

    root: Path
    paths: Sequence[str]
    sha256: NDArray[np.uint8]


def hash_files(root: Path, paths: Sequence[str], work: Path | None) -> Sources:
    """Read every file once for its SHA-256, by several threads, with progress.

    Args:
        paths: relative to the root.
        work: where hashes are noted as they come, so that an interrupted run does not read those files again unless
            their `stamp` changed; None notes nothing.
    """
    journal = Journal(work / HASHES) if work else None
    stamps, hashes = _noted(journal, paths)
    new: list[Entry] = []
    read = partial(_read, str(root), paths, stamps, hashes)
    for row, (digest, entry) in enumerate(read_all(read, range(len(paths)), "hashes")):
        hashes[row] = np.frombuffer(digest, dtype=np.uint8)
        if journal and entry:
            new.append(entry)
            if len(new) == NOTED_AT_ONCE:
                journal.append(*new)
                new.clear()
    if journal and new:
        journal.append(*new)
    return Sources(root, paths, hashes)


def forget(work: Path) -> None:
    """Forget all hashes: one of them is no longer true, though the stamp of its file is."""
    (work / HASHES).unlink(missing_ok=True)


def number_copies(sha256: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number different contents in the order of their first files: int64 (N,), equal where bytes are equal."""
    whole = np.ascontiguousarray(sha256).view(f"V{len(UNREAD)}")[:, 0]
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.ravel()]


def _noted(journal: Journal | None, paths: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Return the stamp of every file that the journal has, uint64 (N, 4), else 0; and hashes, uint8 (N, B)."""
    stamps = np.zeros((len(paths), 4), dtype=np.uint64)
    hashes = np.zeros((len(paths), len(UNREAD)), dtype=np.uint8)
    rows: dict[str, int] = {}
    for path, noted, digest in journal.entries() if journal else ():
        rows = rows or {path: row for row, path in enumerate(paths)}
        if (row := rows.get(path)) is not None:
            stamps[row] = _words(noted)
            hashes[row] = np.frombuffer(bytes.fromhex(digest), dtype=np.uint8)
    return stamps, hashes


def _read(
    root: str, paths: Sequence[str], stamps: NDArray[np.uint64], hashes: NDArray[np.uint8], row: int
) -> tuple[bytes, Entry | None]:
    """Return the hash of a file, and what is to be noted of it; that is nothing if it was known or cannot be read.

    Plain system calls: with `pathlib` and buffered files, threads wait for the interpreter and not for the disk.
    """
    content = hashlib.sha256()
    try:
        file = os.open(f"{root}/{paths[row]}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = stamp(os.fstat(file))
            if stamps[row].tolist() == _words(found):
                return hashes[row].tobytes(), None
            while some := os.read(file, READ_BYTES):
                content.update(some)
        finally:
            os.close(file)
    except OSError:
        return UNREAD, None
    return content.digest(), (paths[row], found, content.hexdigest())


def _words(found: Stamp) -> list[int]:
    """Return a stamp as numbers that 64 bits hold: of a file with a date before 1970 or far ahead too."""
    return [number % 2**64 for number in found]

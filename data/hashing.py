"""The hashes of image files, before any is decoded: copies must be known before splits are drawn.

Shapes: N files, B = 32 bytes of a SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.decoding import read_all
from data.journal import Journal

HASHES = "hashes.jsonl"  # in the folder of unfinished work: path, size, time and hash of every file read so far
NOTED_AT_ONCE = 500  # files: what a killed process reads again at most
UNREAD = bytes(32)  # stands for the hash of a file that cannot be read


@dataclass(frozen=True)
class Sources:
    """Name image files below a folder, with the SHA-256 of each, uint8 (N, 32); all zero where it cannot be read."""

    root: Path
    paths: Sequence[str]
    sha256: NDArray[np.uint8]


def hash_files(root: Path, paths: Sequence[str], work: Path | None) -> Sources:
    """Read every file once for its SHA-256, by several threads, with progress.

    Args:
        paths: relative to the root.
        work: where hashes are noted as they come, so that an interrupted run does not read those files again unless
            their size or time changed; None notes nothing.
    """
    journal = Journal(work / HASHES) if work else None
    known = {path: rest for path, *rest in journal.entries()} if journal else {}
    hashes = np.zeros((len(paths), len(UNREAD)), dtype=np.uint8)
    new: list[tuple[str, int, int, str]] = []

    def read(path: str) -> tuple[bytes, tuple[str, int, int, str] | None]:
        return _read(root / path, path, known.get(path))

    for row, (digest, entry) in enumerate(read_all(read, paths, "hashes")):
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
    """Forget all hashes: one of them is no longer true, though size and time of its file are."""
    (work / HASHES).unlink(missing_ok=True)


def number_copies(sha256: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number different contents in the order of their first files: int64 (N,), equal where bytes are equal."""
    whole = np.ascontiguousarray(sha256).view(f"V{len(UNREAD)}")[:, 0]
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.ravel()]


def _read(file: Path, path: str, known: Sequence[int | str] | None) -> tuple[bytes, tuple[str, int, int, str] | None]:
    """Return the hash of a file, and what is to be noted of it; that is nothing if it was known or cannot be read."""
    try:
        found = file.stat()
        if known and known[:2] == [found.st_size, found.st_mtime_ns]:
            return bytes.fromhex(str(known[2])), None
        digest = hashlib.sha256(file.read_bytes())
    except OSError:
        return UNREAD, None
    return digest.digest(), (path, found.st_size, found.st_mtime_ns, digest.hexdigest())

"""Pictures that look alike without being equal: saved again, scaled, or a little brighter."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

MAX_DISTANCE = 4  # of 64 bits
MAX_DIFFERENCE = 6.0  # mean over two thumbnails, each without its own mean, in grey levels of 255
EDGE = 6  # grey levels that a neighbour must be brighter by: in flat parts the noise of JPEG would decide otherwise
MAX_CANDIDATES = 64  # per picture: flat pictures have one hash, and comparing all of them would take for ever
ROWS, COLUMNS = 8, 9
MAX_ROWS = 257  # of pixels whose sum 16 bits hold: 257 x 255 is 65,535
HASHED = 2**12  # thumbnails at once: their sums take eight times their memory
BLOCK = 2**16  # pairs of hashes compared at once: they stay in the cache of a core


def thumbnails(images_NHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale pictures to 8 rows and 9 columns by the mean of blocks.

    Returns:
        uint8, shape (N, 8, 9, C).
    """
    n, height, width, channels = images_NHWC.shape
    rows, lengths, columns, size = _grid(height, width)
    thumbs = np.empty((n, ROWS, COLUMNS, channels), dtype=np.uint8)
    for row, (first, length) in enumerate(zip(rows, lengths, strict=True)):
        narrow = np.uint16 if length <= MAX_ROWS else np.uint32  # a third of the time of reduceat in 32 bits
        sums = images_NHWC[:, first : first + length].sum(axis=1, dtype=narrow)
        thumbs[:, row] = np.add.reduceat(sums, columns, axis=1, dtype=np.uint32) // size[row, :, None]
    return thumbs


def difference_hashes(thumbs_NHWC: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hash each thumbnail to 64 bits: whether a pixel is clearly brighter than its left neighbour (the dHash).

    Returns:
        uint64, shape (N,).
    """
    hashes = np.empty(len(thumbs_NHWC), dtype=np.uint64)
    for start in range(0, len(hashes), HASHED):
        grey = thumbs_NHWC[start : start + HASHED].sum(axis=3, dtype=np.int64)
        bits = np.diff(grey, axis=2) > EDGE * thumbs_NHWC.shape[3]
        hashes[start : start + HASHED] = np.packbits(bits.reshape(len(bits), 64), axis=1).view(">u8")[:, 0]
    return hashes


def find(thumbs_NHWC: NDArray[np.uint8], held_out_N: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Find pairs (held out, not held out) whose hashes differ in at most 4 bits and whose thumbnails hardly differ.

    For each picture held out the most similar partner is returned, if there is one. All pairs of hashes are compared:
    25,000 against 75,000 took 10 s on one core.

    Args:
        thumbs_NHWC: as `thumbnails` returns them.
        held_out_N: which pictures are in validation or test.
    """
    hashes = difference_hashes(thumbs_NHWC)
    ours, others = np.flatnonzero(held_out_N), np.flatnonzero(~held_out_N)
    pairs: list[tuple[int, int]] = []
    rows = max(1, BLOCK // max(1, len(others)))
    for start in range(0, len(ours), rows):
        block = ours[start : start + rows]
        near = np.bitwise_count(hashes[block][:, None] ^ hashes[others][None, :]) <= MAX_DISTANCE
        for row in np.flatnonzero(near.any(axis=1)):
            candidates = others[np.flatnonzero(near[row])[:MAX_CANDIDATES]]
            apart = np.abs(_centred(thumbs_NHWC[candidates]) - _centred(thumbs_NHWC[block[row : row + 1]]))
            difference = apart.mean(axis=(1, 2, 3))
            if difference.min() <= MAX_DIFFERENCE:
                pairs.append((int(block[row]), int(candidates[difference.argmin()])))
    return pairs


def _centred(thumbs_NHWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Take the mean off every thumbnail, so that a brighter copy is a copy."""
    centred: NDArray[np.float64] = thumbs_NHWC - thumbs_NHWC.mean(axis=(1, 2, 3), keepdims=True)
    return centred


@cache
def _grid(height: int, width: int) -> tuple[list[int], list[int], NDArray[np.int64], NDArray[np.int64]]:
    """Return where each row of blocks begins and how high it is, where each column begins, and the blocks' sizes."""
    rows, columns = np.arange(ROWS) * height // ROWS, np.arange(COLUMNS) * width // COLUMNS
    lengths = _lengths(rows, height)
    return rows.tolist(), lengths.tolist(), columns, np.multiply.outer(lengths, _lengths(columns, width))


def _lengths(starts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Return the length of each block; blocks of pictures smaller than a thumbnail repeat one pixel."""
    return np.maximum(np.diff(np.append(starts, total)), 1)

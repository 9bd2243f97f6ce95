"""Consecutive rows of pixels that are worked on together, and the files that they are written to.

Whatever is computed or written a block at a time takes the same memory however many images there are.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

BLOCK_BYTES = 8 * 2**20  # of pixels; a few times that is in use while a block is computed


def blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Split the rows of uint8 pixels into consecutive slices of at most BLOCK_BYTES, or of one image."""
    rows = max(1, BLOCK_BYTES // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


class ArrayFile:
    """Be a `.npy` file of a known shape, of items of one byte, that is written and read again by rows.

    A file that is there already is gone on with if it has the same header and size. Its bytes end up as `numpy.save`
    writes them.
    """

    def __init__(self, path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        header = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
        np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
        self.begins, self.row_bytes = header.tell(), int(np.prod(shape[1:]))
        self.bytes = self.begins + shape[0] * self.row_bytes
        self.file = path.open("r+b" if path.exists() else "w+b")
        if self.file.read(self.begins) != header.getvalue() or os.fstat(self.file.fileno()).st_size != self.bytes:
            self.file.truncate(0)
            self.file.seek(0)
            self.file.write(header.getvalue())
            self.file.truncate(self.bytes)
            self.file.flush()

    @property
    def missing_bytes(self) -> int:
        """Return how many bytes of the file have no place on the disk yet."""
        return max(0, self.bytes - 512 * os.fstat(self.file.fileno()).st_blocks)

    def write(self, rows: slice, block: NDArray[np.uint8] | NDArray[np.bool_], before: int = 0) -> int:
        """Write some rows, hand them to the operating system, and return what `checksum` will find."""
        content = np.ascontiguousarray(block).data
        self.file.seek(self.begins + rows.start * self.row_bytes)
        self.file.write(content)
        self.file.flush()
        return zlib.crc32(content, before)

    def checksum(self, rows: slice, before: int = 0) -> int:
        """Return the CRC-32 of some rows as they lie in the file, begun from that of others."""
        size = (rows.stop - rows.start) * self.row_bytes
        return zlib.crc32(os.pread(self.file.fileno(), size, self.begins + rows.start * self.row_bytes), before)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

"""Consecutive rows of pixels that are worked on together, and the files that they are written to.

Whatever is computed or written a block at a time takes the same memory however many images there are.
"""

import hashlib
import io
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bigstep.errors import DataError
from bigstep.records.sealed import Hashed, flush_file, stamp

BLOCK_BYTES = 2 * 2**20  # of pixels; every thread uses a few times that while it computes a block


def blocks(shape: tuple[int, ...], most: int = sys.maxsize) -> Iterator[slice]:
    """Split the rows of uint8 pixels into consecutive slices of at most BLOCK_BYTES, and of at most so many images.

    A slice has one image at least.
    """
    rows = max(1, min(most, BLOCK_BYTES // max(1, int(np.prod(shape[1:])))))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


class ArrayFile:
    """A `.npy` file of a known shape, of items of one byte, that is written and read again by rows.

    A file that is there already is gone on with if it has the same header and size. Its bytes end up as `numpy.save`
    writes them.
    """

    def __init__(self, path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        header = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
        np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
        self.begins, self.row_bytes = header.tell(), int(np.prod(shape[1:]))
        self.bytes = self.begins + shape[0] * self.row_bytes
        self.path, self.rows = path, shape[0]
        self.hashed, self.sha256 = self.begins, hashlib.sha256(header.getvalue())
        self.file = path.open("r+b" if path.exists() else "w+b")
        size = os.fstat(self.file.fileno()).st_size
        if self.file.read(self.begins) != header.getvalue() or size != self.bytes:
            if size:  # a new file that is cut off takes the disk's time when it is closed (ext4 writes it out then)
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
        """Write some rows, from any thread, and return what `checksum` will find once they are on the disk."""
        content = np.ascontiguousarray(block).data.cast("B")
        written, place = 0, self.begins + rows.start * self.row_bytes
        while written < len(content):  # a nearly full disk takes a part, and raises at the next
            written += os.pwrite(self.file.fileno(), content[written:], place + written)
        return zlib.crc32(content, before)

    def checksum(self, rows: slice, before: int = 0) -> int:
        """Return the CRC-32 of some rows as they lie in the file, begun from that of others."""
        size = (rows.stop - rows.start) * self.row_bytes
        return zlib.crc32(os.pread(self.file.fileno(), size, self.begins + rows.start * self.row_bytes), before)

    def hash_to(self, row: int) -> None:
        """Hash the rows before a row, which are final, so that sealing need not read the file again.

        Raises:
            DataError: the file is shorter than that.
        """
        until = self.begins + row * self.row_bytes
        while self.hashed < until:
            content = os.pread(self.file.fileno(), min(until - self.hashed, BLOCK_BYTES), self.hashed)
            if not content:
                raise DataError(
                    f"{self.path} was cut off while it was written",
                    got=self.hashed,
                    expected=until,
                    do="run again when nothing else writes there",
                )
            self.sha256.update(content)
            self.hashed += len(content)

    def flush(self) -> None:
        """Flush the file to the disk."""
        flush_file(self.file.fileno())

    def finish(self) -> Hashed:
        """Return the hash of the file; all rows are final."""
        self.hash_to(self.rows)
        return Hashed(self.sha256.hexdigest(), stamp(self.path.stat()))

    def close(self) -> None:
        """Close the file."""
        self.file.close()

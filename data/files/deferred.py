"""Pixels that are still in image files: which files, how they become pixels, and what is painted over them.

Shapes: N images of a split, n images of a block.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec
from data.files.hashing import Sources
from data.files.image_file import ImageFile, read_image_file

Pixels = NDArray[np.uint8]
Region = NDArray[np.bool_]  # (n, H, W): where an image was painted
Painter = Callable[[Pixels, NDArray[np.int64]], tuple[Pixels, Region | None]]


@dataclass(frozen=True)
class Paint:
    """What is painted over images: a function by the name of its kind, and what it gets for each, int64 (N,).

    `channels` are those of the painted images; `has_region` says whether place matters.
    """

    kind: str
    painter: Painter
    steps: NDArray[np.int64]
    channels: int
    has_region: bool


class SourceChanged(DataError):
    """An image file whose bytes are no longer those that were hashed."""


@dataclass(frozen=True)
class Deferred:
    """The pixels of one split, to come: `rows` of a list of files, int64 (N,), made pixels when they are written."""

    sources: Sources
    rows: NDArray[np.int64]
    spec: InputSpec
    paint: Paint | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return (N, H, W, C) of the pixels."""
        channels = self.paint.channels if self.paint else self.spec.channels
        return len(self.rows), self.spec.height_px, self.spec.width_px, channels

    def __getitem__(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "Deferred":
        """Choose some of the images, as indexing an array does; no pixel is touched."""
        paint = replace(self.paint, steps=self.paint.steps[index]) if self.paint else None
        return replace(self, rows=self.rows[index], paint=paint)

    def read(self, position: int) -> ImageFile:
        """Decode the image at a position, without what is painted over it; one that cannot be used carries its error.

        Raises:
            SourceChanged: the file's bytes are not those that were hashed.
        """
        row = self.rows[position]
        path, expected = self.sources.root / self.sources.paths[row], self.sources.sha256[row].tobytes()
        picture = read_image_file(path, self.spec)
        if picture.sha256 != expected:
            raise SourceChanged(
                f"{path} was changed while the images were read",
                got=f"sha256 {picture.sha256.hex()}",
                expected=f"sha256 {expected.hex()}",
                do="run again when nothing writes there",
            )
        return picture

    def painted(self, pixels: Pixels, rows: slice) -> tuple[Pixels, Region | None]:
        """Paint over the pixels of a block of rows, uint8 (n, H, W, spec.channels)."""
        if not self.paint:
            return pixels, None
        wide = np.broadcast_to(pixels, (*pixels.shape[:3], self.paint.channels))
        return self.paint.painter(wide, self.paint.steps[rows])

    def identity(self, rows: slice) -> str:
        """Return a hash of all that decides the pixels of a block: the files' bytes, the decoding, and the paint."""
        digest = hashlib.sha256(self.spec.model_dump_json().encode())
        digest.update(self.sources.sha256[self.rows[rows]].tobytes())
        if self.paint:
            digest.update(f"{self.paint.kind} {self.paint.channels}".encode() + self.paint.steps[rows].tobytes())
        return digest.hexdigest()

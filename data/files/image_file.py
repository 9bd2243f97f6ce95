"""One image file of unknown origin: its pixels, its hash and what was converted, or why it cannot be used."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bigstep.decode import open_image, to_pixels
from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec

EXIF_ORIENTATION = 0x0112
SIXTEEN = "16 bits per channel, made 8"
DIM = "16 bits per channel, of which the highest are not used, nearly black"
DIM_LEVEL = 64  # of 256: what 14 of 16 bits reach
WARNINGS = {DIM: "scale the values to the whole range of 16 bits"}  # traits that are worth one, and what to do


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image file: pixels uint8 (H, W, C), or the error that says why there are none.

    `sha256` is that of the bytes that were decoded, all zero if they cannot be read; `traits` says what decoding
    changed or left out.
    """

    pixels: NDArray[np.uint8] | None
    sha256: bytes
    traits: tuple[str, ...] = ()
    error: DataError | None = None


def read_image_file(path: Path, spec: InputSpec) -> ImageFile:
    """Read a file once and decode it as the server does; a file that cannot be used carries its error."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return ImageFile(None, bytes(32), error=DataError("the file cannot be read", got=error.strerror))
    sha256 = hashlib.sha256(content).digest()
    try:
        image = open_image(content)
        traits = tuple(_traits(image))  # before the pixels are read, which changes what an image says of itself
        pixels = to_pixels(image, spec)
        dim = SIXTEEN in traits and pixels.max() <= DIM_LEVEL
        return ImageFile(pixels, sha256, (*traits, DIM) if dim else traits)
    except DataError as error:
        return ImageFile(None, sha256, error=error)


def _traits(image: Image.Image) -> Iterator[str]:
    """Yield what decoding will change or leave out."""
    alpha = image.mode in ("RGBA", "LA", "PA") or isinstance(image.info.get("transparency"), bytes)
    tiles = str(getattr(image, "tile", ""))  # Pillow calls 16-bit RGB "RGB"; only its raw mode, RGB;16B, says more
    found = {
        "greyscale, made RGB": image.mode in ("1", "L", "LA") or image.mode.startswith("I;16"),
        "palette, made RGB": image.mode in ("P", "PA"),
        "CMYK, made RGB": image.mode == "CMYK",
        SIXTEEN: ";16" in tiles,
        "12 bits per channel, made 8": ";12" in tiles,
        "transparency, laid over white": alpha,
        "one transparent colour, kept unless another is equal": "transparency" in image.info and not alpha,
    }
    with suppress(Exception):  # damaged EXIF data or frames: if that matters, decoding says what is wrong
        found["turned upright as EXIF says"] = image.getexif().get(EXIF_ORIENTATION) in range(2, 9)
        found["several frames, the first taken"] = getattr(image, "is_animated", False)
    yield from (trait for trait, applies in found.items() if applies)

"""The one place where an image file becomes pixels, for the data sets and for the server alike."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 24_000_000  # declared width x height, as large cameras make; more is refused before it is decoded
MAX_SIDE = 16_384  # pixels; a picture one pixel wide and millions high would take 40 times the memory of its pixels


class NotAnImage(DataError):
    """Bytes that are in no image format that bigstep reads."""


def decode(content: bytes, spec: InputSpec) -> NDArray[np.uint8]:
    """Decode an image file to the pixels that the network was trained on.

    The order is: EXIF rotation, 8 bits per channel, conversion to RGB (or grey) without alpha, then one bilinear
    resize: of the whole picture when spec.fit is `stretch`, of the largest middle part of the right shape when `crop`.

    Args:
        content: the bytes of a JPEG, PNG, WEBP, BMP, GIF (first frame) or TIFF file.
        spec: the input contract.

    Returns:
        uint8, shape (spec.height_px, spec.width_px, spec.channels).

    Raises:
        NotAnImage: the bytes are in none of these formats.
        DataError: the file is truncated, damaged, or declares more than MAX_PIXELS pixels or a side above MAX_SIDE.
    """
    return to_pixels(open_image(content), spec)


def open_image(content: bytes) -> Image.Image:
    """Read the header of an image file; no pixel is decoded yet.

    Raises:
        NotAnImage, DataError: as `decode`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is our own, lower limit
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise NotAnImage(
            "the content is not an image", got=f"{len(content)} bytes", expected=", ".join(FORMATS)
        ) from None
    except Exception as error:  # Pillow's parsers raise many types on damaged headers
        raise DataError("the image cannot be opened", got=error, do="send an undamaged file") from error
    if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
        raise DataError(
            "the image is too large to decode",
            got=f"{image.width} x {image.height} pixels",
            expected=f"at most {MAX_PIXELS} pixels, no side above {MAX_SIDE}",
            do="scale it down first",
        )
    return image


def to_pixels(image: Image.Image, spec: InputSpec) -> NDArray[np.uint8]:
    """Decode what `open_image` has opened; arguments, result and errors as `decode`."""
    try:
        ImageOps.exif_transpose(image, in_place=True)  # which copies nothing if the image is upright
        image.info.pop("transparency", None)  # of a palette: left out like alpha, about which Pillow would warn
        pixels, mode = _eight_bits(image), "RGB" if spec.channels == 3 else "L"
        pixels = pixels if pixels.mode == mode else pixels.convert(mode)
    except DataError:
        raise
    except Exception as error:  # Pillow raises many types while the pixels are read
        raise DataError("the image cannot be decoded", got=error, do="send an undamaged file") from error
    size = (spec.width_px, spec.height_px)
    if pixels.size != size:
        pixels = pixels.resize(
            size, Image.Resampling.BILINEAR, box=_middle(pixels.size, size) if spec.fit == "crop" else None
        )
    return np.asarray(pixels).reshape(spec.height_px, spec.width_px, spec.channels)


def _middle(found: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the largest middle part of a picture that has the shape wanted, as left, top, right, bottom.

    Resizing this part is scaling the shorter side and cropping the middle, without ever making the whole picture
    large: one of 1 x 16,384 pixels would become 64 x 1,048,576. It begins at a whole pixel, so that a picture that
    needs no scaling keeps its own pixels.
    """
    scale = min(found[0] / wanted[0], found[1] / wanted[1])
    width, height = wanted[0] * scale, wanted[1] * scale
    left, top = (found[0] - width) // 2, (found[1] - height) // 2
    return left, top, min(left + width, found[0]), min(top + height, found[1])


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits: Pillow cuts it off at 255, which turns nearly every picture white."""
    if image.mode in ("I", "F"):
        raise DataError(
            "the image has 32 bits per pixel", got=f"mode {image.mode}", expected="8 or 16 bits per channel"
        )
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))

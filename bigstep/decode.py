"""The one place where an image file becomes pixels, for the data sets and for the server alike."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
MAX_PIXELS = 24_000_000  # declared width x height, as large cameras make; more is refused before it is decoded
MAX_SIDE = 16_384  # pixels; a picture one pixel wide and millions high would take 40 times the memory of its pixels
MARKS: tuple[tuple[int, bytes, str], ...] = (  # what files of a format begin with: place, bytes, name of the format
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WEBP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    *((4, b"ftyp" + brand, "AVIF") for brand in (b"avif", b"avis")),
    *((4, b"ftyp" + brand, "HEIC") for brand in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")),
    (4, b"ftypcrx", "CR3"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"II\xbc\x01", "JPEG XR"),
    (0, b"8BPS", "PSD"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"FUJIFILM", "RAF"),
    (0, b"IIU\0", "RW2"),
    *((0, b"P" + kind + end, "PNM") for kind in (b"1", b"2", b"3", b"4", b"5", b"6") for end in (b"\n", b" ", b"\r")),
)
WHITE_IS_ZERO, PHOTOMETRIC, BITS = 0, 262, 258  # of TIFF's tags
TiffImagePlugin.OPEN_INFO.update(  # forms of grey that Pillow has unpackers for, but reads in one byte order alone
    {
        (b"MM", 0, (1,), 1, (16,), ()): ("I;16B", "I;16B"),
        **{(e, kind, (1,), 1, (12,), ()): ("I;16", "I;12") for e in (b"II", b"MM") for kind in (0, 1)},
    }
)


class NotAnImage(DataError):
    """Bytes that are in no image format that bigstep reads."""


def decode(content: bytes, spec: InputSpec) -> NDArray[np.uint8]:
    """Decode an image file to the pixels that the network was trained on.

    The order is: EXIF rotation, 8 bits per channel, what is transparent laid over white, conversion to RGB (or grey),
    then one bilinear resize: of the whole picture when spec.fit is `stretch`, of the largest middle part of the right
    shape when `crop`.

    Args:
        content: the bytes of a JPEG, PNG, WEBP, BMP, GIF (first frame), TIFF or AVIF file.
        spec: the input contract.

    Returns:
        uint8, shape (spec.height_px, spec.width_px, spec.channels).

    Raises:
        NotAnImage: the bytes are in none of these formats.
        DataError: the file is truncated, damaged, holds numbers of unknown range (signed, 32 bits, floating-point), or
            declares more than MAX_PIXELS pixels or a side above MAX_SIDE.
    """
    return to_pixels(open_image(content), spec)


def format_of(head: bytes) -> str | None:
    """Name the image format, read or not, that a file begins like; None if it begins like none.

    Args:
        head: the first 64 bytes of the file, or more.
    """
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "BMP"
    found = next((name for place, mark, name in MARKS if head.startswith(mark, place)), None)
    return "AVIF" if found == "HEIC" and b"avif" in head[8:64] else found


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
        found = format_of(content)
        if found is None:
            raise NotAnImage(
                "the content is not an image", got=f"{len(content)} bytes", expected=", ".join(FORMATS)
            ) from None
        raise NotAnImage(
            "the image is damaged at its beginning" if found in FORMATS else "images in this format are not read",
            got=found,
            expected=", ".join(FORMATS),
            do="send an undamaged file" if found in FORMATS else "convert it, to JPEG or PNG for example",
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
        grey = _grey_range(image)
        ImageOps.exif_transpose(image, in_place=True)  # which copies nothing if the image is upright
        pixels, mode = _opaque(_eight_bits(image, *grey)), "RGB" if spec.channels == 3 else "L"
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


def _grey_range(image: Image.Image) -> tuple[int, bool]:
    """Return the number that stands for full scale in grey of more than 8 bits, and whether 0 is white.

    Pillow hands over such numbers as the file has them.
    """
    tags = getattr(image, "tag_v2", {})
    return (4095 if tags.get(BITS) == (12,) else 65535), tags.get(PHOTOMETRIC) == WHITE_IS_ZERO


def _eight_bits(image: Image.Image, full_scale: int, white_is_zero: bool) -> Image.Image:
    """Scale grey of 12 or 16 bits to 8: Pillow cuts it off at 255, which turns nearly every picture white."""
    if image.mode in ("I", "F"):
        raise DataError(
            "the image holds numbers of unknown range",
            got="floating-point numbers" if image.mode == "F" else "signed numbers, or 32 bits per pixel",
            expected="8 or 16 bits per channel, from black to white",
            do="scale them to 0 to 255 as they are to be seen, and save the image as PNG",
        )
    if not image.mode.startswith("I;16"):
        return image
    grey = np.rint(np.asarray(image) / (full_scale / 255)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(255 - grey if white_is_zero else grey)


def transparent(image: Image.Image) -> bool:
    """Say whether parts of an image may show what lies behind it: it has an alpha channel or such entries of a palette.

    One entry of a palette, or one colour, that is declared transparent keeps its own colour (what a GIF leaves empty),
    unless another entry has the same colour: a black drawing on transparent black.
    """
    if image.mode in ("RGBA", "LA", "PA"):
        return True
    entry = image.info.get("transparency")
    if image.mode != "P" or entry is None:
        return False
    if not isinstance(entry, int):
        return True
    palette = image.getpalette() or []
    colours = [tuple(palette[k : k + 3]) for k in range(0, len(palette), 3)]
    return entry < len(colours) and colours.count(colours[entry]) > 1


def _opaque(image: Image.Image) -> Image.Image:
    """Lay an image over white, as viewers do; the colours of transparent parts are whatever a program left there.

    One that is transparent everywhere keeps its colours: some programs fill the fourth byte of a BMP with zeros.
    """
    if not transparent(image):
        image.info.pop("transparency", None)  # Pillow would warn of it
        return image
    shown = image if image.mode == "RGBA" else image.convert("RGBA")
    least, most = shown.getchannel("A").getextrema()
    if least == 255 or most == 0:
        return shown.convert("RGB")
    ground = Image.new("RGB", shown.size, "white")
    ground.paste(shown, mask=shown)
    return ground

"""One function from image files to pixels: what it accepts, and that it changes nothing it need not."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bigstep import decode as module
from bigstep.decode import FORMATS, MAX_PIXELS, NotAnImage, decode, format_of, open_image, to_pixels
from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec

SPEC = InputSpec(height_px=6, width_px=4)
SPEC_SHAPE = (6, 4, 3)
GREY = InputSpec(height_px=6, width_px=4, channels=1)
CROP = InputSpec(height_px=6, width_px=4, fit="crop")
LOSSLESS = {"PNG": {}, "BMP": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def picture(height=6, width=4, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encode(image, kind="PNG", **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_header(width, height):
    """Return a PNG that declares a size and holds no pixels."""
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    chunks = [b"IHDR" + size + bytes([8, 2, 0, 0, 0]), b"IDAT", b"IEND"]
    framed = [(len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_lossless_file_of_the_right_size_gives_its_own_pixels(kind):
    pixels = picture()
    found = decode(encode(pixels, kind, **LOSSLESS[kind]), SPEC)
    assert found.dtype == np.uint8 and np.array_equal(found, pixels)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]), st.integers(0, 99))
def test_no_pixel_changes_when_nothing_is_to_be_done(height, width, channels, seed):
    pixels = picture(height, width, channels, seed)
    spec = InputSpec(height_px=height, width_px=width, channels=channels)
    assert np.array_equal(decode(encode(pixels), spec), pixels)


def test_the_files_of_the_data_set_give_the_pixels_of_the_data_set(images):
    """What is trained on is what a client's PNG becomes."""
    spec, test = images.info.input, images.split("test").images
    for index in (0, 1, 1801, 3599):
        assert np.array_equal(decode(encode(np.array(test[index])), spec), test[index])


@pytest.mark.parametrize("kind", FORMATS)
def test_every_named_format_is_read_to_the_shape_asked_for(kind):
    pixels = np.full((12, 8, 3), 200, np.uint8)
    for spec in (SPEC, GREY):
        found = decode(encode(pixels, kind), spec)
        assert found.shape == (6, 4, spec.channels) and abs(int(found.mean()) - 200) <= 2


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda p: p),
        (2, lambda p: p[:, ::-1]),
        (3, lambda p: p[::-1, ::-1]),
        (4, lambda p: p[::-1]),
        (5, lambda p: p.transpose(1, 0, 2)),
        (6, lambda p: np.rot90(p, -1)),
        (7, lambda p: p[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda p: np.rot90(p, 1)),
    ],
)
def test_a_photo_is_turned_as_its_exif_says(orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = picture(4, 6) if orientation > 4 else picture(6, 4)
    assert np.array_equal(decode(encode(pixels, exif=exif), SPEC), upright(pixels))


def test_a_meaningless_orientation_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 77
    assert np.array_equal(decode(encode(picture(), exif=exif), SPEC), picture())


def test_grey_becomes_three_equal_channels_and_colour_becomes_luma():
    grey = picture(channels=1)
    assert np.array_equal(decode(encode(grey), SPEC), grey.repeat(3, axis=2))
    green = np.zeros((6, 4, 3), np.uint8)
    green[..., 1] = 255
    assert np.array_equal(decode(encode(green), GREY), np.full((6, 4, 1), 150))  # ITU-R 601-2: 0.587 x 255


def test_a_palette_is_looked_up():
    indexed = Image.new("P", (4, 6), 1)
    indexed.putpalette([0, 0, 0, 10, 20, 30])
    assert decode(encode(indexed), SPEC).reshape(-1, 3).tolist() == [[10, 20, 30]] * 24


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_one_transparent_entry_of_a_palette_keeps_its_colour_and_warns_of_nothing(kind):
    indexed = Image.fromarray(picture()).convert("P")
    found = decode(encode(indexed, kind, transparency=int(np.asarray(indexed)[0, 0])), SPEC)
    assert np.array_equal(found, np.asarray(indexed.convert("RGB")))


def black_drawing():
    """Return the opacity of a black drawing on a ground that is transparent, and black below that."""
    opacity = np.zeros((6, 4), np.uint8)
    opacity[2], opacity[4, 1] = 255, 128
    return opacity, Image.fromarray(np.dstack([np.zeros((6, 4, 3), np.uint8), opacity]))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("spec", [SPEC, GREY])
def test_what_is_transparent_is_laid_over_white(mode, spec):
    """As viewers show it: without its opacity such a drawing is one black area."""
    opacity, drawing = black_drawing()
    found = decode(encode(drawing.convert(mode)), spec)
    assert np.array_equal(found, np.repeat(255 - opacity[..., None], spec.channels, axis=2))


def test_a_palette_with_a_table_of_opacities_is_laid_over_white():
    opacity, _ = black_drawing()
    indexed = Image.new("P", (4, 6))
    indexed.putdata([int(v) // 127 for v in opacity.ravel()])
    indexed.putpalette([0, 0, 0, 0, 0, 0, 0, 0, 0])
    assert np.array_equal(decode(encode(indexed, transparency=b"\x00\x80\xff"), SPEC)[..., 0], 255 - opacity)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_entry_that_has_the_colour_of_another_is_laid_over_white(kind):
    """Else a black drawing on transparent black is lost."""
    indexed = Image.new("P", (4, 6))
    indexed.putpalette([0, 0, 0, 0, 0, 0, 200, 0, 0])
    indexed.putdata([k % 3 for k in range(24)])
    found = decode(encode(indexed, kind, transparency=0, optimize=False), SPEC).reshape(-1, 3).tolist()
    assert found[:3] == [[255, 255, 255], [0, 0, 0], [200, 0, 0]]


@pytest.mark.parametrize("opacity", [255, 0])
def test_an_alpha_channel_that_says_nothing_changes_nothing(opacity):
    """A picture that is transparent everywhere is one whose alpha was never filled in."""
    same = np.concatenate([picture(), np.full((6, 4, 1), opacity, np.uint8)], axis=2)
    assert np.array_equal(decode(encode(same), SPEC), picture())


def test_one_bit_images_are_black_and_white():
    bits = Image.new("1", (4, 6), 1)
    assert (decode(encode(bits), SPEC) == 255).all()


def test_cmyk_becomes_rgb():
    cyan = Image.new("CMYK", (4, 6), (255, 0, 0, 0))
    assert decode(encode(cyan, "TIFF"), SPEC)[0, 0].tolist() == [0, 255, 255]
    red, green, blue = decode(encode(cyan, "JPEG", quality=95), SPEC)[0, 0].tolist()
    assert red < 12 and green > 243 and blue > 243


def test_sixteen_bits_are_scaled_not_cut_off():
    """Pillow's own conversion clips 16-bit grey at 255: nearly every such picture would come out white."""
    ramp = np.linspace(0, 65535, 24).astype(np.uint16).reshape(6, 4)
    found = decode(encode(Image.fromarray(ramp)), GREY)[..., 0].astype(int)
    assert np.abs(found - ramp.astype(int) / 257).max() <= 1
    assert np.array_equal(decode(encode(Image.fromarray(ramp), "TIFF"), SPEC)[..., 2], found)


def tiff(order, bits, white_is_zero, content, sample_format=1):
    """Return a TIFF of 4 x 6 grey pixels: one strip, put together by hand, for Pillow writes one form alone."""
    end = "<" if order == b"II" else ">"
    entries = [(256, 4), (257, 6), (258, bits), (259, 1), (262, 0 if white_is_zero else 1), (273, 146)]
    entries += [(277, 1), (278, 6), (279, len(content)), (284, 1), (339, sample_format)]
    fields = b"".join(struct.pack(f"{end}HHIH2x", tag, 3, 1, value) for tag, value in entries)
    head = order + struct.pack(f"{end}HI", 42, 8) + struct.pack(f"{end}H", len(entries)) + fields + b"\0" * 4
    assert len(head) == 146
    return head + content


RAMP = np.linspace(0, 65535, 24).round().astype(np.uint16)


def packed_12(values):
    bits = "".join(f"{int(value):012b}" for value in values)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("order", [b"II", b"MM"])
@pytest.mark.parametrize("bits", [12, 16])
def test_grey_of_many_bits_is_the_same_picture_in_every_form(order, bits, white_is_zero):
    """Either byte order, white as zero or as the highest number, 12 bits packed or 16: what a viewer shows."""
    stored = RAMP >> (16 - bits)
    stored = 2**bits - 1 - stored if white_is_zero else stored
    content = packed_12(stored) if bits == 12 else stored.astype("<u2" if order == b"II" else ">u2").tobytes()
    found = decode(tiff(order, bits, white_is_zero, content), GREY).ravel()
    assert np.abs(found.astype(int) - RAMP / 257).max() <= 1
    assert {0, 255} <= set(found.tolist())


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (encode(Image.new("I", (4, 6), 70_000), "TIFF"), "signed numbers, or 32 bits"),
        (encode(Image.new("F", (4, 6), 0.5), "TIFF"), "floating-point"),
        (tiff(b"II", 16, False, bytes(48), sample_format=2), "signed"),
        (tiff(b"MM", 16, False, bytes(48), sample_format=2), "signed"),
    ],
)
def test_numbers_are_refused_where_nobody_knows_their_range(content, got):
    with pytest.raises(DataError, match="unknown range") as caught:
        decode(content, SPEC)
    assert got in str(caught.value.got) and "16 bits" in caught.value.expected and "0 to 255" in str(caught.value)


def test_xmp_orientation_counts_as_viewers_have_it():
    """Pillow before 11.3 reads it otherwise, which is why pyproject.toml asks for that."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    xmp += b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="3"/></rdf:RDF></x:xmpmeta>'
    pixels = np.repeat(np.repeat(np.array([[0, 255]], np.uint8), 3, 0), 2, 1)[..., None].repeat(3, 2).repeat(2, 0)
    found = decode(encode(pixels, "JPEG", quality=100, subsampling=0, xmp=xmp), SPEC)
    assert np.abs(found.astype(int) - pixels[::-1, ::-1]).max() <= 3


def test_only_the_first_frame_of_an_animation_counts():
    first, second = Image.new("RGB", (4, 6), (255, 0, 0)), Image.new("RGB", (4, 6), (0, 255, 0))
    for kind, options in {"GIF": {}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}.items():
        content = encode(first, kind, save_all=True, append_images=[second], **options)
        assert decode(content, SPEC)[0, 0].tolist() == [255, 0, 0], kind


@pytest.mark.parametrize(("height", "width"), [(1, 1), (12, 8), (6, 5), (600, 4), (3, 400)])
def test_another_size_is_scaled_without_cropping(height, width):
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2] = 255
    found = decode(encode(pixels), SPEC)
    assert found.shape == (6, 4, 3)
    if height >= 12:
        assert (found[0] == 255).all() and (found[-1] == 0).all()


def test_scaling_is_pillows_bilinear():
    large = picture(40, 30)
    expected = Image.fromarray(large).resize((4, 6), Image.Resampling.BILINEAR)
    assert np.array_equal(decode(encode(large), SPEC), np.asarray(expected))


@pytest.mark.parametrize(("height", "width"), [(6, 9), (11, 4), (6, 4), (6, 5), (7, 4)])
def test_crop_keeps_the_middle_untouched_where_nothing_is_scaled(height, width):
    pixels = picture(height, width)
    top, left = (height - 6) // 2, (width - 4) // 2
    assert np.array_equal(decode(encode(pixels), CROP), pixels[top : top + 6, left : left + 4])


@pytest.mark.parametrize("side", [(40, 90), (90, 40), (13, 9), (3, 5), (1, 1), (16_384, 1), (1, 16_384)])
def test_crop_scales_the_shorter_side_and_cuts_the_rest(side):
    """Within the rounding of the place to a whole pixel: what resizing first and cropping then gives."""
    pixels = np.zeros((*side, 3), np.uint8) + np.linspace(0, 255, side[1]).astype(np.uint8)[None, :, None]
    found = decode(encode(pixels), CROP).astype(int)
    assert found.shape == SPEC_SHAPE
    scale = max(6 / side[0], 4 / side[1])
    first = (side[1] - 4 / scale) / 2 / side[1] * 255  # grey level at the left edge of the crop
    last = 255 - first
    step = 255 / side[1] + (last - first) / 4 + 1
    assert abs(found[3, 0, 0] - first) <= step and abs(found[3, 3, 0] - last) <= step


def test_crop_turns_a_picture_upright_before_it_cuts():
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = picture(4, 9)
    assert np.array_equal(decode(encode(pixels, exif=exif), CROP), np.rot90(pixels, -1)[1:7])


def test_open_image_reads_the_header_alone_and_to_pixels_the_rest():
    content = encode(picture(60, 40))
    assert open_image(content[:100]).size == (40, 60)
    with pytest.raises(DataError, match="cannot be decoded"):
        to_pixels(open_image(content[:100]), SPEC)
    assert np.array_equal(to_pixels(open_image(content), SPEC), decode(content, SPEC))


@pytest.mark.parametrize(
    ("content", "what", "got"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(99), "in this format are not read", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(99), "in this format are not read", "HEIC"),
        (encode(picture(), "JPEG2000"), "in this format are not read", "JPEG 2000"),
        (encode(picture(), "PPM"), "in this format are not read", "PNM"),
        (encode(picture(), "GIF")[:4], "damaged at its beginning", "GIF"),
        (encode(picture(), "BMP")[:12], "damaged at its beginning", "BMP"),
    ],
)
def test_an_image_that_is_not_read_is_called_by_its_format(content, what, got):
    with pytest.raises(NotAnImage, match=what) as caught:
        decode(content, SPEC)
    assert caught.value.got == got


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_that_is_read_is_told_by_its_first_bytes(kind):
    assert format_of(encode(picture(60, 40), kind)[:64]) == kind


@pytest.mark.parametrize("content", [b"", b"hello", b"<svg/>", b"%PDF-1.4", b"\x00" * 100, b"BMW cars", b"\x89PNG"])
def test_what_is_no_image_is_called_so(content):
    with pytest.raises(NotAnImage, match="not an image") as caught:
        decode(content, SPEC)
    assert caught.value.got == f"{len(content)} bytes" and "PNG" in caught.value.expected


def test_formats_that_are_not_named_are_not_read():
    with pytest.raises(NotAnImage):
        decode(encode(picture(), "PPM"), SPEC)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_refused_at_every_length(kind):
    content = encode(picture(60, 40), kind)
    refused = 0
    for length in range(0, len(content), max(1, len(content) // 40)):
        try:
            found = decode(content[:length], SPEC)
        except DataError:
            refused += 1
        else:
            assert found.shape == SPEC_SHAPE, "only trailing bytes that hold no pixels may be missing"
            assert length > 0.9 * len(content)
    assert refused >= 35


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_damage_is_refused_or_still_gives_the_shape(kind, data):
    content = bytearray(encode(picture(20, 20), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = decode(bytes(content), SPEC)
        except DataError:
            return  # any other exception fails the test
    assert found.shape == SPEC_SHAPE and found.dtype == np.uint8


@pytest.mark.parametrize(("width", "height"), [(MAX_PIXELS + 1, 1), (5000, 5000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_before_it_is_decoded(width, height):
    """The file holds no pixels: a decoder that began would say something else."""
    assert width * height > MAX_PIXELS
    with pytest.raises(DataError, match=r"too large|cannot be opened") as caught:
        decode(png_header(width, height), SPEC)
    assert not isinstance(caught.value, NotAnImage)
    assert str(width) in str(caught.value) or str(width * height) in str(caught.value)


@pytest.mark.parametrize("size", [(1, 16_385), (16_385, 1)])
def test_a_side_has_a_limit_of_its_own(size):
    with pytest.raises(DataError, match="too large") as caught:
        decode(encode(Image.new("L", size)), GREY)
    assert "16384" in caught.value.expected
    longest = tuple(min(side, 16_384) for side in size)
    assert decode(encode(Image.new("L", longest)), GREY).shape == (6, 4, 1)


def test_the_limit_itself_is_allowed(monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS", 24)
    assert decode(encode(picture(6, 4)), SPEC).shape == SPEC_SHAPE
    with pytest.raises(DataError, match="too large"):
        decode(encode(picture(5, 5)), SPEC)

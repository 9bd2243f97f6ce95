"""Request bodies over a real ONNX model: those that are answered, and those that are refused."""

import io

import numpy as np
import pytest
from PIL import Image

from bigstep.decode import decode
from serve import service
from serve.app import create_app
from serve.limits import Limits

PNG = {"Content-Type": "image/png"}
RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def http(bundle, client):
    limits = Limits(max_body_bytes=20_000, max_images=40, max_batch_images=8)
    with client(create_app(bundle, limits)) as started:
        yield started


# ---- bodies that are answered ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 8, 9, 40])
def test_raw_pixels(http, predictor, random_images, count, check_answer):
    images = random_images(count, seed=count)
    check_answer(http.post("/predict", content=images.tobytes(), headers=RAW), predictor, images)


def test_answer_names_the_model(http, bundle, random_images):
    answer = http.post("/predict", content=random_images(1).tobytes(), headers=RAW)
    assert answer.json()["model"] == {"name": "pets", "sha256": bundle.info.forms[0].sha256}


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
def test_a_file_among_raw_pixels_is_decoded(http, bundle, predictor, random_images, image_file, fmt, check_answer):
    """Not taken for pixels, which a length that happens to fit would turn into a label of noise."""
    content = image_file(random_images(1)[0], fmt)
    padded = content + bytes(-len(content) % 72)
    for body in (content, padded):
        answer = http.post("/predict", content=body, headers=RAW)
        check_answer(answer, predictor, decode(content, bundle.info.contract.input)[None])


@pytest.mark.parametrize("mark", [b"\0\0\0\x18ftypheic", b"8BPS\0\1", b"\x89PNG\r\n\x1a\n"])
def test_nor_is_one_that_cannot_be_read(http, mark, check_refused):
    check_refused(http.post("/predict", content=mark.ljust(72, b"\1"), headers=RAW), 415)


@pytest.mark.parametrize("pixels", [b"\xff\xd8\xff", b"\xff\x0a\x01", b"P6\n", b"BM\x07\x08\x09\x0a\x0b"])
def test_pixels_that_begin_like_a_file_are_pixels(http, predictor, pixels, check_answer):
    body = pixels.ljust(72, b"\7")
    image = np.frombuffer(body, np.uint8).reshape(1, 6, 4, 3)
    check_answer(http.post("/predict", content=body, headers=RAW), predictor, image)


def test_a_form_with_a_preamble_or_bare_line_feeds_is_read(http, predictor, random_images, image_file, check_answer):
    """RFC 2046 has readers pass over a preamble; the content of a file keeps every byte, line ends too."""
    images = random_images(3)
    contents = [image_file(image) + b"\r\n\n\r" for image in images]
    part = '--B{e}Content-Disposition: form-data; name="file"; filename="a.png"{e}Content-Type: image/png{e}{e}'
    for end, before, after in (("\r\n", "This is MIME.\r\n", ""), ("\n", "", ""), ("\n", "--Boo\n", "\nbehind\n--B\n")):
        start, stop = part.format(e=end).encode(), end.encode()
        body = before.encode() + b"".join(start + content + stop for content in contents) + b"--B--" + stop
        answer = http.post(
            "/predict", content=body + after.encode(), headers={"Content-Type": "multipart/form-data; boundary=B"}
        )
        check_answer(answer, predictor, images)


@pytest.mark.parametrize("content_type", ["image/png", "IMAGE/JPEG; q=1", "image/whatever"])
def test_the_bytes_decide_not_the_image_type(http, predictor, random_images, image_file, content_type, check_answer):
    images = random_images(1)
    answer = http.post("/predict", content=image_file(images[0]), headers={"Content-Type": content_type})
    check_answer(answer, predictor, images)


def test_a_form_keeps_the_order_of_its_files(http, predictor, random_images, image_file, check_answer):
    images = random_images(5)
    files = [("file", (f"{i}.png", image_file(image), "image/png")) for i, image in enumerate(images)]
    check_answer(http.post("/predict", files=files), predictor, images)


def exif_rotated():
    photo = Image.fromarray(np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise: 6 wide, 4 high becomes 4 wide, 6 high
    file = io.BytesIO()
    photo.save(file, "PNG", exif=exif)
    turned = np.asarray(photo.transpose(Image.Transpose.ROTATE_270))
    return file.getvalue(), turned


def test_exif_rotation_is_applied(http, predictor, check_answer):
    content, turned = exif_rotated()
    check_answer(http.post("/predict", content=content, headers=PNG), predictor, turned[None])


@pytest.mark.parametrize("mode", ["P", "L", "RGBA", "LA", "1", "I;16"])
def test_other_modes_and_sizes_go_through_the_one_decoder(http, bundle, predictor, mode, check_answer):
    picture = Image.linear_gradient("L").resize((31, 17))
    picture = picture.convert("I").convert("I;16") if mode == "I;16" else picture.convert(mode)
    file = io.BytesIO()
    picture.save(file, "PNG")
    images = decode(file.getvalue(), bundle.info.contract.input)[None]
    assert images.shape == (1, 6, 4, 3)
    check_answer(http.post("/predict", content=file.getvalue(), headers=PNG), predictor, images)


# ---- bodies that are refused -----------------------------------------------------------------------------------------


def test_text_named_png_is_no_image(http, check_refused):
    files = {"file": ("digit.png", b"hello, I am text", "image/png")}
    check_refused(http.post("/predict", files=files), 415, "'digit.png'", "not an image")
    check_refused(http.post("/predict", content=b"<svg></svg>", headers={"Content-Type": "image/svg+xml"}), 415)


def test_the_damaged_file_is_named(http, random_images, image_file, check_refused):
    good = image_file(random_images(1)[0])
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    jpeg = image_file(noise, "JPEG")
    check_refused(http.post("/predict", content=jpeg[: len(jpeg) // 2], headers={"Content-Type": "image/jpeg"}), 400)
    files = [("file", ("good.png", good)), ("file", ("bad.jpg", jpeg[: len(jpeg) // 2]))]
    check_refused(http.post("/predict", files=files), 400, "file 2 ('bad.jpg')")


def test_a_tiny_file_that_declares_a_huge_picture_is_refused(http, check_refused):
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG", compress_level=9)
    assert len(file.getvalue()) < 20_000
    check_refused(http.post("/predict", content=file.getvalue(), headers=PNG), 400, "10000 x 10000")


@pytest.mark.parametrize("count", [0, 1, 71, 73, 145])
def test_raw_pixels_of_a_wrong_length(http, count, check_refused):
    check_refused(
        http.post("/predict", content=bytes(count), headers=RAW), 400, f"{count} bytes", "N x 72 bytes", "6 x 4 x 3"
    )


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/json", "application/x-www-form-urlencoded"]
)
def test_other_content_types(http, content_type, check_refused):
    headers = {} if content_type is None else {"Content-Type": content_type}
    check_refused(
        http.post("/predict", content=b"{}", headers=headers), 415, content_type or "no Content-Type", "image/*"
    )


def test_compressed_bodies_are_not_taken_for_pixels(http, check_refused):
    answer = http.post("/predict", content=bytes(72), headers=RAW | {"Content-Encoding": "gzip"})
    check_refused(answer, 415, "'gzip'", "no coding")


def test_empty_bodies_and_forms(http, check_refused):
    check_refused(http.post("/predict", content=b"", headers=PNG), 400, "empty")
    check_refused(http.post("/predict", files={"file": ("a.png", b"")}), 400, "'a.png'", "empty")
    empty = {"Content-Type": "multipart/form-data; boundary=x"}
    check_refused(http.post("/predict", content=b"--x--\r\n", headers=empty), 400, "no file")


def test_a_field_without_a_file_name_is_refused_for_it_would_shift_the_answers(
    http, random_images, image_file, check_refused
):
    content = image_file(random_images(1)[0])
    files = [("a", ("a.png", content)), ("b", (None, content)), ("c", ("c.png", content))]
    check_refused(http.post("/predict", files=files), 400, "without a file name")


def form_of(contents):
    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="%d.png"\r\n\r\n'
    return b"".join(head % i + content + b"\r\n" for i, content in enumerate(contents)) + b"--x--"


def test_a_form_cut_short_is_refused_at_every_length(
    http, predictor, random_images, image_file, check_answer, check_refused
):
    """Otherwise the predictions for the files that are missing would be missing too, with status 200."""
    images = random_images(3)
    body = form_of([image_file(image) for image in images])
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for length in [*range(0, len(body), 19), len(body) - 2, len(body) - 1]:
        check_refused(http.post("/predict", content=body[:length], headers=headers), 400, "cut short")
    for rest in (b"", b"\r\n", b"\r\nan epilogue"):
        check_answer(http.post("/predict", content=body + rest, headers=headers), predictor, images)


def test_the_pixels_of_one_request_are_bounded(http, monkeypatch, random_images, image_file, check_refused):
    monkeypatch.setattr(service, "MAX_REQUEST_PIXELS", 50)
    files = [("file", (f"{i}.png", image_file(image))) for i, image in enumerate(random_images(3))]  # 24 pixels each
    assert http.post("/predict", files=files[:2]).status_code == 200
    check_refused(http.post("/predict", files=files), 413, "together", "file 3 ('2.png')")
    assert http.post("/predict", files=files[2:]).status_code == 200


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"nonsense"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n"),
    ],
)
def test_malformed_forms(http, content_type, body, check_refused):
    check_refused(http.post("/predict", content=body, headers={"Content-Type": content_type}), 400, "form")


def test_too_many_images(http, random_images, image_file, check_refused):
    check_refused(http.post("/predict", content=random_images(41).tobytes(), headers=RAW), 413, "at most 40")
    files = [("file", (f"{i}.png", image_file(random_images(1)[0]))) for i in range(41)]
    check_refused(http.post("/predict", files=files), 413, "at most 40")
    check_refused(http.post("/predict", files=files + files[:9]), 413, "at most 40")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_other_methods(http, method):
    answer = http.request(method, "/predict")
    assert answer.status_code == 405 and answer.headers["Allow"] == "POST"

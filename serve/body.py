"""From the body of a request to pixels: an image file, raw pixels, or a form with several files."""

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from bigstep.decode import MAX_PIXELS, NotAnImage, format_of, open_image, to_pixels
from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec
from serve.limits import Limits, Refusal

RAW = "application/octet-stream"
FORM = "multipart/form-data"
ACCEPTS = ("image/*", RAW, FORM)
BLANK_LINE = re.compile(rb"\r?\n\r?\n")
MAX_REQUEST_PIXELS = 4 * MAX_PIXELS  # declared, of all files together: about a second of decoding


@dataclass(frozen=True)
class File:
    """One uploaded image file that is not decoded yet; `name` is how messages call it."""

    name: str
    content: bytes


Upload = NDArray[np.uint8] | list[File]


async def read_upload(request: Request, spec: InputSpec, limits: Limits) -> Upload:
    """Read the body as its content type says: raw pixels as an array (N, H, W, C), or files to be decoded.

    Raises:
        Refusal: 415 for another content type, 400 for a body that breaks its format, 413 for too many images.
    """
    declared = request.headers.get("content-type", "")
    kind = declared.partition(";")[0].strip().lower()
    if kind == RAW:
        body = await request.body()
        return [File("the body", body)] if _is_image_file(body) else _raw_images(body, spec, limits)
    if kind == FORM:
        return await _form_files(request, limits)
    if kind.startswith("image/"):
        return [File("the body", _not_empty("the body", await request.body()))]
    raise Refusal(
        415,
        "this content type is not accepted",
        got=declared or "no Content-Type",
        expected=", ".join(ACCEPTS),
        do="curl --data-binary @digit.png -H 'Content-Type: image/png' URL",
    )


def check_coding(request: Request) -> None:
    """Refuse a compressed body: raw pixels of the right length would be taken for an image.

    Raises:
        Refusal: 415.
    """
    coding = request.headers.get("content-encoding", "identity")
    if coding.strip().lower() != "identity":
        raise Refusal(
            415,
            "compressed bodies are not read",
            got=f"Content-Encoding {coding!r}",
            expected="no coding",
            do="send it uncompressed",
        )


def decode_file(file: File, spec: InputSpec, allowed_pixels: int) -> tuple[NDArray[np.uint8], int]:
    """Decode one file to pixels (H, W, C); return also how many pixels it declares.

    Args:
        file: what was uploaded.
        spec: the input contract.
        allowed_pixels: what the files before this one leave of MAX_REQUEST_PIXELS.

    Raises:
        Refusal: 413 for more pixels than allowed, 415 for content that is not an image, 400 for a damaged image; the
            message names the file.
    """
    try:
        image = open_image(file.content)
        num_pixels = image.width * image.height
        if num_pixels > allowed_pixels:
            raise Refusal(
                413,
                "the images have too many pixels together",
                got=f"{MAX_REQUEST_PIXELS - allowed_pixels + num_pixels} pixels up to {file.name}",
                expected=f"at most {MAX_REQUEST_PIXELS} in one request",
                do="scale the images down, or send several requests",
            )
        return to_pixels(image, spec), num_pixels
    except DataError as error:
        raise Refusal(
            415 if isinstance(error, NotAnImage) else 400,
            f"{file.name}: {error.what}",
            got=error.got,
            expected=error.expected,
            do=error.do,
        ) from error


def _is_image_file(body: bytes) -> bool:
    """Say whether bytes are an image file: as raw pixels they would get a label of noise if their length fits.

    The marks of some formats are two or three bytes, which may be pixels: such a file has to open as well.
    """
    found = format_of(body[:64])
    if found not in ("JPEG", "JPEG XL", "PNM"):
        return found is not None
    try:
        open_image(body)
    except NotAnImage:
        return False
    except DataError:  # too large, for example
        return True
    return True


def _raw_images(body: bytes, spec: InputSpec, limits: Limits) -> NDArray[np.uint8]:
    shape = (spec.height_px, spec.width_px, spec.channels)
    image_bytes = int(np.prod(shape))
    num_images, rest = divmod(len(body), image_bytes)
    if rest or not num_images:
        dims = " x ".join(str(d) for d in shape)
        raise Refusal(
            400,
            "the raw body does not hold whole images",
            got=f"{len(body)} bytes",
            expected=f"N x {image_bytes} bytes (uint8, N x {dims}, row by row), N at least 1",
        )
    check_count(num_images, limits)
    return np.frombuffer(body, np.uint8).reshape(num_images, *shape)


@final
class _FormParser(MultiPartParser):
    """A parser that notes whether the closing delimiter came: without it, files may be missing unnoticed."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def _plain_form(request: Request) -> AsyncGenerator[bytes, None]:
    """Yield a form as the parser wants it: nothing before its first delimiter, and lines that end in CRLF.

    Mail programs write a preamble, and scripts end lines in a line feed alone. One that is plain already is passed on
    as it arrives, any other is gathered first.

    Source: RFC 2046, section 5.1.1.
    """
    boundary = parse_options_header(request.headers["content-type"])[1].get(b"boundary", b"")
    stream, gathered, start = request.stream(), bytearray(), b"--" + boundary + b"\r\n"
    async for chunk in stream:
        gathered += chunk
        if len(gathered) >= len(start) and gathered.startswith(start):
            break
    yield bytes(gathered) if gathered.startswith(start) else _in_plain_form(bytes(gathered), boundary)
    async for chunk in stream:
        yield chunk


def _in_plain_form(form: bytes, boundary: bytes) -> bytes:
    delimiter = re.compile(rb"(?:\A|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r?\n|\Z)")
    found = list(delimiter.finditer(form))
    plain = []
    for here, following in pairwise(found):
        head, content = (*BLANK_LINE.split(form[here.end() : following.start()], maxsplit=1), b"")[:2]
        plain += [b"--" + boundary, re.sub(rb"\r?\n", b"\r\n", head), b"\r\n\r\n", content, b"\r\n"]
        if following[1]:  # behind the closing delimiter there is nothing to read
            return b"".join([*plain, b"--" + boundary + b"--\r\n"])
    return b"".join(plain) if plain else form


async def _form_files(request: Request, limits: Limits) -> list[File]:
    async def whole() -> AsyncGenerator[bytes, None]:
        async for chunk in _plain_form(request):
            yield chunk
        if not parser.ended:
            raise MultiPartException("no closing delimiter: the form is cut short")

    parser = _FormParser(
        request.headers,
        whole(),
        max_files=limits.max_images + 1,  # one more than allowed, to tell too many from malformed
        max_fields=0,  # to pass over a part would shift the predictions after it
    )
    parser.spool_max_size = limits.max_body_bytes + 1  # never to the disk: it may be read-only, the body is bounded
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            check_count(limits.max_images + 1, limits)
        if error.message.startswith("Too many fields"):
            raise Refusal(
                400, "the form has a field without a file name", expected="only files", do="curl -F file=@digit.png URL"
            ) from error
        raise Refusal(400, "the form cannot be read", got=error.message, expected=f"valid {FORM}") from error
    try:
        return await _files_of(form, limits)
    finally:
        await form.close()


async def _files_of(form: FormData, limits: Limits) -> list[File]:
    uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    check_count(len(uploads), limits)
    if not uploads:
        raise Refusal(
            400,
            "the form holds no file",
            got="no file",
            expected="one or several image files",
            do="curl -F file=@digit.png URL",
        )
    names = [f"file {i} ({upload.filename!r})" for i, upload in enumerate(uploads, start=1)]
    return [File(name, _not_empty(name, await upload.read())) for name, upload in zip(names, uploads, strict=True)]


def check_count(num_images: int, limits: Limits) -> None:
    """Refuse more images than one request may hold.

    Raises:
        Refusal: 413.
    """
    if num_images > limits.max_images:
        raise Refusal(
            413,
            "too many images in one request",
            got=f"{num_images} images"
            if num_images > limits.max_images + 1
            else f"more than {limits.max_images} images",
            expected=f"at most {limits.max_images}",
            do="send several requests",
        )


def _not_empty(name: str, content: bytes) -> bytes:
    if not content:
        raise Refusal(400, f"{name} is empty", got="0 bytes", expected="an image file")
    return content

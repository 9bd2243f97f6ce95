"""Operating limits: which are allowed, how a refusal reads, and bodies that are too large, one or all together."""

import asyncio
import json
from math import inf, nan

import pytest

from bigstep.errors import ConfigError
from serve.app import create_app
from serve.limits import Limits, Refusal

PNG = {"Content-Type": "image/png"}
RAW = {"Content-Type": "application/octet-stream"}


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"max_images": 0}, "max_images is out of range(.|\n)*at least 1"),
        ({"threads": 100_000}, "threads is out of range(.|\n)*usable cores"),
        ({"keep_alive_s": 0}, "keep_alive_s is out of range(.|\n)*at least 1"),
        ({"request_timeout_s": 0.0}, "request_timeout_s is out of range(.|\n)*finite time above 0"),
        ({"request_timeout_s": inf}, "request_timeout_s(.|\n)*finite time"),
        ({"request_timeout_s": nan}, "request_timeout_s(.|\n)*finite time"),
        ({"max_body_bytes": 2, "max_held_bytes": 1}, "max_held_bytes must be at least max_body_bytes"),
        (
            {"max_images": 9, "max_queue_images": 8, "max_batch_images": 1},
            "max_queue_images must be at least max_images",
        ),
        ({"max_images": 1, "max_queue_images": 8, "max_batch_images": 9}, "must be at least max_batch_images"),
    ],
)
def test_limits_that_no_request_could_pass_are_refused(limits, says):
    with pytest.raises(ConfigError, match=says):
        Limits(**limits)


def test_a_refusal_reads_as_one_line_of_json():
    answer = Refusal(503, "the queue is full", got=9, expected="at most 8", do="come back", retry=True).response()
    assert json.loads(answer.body) == {"error": "the queue is full; got 9; expected at most 8; to do: come back"}
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    plain = Refusal(404, "no such model", got=0).response()
    assert json.loads(plain.body) == {"error": "no such model; got 0"} and "Retry-After" not in plain.headers


def test_a_declared_length_over_the_limit_is_refused_unread(bundle):
    async def talk():
        app = create_app(bundle, Limits(max_body_bytes=1000))
        sent = []
        scope = {
            "type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers":
            [(b"content-type", b"image/png"), (b"content-length", b"1001")],
        }  # fmt: skip

        async def receive():
            raise AssertionError("the body was read")

        async def send(message):
            sent.append(message)

        await app(scope, receive, send)
        return sent

    sent = asyncio.run(talk())
    assert sent[0]["status"] == 413 and b"1001 bytes" in sent[1]["body"]


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", "multipart/form-data; boundary=x"])
def test_an_undeclared_length_over_the_limit_stops_the_reading(bundle, content_type, check_refused, client_of):
    read = 0

    async def endless():
        nonlocal read
        yield b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
        while True:
            read += 1
            yield bytes(100)

    async def talk():
        app = create_app(bundle, Limits(max_body_bytes=5000))
        async with client_of(app) as http:
            return await http.post("/predict", content=endless(), headers={"Content-Type": content_type})

    check_refused(asyncio.run(talk()), 413, "at most 5000 bytes")
    assert read <= 51


def test_uploads_together_are_bounded(bundle, check_refused, client_of):
    """Two clients that never finish hold the allowance; a third is told to come back; then the two are let go."""

    async def talk():
        app = create_app(bundle, Limits(max_body_bytes=1000, max_held_bytes=1000, request_timeout_s=0.4))
        go_on = asyncio.Event()

        async def stuck():
            yield bytes(450)
            await go_on.wait()

        async with client_of(app) as http:
            slow = [asyncio.create_task(http.post("/predict", content=stuck(), headers=PNG)) for _ in range(2)]
            await asyncio.sleep(0.05)
            third = await http.post("/predict", content=bytes(144), headers=RAW)
            late = await asyncio.gather(*slow)
            again = await http.post("/predict", content=bytes(144), headers=RAW)
        return third, late, again

    third, late, again = asyncio.run(talk())
    assert check_refused(third, 503, "uploads").headers["Retry-After"] == "1"
    for answer in late:
        check_refused(answer, 408, "0.4 s")
    assert again.status_code == 200

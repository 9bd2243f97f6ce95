"""The real process: a port on 127.0.0.1, signals, exit codes."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from bigstep.errors import ConfigError, NoVerdict
from serve.app import serve
from serve.limits import Limits
from serve.server import bind, url

RAW = {"Content-Type": "application/octet-stream"}
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
V2_BODY = json.dumps(
    {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, 6, 4, 3], "data": [0] * 72}]}
).encode()
V2_INFER = b"POST /v2/models/pets/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(V2_BODY) + V2_BODY
ONE_IMAGE = HEAD + b"Content-Type: application/octet-stream\r\nContent-Length: 72\r\n\r\n" + bytes(72)
# A model slowed down on purpose, so that a signal surely arrives while a request is under way. An image that is not
# black keeps it busy for ever.
SCRIPT = """
import sys, time
from pathlib import Path
from serve.app import serve
from serve.limits import Limits
from serve.predictor import Predictor
works = Predictor.predict
def slow(self, images):
    time.sleep(float(sys.argv[2]))
    while images.any():
        works(self, images)
    return works(self, images)
Predictor.predict = slow
try:
    timeout_s, keep_alive_s = float(sys.argv[3]), int(sys.argv[4])
    limits = Limits(max_body_bytes=1_000_000, request_timeout_s=timeout_s, keep_alive_s=keep_alive_s)
    serve(Path(sys.argv[1]), port=0, limits=limits)
except KeyboardInterrupt:
    sys.exit(130)
"""


class Process:
    """Start a server in a process of its own, and wait for the line that says it is ready."""

    def __init__(self, folder, slow_s=0.0, timeout_s=30.0, keep_alive_s=75):
        self.child = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder), str(slow_s), str(timeout_s), str(keep_alive_s)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.line = self.child.stdout.readline()
        self.url = next((word for word in self.line.split() if word.startswith("http://")), None)


@pytest.fixture
def process(bundle):
    started = []

    def start(**options):
        started.append(Process(bundle.folder, **options))
        return started[-1]

    yield start
    for one in started:
        if one.child.poll() is None:
            one.child.kill()
        one.child.communicate()


def until(server, line):
    """Wait until the server's metrics hold this line."""
    end = time.monotonic() + 10
    while line not in httpx.get(f"{server.url}/metrics").text.splitlines():
        assert time.monotonic() < end, f"never saw {line}"
        time.sleep(0.01)


def connect(server):
    return socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=10)


def whole_answer(connection):
    """Read until the server closes the connection."""
    return b"".join(iter(lambda: connection.recv(4096), b""))


def test_announce_answer_and_drain(process, bundle):
    server = process(slow_s=0.4)
    assert "pets" in server.line and f"{server.url}/predict" in server.line and "curl" in server.line
    assert httpx.get(f"{server.url}/health/ready").json() == {"status": "ready"}
    with connect(server) as under_way, connect(server) as waiting:
        under_way.sendall(ONE_IMAGE)
        until(server, "bigstep_batch_images_count 1.0")  # the model runs now
        waiting.sendall(V2_INFER)
        until(server, "bigstep_queue_images 1.0")
        server.child.send_signal(signal.SIGTERM)
        answers = [whole_answer(one) for one in (under_way, waiting)]
    sha256 = bundle.info.forms[0].sha256
    for answer, named in zip(answers, (sha256, f'"model_version": "{sha256[:12]}"'), strict=True):
        assert answer.startswith(b"HTTP/1.1 200") and named.encode() in answer
    out, err = server.child.communicate(timeout=10)
    assert (server.child.returncode, out, err) == (0, "", "")
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_large_bodies_clients_that_leave_and_an_interrupt(process):
    server = process(slow_s=0.4)

    # A declared length, a body without end: both are told 413, though they go on sending.
    assert httpx.post(f"{server.url}/predict", content=bytes(3_000_000), headers=RAW).status_code == 413
    with connect(server) as endless:
        endless.sendall(HEAD + b"Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(16):
            endless.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        assert endless.recv(20).startswith(b"HTTP/1.1 413")

    # So are clients that ask for the connection to be closed, when they have sent all of a body not beyond reason.
    for framing, send in (
        (b"Content-Length: 1900000\r\n\r\n", [bytes(1_900_000)]),
        (b"Transfer-Encoding: chunked\r\n\r\n", [b"10000\r\n" + bytes(0x10000) + b"\r\n"] * 28 + [b"0\r\n\r\n"]),
    ):
        with connect(server) as closing:
            closing.sendall(HEAD + b"Connection: close\r\nContent-Type: image/png\r\n" + framing)
            for part in send:
                closing.sendall(part)
            time.sleep(0.1)
            answer = whole_answer(closing)
        assert answer.startswith(b"HTTP/1.1 413") and b"too large" in answer

    # A client that leaves takes its place in the queue with it: the model never runs for it.
    with connect(server) as first:
        first.sendall(ONE_IMAGE)
        until(server, "bigstep_batch_images_count 1.0")
        with connect(server) as second:
            second.sendall(ONE_IMAGE)
            until(server, "bigstep_queue_images 1.0")
        until(server, 'bigstep_requests_total{code="499"} 1.0')
        until(server, "bigstep_queue_images 0.0")
        assert first.recv(20).startswith(b"HTTP/1.1 200")
    assert "bigstep_batch_images_sum 1.0" in httpx.get(f"{server.url}/metrics").text

    server.child.send_signal(signal.SIGINT)
    out, err = server.child.communicate(timeout=10)
    assert (server.child.returncode, out, err) == (130, "", "")


OFFERS = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    b"Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
]
SMUGGLED = b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n"


def test_what_is_inside_a_body_is_not_a_request_and_headers_end(process):
    """Java's HttpClient and curl offer h2c; a parser that believes them reads their body as the next request."""
    server = process()
    raw = b"Content-Type: application/octet-stream\r\n"
    whole = b"Content-Length: 72\r\n\r\n" + bytes(72)
    chunked = b"Transfer-Encoding: chunked\r\n\r\n48\r\n" + bytes(72) + b"\r\n0\r\n\r\n"
    hiding = b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED
    last = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for offer in OFFERS:
        for body, status in ((whole, b"200"), (chunked, b"200"), (hiding, b"400")):
            for pause_s in (0, 0.05):
                with connect(server) as client:
                    client.sendall(HEAD + raw + offer + body[:30])
                    time.sleep(pause_s)
                    client.sendall(body[30:] + last)
                    answer = whole_answer(client)
                assert answer.startswith(b"HTTP/1.1 " + status), answer
                assert answer.count(b"HTTP/1.1 ") == 2 and answer.endswith(b'{"status":"live"}'), answer

    before_kb = resident_kb(server)
    for endless in (b"GET /", b"GET /model HTTP/1.1\r\nHost: x\r\nX-Long: ", b"GET /model HTTP/1.1\r\nHost: x\r\n"):
        part = b"a:\r\n" * 16384 if endless.endswith(b"x\r\n") else b"a" * 65536
        with connect(server) as client, pytest.raises(OSError, match=r"reset|Broken"):  # noqa: PT012
            client.sendall(endless)
            for _ in range(480):  # 30 MB
                client.sendall(part)
    assert resident_kb(server) < before_kb + 8_000
    assert httpx.get(f"{server.url}/health/live").status_code == 200


def resident_kb(server):
    status = Path(f"/proc/{server.child.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def test_a_connection_that_rests_is_kept_as_long_as_was_said(process):
    server = process(keep_alive_s=1)
    resting = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=10)
    for pause_s in (0, 0.5, 0.5):
        time.sleep(pause_s)
        resting.request("POST", "/predict", bytes(72), RAW)
        assert resting.getresponse().read().startswith(b'{"model"')
    kept, began_s = resting.sock, time.monotonic()
    assert kept.recv(10) == b"" and time.monotonic() - began_s > 0.5
    resting.close()
    assert Limits().keep_alive_s > 60, "proxies keep theirs for 60 s"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_every_address_means_those_of_ipv4_too():
    with bind("::", 0) as listener:
        port = listener.getsockname()[1]
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, port), timeout=2).close()
    with bind("::1", 0) as listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=2)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_call_that_does_not_end_does_not_keep_the_process(process, sent, code):
    """With the thread still inside onnxruntime, Python's own end is SIGABRT."""
    server = process(timeout_s=0.2)
    assert httpx.post(f"{server.url}/predict", content=b"\1" * 72, headers=RAW).status_code == 504
    server.child.send_signal(sent)
    _, err = server.child.communicate(timeout=10)
    assert (server.child.returncode, err.count("\n")) == (code, 1) and "504" in err


def test_a_taken_port_is_told_before_anything_is_loaded(tmp_path):
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}") as caught:
            serve(tmp_path / "no bundle here", port=port)
    assert "--port" in caught.value.do


@pytest.mark.parametrize(("host", "port"), [("203.0.113.7", 0), ("no.such.host.invalid", 0), ("127.0.0.1", 70000)])
def test_an_address_that_cannot_be_bound(tmp_path, host, port):
    with pytest.raises(ConfigError, match=f"{host}:{port}"):
        serve(tmp_path, host=host, port=port)


def test_a_refused_bundle_gives_the_port_back(make_bundle, model):
    bundle = make_bundle(model, outcome="failed")
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    with pytest.raises(NoVerdict):
        serve(bundle.folder, port=port)
    bind("127.0.0.1", port).close()


@pytest.mark.parametrize(("host", "reached"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1")])
def test_the_printed_address_can_be_opened(host, reached):
    with bind(host, 0) as listener:
        port = listener.getsockname()[1]
        assert url(listener) == f"http://{reached}:{port}"
        socket.create_connection((reached, port)).close()

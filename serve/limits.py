"""What the server refuses, and how it says so: operating limits, refusals as JSON, and the guard on request bodies."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from math import inf

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bigstep.errors import BigstepError, ConfigError
from bigstep.machine import usable_cores

MIB = 1024 * 1024
DISCARD_S = 5.0


@dataclass(frozen=True)
class Limits:
    """The bounds of what one server takes on. Each field is a flag of `bigstep serve`.

    Attributes:
        max_body_bytes: largest request body.
        max_held_bytes: bodies of all unanswered requests together; bounds the memory that uploads can take.
        max_images: most images in one request.
        max_queue_images: most images waiting for the model; more are refused with 503 and Retry-After.
        max_batch_images: most images in one call of the model.
        request_timeout_s: time from the request's headers to its answer.
        keep_alive_s: time between two requests on one connection, then it is closed. Longer than proxies keep one that
            rests (60 s as a rule), or they would reuse a connection just as it closes, and lose the request.
        threads: threads of one call of the model, at most the cores that this process may use.

    Raises:
        ConfigError: a limit is below 1, the timeout is not finite or not above 0, there are more threads than cores,
            or a request that one limit allows could never pass another.
    """

    max_body_bytes: int = 16 * MIB
    max_held_bytes: int = 256 * MIB
    max_images: int = 256
    max_queue_images: int = 1024
    max_batch_images: int = 32
    request_timeout_s: float = 30.0
    keep_alive_s: int = 75
    threads: int = 1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            allowed, expected = value >= 1, "at least 1"
            if name == "request_timeout_s":
                allowed, expected = 0 < value < inf, "a finite time above 0"
            if not allowed:
                raise ConfigError(f"{name} is out of range", got=value, expected=expected)
        cores = usable_cores()
        if self.threads > cores:
            raise ConfigError(
                "threads is out of range", got=self.threads, expected=f"at most {cores}, the usable cores"
            )
        for small, large in (
            ("max_body_bytes", "max_held_bytes"),
            ("max_images", "max_queue_images"),
            ("max_batch_images", "max_queue_images"),
        ):
            low, high = getattr(self, small), getattr(self, large)
            if low > high:
                raise ConfigError(f"{large} must be at least {small}", got=f"{high} and {low}", do=f"raise {large}")


class Refusal(BigstepError):
    """An HTTP error as the answer to a request; its body is {"error": "what, got, expected, to do"}."""

    def __init__(
        self,
        status: int,
        what: str,
        *,
        got: object = None,
        expected: object = None,
        do: str | None = None,
        retry: bool = False,
    ) -> None:
        super().__init__(what, got=got, expected=expected, do=do)
        self.status = status
        self.headers = {"Retry-After": "1"} if retry else {}

    def response(self) -> JSONResponse:
        """Return the answer that tells the client."""
        said = (f"{name}: {text}" if name == "to do" else f"{name} {text}" for name, text in self.details.items())
        return JSONResponse({"error": "; ".join([self.what, *said])}, self.status, self.headers)


class BodyLimit:
    """The refusal of a body that is too large: before it is read, or while it is read if its length was not declared.

    An ASGI wrapper around the whole application, because Starlette's form parser has no limit for files. The
    connection stays open: closing it while the client still sends would reset it, and the client would never see the
    413. uvicorn drops the rest of the body as it arrives. Where the client wants the connection closed, a bounded part
    of the body is read and discarded before the answer, for the same reason.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self.limits = limits
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "")
        # With Expect: 100-continue the client sends no body unless it is read.
        closes = "expect" not in headers and (
            "close" in headers.get("connection", "").lower() or scope.get("http_version") == "1.0"
        )
        if declared.isdecimal() and int(declared[:18]) > self.limits.max_body_bytes:
            if closes:
                await self._discard(receive)
            await self._too_large(f"{declared[:18]} bytes").response()(scope, receive, send)
            return
        read_bytes = 0

        async def receive_counted() -> Message:
            nonlocal read_bytes
            message = await receive()
            size = len(message.get("body", b""))
            if size:
                read_bytes += size
                self.held_bytes += size
                if refusal := self._refusal(read_bytes):
                    if closes and message.get("more_body"):
                        await self._discard(receive)
                    raise refusal
            return message

        try:
            await self.app(scope, receive_counted, send)
        finally:
            self.held_bytes -= read_bytes

    async def _discard(self, receive: Receive) -> None:
        left_bytes = 2 * self.limits.max_body_bytes
        with suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_S):
                while left_bytes > 0:
                    message = await receive()
                    left_bytes -= len(message.get("body", b""))
                    if not message.get("more_body"):
                        return

    def _refusal(self, read_bytes: int) -> Refusal | None:
        if read_bytes > self.limits.max_body_bytes:
            return self._too_large(f"more than {self.limits.max_body_bytes} bytes")
        if self.held_bytes > self.limits.max_held_bytes:
            return Refusal(503, "the server holds as many uploads as it can", do="send this one again", retry=True)
        return None

    def _too_large(self, got: str) -> Refusal:
        return Refusal(
            413,
            "the body is too large",
            got=got,
            expected=f"at most {self.limits.max_body_bytes} bytes",
            do="send fewer or smaller images",
        )

"""One served model and the answers it gives: predictions, health, metrics, what it says about itself."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar, final

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect

from bigstep.records.bundle import Bundle
from bigstep.records.exported import Form
from serve.batcher import Batcher, DeadlinePassed, QueueFull, RunFailed, WorkerStopped
from serve.body import MAX_REQUEST_PIXELS, Upload, check_coding, decode_file, read_upload
from serve.describe import ModelInfo, model_info
from serve.limits import Limits, Refusal
from serve.metrics import Metrics
from serve.predictor import Device, Predictor

T = TypeVar("T")

PAGE = Path(__file__).with_name("page.html")
# Files are always decoded off the event loop. The hop costs 0.14 ms where a 28 x 28 PNG costs 0.10 ms, but a PNG of
# 8 kB may hold 64 megapixels, which take 650 ms, and the size of the file does not tell.
DECODE_THREADS = 2


@final
class Service:
    """One served model, and the answers it gives."""

    def __init__(self, bundle: Bundle, form: Form, limits: Limits, device: Device) -> None:
        self.limits = limits
        self.contract = bundle.info.contract
        self.model: ModelInfo = model_info(bundle, form, limits, device)
        self.metrics = Metrics(self.model.name, self.model.sha256)
        self.batcher = Batcher(
            Predictor.open(
                bundle.folder / form.file, self.contract, sha256=form.sha256, threads=limits.threads, device=device
            ).predict,
            max_batch=limits.max_batch_images,
            max_queue=limits.max_queue_images,
            observe=self._observe_batch,
        )
        self.num_undecoded = 0  # files of requests whose decoding is not complete, and bodies of JSON
        self.metrics.queue_images.set_function(lambda: self.waiting_images)  # whenever the metrics are read
        self.state: Literal["starting", "ready", "draining"] = "starting"
        self.decoders = ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="bigstep-decode")

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """Warm the model up, serve, and finish what waits."""
        self.batcher.start()
        spec = self.contract.input
        for count in (1, self.limits.max_batch_images):
            await self.batcher.predict(
                np.zeros((count, spec.height_px, spec.width_px, spec.channels), np.uint8), math.inf
            )
        self.state = "ready"
        try:
            yield
        finally:
            self.drain()
            await asyncio.to_thread(self.batcher.stop, self.limits.request_timeout_s)
            self.decoders.shutdown(wait=False, cancel_futures=True)

    @property
    def waiting_images(self) -> int:
        """Return how many images wait: files to be decoded, and images for the model."""
        return self.num_undecoded + self.batcher.queued_images

    def drain(self) -> None:
        """Refuse new predictions from now on; those under way are finished."""
        self.state = "draining"

    async def page(self) -> HTMLResponse:
        """Return the page that shows the model and lets a person try it."""
        return HTMLResponse(PAGE.read_text(encoding="utf-8"))

    async def describe(self) -> ModelInfo:
        """Return the contract: input, labels, hash, verdict, limits."""
        return self.model

    def check_live(self) -> None:
        """Refuse if the worker thread died; only a restart helps then.

        Raises:
            Refusal: 503.
        """
        if self.batcher.died:
            raise Refusal(503, "the model's worker thread died", do="restart the server; its log says why")

    def check_ready(self) -> None:
        """Refuse before the warm-up is over, and from the moment when the server stops.

        Raises:
            Refusal: 503.
        """
        self.check_live()
        if self.state != "ready":
            raise Refusal(503, f"the server is {self.state}", do="send the request again", retry=True)

    async def live(self) -> JSONResponse:
        """Say whether the process and its worker thread live."""
        self.check_live()
        return JSONResponse({"status": "live"})

    async def ready(self) -> JSONResponse:
        """Say whether predictions are answered."""
        self.check_ready()
        return JSONResponse({"status": "ready"})

    async def prometheus(self) -> Response:
        """Return the metrics in Prometheus' text format."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def predict(self, request: Request) -> Response:
        """Answer POST /predict."""
        read = partial(read_upload, request, self.contract.input, self.limits)
        return Response(self._answer(await self.classify(request, read, self._decode)), media_type="application/json")

    async def classify(
        self,
        request: Request,
        read: Callable[[], Awaitable[T]],
        decode: Callable[[T], Awaitable[NDArray[np.uint8]]],
    ) -> NDArray[np.float32]:
        """Return finite logits (N, K): read the body, decode it, queue, run, all before one deadline.

        Args:
            request: the work ends when its client leaves.
            read: reads the body of the request.
            decode: makes images (N, H, W, C) of what was read; off the event loop where that takes time.

        Raises:
            Refusal: whatever kept the request from an answer. Logits with NaN are one: a label read from them would
                be a lie.
        """
        deadline_s = time.monotonic() + self.limits.request_timeout_s
        self.check_ready()
        check_coding(request)
        logits_NK: NDArray[np.float32] = await _while_connected(
            request, self._logits(await self.receive(read), decode, deadline_s), deadline_s
        )
        if not np.isfinite(logits_NK).all():
            raise Refusal(
                500,
                "the model's output is not finite",
                got=f"{(~np.isfinite(logits_NK).all(axis=1)).sum()} of {len(logits_NK)} images with NaN or infinity",
                do="report it; there is no prediction",
            )
        return logits_NK

    async def receive(self, read: Callable[[], Awaitable[T]]) -> T:
        """Return what `read` makes of a request's body, if it arrives in time.

        Raises:
            Refusal: 408 if it does not, 499 if the client leaves, and those of `read`.
        """
        try:
            async with asyncio.timeout(self.limits.request_timeout_s):
                return await read()
        except TimeoutError:
            raise Refusal(
                408, "the body did not arrive in time", got=f"{self.limits.request_timeout_s:g} s without its end"
            ) from None
        except ClientDisconnect:
            raise _gone() from None

    async def _logits(
        self, body: T, decode: Callable[[T], Awaitable[NDArray[np.uint8]]], deadline_s: float
    ) -> NDArray[np.float32]:
        try:
            images_NHWC = await decode(body)
            self._check_room(len(images_NHWC))
            return await self.batcher.predict(images_NHWC, deadline_s)
        except QueueFull:
            raise Refusal(
                503,
                "the queue is full",
                got=f"{self.waiting_images} images waiting",
                do="send the request again after a while",
                retry=True,
            ) from None
        except DeadlinePassed:
            raise _late() from None
        except RunFailed as error:
            raise Refusal(500, "the model failed on this request", got=error) from error
        except WorkerStopped:
            raise Refusal(503, "the model's worker has stopped", do="send the request again", retry=True) from None

    def _check_room(self, num_images: int) -> None:
        if self.waiting_images + num_images > self.limits.max_queue_images:
            raise QueueFull

    @contextmanager
    def waiting(self, num_images: int) -> Iterator[None]:
        """Count images as waiting while they are decoded; then they have their place in the model's queue.

        Raises:
            QueueFull: there is no room for them.
        """
        self._check_room(num_images)
        self.num_undecoded += num_images
        try:
            yield
        finally:
            self.num_undecoded -= num_images

    async def _decode(self, upload: Upload) -> NDArray[np.uint8]:
        """Decode files one at a time, so that requests take turns, and one that is cancelled costs no more."""
        if not isinstance(upload, list):
            return upload
        loop, spec = asyncio.get_running_loop(), self.contract.input
        images: list[NDArray[np.uint8]] = []
        allowed_pixels = MAX_REQUEST_PIXELS
        with self.waiting(len(upload)):
            for file in upload:
                decoded = await loop.run_in_executor(self.decoders, decode_file, file, spec, allowed_pixels)
                images.append(decoded[0])
                allowed_pixels -= decoded[1]
            return np.stack(images)

    def _answer(self, logits_NK: NDArray[np.float32]) -> bytes:
        """Turn logits into the JSON answer of /predict."""
        shifted = logits_NK.astype(np.float64) - logits_NK.max(axis=1, keepdims=True)
        p_NK = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
        labels = self.contract.labels
        predictions = [
            {
                "label": labels[k],
                "index": k,
                "probability": p_K[k],
                "probabilities": dict(zip(labels, p_K, strict=True)),
            }
            for k, p_K in zip(logits_NK.argmax(axis=1).tolist(), p_NK.tolist(), strict=True)
        ]
        return json.dumps(
            {"model": {"name": self.model.name, "sha256": self.model.sha256}, "predictions": predictions}
        ).encode()

    def _observe_batch(self, num_images: int) -> None:
        if self.state != "starting":  # the warm-up is nobody's request
            self.metrics.batch_images.observe(num_images)


async def _while_connected(request: Request, work: Awaitable[T], deadline_s: float) -> T:
    """Await `work`, but cancel it when the client goes away or the deadline passes.

    Once the body is read, the next message from the client can only be that it has gone.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait(
            {task, gone}, timeout=max(0.0, deadline_s - time.monotonic()), return_when=asyncio.FIRST_COMPLETED
        )
        if task.done():
            return task.result()
        raise _gone() if gone.done() else _late()
    finally:
        task.cancel()
        gone.cancel()


def _gone() -> Refusal:
    return Refusal(499, "the client closed the connection")  # nobody reads it; the metrics count it


def _late() -> Refusal:
    return Refusal(504, "the deadline passed before the model could answer", do="send fewer images, or later")

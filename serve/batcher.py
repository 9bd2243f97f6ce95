"""Dynamic batching: requests queue on the event loop, one worker thread owns the model and takes what has queued.

There is no waiting for a batch to fill: under load batches fill by themselves, because requests arrive while the model
runs. The queue is bounded in images, not in requests, so that its memory and its delay are bounded. One thread owns the
session; results return to the event loop once per batch, since every wake-up of the loop costs about as much as a small
model.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger("bigstep.serve")

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class QueueFull(Exception):
    """No more images can wait."""


class DeadlinePassed(Exception):
    """The request's time ran out before its images reached the model."""


class RunFailed(Exception):
    """The model raised an error on the batch of this request."""


class WorkerStopped(Exception):
    """The worker thread takes no more requests: it was stopped, or it died."""


@dataclass(eq=False)
class _Job:
    images: NDArray[np.uint8]  # (N, H, W, C)
    deadline_s: float
    future: asyncio.Future[NDArray[np.float32]]
    num_taken: int = 0
    parts: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def num_left(self) -> int:
        return len(self.images) - self.num_taken


Piece = tuple[_Job, int]  # a request, and how many of its images are in this batch
Outcome = tuple[_Job, Exception | None]  # a request that is done, and why it failed


class Batcher:
    """A queue of requests of any number of images, run through one model in batches, first come first served."""

    def __init__(
        self, predict: Predict, *, max_batch: int, max_queue: int, observe: Callable[[int], None] = lambda _: None
    ) -> None:
        """Prepare; `start` starts the worker thread.

        Args:
            predict: the model: uint8 (N, H, W, C) to logits (N, K). Called by the worker thread only.
            max_batch: most images in one call. Larger requests are spread over several calls.
            max_queue: most images that wait.
            observe: is told the size of every batch, in the worker thread.
        """
        self.model = predict
        self._max_batch, self._max_queue = max_batch, max_queue
        self._observe = observe
        self._changed = threading.Condition()  # guards the five fields below
        self._queue: deque[_Job] = deque()
        self._open: set[_Job] = set()  # every request without a result yet, waiting or running
        self._num_queued = 0
        self._stopping = False
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="bigstep-model", daemon=True)

    def start(self) -> None:
        """Start the worker thread. Call it on the event loop that will call `predict`."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Take no more requests, finish those that wait, and join the thread. Do not call it on the event loop."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)

    @property
    def running(self) -> bool:
        """Say whether the worker thread runs; after `stop`, whether a call of the model outlasted the timeout."""
        return self._thread.is_alive()

    @property
    def died(self) -> bool:
        """Say whether the worker thread ended although nobody stopped it."""
        return self._ended and not self._stopping

    @property
    def queued_images(self) -> int:
        """Return how many images wait."""
        return self._num_queued

    async def predict(self, images_NHWC: NDArray[np.uint8], deadline_s: float) -> NDArray[np.float32]:
        """Return the logits (N, K) of one request. A caller that is cancelled leaves the queue at once.

        Args:
            images_NHWC: uint8, N >= 1.
            deadline_s: on the clock of `time.monotonic`; images still waiting then are dropped.

        Raises:
            QueueFull, DeadlinePassed, RunFailed, WorkerStopped: see there.
        """
        job = _Job(images_NHWC, deadline_s, self._loop.create_future())
        with self._changed:
            if self._stopping or self._ended:
                raise WorkerStopped
            if self._num_queued + job.num_left > self._max_queue:
                raise QueueFull
            self._queue.append(job)
            self._open.add(job)
            self._num_queued += job.num_left
            self._changed.notify()
        try:
            return await job.future
        finally:
            self._withdraw(job)

    def _withdraw(self, job: _Job) -> None:
        """Forget a request, wherever it is. Does nothing for one that is done."""
        with self._changed:
            if job in self._open:
                self._open.remove(job)
                if job.num_left:
                    self._queue.remove(job)
                    self._num_queued -= job.num_left

    def _work(self) -> None:
        try:
            while (taken := self._take()) is not None:
                pieces, late = taken
                done: list[Outcome] = [(job, DeadlinePassed()) for job in late]
                self._finish(done + (self._run(pieces) if pieces else []))
        finally:  # also when something that is not an Exception ends the thread: nobody must wait for a dead worker
            with self._changed:
                self._ended = True
                left = list(self._open)
            self._finish([(job, WorkerStopped()) for job in left])

    def _take(self) -> tuple[list[Piece], list[_Job]] | None:
        """Wait for requests; return the next batch and the requests that came too late. None: time to stop."""
        with self._changed:
            while not self._queue:
                if self._stopping:
                    return None
                self._changed.wait()
            pieces: list[Piece] = []
            late: list[_Job] = []
            room, now_s = self._max_batch, time.monotonic()
            while self._queue and room:
                job = self._queue[0]
                is_late = job.deadline_s <= now_s
                count = job.num_left if is_late else min(room, job.num_left)
                if is_late:
                    late.append(job)
                else:
                    pieces.append((job, count))
                    room -= count
                job.num_taken += count
                self._num_queued -= count
                if not job.num_left:
                    self._queue.popleft()
            return pieces, late

    def _run(self, pieces: list[Piece]) -> list[Outcome]:
        """Run one batch and return the requests that are done with it."""
        images = [job.images[job.num_taken - count : job.num_taken] for job, count in pieces]
        batch_NHWC = images[0] if len(images) == 1 else np.concatenate(images)
        self._observe(len(batch_NHWC))
        try:
            logits_NK = self.model(batch_NHWC)
            if len(logits_NK) != len(batch_NHWC):
                raise ValueError(f"the model answered {len(logits_NK)} of {len(batch_NHWC)} images")
        except Exception as error:  # whatever it is, it belongs to these requests; the worker lives on
            log.exception("the model failed on a batch of %d images", len(batch_NHWC))
            return [(job, RunFailed(str(error))) for job, _ in pieces]
        start = 0
        for job, count in pieces:
            job.parts.append(logits_NK[start : start + count])
            start += count
        return [(job, None) for job, _ in pieces if not job.num_left]

    def _finish(self, outcomes: list[Outcome]) -> None:
        """Hand the results to the event loop, waking it once."""
        for job, _ in outcomes:
            self._withdraw(job)
        if outcomes:
            # The loop may have been closed while a batch ran: the process ends, nobody waits any more.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_deliver, outcomes)


def _deliver(outcomes: list[Outcome]) -> None:
    for job, error in outcomes:
        if job.future.done():  # the client has gone
            continue
        if error is None:
            job.future.set_result(np.concatenate(job.parts))
        else:
            job.future.set_exception(error)

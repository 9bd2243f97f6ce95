"""The batcher with a model that is a plain function, so that batches and order can be seen."""

import asyncio
import math
import threading
import time

import numpy as np
import pytest

from serve.batcher import Batcher, DeadlinePassed, QueueFull, RunFailed, WorkerStopped


class Model:
    """Answer each image with its first pixel; hold the first batch back until `go` is set."""

    def __init__(self, *, held=False):
        self.sizes, self.go, self.entered = [], threading.Event(), threading.Event()
        if not held:
            self.go.set()

    def __call__(self, images):
        self.sizes.append(len(images))
        self.entered.set()
        assert self.go.wait(5)
        return images[:, 0, 0, :1].astype(np.float32)


def images(*values):
    return np.array(values, np.uint8).reshape(-1, 1, 1, 1)


async def started(model, **limits):
    batcher = Batcher(model, **{"max_batch": 4, "max_queue": 16} | limits)
    batcher.start()
    return batcher


async def until_entered(model):
    await asyncio.to_thread(model.entered.wait, 5)


async def ask(batcher, *values, deadline_s=math.inf):
    return (await batcher.predict(images(*values), deadline_s)).ravel().tolist()


def test_what_waits_is_taken_together_and_split_at_the_limit():
    async def talk():
        model = Model(held=True)
        batcher = await started(model)
        first = asyncio.create_task(ask(batcher, 1))
        await until_entered(model)
        rest = [asyncio.create_task(ask(batcher, *v)) for v in ([2, 3], [4, 5, 6, 7, 8, 9, 10], [11])]
        await asyncio.sleep(0)
        assert batcher.queued_images == 10
        model.go.set()
        answers = await asyncio.gather(first, *rest)
        await asyncio.to_thread(batcher.stop, 5)
        return model.sizes, answers, batcher.queued_images

    sizes, answers, queued = asyncio.run(talk())
    assert sizes == [1, 4, 4, 2] and queued == 0
    assert answers == [[1], [2, 3], [4, 5, 6, 7, 8, 9, 10], [11]]


def test_the_queue_is_counted_in_images():
    async def talk():
        model = Model(held=True)
        batcher = await started(model, max_queue=5)
        running = asyncio.create_task(ask(batcher, 1))
        await until_entered(model)
        waiting = asyncio.create_task(ask(batcher, 2, 3, 4))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await ask(batcher, 5, 6, 7)
        fits = asyncio.create_task(ask(batcher, 5, 6))
        await asyncio.sleep(0)
        model.go.set()
        answers = await asyncio.gather(running, waiting, fits)
        await asyncio.to_thread(batcher.stop, 5)
        return answers

    assert asyncio.run(talk()) == [[1], [2, 3, 4], [5, 6]]


def test_cancelled_and_late_requests_never_reach_the_model():
    async def talk():
        model = Model(held=True)
        batcher = await started(model)
        running = asyncio.create_task(ask(batcher, 1))
        await until_entered(model)
        late = asyncio.create_task(ask(batcher, 2, 2, deadline_s=time.monotonic() + 0.01))
        gone = asyncio.create_task(ask(batcher, 3, 3, 3, 3, 3))
        stays = asyncio.create_task(ask(batcher, 4))
        await asyncio.sleep(0.02)
        gone.cancel()
        await asyncio.sleep(0)
        assert batcher.queued_images == 3  # the cancelled one left at once
        running.cancel()  # its batch runs already: the answer is thrown away
        await asyncio.sleep(0)
        model.go.set()
        assert await stays == [4]
        with pytest.raises(DeadlinePassed):
            await late
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.to_thread(batcher.stop, 5)
        return model.sizes

    assert asyncio.run(talk()) == [1, 1]


@pytest.mark.parametrize("broken", [lambda _: 1 / 0, lambda batch: batch[:1].reshape(1, 1).astype(np.float32)])
def test_a_failing_batch_fails_its_own_requests_only(broken):
    async def talk():
        model = Model(held=True)
        batcher = await started(model, max_batch=2)
        running = asyncio.create_task(ask(batcher, 1))
        await until_entered(model)
        long = asyncio.create_task(ask(batcher, 2, 3, 4, 5, 6))  # its first part fails: the rest must not run
        short = asyncio.create_task(ask(batcher, 7))
        await asyncio.sleep(0)
        calls = []

        def fails_once(batch):
            calls.append(len(batch))
            return broken(batch) if len(calls) == 1 else model(batch)

        batcher.model = fails_once
        model.go.set()
        answers = await asyncio.gather(running, long, short, return_exceptions=True)
        assert not batcher.died and batcher.queued_images == 0
        await asyncio.to_thread(batcher.stop, 5)
        return answers, calls

    (running, long, short), calls = asyncio.run(talk())
    assert running == [1] and isinstance(long, RunFailed) and short == [7]
    assert calls == [2, 1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_dead_worker():
    def die(_):
        entered.set()
        time.sleep(0.02)
        raise SystemExit

    entered = threading.Event()

    async def talk():
        batcher = await started(die)
        first = asyncio.create_task(ask(batcher, 1))
        await asyncio.to_thread(entered.wait, 5)
        second = asyncio.create_task(ask(batcher, 2))
        answers = await asyncio.gather(first, second, return_exceptions=True)
        assert batcher.died and batcher.queued_images == 0
        with pytest.raises(WorkerStopped):
            await ask(batcher, 3)
        await asyncio.to_thread(batcher.stop, 5)  # the thread's last words belong to this test, not to the next
        return answers

    assert [type(answer) for answer in asyncio.run(talk())] == [WorkerStopped, WorkerStopped]


def test_stopping_finishes_what_waits_and_takes_no_more():
    async def talk():
        model = Model(held=True)
        batcher = await started(model, max_batch=1)
        waiting = [asyncio.create_task(ask(batcher, v)) for v in (1, 2, 3)]
        await until_entered(model)
        stop = asyncio.create_task(asyncio.to_thread(batcher.stop, 5))
        await asyncio.sleep(0.02)
        with pytest.raises(WorkerStopped):
            await ask(batcher, 4)
        model.go.set()
        await stop
        assert not batcher.died
        return await asyncio.gather(*waiting)

    assert asyncio.run(talk()) == [[1], [2], [3]]


def test_every_batch_is_observed():
    seen = []

    async def talk():
        batcher = await started(Model(), max_batch=2, observe=seen.append)
        await ask(batcher, 1, 2, 3)
        await asyncio.to_thread(batcher.stop, 5)

    asyncio.run(talk())
    assert seen == [2, 1]

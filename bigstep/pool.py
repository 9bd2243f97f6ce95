"""Work side by side: one process for each core, none where one is enough. No torch: what a worker sets up is its own.

Workers are started anew, since a forked library can hang in its thread pools. They ignore Ctrl-C, which reaches their
parent, and end when it is gone, so that a killed run leaves nobody writing into its folder.
"""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import bigstep.own_packages  # noqa: F401 - a worker imports this module first, and then what its work needs
from bigstep.errors import BigstepError
from bigstep.machine import usable_cores

log = logging.getLogger("bigstep")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps it
S = TypeVar("S")
J = TypeVar("J")
R = TypeVar("R")
_setup: Any  # set once in each worker, so that it travels once


def run(setup: S, jobs: Sequence[J], work: Callable[[S, J], R], *, most: int | None = None) -> Iterator[R]:
    """Yield work(setup, job) of every job as it finishes. Results do not depend on the number of processes.

    Args:
        setup: what all jobs share; it can be pickled.
        work: a function of a module, which a process finds by its name.
        most: processes at most; by default as many as there are usable cores.

    Raises:
        BigstepError: the system ended a process.
    """
    processes = min(most or usable_cores(), len(jobs))
    if processes <= 1:
        yield from (work(setup, job) for job in jobs)
        return
    try:
        pool = ProcessPoolExecutor(
            processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(setup, os.getpid()),
        )
    except OSError as error:  # the semaphores of a pool are files in shared memory
        log.warning("%s cannot be used (%s): one process does all the work, more slowly", SHARED_MEMORY, error.strerror)
        yield from (work(setup, job) for job in jobs)
        return
    try:
        for future in as_completed(_submit(pool, jobs, work)):
            yield future.result()
    except BrokenProcessPool:
        raise BigstepError(
            "a worker process was killed",
            got="the system ended it",
            do="give it more memory; the same command goes on from what has finished",
        ) from None
    except BaseException:
        for process in list(pool._processes.values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, jobs: Sequence[J], work: Callable[[Any, J], R]) -> list[Future[R]]:
    """Submit every job; the workers that this starts ignore Ctrl-C from their first instruction on."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return [pool.submit(_work, work, job) for job in jobs]
    finally:
        signal.signal(signal.SIGINT, before)


def _begin(setup: object, parent: int) -> None:
    global _setup
    _setup = setup
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _work(work: Callable[[Any, J], R], job: J) -> R:
    return work(_setup, job)

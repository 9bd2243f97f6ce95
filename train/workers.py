"""Trials side by side: one process per core with one thread each; on a GPU in one stack, or one after the other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from bigstep.errors import TrainError
from bigstep.machine import usable_cores
from bigstep.records.trained import Trial
from train.networks.predict import one_thread
from train.setup import Job, Setup
from train.stack import can_vectorise, fit_together
from train.step import fit
from train.trial import Fitting, Making, go_on, make_trial, run_trial, to_its_end

J = TypeVar("J")
R = TypeVar("R")
STACKED = ("mlp", "cnn")  # a user's own network may do what `vmap` has no rule for
_setup: Setup  # set once in each worker, so that the images travel once


def run_trials(setup: Setup, jobs: Sequence[Job]) -> Iterator[Trial]:
    """Run every job and yield its trial as it finishes. Results do not depend on the number of processes."""
    yield from run_together(setup, jobs) if setup.device == "cuda" else side_by_side(setup, jobs, run_trial)


def side_by_side(setup: Setup, jobs: Sequence[J], work: Callable[[Setup, J], R]) -> Iterator[R]:
    """Yield work(setup, job) of every job as it finishes: in processes on the CPU, one after the other on a GPU.

    Args:
        work: a function of a module, which a process finds by its name.
    """
    processes = min(usable_cores(), len(jobs)) if setup.device == "cpu" else 1
    if processes <= 1:
        for job in jobs:
            with one_thread():
                done = work(setup, job)
            yield done
        return
    context = multiprocessing.get_context("spawn")  # a forked PyTorch can hang in its thread pools
    light = replace(setup, held={})
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(light, os.getpid()))
    try:
        for future in as_completed(_submit(pool, jobs, work)):
            yield future.result()
    except BrokenProcessPool:
        do = "give it more memory; the same command goes on from the trials that finished"
        raise TrainError("a training process was killed", got="the system ended it", do=do) from None
    except BaseException:
        for process in list(pool._processes.values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def run_together(setup: Setup, jobs: Sequence[Job]) -> Iterator[Trial]:
    """Run every job in this process and yield its trial as it finishes: those that can be vectorised in one stack."""
    stacked: list[tuple[Making, Fitting]] = []
    for job in jobs:
        making = make_trial(setup, job)
        found = go_on(making)
        if isinstance(found, Fitting):
            known = setup.architecture.family in STACKED
            if known and can_vectorise(found.run.model, found.x, found.plan):
                stacked.append((making, found))
                continue
            fit(found.run, found.x, found.y, found.plan, found.after_epoch)
            found = to_its_end(making)
        yield found
    if not stacked:
        return
    x_NCHW, y_N = setup.tensors("train")
    assert isinstance(x_NCHW, Tensor)  # or nothing could be vectorised
    runs, plans = [f.run for _, f in stacked], [f.plan for _, f in stacked]
    for index, over in fit_together(runs, x_NCHW, y_N, plans):
        making, fitting = stacked[index]
        if over:
            yield to_its_end(making)
        else:
            fitting.after_epoch(fitting.run)


def _submit(pool: ProcessPoolExecutor, jobs: Sequence[J], work: Callable[[Setup, J], R]) -> list[Future[R]]:
    """Submit every job; the workers that this starts ignore Ctrl-C from their first instruction on."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return [pool.submit(_work, work, job) for job in jobs]
    finally:
        signal.signal(signal.SIGINT, before)


def _begin(setup: Setup, parent: int) -> None:
    global _setup
    _setup = setup
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops its workers
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: int) -> None:
    """End this process when its parent is gone, so that a killed run leaves nobody writing into its folder."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _work(work: Callable[[Setup, J], R], job: J) -> R:
    return work(_setup, job)

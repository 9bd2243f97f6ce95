"""Trials side by side: one process for each core with one thread each; on a GPU in a stack, or one by one."""

import logging
from collections.abc import Iterator, Sequence

from torch import Tensor

from bigstep import pool
from bigstep.records.trained import Trial
from train.networks.predict import one_thread
from train.setup import Job, Setup
from train.stack import can_vectorise, fit_together
from train.trial import Fitting, Making, fit, go_on, make_trial, run_trial, to_its_end

STACKED = ("mlp", "cnn")  # a user's own network may do what `vmap` has no rule for


def run_all(setup: Setup, jobs: Sequence[Job], log: logging.Logger) -> dict[str, Trial]:
    """Run jobs, logging each as it finishes, and return their trials by name in the order of the jobs."""
    trials: dict[str, Trial] = {}
    for trial in run_trials(setup, jobs):
        trials[trial.name] = trial
        place = {"done": len(trials), "total": len(jobs)}
        log.info("%s %s after %d steps", trial.name, trial.status, trial.steps, extra=place)
        for alarm in trial.alarms:
            log.warning("warning: %s, %s", trial.name, alarm)
    return {job.name: trials[job.name] for job in jobs}


def run_trials(setup: Setup, jobs: Sequence[Job]) -> Iterator[Trial]:
    """Run every job and yield its trial as it finishes. Results do not depend on the number of processes."""
    yield from run_together(setup, jobs) if setup.device == "cuda" else pool.run(setup, jobs, run_alone)


def run_alone(setup: Setup, job: Job) -> Trial:
    """Run one job on one thread."""
    with one_thread():
        return run_trial(setup, job)


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
            fit(found)
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

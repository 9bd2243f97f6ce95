"""One training run, resumable, and what is stored of it; what is measured on it is in `train.outcome`.

A finished trial is a folder `trials/<name>/` that appears at once; until then its checkpoint lies in `work/<name>/`.
"""

import logging
import shutil
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
from safetensors import SafetensorError
from torch import Tensor

from bigstep.records.sealed import WORK, flush, move_folder, write_json
from bigstep.records.trained import UNFINISHED, Trial
from train import observe, outcome, step
from train.moments import Moments
from train.networks.feed import Inputs
from train.networks.predict import mean_loss
from train.readings import Reader
from train.setup import Job, Setup

log = logging.getLogger("bigstep.train")
CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_SECONDS = 5.0


@dataclass(frozen=True)
class Fitting:
    """What asks for a run to be trained to its end: the arguments of `step.fit`."""

    run: step.Run
    x: Inputs
    y: Tensor
    plan: step.Plan
    after_epoch: Callable[[step.Run], None] = lambda _: None


Making = Generator[Fitting, None, Trial]


def run_trial(setup: Setup, job: Job) -> Trial:
    """Train, measure and store one trial; take it from the disk if it is there already, or go on from there."""
    return to_its_end(make_trial(setup, job))


def to_its_end(making: Making) -> Trial:
    """Go on with a trial until it is finished, training what it asks for."""
    while isinstance(found := go_on(making), Fitting):
        step.fit(found.run, found.x, found.y, found.plan, found.after_epoch)
    return found


def go_on(making: Making) -> Fitting | Trial:
    """Go on with a trial until a run has to be trained, which is left to the caller, or the trial is finished."""
    try:
        return next(making)
    except StopIteration as finished:
        trial: Trial = finished.value
        return trial


def make_trial(setup: Setup, job: Job) -> Making:
    """Do what `run_trial` does, but ask for the training, so that it can be done for many trials at once."""
    folder, work = setup.folder(job.name), setup.out / WORK / job.name
    if folder.is_dir():
        try:
            trial = Trial.model_validate_json((folder / "trial.json").read_bytes())
            if trial.status not in UNFINISHED or trial.steps >= job.max_steps:
                if trial.status not in UNFINISHED:
                    (folder / CHECKPOINT).unlink(missing_ok=True)  # a run was killed before it did so itself
                return trial
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read (%s); it runs again", folder, error)
            shutil.rmtree(folder)
    if folder.is_dir() and not work.is_dir():
        move_folder(shutil.copytree(folder, work.with_name(f".{job.name}"), dirs_exist_ok=True), work)
    work.mkdir(parents=True, exist_ok=True)
    run = yield from _train(setup, job, work)
    trial = outcome.measure(setup, job, run, work)
    write_json(work / "trial.json", trial.model_dump(mode="json"))
    write_json(work / "curve.json", {"steps_and_loss": [p for p in run.curve if np.isfinite(p[1])]})
    (work / "checkpoint.tmp").unlink(missing_ok=True)  # if a run was killed while it wrote
    if trial.status in UNFINISHED:
        step.save_checkpoint(run, work / CHECKPOINT)
    folder.parent.mkdir(exist_ok=True)
    flush(work)
    shutil.rmtree(folder, ignore_errors=True)
    move_folder(work, folder)
    if trial.status not in UNFINISHED:  # not before: a run killed in between goes on from it, with the same files
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return trial


def _train(setup: Setup, job: Job, work: Path) -> Generator[Fitting, None, step.Run]:
    run = _begin(setup, job, work)
    x_NCHW, y_N = setup.tensors("train")
    first_steps = setup.finish.first_steps(job.max_steps) if job.final else job.max_steps
    plan = step.Plan(
        job.recipe,
        setup.batch_size,
        setup.stop_loss,
        first_steps,
        job.seed,
        augmentation=setup.augmentation,
    )
    if run.steps < first_steps:
        observers: list[step.Observer] = [_Outputs(setup, job, work), _Checkpoints(work)]
        if setup.keeps_moments:
            observers.insert(0, Moments(setup.first_training_images(), work))
        yield from _observed(setup, Fitting(run, x_NCHW, y_N, plan), work, observers)
    elif run.status is None:  # killed after its last step: it has not fitted, or it would have no checkpoint there
        run.status = "unfitted"
    if first_steps == job.max_steps or run.status not in (None, "unfitted"):
        return run
    step.save_checkpoint(run, work / CHECKPOINT)  # the second phase is short: it starts again from here
    second = setup.finish.begin(run, plan, job.max_steps)
    yield from _observed(setup, Fitting(second.run, x_NCHW, y_N, second.plan), work, [second])
    return second.finished(x_NCHW, lambda model: mean_loss(model, x_NCHW, y_N), setup.stop_loss)


def _observed(
    setup: Setup, fitting: Fitting, work: Path, observers: list[step.Observer]
) -> Generator[Fitting, None, None]:
    """Ask for a run to be trained while some look on; first the log, which never lacks what a checkpoint has."""
    if setup.observe_steps:
        reader = Reader(setup.images, setup.architecture, setup.device, bias_labels=setup.bias_labels)
        # Alarms know shares of a whole training, of which a short trial is a part.
        whole = replace(fitting.plan, max_steps=max(fitting.plan.max_steps, setup.finish.whole_steps))
        observers = [observe.Log(reader, setup.observe_steps, whole, work), *observers]
    with observe.observed(observers, fitting.run) as after_epoch:
        yield replace(fitting, after_epoch=after_epoch)


def _begin(setup: Setup, job: Job, work: Path) -> step.Run:
    """Return a run at its first step, or where a checkpoint left it."""
    checkpoint = work / CHECKPOINT
    while True:
        run = step.start(setup.network(job.seed), job.recipe)
        if not checkpoint.is_file():
            return run
        try:
            step.load_checkpoint(run, checkpoint)
            return run
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            log.warning("%s: its checkpoint cannot be read (%s); it starts again", job.name, error)
            checkpoint.unlink()


@final
class _Outputs(step.Observer):
    """The observer that keeps a run's outputs early on."""

    def __init__(self, setup: Setup, job: Job, work: Path) -> None:
        self._setup, self._job, self._work = setup, job, work

    def after_epoch(self, run: step.Run) -> None:
        """Keep the outputs after the epoch that counts as early."""
        if run.epoch == outcome.EARLY_EPOCH:
            outcome.save_outputs(self._setup, run.model, self._work, "early")

    def end(self, run: step.Run) -> None:
        """Keep them of a run that may go on after that epoch: nobody is called after the last one."""
        if run.status == "unfitted" and not self._job.final:
            self.after_epoch(run)


@final
class _Checkpoints(step.Observer):
    """The observer that saves a run every few seconds."""

    def __init__(self, work: Path) -> None:
        self._path, self._saved = work / CHECKPOINT, time.monotonic()

    def after_epoch(self, run: step.Run) -> None:
        """Save the run if it was not saved for a while."""
        if time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            step.save_checkpoint(run, self._path)
            self._saved = time.monotonic()

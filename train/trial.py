"""One training run, resumable, and what is stored of it; what is measured on it is in `train.outcome`.

A finished trial is a folder `trials/<name>/` that appears at once. Until then an attempt at it lies in a folder of its
own, `work/<name>~<random>/`: where work may be given out twice, as to a machine that seemed lost, two attempts at one
trial do not disturb each other, and as both come to the same bits, the first to finish counts.
"""

import logging
import secrets
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
from safetensors import SafetensorError
from torch import Tensor

from bigstep.errors import TrainError
from bigstep.records.measured import note_instructions
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
NOT_COPIED = (CHECKPOINT, "*.tmp")  # the one was copied first, the others are being written
TRIES = 10  # at moving an attempt to its place, each of which another may have met


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
        fit(found)
    return found


def fit(asked: Fitting) -> None:
    """Train a run as a trial asks for it."""
    step.fit(asked.run, asked.x, asked.y, asked.plan, asked.after_epoch)


def go_on(making: Making) -> Fitting | Trial:
    """Go on with a trial until a run has to be trained, which is left to the caller, or the trial is finished."""
    try:
        return next(making)
    except StopIteration as finished:
        trial: Trial = finished.value
        return trial


def make_trial(setup: Setup, job: Job) -> Making:
    """Do what `run_trial` does, but ask for the training, so that it can be done for many trials at once."""
    folder = setup.folder(job.name)
    try:
        if (finished := _finished(folder, job)) is not None:
            if finished.status not in UNFINISHED:
                (folder / CHECKPOINT).unlink(missing_ok=True)  # a run was killed before it did so itself
            return finished
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s); it runs again", folder, error)
        shutil.rmtree(folder)
    work = _begin_attempt(setup, job)
    note_instructions(work)
    run = yield from _train(setup, job, work)
    trial = outcome.measure(setup, job, run, work)
    write_json(work / "trial.json", trial.model_dump(mode="json"))
    write_json(work / "curve.json", {"steps_and_loss": [p for p in run.curve if np.isfinite(p[1])]})
    (work / "checkpoint.tmp").unlink(missing_ok=True)  # if a run was killed while it wrote
    if trial.status in UNFINISHED:
        step.save_checkpoint(run, work / CHECKPOINT)
    folder.parent.mkdir(exist_ok=True)
    flush(work)
    trial = _publish(work, folder, trial, job)
    if trial.status not in UNFINISHED:  # not before: a run killed in between goes on from it, with the same files
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return trial


def _finished(folder: Path, job: Job) -> Trial | None:
    """Return the trial in a folder if the job asks for no more than it has; None if it does, or there is none."""
    if not folder.is_dir():
        return None
    trial = Trial.model_validate_json((folder / "trial.json").read_bytes())
    return trial if trial.status not in UNFINISHED or trial.steps >= job.max_steps else None


def _begin_attempt(setup: Setup, job: Job) -> Path:
    """Make the folder of an attempt, which goes on from the newest checkpoint that another has left."""
    places = [setup.folder(job.name), *(setup.out / WORK).glob(f"{job.name}~*")]
    left = {place / CHECKPOINT: _age(place / CHECKPOINT) for place in places}
    work = setup.out / WORK / f"{job.name}~{secrets.token_hex(4)}"
    work.mkdir(parents=True)
    for checkpoint in sorted((c for c in left if left[c] is not None), key=lambda c: (left[c], str(c)), reverse=True):
        try:
            # The checkpoint first: what lies beside it may be further on, but must not be less far.
            shutil.copy2(checkpoint, work / CHECKPOINT)
            shutil.copytree(checkpoint.parent, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
            return work
        except (OSError, shutil.Error):  # it was just published, or is swept: the next, or from the first step
            shutil.rmtree(work)
            work.mkdir()
    return work


def _age(checkpoint: Path) -> int | None:
    try:
        return checkpoint.stat().st_mtime_ns
    except OSError:
        return None


def _publish(work: Path, folder: Path, trial: Trial, job: Job) -> Trial:
    """Move a finished attempt to its place; if another was first, return what that one has found, and drop this.

    A shorter trial that was there goes back to the work: killed in between, the next attempt goes on from it.
    """
    aside = work.with_name(f"{job.name}~{secrets.token_hex(4)}")
    for _ in range(TRIES):
        try:
            work.rename(folder)
            shutil.rmtree(aside, ignore_errors=True)
            return trial
        except OSError:
            if not folder.is_dir():
                raise
        with suppress(OSError, ValueError):  # another moves it at this moment
            if (other := _finished(folder, job)) is not None:
                shutil.rmtree(work)
                return other
        with suppress(OSError):
            move_folder(folder, aside)
    raise TrainError(f"{folder} cannot be published", got="others publish it all the time", do="run the command again")


def sweep(out: Path) -> None:
    """Remove what earlier runs have left of attempts, but for the newest at each trial; nobody else may be at work."""
    attempts: dict[str, list[Path]] = {}
    for path in (out / WORK).glob("*~*"):
        attempts.setdefault(path.name.rpartition("~")[0], []).append(path)
    for paths in attempts.values():
        for path in sorted(paths, key=lambda p: (_age(p / CHECKPOINT) or 0, p.name))[:-1]:
            shutil.rmtree(path, ignore_errors=True)


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

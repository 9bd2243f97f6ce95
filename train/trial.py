"""One training run with everything that is measured on it, in a process of its own and resumable.

A finished trial is a folder `trials/<name>/` that appears at once; until then its checkpoint lies in `work/<name>/`.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bigstep.groups import accuracies
from bigstep.records import Architecture, Images, Split, SplitName
from bigstep.sealed import WORK, flush, write_json
from bigstep.trained import Recipe, Trial
from train import networks, pretrained, prunability, step
from train.augment import Augmentation
from train.feed import Inputs, inputs

log = logging.getLogger("bigstep.train")
CHECKPOINT_SECONDS = 5.0
EARLY_EPOCH = 5  # per-sample outputs are kept after this many epochs, and again at the end


@dataclass(frozen=True)
class Job:
    """Say which run to make."""

    name: str
    recipe: Recipe
    seed: int
    max_steps: int


@dataclass(frozen=True)
class Bench:
    """Hold what every trial of a stage shares: the images on one device, the network, the stopping rule.

    `out` is the folder of the unfinished record; two processes may share it, each working on trials of its own.
    """

    images: Images
    architecture: Architecture
    batch_size: int
    stop_loss: float
    device: str
    out: Path
    augmentation: Augmentation = "none"
    pretrained: Path | None = None
    held: dict[str, tuple[Inputs, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    def tensors(self, name: SplitName) -> tuple[Inputs, Tensor]:
        """Return normalised images and labels of one split on the device; they are held for the next trial."""
        if name not in self.held:
            split = self.images.split(name)
            y_N = torch.from_numpy(np.array(split.labels)).to(self.device)
            self.held[name] = inputs(split.images, self.architecture, self.device), y_N
        return self.held[name]


@dataclass(frozen=True)
class Fitting:
    """Ask for a run to be trained to its end: the arguments of `step.fit`."""

    run: step.Run
    x: Inputs
    y: Tensor
    plan: step.Plan
    after_epoch: Callable[[step.Run], None]


Making = Generator[Fitting, None, Trial]


def run_trial(bench: Bench, job: Job) -> Trial:
    """Train, measure and store one trial; take it from the disk if it is there already."""
    making = make_trial(bench, job)
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


def make_trial(bench: Bench, job: Job) -> Making:
    """Do what `run_trial` does, but ask for the training, so that it can be done for many trials at once."""
    folder = bench.out / "trials" / job.name
    if folder.is_dir():
        try:
            return Trial.model_validate_json((folder / "trial.json").read_bytes())
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read (%s); it runs again", folder, error)
            shutil.rmtree(folder)
    work = bench.out / WORK / job.name
    work.mkdir(parents=True, exist_ok=True)
    run = yield from _train(bench, job, work)
    trial = _measure(bench, job, run, work)
    write_json(work / "trial.json", trial.model_dump(mode="json"))
    write_json(work / "curve.json", {"steps_and_loss": [p for p in run.curve if np.isfinite(p[1])]})
    for name in ("checkpoint.safetensors", "checkpoint.tmp"):  # the second one if a run was killed while it wrote
        (work / name).unlink(missing_ok=True)
    folder.parent.mkdir(exist_ok=True)
    flush(work)
    work.rename(folder)
    return trial


def _train(bench: Bench, job: Job, work: Path) -> Generator[Fitting, None, step.Run]:
    model = networks.build(bench.architecture, job.seed)
    if bench.pretrained is not None:
        pretrained.start_from(model, bench.pretrained)
    model = networks.place(model, bench.device)
    run = step.start(model, job.recipe)
    checkpoint = work / "checkpoint.safetensors"
    if checkpoint.is_file():
        try:
            step.load_checkpoint(run, checkpoint)
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            log.warning("%s: its checkpoint cannot be read (%s); it starts again", job.name, error)
            checkpoint.unlink()
            return (yield from _train(bench, job, work))
    x_NCHW, y_N = bench.tensors("train")
    plan = step.Plan(
        job.recipe,
        bench.batch_size,
        bench.stop_loss,
        job.max_steps,
        job.seed,
        augmentation=bench.augmentation,
        bf16=networks.trains_in_bf16(model, bench.device),
    )
    saved = time.monotonic()

    def after_epoch(run: step.Run) -> None:
        nonlocal saved
        if run.epoch == EARLY_EPOCH:
            _save_outputs(bench, run.model, work, "early")
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            step.save_checkpoint(run, checkpoint)
            saved = time.monotonic()

    yield Fitting(run, x_NCHW, y_N, plan, after_epoch)
    return run


def _measure(bench: Bench, job: Job, run: step.Run, work: Path) -> Trial:
    """Measure a finished run on both validation splits; diverged weights are neither kept nor measured."""
    assert run.status is not None
    outcome = {"name": job.name, "recipe": job.recipe, "seed": job.seed, "status": run.status, "steps": run.steps}
    if run.status == "diverged":
        return Trial(**outcome, train_loss=None)
    networks.save_weights(run.model, work / "weights.safetensors")
    _save_outputs(bench, run.model, work, "final")
    split = bench.images.split("validation")
    x_NCHW, _ = bench.tensors("validation")

    def unbiased(model: nn.Module) -> float:
        return accuracies(_correct(model, x_NCHW, split), split.labels, split.bias, split.aligned).unbiased

    curve = prunability.curve(run.model, unbiased)
    write_json(work / "prunability.json", {"fraction_and_unbiased_accuracy": curve})
    scores = accuracies(_correct(run.model, x_NCHW, split), split.labels, split.bias, split.aligned)
    x_biased, y_biased = bench.tensors("validation_biased")
    logits = step.predict(run.model, x_biased)
    return Trial(
        **outcome,
        train_loss=run.train_loss,
        unbiased=scores.unbiased,
        aligned=_number(scores.aligned),
        conflicting=_number(scores.conflicting),
        prunability=prunability.area(curve),
        biased_accuracy=float((logits.argmax(dim=1) == y_biased).float().mean()),
        biased_loss=float(cross_entropy(logits, y_biased)),
        stored=True,
    )


def _correct(model: nn.Module, x_NCHW: Inputs, split: Split) -> NDArray[np.bool_]:
    predicted = step.predict(model, x_NCHW).argmax(dim=1).cpu().numpy()
    correct: NDArray[np.bool_] = np.equal(predicted, split.labels)
    return correct


def _save_outputs(bench: Bench, model: nn.Module, work: Path, moment: str) -> None:
    for name in ("train", "validation_biased"):
        x_NCHW, _ = bench.tensors(name)
        logits_NK = step.predict(model, x_NCHW).cpu().numpy()
        np.save(work / f"{name}.{moment}.npy", logits_NK, allow_pickle=False)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value

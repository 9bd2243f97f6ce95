"""One training run with everything that is measured on it, in a process of its own and resumable.

A finished trial is a folder `trials/<name>/` that appears at once; until then its checkpoint lies in `work/<name>/`.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bigstep.groups import Accuracies, accuracies
from bigstep.records import Architecture, Images, Split, SplitName
from bigstep.sealed import WORK, flush, write_json
from bigstep.trained import Recipe, Signals, Trial
from train import moments, networks, pretrained, prunability, step, watch
from train.activations import outputs
from train.augment import Augmentation
from train.feed import Inputs, first, inputs
from train.finish import Finish
from train.label_free import loss_gini
from train.loss_share import sample_losses
from train.readings import Reader
from train.separation import separation
from train.sparsity import activation_sparsity

log = logging.getLogger("bigstep.train")
CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_SECONDS = 5.0
EARLY_EPOCH = 1  # per-sample outputs are kept after this many epochs, and again at the end
OUTPUT_BYTES = 64 * 2**20  # of the logits that a trial keeps of one split: those of all ImageNet would take 5 GB
SIGNAL_IMAGES = 2000  # training images on which signals without bias labels are measured
UNFINISHED = ("stopped", "stuck")  # short trials, which may go on
STUCK_EPOCHS = 6  # the losses of fewer epochs do not say whether a run is stuck


@dataclass(frozen=True)
class Job:
    """Say which run to make; one that is not `final` may go on later, and is then measured for the first time."""

    name: str
    recipe: Recipe
    seed: int
    max_steps: int
    final: bool = True


@dataclass(frozen=True)
class Bench:
    """Hold what every trial of a stage shares: the images on one device, the network, the stopping rule.

    `out` is the folder of the unfinished record; two processes may share it, each working on trials of its own.
    Without `bias_labels` nothing but `train` and `validation_biased` is opened. `watch_steps` are the steps between
    measurements of sharpness in a watched run; 0 watches none. With `keeps_moments` each trial has a `moments.json`:
    whose loss it is, after epochs 1, 2, 4, 8, ...
    """

    images: Images
    architecture: Architecture
    batch_size: int
    stop_loss: float
    device: str
    out: Path
    augmentation: Augmentation = "none"
    bias_labels: bool = True
    pretrained: Path | None = None
    watch_steps: int = 0
    finish: Finish = field(default_factory=Finish)
    keeps_moments: bool = False
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
    """Train, measure and store one trial; take it from the disk if it is there already, or go on from there."""
    return to_its_end(make_trial(bench, job))


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


def make_trial(bench: Bench, job: Job) -> Making:
    """Do what `run_trial` does, but ask for the training, so that it can be done for many trials at once."""
    folder, work = bench.out / "trials" / job.name, bench.out / WORK / job.name
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
        shutil.copytree(folder, work.with_name(f".{job.name}"), dirs_exist_ok=True).rename(work)
    work.mkdir(parents=True, exist_ok=True)
    run = yield from _train(bench, job, work)
    trial = _measure(bench, job, run, work)
    write_json(work / "trial.json", trial.model_dump(mode="json"))
    write_json(work / "curve.json", {"steps_and_loss": [p for p in run.curve if np.isfinite(p[1])]})
    (work / "checkpoint.tmp").unlink(missing_ok=True)  # if a run was killed while it wrote
    if trial.status in UNFINISHED:
        step.save_checkpoint(run, work / CHECKPOINT)
    folder.parent.mkdir(exist_ok=True)
    flush(work)
    shutil.rmtree(folder, ignore_errors=True)
    work.rename(folder)
    if trial.status not in UNFINISHED:  # not before: a run killed in between goes on from it, with the same files
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return trial


def _train(bench: Bench, job: Job, work: Path) -> Generator[Fitting, None, step.Run]:
    run = _begin(bench, job, work)
    x_NCHW, y_N = bench.tensors("train")
    first_steps = bench.finish.first_steps(job.max_steps) if job.final else job.max_steps
    plan = step.Plan(
        job.recipe,
        bench.batch_size,
        bench.stop_loss,
        first_steps,
        job.seed,
        augmentation=bench.augmentation,
    )
    if run.steps < first_steps:
        yield from _watched(bench, Fitting(run, x_NCHW, y_N, plan, _keep(bench, work)), work)
    elif run.status is None:  # killed after its last step: it has not fitted, or it would have no checkpoint there
        run.status = "unfitted"
    if first_steps == job.max_steps or run.status not in (None, "unfitted"):
        return run
    step.save_checkpoint(run, work / CHECKPOINT)  # the second phase is short: it starts again from here
    second = bench.finish.begin(run, plan, job.max_steps)
    yield from _watched(bench, Fitting(second.run, x_NCHW, y_N, second.plan, second.after_epoch), work)
    return second.end(x_NCHW, lambda model: step.mean_loss(model, x_NCHW, y_N), bench.stop_loss)


def _watched(bench: Bench, fitting: Fitting, work: Path) -> Generator[Fitting, None, None]:
    """Ask for a run to be trained and watched, if runs are watched."""
    reader = None
    if bench.watch_steps:
        reader = Reader(bench.images, bench.architecture, bench.device, bias_labels=bench.bias_labels)
    with watch.watched(reader, bench.watch_steps, fitting.run, fitting.plan, work) as observe:

        def after_epoch(run: step.Run) -> None:
            observe(run)  # before a checkpoint: the log never lacks what lies before one
            fitting.after_epoch(run)

        yield replace(fitting, after_epoch=after_epoch)


def _begin(bench: Bench, job: Job, work: Path) -> step.Run:
    """Return a run at its first step, or where a checkpoint left it."""
    checkpoint = work / CHECKPOINT
    while True:
        model = networks.build(bench.architecture, job.seed)
        if bench.pretrained is not None:
            pretrained.start_from(model, bench.pretrained)
        run = step.start(networks.place(model, bench.device), job.recipe)
        if not checkpoint.is_file():
            return run
        try:
            step.load_checkpoint(run, checkpoint)
            return run
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            log.warning("%s: its checkpoint cannot be read (%s); it starts again", job.name, error)
            checkpoint.unlink()


def _keep(bench: Bench, work: Path) -> Callable[[step.Run], None]:
    """Return what keeps a run's outputs early on, and a checkpoint every few seconds."""
    saved = time.monotonic()

    def after_epoch(run: step.Run) -> None:
        nonlocal saved
        if run.epoch == EARLY_EPOCH:
            _save_outputs(bench, run.model, work, "early")
        if bench.keeps_moments and run.epoch & (run.epoch - 1) == 0:
            moments.note(work, run, _losses(bench, run.model))
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            step.save_checkpoint(run, work / CHECKPOINT)
            saved = time.monotonic()

    return after_epoch


def _measure(bench: Bench, job: Job, run: step.Run, work: Path) -> Trial:
    """Measure a finished run; diverged weights are neither kept nor measured, nor are runs that may go on later."""
    assert run.status is not None
    outcome = {"name": job.name, "recipe": job.recipe, "seed": job.seed, "steps": run.steps}
    outcome["alarms"] = watch.raised(work)
    if run.status == "diverged":
        return Trial(**outcome, status=run.status, train_loss=None)
    if run.status == "unfitted" and not job.final:
        if run.epoch == EARLY_EPOCH:  # nobody is called after the last epoch
            _save_outputs(bench, run.model, work, "early")
        return Trial(
            **outcome,
            status="stuck" if bench.finish.kind == "none" and _stuck(run) else "stopped",
            train_loss=run.train_loss,
        )
    networks.save_weights(run.model, work / "weights.safetensors")
    _save_outputs(bench, run.model, work, "final")
    if bench.keeps_moments:
        moments.note(work, run, _losses(bench, run.model))
    x_biased, y_biased = bench.tensors("validation_biased")
    logits = step.predict(run.model, x_biased)
    return Trial(
        **outcome,
        status=run.status,
        train_loss=run.train_loss,
        biased_accuracy=float((logits.argmax(dim=1) == y_biased).float().mean()),
        biased_loss=float(cross_entropy(logits, y_biased)),
        stored=True,
        **(_by_groups(bench, run.model, work) if bench.bias_labels else _label_free(bench, run.model, work)),
    )


def _losses(bench: Bench, model: nn.Module) -> moments.Losses:
    """Return the logits of the first training images, which lie in random order."""
    split = bench.images.split("train")
    logits_NK = step.predict(model, bench.tensors("train")[0][:SIGNAL_IMAGES]).cpu().numpy()
    aligned_N = None if split.aligned is None else split.aligned[:SIGNAL_IMAGES]
    return moments.Losses(logits_NK, np.array(split.labels[:SIGNAL_IMAGES]), aligned_N)


def _by_groups(bench: Bench, model: nn.Module, work: Path) -> dict[str, float | None]:
    """Measure accuracy by group, and how much can be pruned, on `validation`."""
    split = bench.images.split("validation")
    x_NCHW, _ = bench.tensors("validation")

    def scores(model: nn.Module) -> Accuracies:
        return accuracies(_correct(model, x_NCHW, split), split.labels, split.bias, split.aligned)

    curve = prunability.curve(model, lambda pruned: scores(pruned).unbiased)
    write_json(work / "prunability.json", {"fraction_and_unbiased_accuracy": curve})
    found = scores(model)
    numbers = {"unbiased": found.unbiased, "aligned": found.aligned, "conflicting": found.conflicting}
    known = {name: None if np.isnan(value) else value for name, value in numbers.items()}
    return {**known, "prunability": prunability.area(curve)}


def _label_free(bench: Bench, model: nn.Module, work: Path) -> dict[str, Signals | float | None]:
    """Measure what needs no bias label, on the first training images, which lie in random order."""
    x_NCHW, y_N = bench.tensors("train")
    x_NCHW, y_N = first(x_NCHW, SIGNAL_IMAGES), y_N[:SIGNAL_IMAGES]
    logits_NK, z_ND = outputs(model, x_NCHW)
    early = work / "train.early.npy"  # absent if the run was over by then
    early_NK = np.load(early, allow_pickle=False)[:SIGNAL_IMAGES] if early.is_file() else logits_NK.cpu().numpy()

    def accuracy(model: nn.Module) -> float:
        return float((step.predict(model, x_NCHW).argmax(dim=1) == y_N).float().mean())

    curve = prunability.curve(model, accuracy)
    write_json(work / "prunability.json", {"fraction_and_training_accuracy": curve})
    found = {
        "prunability": prunability.area(curve),
        "sparsity": activation_sparsity(z_ND),
        "separation": separation(z_ND, y_N),
        "concentration": loss_gini(sample_losses(early_NK, y_N.cpu().numpy())),
    }
    finite = all(np.isfinite(value) for value in found.values())
    return {"signals": Signals(**found) if finite else None, "prunability": found["prunability"]}


def _stuck(run: step.Run) -> bool:
    """Say whether the loss has stopped falling: over the last third of the epochs it is no lower than before."""
    losses = [loss for _, loss in run.curve]
    third = len(losses) // 3
    return len(losses) >= STUCK_EPOCHS and sum(losses[-third:]) >= sum(losses[-2 * third : -third])


def _correct(model: nn.Module, x_NCHW: Inputs, split: Split) -> NDArray[np.bool_]:
    predicted = step.predict(model, x_NCHW).argmax(dim=1).cpu().numpy()
    correct: NDArray[np.bool_] = np.equal(predicted, split.labels)
    return correct


def _save_outputs(bench: Bench, model: nn.Module, work: Path, moment: str) -> None:
    """Keep the logits of a split, of the first images alone where all of them are too many."""
    for name in ("train", "validation_biased"):
        x_NCHW, _ = bench.tensors(name)
        most = max(1, OUTPUT_BYTES // (4 * bench.architecture.classes))
        logits_NK = step.predict(model, first(x_NCHW, most)).cpu().numpy()
        np.save(work / f"{name}.{moment}.npy", logits_NK, allow_pickle=False)

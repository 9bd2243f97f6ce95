"""What is measured of a trial when it ends: by group where bias labels are known, else by signals that need none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from bigstep.groups import Accuracies, accuracies
from bigstep.records.images import Split
from bigstep.records.sealed import write_json
from bigstep.records.trained import Signals, Trial
from train import moments, observe, step
from train.measure import prunability
from train.measure.activations import outputs
from train.measure.label_free import loss_gini
from train.measure.loss_share import sample_losses
from train.measure.separation import separation
from train.measure.sparsity import activation_sparsity
from train.networks.build import save_weights
from train.networks.feed import Inputs, first
from train.networks.predict import predict
from train.setup import Job, Setup

EARLY_EPOCH = 1  # per-sample outputs are kept after this many epochs, and again at the end
OUTPUT_BYTES = 64 * 2**20  # of the logits that a trial keeps of one split: those of all ImageNet would take 5 GB
SIGNAL_IMAGES = 2000  # training images on which signals without bias labels are measured
STUCK_EPOCHS = 6  # the losses of fewer epochs do not say whether a run is stuck


def measure(setup: Setup, job: Job, run: step.Run, work: Path) -> Trial:
    """Measure a finished run; diverged weights are neither kept nor measured, nor are runs that may go on later."""
    assert run.status is not None
    outcome = {"name": job.name, "recipe": job.recipe, "seed": job.seed, "steps": run.steps}
    outcome["alarms"] = observe.raised(work)
    if run.status == "diverged":
        return Trial(**outcome, status=run.status, train_loss=None)
    if run.status == "unfitted" and not job.final:
        if run.epoch == EARLY_EPOCH:  # nobody is called after the last epoch
            save_outputs(setup, run.model, work, "early")
        return Trial(
            **outcome,
            status="stuck" if setup.finish.kind == "none" and stuck([loss for _, loss in run.curve]) else "stopped",
            train_loss=run.train_loss,
        )
    save_weights(run.model, work / "weights.safetensors")
    save_outputs(setup, run.model, work, "final")
    if setup.keeps_moments:
        moments.note(work, run, first_losses(setup, run.model))
    x_biased, y_biased = setup.tensors("validation_biased")
    logits = predict(run.model, x_biased)
    return Trial(
        **outcome,
        status=run.status,
        train_loss=run.train_loss,
        biased_accuracy=float((logits.argmax(dim=1) == y_biased).float().mean()),
        biased_loss=float(cross_entropy(logits, y_biased)),
        stored=True,
        **(_by_groups(setup, run.model, work) if setup.bias_labels else _label_free(setup, run.model, work)),
    )


def first_losses(setup: Setup, model: nn.Module) -> moments.Losses:
    """Return the logits of the first training images, which lie in random order."""
    split = setup.images.split("train")
    logits_NK = predict(model, setup.tensors("train")[0][:SIGNAL_IMAGES]).cpu().numpy()
    aligned_N = None if split.aligned is None else split.aligned[:SIGNAL_IMAGES]
    return moments.Losses(logits_NK, np.array(split.labels[:SIGNAL_IMAGES]), aligned_N)


def _by_groups(setup: Setup, model: nn.Module, work: Path) -> dict[str, float | None]:
    """Measure accuracy by group, and how much can be pruned, on `validation`."""
    split = setup.images.split("validation")
    x_NCHW, _ = setup.tensors("validation")

    def scores(model: nn.Module) -> Accuracies:
        return accuracies(_correct(model, x_NCHW, split), split.labels, split.bias, split.aligned)

    curve = prunability.curve(model, lambda pruned: scores(pruned).unbiased)
    write_json(work / "prunability.json", {"fraction_and_unbiased_accuracy": curve})
    found = scores(model)
    numbers = {"unbiased": found.unbiased, "aligned": found.aligned, "conflicting": found.conflicting}
    known = {name: None if np.isnan(value) else value for name, value in numbers.items()}
    return {**known, "prunability": prunability.area(curve)}


def _label_free(setup: Setup, model: nn.Module, work: Path) -> dict[str, Signals | float | None]:
    """Measure what needs no bias label, on the first training images, which lie in random order."""
    x_NCHW, y_N = setup.tensors("train")
    x_NCHW, y_N = first(x_NCHW, SIGNAL_IMAGES), y_N[:SIGNAL_IMAGES]
    logits_NK, z_ND = outputs(model, x_NCHW)
    early = work / "train.early.npy"  # absent if the run was over by then
    early_NK = np.load(early, allow_pickle=False)[:SIGNAL_IMAGES] if early.is_file() else logits_NK.cpu().numpy()

    def accuracy(model: nn.Module) -> float:
        return float((predict(model, x_NCHW).argmax(dim=1) == y_N).float().mean())

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


def stuck(losses: Sequence[float]) -> bool:
    """Say whether the loss has stopped falling: over the last third of the epochs it is no lower than before."""
    third = len(losses) // 3
    return len(losses) >= STUCK_EPOCHS and sum(losses[-third:]) >= sum(losses[-2 * third : -third])


def _correct(model: nn.Module, x_NCHW: Inputs, split: Split) -> NDArray[np.bool_]:
    predicted = predict(model, x_NCHW).argmax(dim=1).cpu().numpy()
    correct: NDArray[np.bool_] = np.equal(predicted, split.labels)
    return correct


def save_outputs(setup: Setup, model: nn.Module, work: Path, moment: str) -> None:
    """Keep the logits of a split, of the first images alone where all of them are too many."""
    for name in ("train", "validation_biased"):
        x_NCHW, _ = setup.tensors(name)
        most = max(1, OUTPUT_BYTES // (4 * setup.architecture.classes))
        logits_NK = predict(model, first(x_NCHW, most)).cpu().numpy()
        np.save(work / f"{name}.{moment}.npy", logits_NK, allow_pickle=False)

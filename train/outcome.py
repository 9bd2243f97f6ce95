"""What is measured of a trial when it ends: by group where bias labels are known, else by signals that need none."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from bigstep.records.numbers import Numbers, finite
from bigstep.records.sealed import write_json
from bigstep.records.trained import Trial
from train import observe, step
from train.measure import prunability
from train.measure.label_free import loss_gini
from train.measure.loss_share import sample_losses
from train.measure.readout import ReadOut, Sample, answers, features
from train.measure.separation import separation
from train.measure.sparsity import activation_sparsity
from train.networks.build import save_weights
from train.networks.feed import first
from train.networks.predict import predict
from train.setup import Job, Setup

EARLY_EPOCH = 1  # per-sample outputs are kept after this many epochs, and again at the end
OUTPUT_BYTES = 64 * 2**20  # of the logits that a trial keeps of one split: those of all ImageNet would take 5 GB
Curve = list[tuple[float, float]]  # pruned fraction and accuracy
STUCK_EPOCHS = 6  # the losses of fewer epochs do not say whether a run is stuck


def measure(setup: Setup, job: Job, run: step.Run, work: Path) -> Trial:
    """Measure a finished run; diverged weights are neither kept nor measured, nor are runs that may go on later."""
    assert run.status is not None
    trial = Trial(
        name=job.name,
        recipe=job.recipe,
        seed=job.seed,
        status=run.status,
        steps=run.steps,
        train_loss=None if run.status == "diverged" else run.train_loss,
        alarms=observe.raised(work),
        finish=setup.finish.kind,
        finish_rate=setup.finish.rate if setup.finish.kind == "fine-tune" else None,
    )
    if run.status == "diverged":
        return trial
    if run.status == "unfitted" and not job.final:
        ended = setup.finish.kind == "none" and stuck([loss for _, loss in run.curve])
        return trial.model_copy(update={"status": "stuck" if ended else "stopped"})
    save_weights(run.model, work / "weights.safetensors")
    biased = save_outputs(setup, run.model, work, "final")
    numbers: Numbers = {"biased_accuracy": biased.accuracy(), "biased_loss": biased.loss()}
    if setup.bias_labels:
        found, pruned = by_groups(run.model, setup.sample("validation"))
        write_json(work / "prunability.json", {"fraction_and_unbiased_accuracy": pruned})
    else:
        early = work / "train.early.npy"  # absent if the run was over by then
        early_NK = np.load(early, allow_pickle=False) if early.is_file() else None
        found, pruned = label_free(run.model, setup.first_training_images(), early_NK)
        write_json(work / "prunability.json", {"fraction_and_training_accuracy": pruned})
    return trial.model_copy(update={"numbers": numbers | found, "stored": True})


def stuck(losses: Sequence[float]) -> bool:
    """Say whether the loss has stopped falling: over the last third of the epochs it is no lower than before."""
    third = len(losses) // 3
    return len(losses) >= STUCK_EPOCHS and sum(losses[-third:]) >= sum(losses[-2 * third : -third])


def save_outputs(setup: Setup, model: nn.Module, work: Path, moment: str) -> ReadOut:
    """Keep the logits of both biased splits, of the first images alone where all of them are too many.

    Returns:
        What the network makes of all images of `validation_biased`.
    """
    most = max(1, OUTPUT_BYTES // (4 * setup.architecture.classes))
    train_NK = predict(model, first(setup.tensors("train")[0], most))
    biased = answers(model, setup.sample("validation_biased"))
    for name, logits_NK in (("train", train_NK), ("validation_biased", biased.logits)):
        np.save(work / f"{name}.{moment}.npy", logits_NK[:most].cpu().numpy(), allow_pickle=False)
    return biased


def by_groups(model: nn.Module, sample: Sample) -> tuple[Numbers, Curve]:
    """Measure accuracy by group, and how much can be pruned; returns the curve of unbiased accuracy too."""
    found = answers(model, sample).accuracies()
    pruned = prunability.curve(model, lambda m: answers(m, sample).accuracies().unbiased, found.unbiased)
    return finite({**vars(found), "prunability": prunability.area(pruned)}), pruned


def label_free(model: nn.Module, sample: Sample, early_NK: NDArray[np.float32] | None) -> tuple[Numbers, Curve]:
    """Measure what needs no bias label; returns the curve of accuracy on the sample too.

    Args:
        sample: training images.
        early_NK: the logits of the same images, or of more that follow, early in the run; None if it was over by then.
    """
    found = features(model, sample)
    pruned = prunability.curve(model, lambda m: answers(m, sample).accuracy(), found.accuracy())
    first_NK = found.logits_array if early_NK is None else early_NK[: len(sample.y)]
    return finite(
        {
            "prunability": prunability.area(pruned),
            "train_sparsity": activation_sparsity(found.features),
            "train_separation": separation(found.features, sample.y),
            "train_loss_gini": loss_gini(sample_losses(first_NK, sample.split.labels)),
        }
    ), pruned

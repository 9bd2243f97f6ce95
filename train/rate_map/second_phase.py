"""The second phase of one rate of the map: fine-tuned at a small and at a large rate, and averaged at its own."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from bigstep.records.numbers import Numbers
from bigstep.records.rate_map import SecondPhase
from bigstep.records.trained import Recipe
from train import averaging, step
from train.networks.build import load_weights, place
from train.rate_map import barrier
from train.rate_map.numbers import curvature_images, group_accuracies, report_split
from train.setup import Setup

CHECKPOINTS = 5  # averaged, one epoch apart, as in the smaller runs of Sadrtdinov et al. 2024


@dataclass(frozen=True)
class Start:
    """Where a second phase starts, and the two rates at which it fine-tunes, each for `max_steps` steps."""

    recipe: Recipe
    seed: int
    regime: Literal[1, 2]
    weights: Path
    rates: tuple[float, float]
    max_steps: int


def second_phase(setup: Setup, job: Start) -> SecondPhase:
    """Fine-tune and average the weights of one trial.

    Accuracies are on the split for reports, the barrier is on the training images of the curvature.

    Source: Sadrtdinov et al. 2024, arXiv:2410.22113 (both second phases, the barrier between them).
    """
    model = place(load_weights(setup.architecture, job.weights), setup.device)
    x_NCHW, y_N = setup.tensors("train")
    plan = step.Plan(
        job.recipe,
        setup.batch_size,
        setup.stop_loss,
        job.max_steps,
        job.seed + 1,  # another order of the images than that of the first phase
        augmentation=setup.augmentation,
    )
    tuned = [averaging.fine_tune(model, x_NCHW, y_N, plan, rate) for rate in job.rates]
    models = [run.model if run.status != "diverged" else None for run in tuned]
    averaged = averaging.average(model, x_NCHW, y_N, plan, CHECKPOINTS)
    small, large, mean = (_accuracies(m, setup) for m in (*models, averaged))
    return SecondPhase(
        rate=job.recipe.rate,
        seed=job.seed,
        regime=job.regime,
        small=small["unbiased"],
        large=large["unbiased"],
        averaged=mean["unbiased"],
        small_conflicting=small["conflicting"],
        large_conflicting=large["conflicting"],
        averaged_conflicting=mean["conflicting"],
        **_between(models, setup),
        fault=None,
    )


def _accuracies(model: nn.Module | None, setup: Setup) -> Numbers:
    return {"unbiased": None, "conflicting": None} if model is None else group_accuracies(model, setup)


def _between(models: list[nn.Module | None], setup: Setup) -> dict[str, float | None]:
    first, second = models
    if first is None or second is None:
        return {"barrier": None, "agreement": None, "angle": None}
    x_NCHW, y_N = curvature_images(setup)
    report = setup.tensors(report_split(setup.images))[0]
    angle = barrier.angle(first, second)
    return {
        "barrier": barrier.barrier(first, second, x_NCHW, y_N),
        "agreement": barrier.agreement(first, second, report),
        "angle": angle if math.isfinite(angle) else None,
    }

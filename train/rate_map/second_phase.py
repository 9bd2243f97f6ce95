"""The second phase of one rate of the map: fine-tuned at a small and at a large rate, and averaged at its own."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from torch import nn

from bigstep.records.rate_map import SecondPhaseResult
from bigstep.records.sealed import write_json
from bigstep.records.trained import Recipe
from train import averaging, step
from train.networks.build import load_weights, place
from train.rate_map import barrier
from train.rate_map.numbers import Numbers, curvature_images, group_accuracies, report_split
from train.rate_map.regimes import SecondPhase
from train.setup import Bench

log = logging.getLogger("bigstep.lr-map")
CHECKPOINTS = 5  # averaged, one epoch apart, as in the smaller runs of Sadrtdinov et al. 2024


@dataclass(frozen=True)
class Second:
    """Say where a second phase starts, and the two rates at which it fine-tunes, each for `max_steps` steps."""

    recipe: Recipe
    seed: int
    regime: Literal[1, 2]
    weights: Path
    rates: tuple[float, float]
    max_steps: int
    folder: Path


def second_phase(bench: Bench, job: Second) -> SecondPhaseResult:
    """Fine-tune and average the weights of one trial, or take what an earlier run found from the disk.

    Accuracies are on the split for reports, the barrier is on the training images of the curvature.

    Source: Sadrtdinov et al. 2024, arXiv:2410.22113 (both second phases, the barrier between them).
    """
    file = job.folder / f"{job.recipe.rate:g}-s{job.seed}.json"
    if file.is_file():
        return SecondPhaseResult.model_validate_json(file.read_bytes())
    with np.errstate(invalid="ignore", over="ignore"):
        found = _run(bench, job)
    job.folder.mkdir(parents=True, exist_ok=True)
    write_json(file.with_suffix(".tmp"), found.model_dump(mode="json"))
    file.with_suffix(".tmp").replace(file)
    return found


def fault(row: SecondPhaseResult, best_converged: float) -> str | None:
    """Return why a rate is not in band 2A, or None if it is; what diverged counts as not in it."""
    return as_floats(row).fault(best_converged)


def as_floats(row: SecondPhaseResult) -> SecondPhase:
    """Return a row as `train.rate_map.regimes.split` takes it: NaN where a phase diverged."""
    numbers = (row.small, row.large, row.averaged, row.barrier, row.agreement)
    return SecondPhase(row.rate, *(math.nan if value is None else value for value in numbers))


def _run(bench: Bench, job: Second) -> SecondPhaseResult:
    model = place(load_weights(bench.architecture, job.weights), bench.device)
    x_NCHW, y_N = bench.tensors("train")
    plan = step.Plan(
        job.recipe,
        bench.batch_size,
        bench.stop_loss,
        job.max_steps,
        job.seed + 1,  # another order of the images than that of the first phase
        augmentation=bench.augmentation,
    )
    tuned = [averaging.fine_tune(model, x_NCHW, y_N, plan, rate) for rate in job.rates]
    models = [run.model if run.status != "diverged" else None for run in tuned]
    averaged = averaging.average(model, x_NCHW, y_N, plan, CHECKPOINTS).model
    small, large, mean = (_accuracies(m, bench) for m in (*models, averaged))
    return SecondPhaseResult(
        rate=job.recipe.rate,
        seed=job.seed,
        regime=job.regime,
        small=small["unbiased"],
        large=large["unbiased"],
        averaged=mean["unbiased"],
        small_conflicting=small["conflicting"],
        large_conflicting=large["conflicting"],
        averaged_conflicting=mean["conflicting"],
        **_between(models, bench),
        fault=None,
    )


def _accuracies(model: nn.Module | None, bench: Bench) -> Numbers:
    return {"unbiased": None, "conflicting": None} if model is None else group_accuracies(model, bench)


def _between(models: list[nn.Module | None], bench: Bench) -> dict[str, float | None]:
    first, second = models
    if first is None or second is None:
        return {"barrier": None, "agreement": None, "angle": None}
    x_NCHW, y_N = curvature_images(bench)
    report = bench.tensors(report_split(bench.images))[0]
    angle = barrier.angle(first, second)
    return {
        "barrier": barrier.barrier(first, second, barrier.Scale(x_NCHW, y_N, x_NCHW)).height,
        "agreement": barrier.agreement(first, second, report),
        "angle": angle if math.isfinite(angle) else None,
    }

"""From trials to one learning rate: the map, the choice, and the conventional choices it is compared with.

score = w * conflicting accuracy + (1 - w) * prunability, on `validation`, averaged over seeds, among the rates at which
every seed fitted. Robustness and prunability are what a large rate is said to improve together (Barsbey et al. 2025,
arXiv:2507.17748, abstract); how to weigh them is ours. Where no bias attribute is known, the accuracy on all images
stands in for conflicting accuracy, and the sentence that explains the choice says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bigstep.errors import TrainError
from bigstep.trained import Baseline, RatePoint, Recipe, Trial

CONVENTIONAL = {
    "sgd-0.01": Recipe(optimizer="sgd", rate=0.01),
    "sgd-0.05-momentum-0.9": Recipe(optimizer="sgd", rate=0.05, momentum=0.9),
    "adam-0.001": Recipe(optimizer="adam", rate=0.001),
}


@dataclass(frozen=True)
class Choice:
    """Hold the chosen trial, one sentence of why, and whether the rate lies at the edge of what was tried."""

    trial: str
    why: str
    at_edge: bool


def rate_map(trials: Sequence[Trial], robust_weight: float) -> list[RatePoint]:
    """Average the trials of each rate over their seeds; a rate with a seed that did not fit has no averages."""
    rates = sorted({t.recipe.rate for t in trials})
    return [_point(rate, [t for t in trials if t.recipe.rate == rate], robust_weight) for rate in rates]


def choose(points: Sequence[RatePoint], trials: Sequence[Trial], robust_weight: float) -> Choice:
    """Choose the rate with the highest score, and its seed with the highest score.

    Raises:
        TrainError: there is no rate at which every seed fitted.
    """
    usable = [p for p in points if p.score is not None]
    if not usable:
        raise TrainError("no learning rate can be chosen", got=_statuses(points), **_advice(points))
    best = max(usable, key=lambda p: (p.score or 0.0, -p.rate))
    trial = max((t for t in trials if t.recipe.rate == best.rate), key=lambda t: _score(t, robust_weight))
    at_edge = len(points) > 1 and best.rate in (points[0].rate, points[-1].rate)
    return Choice(trial.name, _why(best, usable, points, robust_weight), at_edge)


def baselines(grid_trials: Sequence[Trial], conventional: Mapping[str, Sequence[Trial]]) -> list[Baseline]:
    """Name the trials that conventional practice would ship, each chosen by `validation_biased` alone.

    Ties in accuracy go to the lower cross entropy.
    """
    rates = sorted({t.recipe.rate for t in grid_trials})
    fitted = [[t for t in grid_trials if t.recipe.rate == rate] for rate in rates]
    fitted = [group for group in fitted if all(t.status == "fitted" for t in group)]
    group = max(fitted, key=lambda group: tuple(np.mean([_biased(t) for t in group], axis=0)), default=[])
    why = "the rate of the grid with the best accuracy on validation images biased like training"
    found = [_baseline("biased-validation", group, why)]
    for name, trials in conventional.items():
        found.append(_baseline(name, [t for t in trials if t.status == "fitted"], "a common default"))
    return found


def _baseline(name: str, trials: Sequence[Trial], why: str) -> Baseline:
    best = max(trials, key=_biased, default=None)
    return Baseline(name=name, trial=best.name if best else None, why=why if best else f"{why}; no seed fitted")


def _biased(trial: Trial) -> tuple[float, float]:
    assert trial.biased_accuracy is not None and trial.biased_loss is not None
    return trial.biased_accuracy, -trial.biased_loss


def _point(rate: float, trials: Sequence[Trial], robust_weight: float) -> RatePoint:
    statuses = [t.status for t in trials]
    if any(s != "fitted" for s in statuses):
        nothing = dict.fromkeys(("unbiased", "aligned", "conflicting", "prunability", "score"))
        return RatePoint(rate=rate, statuses=statuses, **nothing)

    def mean(name: str) -> float | None:
        values = [getattr(t, name) for t in trials]
        return None if None in values else float(np.mean(values))

    return RatePoint(
        rate=rate,
        statuses=statuses,
        unbiased=mean("unbiased"),
        aligned=mean("aligned"),
        conflicting=mean("conflicting"),
        prunability=mean("prunability"),
        score=float(np.mean([_score(t, robust_weight) for t in trials])),
    )


def _score(trial: Trial, robust_weight: float) -> float:
    accuracy = trial.unbiased if trial.conflicting is None else trial.conflicting
    assert accuracy is not None and trial.prunability is not None
    return robust_weight * accuracy + (1 - robust_weight) * trial.prunability


def _why(best: RatePoint, usable: Sequence[RatePoint], points: Sequence[RatePoint], weight: float) -> str:
    known = best.conflicting is not None
    accuracy = f"conflicting accuracy {best.conflicting:.3f}" if known else f"accuracy {best.unbiased:.3f}"
    text = (
        f"Rate {best.rate:g} has the highest score, {best.score:.3f} = {weight:g} x {accuracy}"
        f" + {1 - weight:g} x prunability {best.prunability:.3f}, of the {len(usable)} rates"
        f" at which every seed fitted (of {len(points)} tried)."
    )
    if not known:
        text += " No bias attribute is known, so robustness had no part in the choice."
    beyond = [p for p in points if p.rate > best.rate and p.score is None]
    if beyond:
        text += f" At {beyond[0].rate:g} and above not every seed fits: the usable band ends there."
    return text


def _statuses(points: Sequence[RatePoint]) -> str:
    return "; ".join(f"rate {p.rate:g}: {', '.join(p.statuses)}" for p in points)


def _advice(points: Sequence[RatePoint]) -> dict[str, str]:
    expected = "at least one rate at which every seed reaches train.stop_loss"
    statuses = {s for p in points for s in p.statuses}
    if statuses <= {"diverged", "collapsed"}:
        return {"expected": expected, "do": "lower train.min_rate: every rate diverges or collapses"}
    return {"expected": expected, "do": "raise train.max_steps, or move train.min_rate and train.max_rate"}

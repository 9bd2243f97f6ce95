"""From trials to one learning rate: scores, the map, the choice, and the conventional choices it is compared with.

With bias labels in `validation`, and w from `train.priority`:

    score = w * conflicting accuracy + (1 - w) * prunability                                     on `validation`

Robustness and prunability are what a large rate is said to improve together (Barsbey et al. 2025, arXiv:2507.17748,
abstract); how to weigh them is ours. Without bias labels, on images with the distribution of training,

    score = w * mean(loss concentration, class separation, agreement) + (1 - w) * mean(prunability, sparsity)

which are the quantities that the same paper sees rise with the rate. That they stand in for robustness is a conjecture,
put to the test in `benchmarks/choosing.py`. A score is averaged over seeds; a rate of which one seed did not fit is
out.

Rates have different numbers of seeds, so they are compared by what their scores are at least (ours; Student's one-sided
bound with one variance for all, which a rate of a single seed cannot have of its own):

    bound = mean - t * s / sqrt(n)            s^2 = sum over rates and seeds of (score - mean of its rate)^2 / d

with n seeds of the rate, d = the sum of n - 1 over rates, and t the quantile of CONFIDENCE of Student's distribution
with d degrees of freedom. The rate with the highest bound is chosen. More seeds win only what few leave in doubt: the
score of the chosen rate is at most t * s * (1 / sqrt(m) - 1 / sqrt(n)) below that of another with m seeds, which is
less than the noise of their difference, t * s * sqrt(1 / m + 1 / n). Where every rate has as many seeds, it is the
highest score that is chosen.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from bigstep.errors import TrainError
from bigstep.records.numbers import Numbers
from bigstep.records.trained import FAILED, UNFINISHED, Baseline, RatePoint, Recipe, Trial
from train.measure.label_free import agreement

Score = Callable[[Sequence[Trial]], float | None]
CONFIDENCE = 0.95  # of the bound by which rates are compared
SIGNALS = ("train_loss_gini", "train_separation", "prunability", "train_sparsity")  # without bias labels
CONVENTIONAL = {
    "sgd-0.01": Recipe(optimizer="sgd", rate=0.01),
    "sgd-0.05-momentum-0.9": Recipe(optimizer="sgd", rate=0.05, momentum=0.9),
    "adam-0.001": Recipe(optimizer="adam", rate=0.001),
}


@dataclass(frozen=True)
class Choice:
    """The chosen trial, one sentence of why, and whether the rate lies at the edge of what was tried."""

    trial: str
    why: str
    at_edge: bool


def by_groups(robust_weight: float) -> Score:
    """Return the score that rests on bias labels; None where a trial was not measured by group."""

    def score(trials: Sequence[Trial]) -> float | None:
        found = _means(trials)
        robust, small = found.get("conflicting"), found.get("prunability")
        return None if robust is None or small is None else _weighed(robust_weight, robust, small)

    return score


def label_free(robust_weight: float, logits: Callable[[str], NDArray[Any]]) -> Score:
    """Return the score that needs no bias label; None where a trial has no signals.

    Args:
        logits: returns the logits of a trial on `validation_biased`, (N, K). Agreement is the share of images to which
            two seeds give the same class, averaged over pairs; with a single seed it is left out.
    """

    def score(trials: Sequence[Trial]) -> float | None:
        found = _means(trials)
        signals = [found.get(name) for name in SIGNALS]
        if None in signals:
            return None
        concentration, separation, prunability, sparsity = (float(value or 0.0) for value in signals)
        outputs = [logits(t.name) for t in trials] if len(trials) > 1 else []
        agree = [_mean(agreement(a, b) for a, b in combinations(outputs, 2))] if outputs else []
        return _weighed(robust_weight, _mean([concentration, separation, *agree]), _mean([prunability, sparsity]))

    return score


def rate_points(trials: Sequence[Trial], score: Score) -> list[RatePoint]:
    """Average the trials of each recipe over their seeds, smallest rate first; see `RatePoint` for what is left out."""
    recipes = sorted({t.recipe for t in trials}, key=lambda r: (r.rate, r.warmup_steps))
    return [_point(recipe, [t for t in trials if t.recipe == recipe], score) for recipe in recipes]


def comparable(groups: Sequence[Sequence[Trial]], score: Score) -> list[float]:
    """Score the trials of several recipes by one measure; 0.0 for what was not measured.

    Where a recipe has a single seed, of which nobody can say whether others agree with it, agreement counts for none:
    the scores are then means over seeds of what each scores alone.
    """
    if all(len(trials) > 1 for trials in groups):
        return [score(trials) or 0.0 for trials in groups]
    return [_mean(_alone(trials, score)) for trials in groups]


def choose(trials: Sequence[Trial], score: Score, rule: str, rates: Sequence[float]) -> Choice:
    """Choose the recipe whose score is at least the highest, by the formula above, and its seed with the highest score.

    Args:
        trials: all trials of the search.
        rule: the score in words, with {score}, {conflicting} and so on for the numbers of a recipe.
        rates: the whole grid, smallest first, of which the search need not have tried every rate.

    Raises:
        TrainError: there is no rate at which every seed fitted.
    """
    points = rate_points(trials, score)
    usable = [p for p in points if p.score is not None]
    if not usable:
        raise TrainError("no learning rate can be chosen", got=_statuses(points), **_advice(points))
    standings = _standings([(p, [t for t in trials if t.recipe == p.recipe]) for p in usable], score)
    best = max(standings, key=lambda s: (s.bound, s.score, -s.point.rate))
    trial = max(best.trials, key=lambda t: score([t]) or 0.0)
    at_edge = len(rates) > 1 and best.point.rate in (rates[0], rates[-1])
    return Choice(trial.name, _why(best, standings, points, rule), at_edge)


@dataclass(frozen=True)
class _Standing:
    """A recipe of which every seed fitted: its score, comparable with those of the others, and what it is at least."""

    point: RatePoint
    trials: Sequence[Trial]
    score: float
    bound: float

    @property
    def seeds(self) -> int:
        return len(self.trials)


def _standings(usable: Sequence[tuple[RatePoint, Sequence[Trial]]], score: Score) -> list[_Standing]:
    groups = [trials for _, trials in usable]
    means, alone = comparable(groups, score), [np.array(_alone(trials, score)) for trials in groups]
    freedom = sum(len(values) - 1 for values in alone)
    noise = 0.0  # of one seed; where every rate has but one, nothing tells it, and no rate has more of it than another
    if freedom:
        squares = sum(float(np.sum((values - values.mean()) ** 2)) for values in alone)
        noise = float(student.ppf(CONFIDENCE, freedom)) * math.sqrt(squares / freedom)
    return [
        _Standing(point, trials, mean, mean - noise / math.sqrt(len(trials)))
        for (point, trials), mean in zip(usable, means, strict=True)
    ]


def _alone(trials: Sequence[Trial], score: Score) -> list[float]:
    """Return what each trial scores by itself."""
    return [score([trial]) or 0.0 for trial in trials]


def baselines(grid_trials: Sequence[Trial], conventional: Mapping[str, Sequence[Trial]]) -> list[Baseline]:
    """Name the trials that conventional practice would ship, each chosen by `validation_biased` alone.

    Ties in accuracy go to the lower cross entropy.
    """
    why = "the rate of the grid with the best accuracy on validation images biased like training"
    found = [_baseline("biased-validation", [t for t in grid_trials if t.status == "fitted"], why)]
    for name, trials in conventional.items():
        found.append(_baseline(name, [t for t in trials if t.status == "fitted"], "a common default"))
    return found


def _baseline(name: str, trials: Sequence[Trial], why: str) -> Baseline:
    best = max(trials, key=_biased, default=None)
    return Baseline(name=name, trial=best.name if best else None, why=why if best else f"{why}; no seed fitted")


def _biased(trial: Trial) -> tuple[float, float]:
    accuracy, loss = trial.numbers["biased_accuracy"], trial.numbers["biased_loss"]
    assert accuracy is not None and loss is not None
    return accuracy, -loss


def _point(recipe: Recipe, trials: Sequence[Trial], score: Score) -> RatePoint:
    names, statuses = [t.name for t in trials], [t.status for t in trials]
    if any(s != "fitted" for s in statuses):
        return RatePoint(recipe=recipe, trials=names, statuses=statuses)
    return RatePoint(recipe=recipe, trials=names, statuses=statuses, numbers=_means(trials), score=score(trials))


def _means(trials: Sequence[Trial]) -> Numbers:
    """Return the mean of every number over some trials; None where one of them lacks it."""
    found: Numbers = {}
    for name in trials[0].numbers:
        values = [t.numbers.get(name) for t in trials]
        known = [value for value in values if value is not None]
        found[name] = float(np.mean(known)) if len(known) == len(values) else None
    return found


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _weighed(robust_weight: float, robust: float, small: float) -> float:
    return float(robust_weight * robust + (1 - robust_weight) * small)


def _why(best: _Standing, standings: Sequence[_Standing], points: Sequence[RatePoint], rule: str) -> str:
    numbers = {name: value for name, value in best.point.numbers.items() if value is not None} | {"score": best.score}
    made, rate = rule.format(**numbers), f"Rate {best.point.rate:g}{_warm_up(best.point)}"
    higher = [s for s in standings if s.score > best.score]
    if not higher:
        text = f"{rate} has the highest score, {made}, {_of(standings, best)}."
    else:
        top = max(higher, key=lambda s: s.score)
        text = (
            f"{rate} has a score of {made}, over {_seeds(best.seeds)}, {_of(standings)}. {top.point.rate:g}"
            f"{_warm_up(top.point)} has {top.score:.3f}, but over {_seeds(top.seeds)}, which may be chance: with "
            f"{CONFIDENCE:.0%} confidence that is at least {top.bound:.3f}, and the chosen rate's at least "
            f"{best.bound:.3f}, the highest such bound."
        )
    if not math.isclose(best.score, best.point.score or 0.0):
        text += " Agreement between seeds is left out of these scores: a rate of one seed has none."
    beyond = [p for p in points if p.rate > best.point.rate and set(p.statuses) & {*FAILED, "unfitted"}]
    if beyond:
        text += f" At {beyond[0].rate:g} not every seed fits: the usable band ends there."
    return text


def _of(standings: Sequence[_Standing], best: _Standing | None = None) -> str:
    """Say what was compared; of the best, its own number of seeds where others have more or fewer."""
    fewest, most = (f(s.seeds for s in standings) for f in (min, max))
    if len(standings) == 1:
        return f"of the only rate that fitted with {_seeds(most)}"
    found = f"of {len(standings)} rates that fitted with "
    if fewest == most:
        return found + f"{_seeds(most)} each"
    return found + f"{fewest} to {_seeds(most)}" + (f", itself with {best.seeds}" if best else "")


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count > 1)}"


def _statuses(points: Sequence[RatePoint]) -> str:
    return "; ".join(f"rate {p.rate:g}{_warm_up(p)}: {', '.join(p.statuses)}" for p in points)


def _warm_up(point: RatePoint) -> str:
    return f" with {point.recipe.warmup_steps} steps of warm-up" if point.recipe.warmup_steps else ""


def _advice(points: Sequence[RatePoint]) -> dict[str, str]:
    if any(set(p.statuses) == {"fitted"} for p in points):
        expected = "numbers that can be compared"
        return {"expected": expected, "do": "look at the images: losses or activations are all the same"}
    expected = "at least one rate at which every seed reaches train.stop_loss"
    statuses = {s for p in points for s in p.statuses} - set(UNFINISHED)  # short trials above a rate that failed
    if statuses and statuses <= set(FAILED):
        return {"expected": expected, "do": "lower train.min_rate: every rate diverges or collapses"}
    return {"expected": expected, "do": "raise train.max_steps, or move train.min_rate and train.max_rate"}

"""The thresholds on the axis of rates, from how the trials of a map ended, and what they say of the best rate."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bigstep.errors import TrainError
from bigstep.records.rate_map import FlowResult, MapTrial, SecondPhase, Threshold
from bigstep.records.trained import FAILED, Status
from train.rate_map import curves, regimes


@dataclass(frozen=True)
class Ending:
    """How the trial of one rate and seed ended."""

    rate: float
    seed: int
    status: Status


def convergence(endings: Sequence[Ending], max_steps: int | None) -> Threshold:
    """Return where runs stop fitting: for each seed between the last rate that fits without a gap and the next one.

    Rates below the smallest that fits are too slow for the budget and do not count. The interval covers all seeds.

    Args:
        max_steps: the budget; None where it is not known.
    """
    return _over_seeds("convergence", endings, last_fitting, max_steps, "runs stop fitting")


def divergence(endings: Sequence[Ending], max_steps: int) -> Threshold:
    """Return where runs begin to diverge or collapse: for each seed between the last rate that does not and the next.

    The interval covers all seeds.
    """
    return _over_seeds("divergence", endings, first_failing, max_steps, "runs begin to diverge or collapse")


def last_fitting(endings: Sequence[Ending]) -> tuple[float | None, float | None]:
    """Return the bracket of convergence for the endings of one seed; (None, the smallest rate) if none fits."""
    ranked = sorted(endings, key=lambda e: e.rate)
    fits = [e.status == "fitted" for e in ranked]
    if True not in fits:
        return None, ranked[0].rate
    last = fits.index(True)
    while last + 1 < len(fits) and fits[last + 1]:
        last += 1
    return ranked[last].rate, ranked[last + 1].rate if last + 1 < len(ranked) else None


def first_failing(endings: Sequence[Ending]) -> tuple[float | None, float | None]:
    """Return the bracket of divergence for the endings of one seed; (the largest rate, None) if none fails."""
    ranked = sorted(endings, key=lambda e: e.rate)
    first = next((i for i, e in enumerate(ranked) if e.status in FAILED), None)
    if first is None:
        return ranked[-1].rate, None
    return ranked[first - 1].rate if first else None, ranked[first].rate


def critical(flows: Sequence[FlowResult]) -> Threshold:
    """Return the critical rate of full-batch descent over seeds; a bound from above where a flow did not end."""
    rates = [flow.rate for flow in flows if flow.rate is not None]
    if not rates:
        why = "no gradient flow met any curvature" if flows else "no gradient flow was followed"
        says = f"The critical rate is unknown: {why}."
        return Threshold(name="critical", low=None, high=None, steps=None, says=says)
    steps, reached = max(flow.steps for flow in flows), all(flow.reached for flow in flows)
    seeds = _seeds(len(rates))
    if reached:
        says = f"Full-batch descent is unstable on its way above {_span(min(rates), max(rates))} ({seeds})."
    else:
        loss = max(flow.loss for flow in flows)
        says = (
            f"The critical rate of full-batch descent is at most {max(rates):.3g} ({seeds}): the flow was not followed "
            f"to its end, after {steps:,} steps its loss was still {loss:.2g}."
        )
    low = min(rates) if reached else None
    return Threshold(name="critical", low=low, high=max(rates), steps=steps, says=says)


def sharpness_break(trials: Sequence[MapTrial], max_steps: int | None) -> Threshold:
    """Return the rate above which the final sharpness falls as 1 / rate, with its 95 % interval."""
    found = [(t.rate, s) for t in trials if t.status == "fitted" and (s := t.numbers.get("sharpness"))]
    try:
        broken = curves.sharpness_break([r for r, _ in found], [s for _, s in found])
    except TrainError as error:
        says = f"No break in the final sharpness can be fitted: {error.got}."
        return Threshold(name="sharpness break", low=None, high=None, steps=max_steps, says=says)
    if not broken.inside:
        says = "The final sharpness shows no break inside the rates that fit."
        return Threshold(name="sharpness break", low=None, high=None, steps=max_steps, says=says)
    says = (
        "The final sharpness of runs that fit, taken to be level and then to fall as 1 / rate, breaks at "
        f"{broken.rate:.3g} (95 % interval {_span(broken.low, broken.high)})."
    )
    return Threshold(name="sharpness break", low=broken.low, high=broken.high, steps=max_steps, says=says)


def split(rows: Sequence[SecondPhase], best_converged: float | None, max_steps: int) -> tuple[Threshold, list[float]]:
    """Return the boundary of 2A and 2B, and the rates of band 2A.

    Args:
        best_converged: best unbiased accuracy that a run of regime 1 had with the same seed, before any second phase;
            None if there is none.
    """
    second = [row for row in rows if row.regime == 2]
    if best_converged is None or not second:
        why = "no run of regime 1 is known" if best_converged is None else "no rate tried is between fit and failure"
        threshold = Threshold(name="2A | 2B", low=None, high=None, steps=max_steps, says=f"There is no band 2A: {why}.")
        return threshold, []
    found = regimes.band_2a(second, best_converged)
    if found.inside:
        says = f"Band 2A holds {', '.join(f'{rate:.3g}' for rate in found.inside)}"
        says += f"; beyond: {found.why}." if found.why else ", the largest rate of regime 2 that was tried."
    else:
        says = f"Band 2A is empty among the rates tried: {found.why} (at {found.beyond:.3g})."
    low = found.inside[-1] if found.inside else None
    return Threshold(name="2A | 2B", low=low, high=found.beyond, steps=max_steps, says=says), found.inside


def best_converged(trials: Sequence[MapTrial], seed: int) -> float | None:
    """Return the best unbiased accuracy of the runs of one seed that fitted; None if none did."""
    found = [t.numbers.get("unbiased") for t in trials if t.seed == seed and t.status == "fitted"]
    return max((value for value in found if value is not None), default=None)


def answer(
    trials: Sequence[MapTrial], rates: Sequence[float], seeds: int, rows: Sequence[SecondPhase], band_says: str
) -> str:
    """Say whether the most robust rate lies in band 2A, after the first phase and after the second.

    Args:
        band_says: what is known of the band.
    """
    metric = "conflicting" if any(t.numbers.get("conflicting") is not None for t in trials) else "unbiased"
    means = _means(trials, rates, seeds, metric)
    if not means:
        return "Whether the most robust rate lies in band 2A is open: at no rate has every seed an accuracy."
    band = {row.rate for row in rows if row.regime == 2 and row.fault is None}
    best = max(means, key=lambda rate: means[rate])
    tied = _tied(trials, best, metric, means)
    where = _where(best, trials, band)
    says = f"The most robust rate, {best:.3g} ({metric} accuracy {means[best]:.3f}, mean of {_seeds(seeds)}), {where}."
    if tied:
        says += f" Within one standard deviation over seeds: {', '.join(f'{rate:.3g}' for rate in tied)}."
    return " ".join(part for part in (says, band_says, _after_second_phase(rows, band, metric)) if part)


def _after_second_phase(rows: Sequence[SecondPhase], band: set[float], metric: str) -> str:
    suffix = "_conflicting" if metric == "conflicting" else ""
    ways = {"small": "fine-tuned at the small rate", "large": "fine-tuned at the large rate", "averaged": "averaged"}
    found = [(v, r.rate, w) for r in rows for w in ways if (v := getattr(r, f"{w}{suffix}")) is not None]
    if not found:
        return ""
    value, rate, way = max(found)
    inside = "lies in band 2A" if rate in band else "does not lie in band 2A"
    return f"After a second phase (one seed) the highest is {value:.3f}, from {rate:.3g}, {ways[way]}; it {inside}."


def _where(rate: float, trials: Sequence[MapTrial], band: set[float]) -> str:
    if rate in band:
        return "lies in band 2A"
    statuses = {t.status for t in trials if t.rate == rate}
    if statuses == {"fitted"}:
        return "fits with every seed: it lies below the convergence threshold, not in band 2A"
    return f"does not lie in band 2A ({', '.join(sorted(statuses))})"


def _means(trials: Sequence[MapTrial], rates: Sequence[float], seeds: int, metric: str) -> dict[float, float]:
    found = {}
    for rate in rates:
        values = [v for t in trials if t.rate == rate and (v := t.numbers.get(metric)) is not None]
        if len(values) >= seeds:
            found[rate] = float(np.mean(values))
    return found


def _tied(trials: Sequence[MapTrial], best: float, metric: str, means: dict[float, float]) -> list[float]:
    values = [v for t in trials if t.rate == best and (v := t.numbers.get(metric)) is not None]
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return [rate for rate, mean in means.items() if rate != best and mean >= means[best] - spread]


def _over_seeds(
    name: str,
    endings: Sequence[Ending],
    bracket: Callable[[Sequence[Ending]], tuple[float | None, float | None]],
    max_steps: int | None,
    what: str,
) -> Threshold:
    seeds = sorted({e.seed for e in endings})
    brackets = [bracket([e for e in endings if e.seed == seed]) for seed in seeds]
    lows, highs = [low for low, _ in brackets], [high for _, high in brackets]
    low = None if None in lows else min(v for v in lows if v is not None)
    high = None if None in highs else max(v for v in highs if v is not None)
    under = f"({_seeds(len(seeds))}{'' if max_steps is None else f', at most {max_steps:,} steps each'})"
    if low is not None and high is not None:
        says = f"Between {low:.3g} and {high:.3g} {what} {under}."
    elif low is not None:
        says = f"Not every seed reaches the rate at which {what}, up to {max(e.rate for e in endings):.3g} {under}."
    else:
        at_most = "" if high is None else f" below {high:.3g}"
        says = f"For some seed {what}{at_most or ' below every rate tried'} {under}."
    return Threshold(name=name, low=low, high=high, steps=max_steps, says=says)


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _span(low: float, high: float) -> str:
    return f"{low:.3g}" if math.isclose(low, high, rel_tol=1e-3) else f"{low:.3g} to {high:.3g}"

"""What a learning-rate map says, in numbers and sentences drawn from its record alone.

Shapes: S seeds, R rates, B permutations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from bigstep.records.rate_map import RateMapInfo, Threshold
from verify.report.map_metrics import BY_NAME, METRICS, Metric, Panel, write

PERMUTATIONS = 2000
FEWEST_RATES = 4  # a rank correlation of three says nothing


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of a metric with the rate, over the rates at which every seed fitted.

    `rho` is the mean over seeds, each over its own rates, `low` and `high` the smallest and largest of a seed. `p` is
    two-sided and not corrected for the number of metrics: the share of permutations of the rates within each seed whose
    mean is as far from 0. `n` counts trials.
    """

    metric: Metric
    rho: float
    low: float
    high: float
    p: float
    n: int
    first: float
    last: float


def threshold(info: RateMapInfo, name: str) -> Threshold:
    """Return a threshold by its name."""
    return next(t for t in info.thresholds if t.name == name)


def fitting_rates(info: RateMapInfo) -> list[float]:
    """Return the rates at which every seed fitted."""
    return [r for r in info.rates if all(t.status == "fitted" for t in info.trials if t.rate == r)]


def values(info: RateMapInfo, metric: str, rate: float) -> list[float]:
    """Return a metric over the seeds of a rate; seeds without it are left out."""
    return [v for t in info.trials if t.rate == rate and (v := t.numbers.get(metric)) is not None]


def mean(info: RateMapInfo, metric: str, rate: float) -> float | None:
    """Return the mean over seeds, None unless every seed of the rate has the number."""
    found = values(info, metric, rate)
    return float(np.mean(found)) if found and len(found) == sum(t.rate == rate for t in info.trials) else None


def deviation(info: RateMapInfo, metric: str, rate: float) -> float | None:
    """Return the standard deviation over seeds, None for fewer than two."""
    found = values(info, metric, rate)
    return float(np.std(found, ddof=1)) if len(found) > 1 else None


def present(info: RateMapInfo) -> list[Metric]:
    """Return the metrics that at least one trial has, in the order of the page."""
    return [m for m in METRICS if any(t.numbers.get(m.name) is not None for t in info.trials)]


def correlations(info: RateMapInfo) -> list[Correlation]:
    """Return the rank correlation of every metric with the rate up to the threshold; none for too few rates.

    Residuals say how well a number was measured, and are left out.
    """
    measured = [metric for metric in present(info) if not metric.name.endswith("residual")]
    return [found for metric in measured if (found := _correlation(info, metric)) is not None]


def _correlation(info: RateMapInfo, metric: Metric) -> Correlation | None:
    rates = [r for r in fitting_rates(info) if mean(info, metric.name, r) is not None]
    table = {(t.rate, t.seed): t.numbers[metric.name] for t in info.trials if t.rate in rates}
    seeds = sorted({seed for _, seed in table})
    if len(rates) < FEWEST_RATES or len(table) != len(rates) * len(seeds):
        return None
    table_SR = np.array([[table[rate, seed] for rate in rates] for seed in seeds], dtype=np.float64)
    rho_S = _rank_correlations(table_SR)
    means = [float(column.mean()) for column in table_SR.T]
    return Correlation(
        metric,
        float(rho_S.mean()),
        float(rho_S.min()),
        float(rho_S.max()),
        _p_value(table_SR),
        table_SR.size,
        means[0],
        means[-1],
    )


def _rank_correlations(table_SR: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Spearman's correlation of each row with its place; 0 for a constant row."""
    ranks_SR = rankdata(table_SR, axis=1)
    ranks_SR -= ranks_SR.mean(axis=1, keepdims=True)
    place_R = np.arange(table_SR.shape[1]) - (table_SR.shape[1] - 1) / 2
    size_S = np.sqrt(np.sum(ranks_SR**2, axis=1) * np.sum(place_R**2))
    rho_S: NDArray[np.float64] = np.divide(ranks_SR @ place_R, size_S, out=np.zeros(len(size_S)), where=size_S > 0)
    return rho_S


def _p_value(table_SR: NDArray[np.float64]) -> float:
    observed = abs(_rank_correlations(table_SR).mean())
    drawn_BSR = np.random.default_rng(0).permuted(np.broadcast_to(table_SR, (PERMUTATIONS, *table_SR.shape)), axis=2)
    means_B = _rank_correlations(drawn_BSR.reshape(-1, table_SR.shape[1])).reshape(PERMUTATIONS, -1).mean(axis=1)
    return float((1 + np.sum(np.abs(means_B) >= observed - 1e-12)) / (1 + PERMUTATIONS))


# ---- Sentences -------------------------------------------------------------------------------------------------------


def sentence(info: RateMapInfo, panel: Panel) -> str:
    """Say in one sentence what a panel shows, from its means up to the threshold."""
    if panel.name == "losses":
        return _loss_sentence(info)
    rates = fitting_rates(info)
    moves = [m for m in (_move(info, name, rates) for name in (*panel.metrics, *panel.beside)) if m]
    if not moves:
        return (
            f"Nothing can be said of {panel.title}: fewer than two rates at which every seed fits have these numbers."
        )
    return f"From rate {rates[0]:.3g} to {rates[-1]:.3g}, where every seed fits: {'; '.join(moves)}."


def _move(info: RateMapInfo, name: str, rates: Sequence[float]) -> str | None:
    known = [(r, m) for r in rates if (m := mean(info, name, r)) is not None]
    if len(known) < 2:
        return None
    metric = BY_NAME[name]
    spread = deviation(info, name, known[-1][0])
    beside = f" ± {write(spread, metric.form)}" if spread is not None else ""
    return f"{metric.title} {write(known[0][1], metric.form)} to {write(known[-1][1], metric.form)}{beside}"


def _loss_sentence(info: RateMapInfo) -> str:
    epochs = common_epochs(info)
    known = [(r, v) for r in fitting_rates(info) if epochs and (v := moment_mean(info, r, epochs[0])) is not None]
    if len(known) < 2:
        return "The share of conflicting images in the training loss was not measured over time."
    (low, first), (high, last) = known[0], known[-1]
    return (
        f"After epoch {epochs[0]}, conflicting images have {first:.0%} of the training loss at rate {low:.3g} "
        f"and {last:.0%} at {high:.3g}."
    )


def common_epochs(info: RateMapInfo) -> list[int]:
    """Return the epochs (powers of two) at which at least two rates have a share of the loss from every seed."""
    epochs = sorted({m.epoch for t in info.trials for m in t.moments if m.epoch & (m.epoch - 1) == 0})
    return [e for e in epochs if sum(moment_mean(info, r, e) is not None for r in info.rates) > 1]


def moment_mean(info: RateMapInfo, rate: float, epoch: int) -> float | None:
    """Return the mean conflicting share of the loss over seeds after an epoch, None unless every seed has it."""
    trials = [t for t in info.trials if t.rate == rate]
    found = [
        share
        for t in trials
        for m in t.moments
        if m.epoch == epoch and (share := m.numbers.get("conflicting_loss_share")) is not None
    ]
    return float(np.mean(found)) if found and len(found) == len(trials) else None


def headline(info: RateMapInfo) -> str:
    """Say what was done, in one sentence."""
    seeds = "1 seed" if info.seeds == 1 else f"{info.seeds} seeds"
    kind = {
        "initial weights": "trained from initial weights",
        "pretrained weights": "fine-tuned from pretrained weights: this is a map of fine-tuning",
        "given checkpoints": "given as checkpoints, trained elsewhere",
    }[info.start]
    budget = "" if info.start == "given checkpoints" else f", at most {info.max_steps:,} steps each"
    return (
        f"{len(info.rates)} learning rates from {info.rates[0]:.3g} to {info.rates[-1]:.3g}, {seeds} each, on "
        f"{info.data}; {info.architecture.family} networks {kind}{budget}. Accuracies are on {info.report_split}."
    )

"""Confidence bounds for accuracies and for paired drops, clustered where images share a source.

Images made from one source (one handwritten digit in ten colours) are not independent. Both intervals below are score
intervals for independent images, evaluated at an effective number of images n / deff, where deff is the ratio of the
cluster-robust variance of the mean to the binomial one (Kish 1965, Survey Sampling, section 8.2; used with score
intervals by Korn and Graubard 1998, Survey Methodology 24).
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

PRIOR = 5.0  # deviating clusters that full dependence counts for; see tests/bigstep/test_intervals.py


@dataclass(frozen=True)
class Interval:
    """An estimate and its two one-sided bounds, as fractions.

    `low` and `high` each hold with the stated confidence on their own side; `n` is the number of images and
    `effective_n` what they are worth after clustering.
    """

    estimate: float
    low: float
    high: float
    n: int
    effective_n: float


def effective_size(values_N: NDArray[np.float64], clusters_N: NDArray[np.int64]) -> float:
    """Return how many independent values the clustered values are worth.

    n_eff = n / deff,   deff = (k * measured + PRIOR * full) / (k + PRIOR)

    where `measured` is the ratio of the cluster-robust variance of the mean to the naive one, kept between 1 and
    `full`, its value if every cluster agreed with itself (the sum of squared cluster sizes over n); k is the number of
    clusters that hold a value other than the most common one. Few such clusters say little about dependence, and a
    measured ratio alone would let one more error tighten a bound; shrinking towards `full` is ours, and tests simulate
    it.

    Args:
        values_N: any numbers, shape (N,).
        clusters_N: the cluster of each value, shape (N,).
    """
    n = len(values_N)
    _, index, sizes = np.unique(clusters_N, return_inverse=True, return_counts=True)
    groups, full = len(sizes), float(np.sum(sizes**2)) / n
    if groups == n or groups < 2:
        return float(groups)
    values, counts = np.unique(values_N, return_counts=True)
    deviating = len(np.unique(index[values_N != values[counts.argmax()]]))
    residual = values_N - values_N.mean()
    totals = np.bincount(index, weights=residual)
    naive, robust = float(np.sum(residual**2)), float(np.sum(totals**2)) * groups / (groups - 1)
    measured = float(np.clip(robust / naive, 1.0, full)) if naive > 0 else full
    return n * (deviating + PRIOR) / (deviating * measured + PRIOR * full)


def accuracy_interval(correct_N: NDArray[np.bool_], clusters_N: NDArray[np.int64], confidence: float) -> Interval:
    """Bound an accuracy by Wilson's score interval at the effective number of images.

    Args:
        correct_N: whether each prediction was right, shape (N,), N >= 1.
        clusters_N: the source of each image, shape (N,).
        confidence: confidence of each one-sided bound, in (0.5, 1).

    Source: Wilson 1927, JASA 22(158).
    """
    n = effective_size(correct_N.astype(np.float64), clusters_N)
    p, z = float(correct_N.mean()), float(norm.ppf(confidence))
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Interval(p, 0.0 if p == 0.0 else low, 1.0 if p == 1.0 else high, len(correct_N), n)


def drop_interval(
    before_N: NDArray[np.bool_], after_N: NDArray[np.bool_], clusters_N: NDArray[np.int64], confidence: float
) -> Interval:
    """Bound the drop in accuracy between two models on the same images by Tango's score interval.

    drop = (b - c) / n, with b images that only `before` gets right and c that only `after` gets right; both counts are
    scaled by n_eff / n.

    Args:
        before_N, after_N: whether each model was right on each image, shape (N,), N >= 1.
        clusters_N: the source of each image, shape (N,).
        confidence: confidence of each one-sided bound, in (0.5, 1).

    Source: Tango 1998, Statistics in Medicine 17(8), section 3.
    """
    change = before_N.astype(np.float64) - after_N.astype(np.float64)
    n = effective_size(change, clusters_N)
    lost, won = float(np.mean(change > 0)), float(np.mean(change < 0))
    z = float(norm.ppf(confidence))
    return Interval(lost - won, -_tango_upper(won, lost, n, z), _tango_upper(lost, won, n, z), len(change), n)


def detectable_drop(drop: Interval, discordance: float, confidence: float, power: float = 0.8) -> float:
    """Return the smallest true drop that the comparison would have shown with the given power.

    (z_confidence + z_power) * sqrt(discordance / n_eff), by the normal approximation of McNemar's test
    (Connor 1987, Biometrics 43(1)).

    Args:
        drop: the measured drop; only its effective_n is used.
        discordance: share of images on which exactly one of the two models is right, in [0, 1].
    """
    z = float(norm.ppf(confidence) + norm.ppf(power))
    return z * sqrt(max(discordance, 1.0 / drop.effective_n) / drop.effective_n)


def _tango_upper(lost: float, won: float, n: float, z: float) -> float:
    """Solve score(delta) = -z for the upper bound of lost - won."""

    def score(delta: float) -> float:
        linear = -lost - won + (2 - lost + won) * delta
        constant = -won * delta * (1 - delta)
        q = (sqrt(max(linear * linear - 8 * constant, 0.0)) - linear) / 4
        variance = n * (2 * q + delta * (1 - delta))
        return n * (lost - won - delta) / sqrt(variance) if variance > 0 else 0.0

    start, end = lost - won, 1.0 - 1e-12
    if start >= end or score(end) > -z:
        return 1.0
    return float(brentq(lambda delta: score(delta) + z, start + 1e-12, end, xtol=1e-10))

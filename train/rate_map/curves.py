"""What a sweep over learning rates says: a break in sharpness or norm, a U in a metric, a rate where training stalls.

Shapes: N measurements, B bootstrap samples, G candidate places of a break.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f, t

from bigstep.errors import TrainError

CANDIDATES = 1001  # places of a break or a stall, equally spaced in the logarithm
SAMPLES = 1000  # of the bootstrap
NEAREST, FARTHEST = 1e-4, 9.0  # distances of a stall from the largest rate that converged, in multiples of that rate

Floats = NDArray[np.float64]
Values = Sequence[float] | Floats


@dataclass(frozen=True)
class Break:
    """Hold the rate of a break with its interval, and the fitted curve: `level` below, `slope` above.

    `inside` says that the interval leaves out both ends of the sweep; if not, the sweep shows no break.
    """

    rate: float
    low: float
    high: float
    level: float
    slope: float
    inside: bool


@dataclass(frozen=True)
class UShape:
    """Hold the shape of a metric over log rate, its p value, and the rate of its turning point if it has one.

    Without a shape, `p` is the smaller of both shapes' p values.
    """

    kind: Literal["U", "inverted U", "none"]
    p: float
    turn: float | None


@dataclass(frozen=True)
class Stall:
    """Hold the rate at which the time to converge diverges as (rate - eta)^-exponent, with its interval.

    `high` is infinite where the measurements put no upper bound on the rate.
    """

    rate: float
    low: float
    high: float
    exponent: float


def sharpness_break(rates: Values, sharpness: Values, confidence: float = 0.95) -> Break:
    """Fit log S = log level - max(0, log eta - log eta_0): constant up to the break, a / eta above.

    Least squares; the interval holds percentiles of a bootstrap of the residuals, seeded. Without any break inside the
    sweep the best place is one of its ends.

    Args:
        rates: learning rates > 0, at least four different ones; repetitions are welcome.
        sharpness: positive final sharpness at each.
        confidence: of the two-sided interval.

    Raises:
        TrainError: too few rates, or a value that is not positive and finite.

    Source: Matveev et al. 2025, arXiv:2505.21423 (both regimes); Efron and Tibshirani 1993, section 9.4 (bootstrap).
    """
    rates_N, values_N = _checked(rates, sharpness)
    places_G = np.geomspace(rates_N.min(), rates_N.max(), CANDIDATES)
    hinges_GN = np.maximum(0.0, np.log(rates_N) - np.log(places_G)[:, None])
    place, low, high, level = _fit_break(hinges_GN, np.log(values_N), confidence, slope=-1.0)[:4]
    return _break(places_G, (place, low, high), math.exp(level), -1.0)


def norm_break(rates: Values, norms: Values, confidence: float = 0.95) -> Break:
    """Fit |w| = level + slope * max(0, eta - eta_0) with slope >= 0: constant up to the break, linear above.

    Arguments, interval and errors are those of `sharpness_break`.
    """
    rates_N, values_N = _checked(rates, norms)
    places_G = np.geomspace(rates_N.min(), rates_N.max(), CANDIDATES)
    hinges_GN = np.maximum(0.0, rates_N - places_G[:, None])
    place, low, high, level, slope = _fit_break(hinges_GN, values_N, confidence, slope=None)
    return _break(places_G, (place, low, high), level, slope)


def edge_gap(rates: Values, sharpness: Values, above: float) -> float:
    """Return the mean of |S * eta / 2 - 1| over rates larger than `above`: 0 at the edge of stability; NaN for none."""
    rates_N, values_N = np.asarray(rates, dtype=np.float64), np.asarray(sharpness, dtype=np.float64)
    beyond = rates_N > above
    return float(np.abs(values_N * rates_N / 2 - 1)[beyond].mean()) if beyond.any() else math.nan


def u_test(rates: Values, metric: Values, level: float = 0.05) -> UShape:
    """Test a metric for a U over log rate: a quadratic that falls at the left end and rises at the right one.

    p = max of the p values of both one-sided t tests on the slope at an end; likewise for an inverted U.

    Args:
        rates: learning rates > 0, at least four different ones.
        metric: finite values.
        level: largest p value at which a shape counts as shown.

    Raises:
        TrainError: too few rates, or a rate that is not positive, or a value that is not finite.

    Source: Lind and Mehlum 2010, Oxford Bulletin of Economics and Statistics 72(1), section 2.
    """
    rates_N, values_N = _checked(rates, metric, positive=False)
    if np.ptp(values_N) == 0:
        return UShape("none", 1.0, None)
    u_N = np.log(rates_N) - np.log(rates_N).mean()
    design = np.stack([np.ones_like(u_N), u_N, u_N**2], axis=1)
    coefficients = np.linalg.lstsq(design, values_N, rcond=None)[0]
    free = len(u_N) - 3
    variance = float(np.sum((values_N - design @ coefficients) ** 2)) / free
    covariance = max(variance, np.finfo(float).tiny) * np.linalg.inv(design.T @ design)
    ends = [np.array([0.0, 1.0, 2 * end]) for end in (u_N.min(), u_N.max())]
    left, right = (float(end @ coefficients / np.sqrt(end @ covariance @ end)) for end in ends)
    p = {"U": max(t.cdf(left, free), t.sf(right, free)), "inverted U": max(t.sf(left, free), t.cdf(right, free))}
    kind: Literal["U", "inverted U"] = "U" if p["U"] <= p["inverted U"] else "inverted U"
    if p[kind] > level:
        return UShape("none", float(p[kind]), None)
    turn = math.exp(np.log(rates_N).mean() - coefficients[1] / (2 * coefficients[2]))
    return UShape(kind, float(p[kind]), turn)


def stalling_rate(rates: Values, epochs: Values, confidence: float = 0.95) -> Stall:
    """Locate the threshold of convergence from the time that runs below it took: epochs = C / (eta_c - eta)^g.

    Least squares in log epochs, over rates from the fastest one on: below it the time falls with the rate. The interval
    is that of the F test on the profile of the squares, and holds as far as the power law does.

    Args:
        rates: rates of runs that converged, at least four different ones from the fastest on.
        epochs: epochs (or steps) to the stopping loss, > 0.
        confidence: of the two-sided interval.

    Raises:
        TrainError: too few rates, or a value that is not positive and finite.
    """
    rates_N, epochs_N = _checked(rates, epochs)
    means = {rate: np.log(epochs_N[rates_N == rate]).mean() for rate in np.unique(rates_N)}
    rising = rates_N >= min(means, key=lambda rate: means[rate])
    rates_N, epochs_N = _checked(rates_N[rising], epochs_N[rising])
    return _profile_stall(rates_N, np.log(epochs_N), confidence)


def _profile_stall(rates_N: Floats, log_N: Floats, confidence: float) -> Stall:
    places_G = rates_N.max() * (1 + np.geomspace(NEAREST, FARTHEST, CANDIDATES))
    distances_GN = np.log(places_G[:, None] - rates_N)
    squares_BG, slopes_BG = _squares(distances_GN, log_N[None], None, rising=False)
    squares_G, best = squares_BG[0], int(squares_BG[0].argmin())
    free = len(rates_N) - 3
    within = np.flatnonzero(squares_G <= squares_G[best] * (1 + f.ppf(confidence, 1, free) / free))
    high = math.inf if within[-1] == CANDIDATES - 1 else float(places_G[within[-1]])
    return Stall(float(places_G[best]), float(places_G[within[0]]), high, -float(slopes_BG[0, best]))


def _checked(rates: Values, values: Values, positive: bool = True) -> tuple[Floats, Floats]:
    rates_N, values_N = np.asarray(rates, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if len(np.unique(rates_N)) < 4:
        raise TrainError(
            "a curve over learning rates cannot be fitted",
            got=f"{len(np.unique(rates_N))} different rates",
            expected="4 or more",
            do="train at more learning rates",
        )
    fits = np.isfinite(rates_N) & (rates_N > 0) & np.isfinite(values_N) & ((values_N > 0) | (not positive))
    if not fits.all():
        worst = int(np.flatnonzero(~fits)[0])
        raise TrainError(
            "a curve over learning rates cannot be fitted",
            got=f"{values_N[worst]} at rate {rates_N[worst]}",
            expected="positive finite values" if positive else "finite values at positive rates",
            do="leave out runs that diverged",
        )
    return rates_N, values_N


def _squares(x_GN: Floats, y_BN: Floats, slope: float | None, *, rising: bool = True) -> tuple[Floats, Floats]:
    """Return sums of squares (B, G) around lines through each y over each x, and their slopes: given, or fitted."""
    x_GN = x_GN - x_GN.mean(axis=1, keepdims=True)
    y_BN = y_BN - y_BN.mean(axis=1, keepdims=True)
    cross_BG, square_G = y_BN @ x_GN.T, np.sum(x_GN**2, axis=1)
    if slope is None:
        fitted = np.divide(cross_BG, square_G, out=np.zeros_like(cross_BG), where=square_G > 0)
        slopes_BG = np.maximum(0.0, fitted) if rising else np.minimum(0.0, fitted)
    else:
        slopes_BG = np.full_like(cross_BG, slope)
    squares_B = np.sum(y_BN**2, axis=1, keepdims=True)
    squares_BG = squares_B - 2 * slopes_BG * cross_BG + slopes_BG**2 * square_G
    return np.maximum(0.0, squares_BG), slopes_BG  # rounding may leave an exact fit below zero


def _fit_break(
    hinges_GN: Floats, y_N: Floats, confidence: float, slope: float | None
) -> tuple[int, int, int, float, float]:
    """Return the best place and its interval as indices, then level and slope there."""
    squares_BG, slopes_BG = _squares(hinges_GN, y_N[None], slope)
    best = int(squares_BG[0].argmin())
    fitted_slope = float(slopes_BG[0, best])
    level = float((y_N - fitted_slope * hinges_GN[best]).mean())
    residual_N = y_N - level - fitted_slope * hinges_GN[best]
    parameters = 2 if slope is not None else 3
    widened_N = residual_N * math.sqrt(len(y_N) / (len(y_N) - parameters))  # fitted residuals are too small
    draws_BN = np.random.default_rng(0).choice(widened_N, (SAMPLES, len(y_N)))
    places_B = _squares(hinges_GN, y_N - residual_N + draws_BN, slope)[0].argmin(axis=1)
    tail = 50 * (1 - confidence)
    low, high = np.percentile(places_B, [tail, 100 - tail], method="nearest")
    return best, int(low), int(high), level, fitted_slope


def _break(places_G: Floats, found: tuple[int, int, int], level: float, slope: float) -> Break:
    rate, low, high = (float(places_G[i]) for i in found)
    return Break(rate, low, high, level, slope, inside=found[1] > 0 and found[2] < CANDIDATES - 1)

"""A break in the final sharpness over learning rates: level up to it, falling as 1 / rate above.

Shapes: N measurements, B bootstrap samples, G candidate places of the break.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bigstep.errors import TrainError

CANDIDATES = 1001  # places of the break, equally spaced in the logarithm
SAMPLES = 1000  # of the bootstrap

Floats = NDArray[np.float64]
Values = Sequence[float] | Floats


@dataclass(frozen=True)
class Break:
    """The rate of a break with its interval, and the level below it.

    `inside` says that the interval leaves out both ends of the sweep; if not, the sweep shows no break.
    """

    rate: float
    low: float
    high: float
    level: float
    inside: bool


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
    y_N = np.log(values_N)
    places_G = np.geomspace(rates_N.min(), rates_N.max(), CANDIDATES)
    hinges_GN = -np.maximum(0.0, np.log(rates_N) - np.log(places_G)[:, None])
    best = int(_squares(hinges_GN, y_N[None])[0].argmin())
    level = float((y_N - hinges_GN[best]).mean())
    residual_N = y_N - level - hinges_GN[best]
    widened_N = residual_N * math.sqrt(len(y_N) / (len(y_N) - 2))  # fitted residuals are too small
    draws_BN = np.random.default_rng(0).choice(widened_N, (SAMPLES, len(y_N)))
    places_B = _squares(hinges_GN, y_N - residual_N + draws_BN).argmin(axis=1)
    tail = 50 * (1 - confidence)
    low, high = (int(place) for place in np.percentile(places_B, [tail, 100 - tail], method="nearest"))
    rate, lowest, highest = (float(places_G[place]) for place in (best, low, high))
    return Break(rate, lowest, highest, level=math.exp(level), inside=low > 0 and high < CANDIDATES - 1)


def _checked(rates: Values, values: Values) -> tuple[Floats, Floats]:
    rates_N, values_N = np.asarray(rates, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if len(np.unique(rates_N)) < 4:
        raise TrainError(
            "a curve over learning rates cannot be fitted",
            got=f"{len(np.unique(rates_N))} different rates",
            expected="4 or more",
            do="train at more learning rates",
        )
    fits = np.isfinite(rates_N) & (rates_N > 0) & np.isfinite(values_N) & (values_N > 0)
    if not fits.all():
        worst = int(np.flatnonzero(~fits)[0])
        raise TrainError(
            "a curve over learning rates cannot be fitted",
            got=f"{values_N[worst]} at rate {rates_N[worst]}",
            expected="positive finite values",
            do="leave out runs that diverged",
        )
    return rates_N, values_N


def _squares(hinges_GN: Floats, y_BN: Floats) -> Floats:
    """Return the sums of squares (B, G) of each y around each hinge, both without their means."""
    x_GN = hinges_GN - hinges_GN.mean(axis=1, keepdims=True)
    y_BN = y_BN - y_BN.mean(axis=1, keepdims=True)
    squares_BG: Floats = np.sum(y_BN**2, axis=1, keepdims=True) - 2 * y_BN @ x_GN.T + np.sum(x_GN**2, axis=1)
    return squares_BG

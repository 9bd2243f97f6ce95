"""The regimes of training at a constant rate: convergence, equilibrium, divergence, and where one turns into the next.

Source: Sadrtdinov et al. 2024, arXiv:2410.22113, and its code (regimes 1 to 3, the good part 2A of regime 2). The rules
that decide are ours: the authors draw their boundaries by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import takewhile

import numpy as np

TAIL_EPOCHS = 20  # epochs that decide on divergence, at most a tenth of the run
BARRIER = 0.01  # train error between two solutions from which on they lie in different basins


class Regime(IntEnum):
    """Name what a constant rate leads to."""

    CONVERGENCE = 1
    EQUILIBRIUM = 2
    DIVERGENCE = 3


@dataclass(frozen=True)
class Curve:
    """Hold one run at a constant rate: train loss and test accuracy after each epoch, and what chance would reach.

    `chance` is the accuracy of guessing, 1 / K for K classes of equal size; `images` is the size of the test set.
    """

    losses: Sequence[float]
    accuracies: Sequence[float]
    chance: float
    images: int


@dataclass(frozen=True)
class Classified:
    """Hold a regime, the number of epochs it was judged on, and the first epoch (from 1) with the loss reached.

    The boundary of convergence moves with the number of epochs, so a regime means little without it.
    """

    regime: Regime
    epochs: int
    converged_at: int | None


def classify(curve: Curve, stop_loss: float) -> Classified:
    """Return the regime of a run at a constant rate.

    1 if the train loss falls below `stop_loss` at any epoch; else 3 if a loss is not finite, or if the mean accuracy
    of the last tenth of the epochs, at most 20, lies within two standard deviations of chance; else 2. The standard
    deviation is that of the mean: sqrt(p (1 - p) / images + variance over these epochs / their number).
    """
    epochs = len(curve.losses)
    for epoch, loss in enumerate(curve.losses, start=1):
        if loss < stop_loss:
            return Classified(Regime.CONVERGENCE, epochs, epoch)
    diverged = not np.isfinite(curve.losses).all() or _at_chance(curve)
    return Classified(Regime.DIVERGENCE if diverged else Regime.EQUILIBRIUM, epochs, None)


@dataclass(frozen=True)
class Bracket:
    """Hold the two tested rates between which a boundary lies: the uncertainty of its place.

    `low` is None if the boundary is below every tested rate, `high` if it is above every one. `tested` has
    (rate, still below the boundary) in the order of the tests.
    """

    low: float | None
    high: float | None
    tested: list[tuple[float, bool]]

    def __str__(self) -> str:
        """Return the place of the boundary in words."""
        if self.low is None:
            return "no rate was tested" if self.high is None else f"below {self.high:.4g}"
        return f"not reached up to {self.low:.4g}" if self.high is None else f"{self.low:.4g} to {self.high:.4g}"


def bisect(is_below: Callable[[float], bool], low: float, high: float, budget: int, ratio: float = 1.05) -> Bracket:
    """Bracket a boundary by halving the logarithm of the rate.

    Args:
        is_below: trains at a rate and says whether it is below the boundary; True up to it and False above.
        low, high: rates to search between, 0 < low < high.
        budget: number of rates to test, 2 or more; both ends are tested first.
        ratio: stop when the bracket's ends differ by this factor or less.
    """
    tested: list[tuple[float, bool]] = []

    def test(rate: float) -> bool:
        tested.append((rate, is_below(rate)))
        return tested[-1][1]

    if not test(low):
        return Bracket(None, low, tested)
    if test(high):
        return Bracket(high, None, tested)
    while len(tested) < budget and high / low > ratio:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if test(middle) else (low, middle)
    return Bracket(low, high, tested)


@dataclass(frozen=True)
class SecondPhase:
    """Hold what the second phase made of one rate of regime 2; accuracies, barrier and agreement are fractions.

    `small` and `large` are test accuracies after fine-tuning at the smallest and the largest rate for it, `barrier` is
    the train error barrier between these two solutions, `agreement` the share of equal predictions of theirs;
    `averaged` is the test accuracy of the averaged weights.
    """

    rate: float
    small: float
    large: float
    averaged: float
    barrier: float
    agreement: float

    def fault(self, best_converged: float) -> str | None:
        """Return why this rate is not in 2A, or None if it is; a value that is NaN is a fault."""
        worst = min(self.small, self.large)
        if not (self.small >= best_converged and self.large >= best_converged):
            return f"fine-tuned accuracy {worst:.4f} below {best_converged:.4f}, the best of regime 1"
        return None if self.barrier < BARRIER else f"train barrier {self.barrier:.2%} between the fine-tuned networks"


@dataclass(frozen=True)
class Split:
    """Hold the rates of 2A in ascending order, the bracket of its upper end, and why the first rate beyond is 2B."""

    inside: list[float]
    boundary: Bracket
    why: str | None


def split(rows: Sequence[SecondPhase], best_converged: float) -> Split:
    """Split regime 2 into 2A, from the threshold of convergence on, and 2B.

    2A = the rates next to the threshold, without a gap, for which the worse of the fine-tuned accuracies is at least
    the best accuracy of regime 1, and the train barrier between the fine-tuned networks is below 1 %.

    Args:
        rows: the rates of regime 2, in any order.
        best_converged: best test accuracy of a run of regime 1, a fraction.
    """
    rows = sorted(rows, key=lambda row: row.rate)
    inside = [row.rate for row in takewhile(lambda row: row.fault(best_converged) is None, rows)]
    beyond = rows[len(inside)] if len(inside) < len(rows) else None
    tested = [(row.rate, row.fault(best_converged) is None) for row in rows]
    boundary = Bracket(inside[-1] if inside else None, beyond.rate if beyond else None, tested)
    return Split(inside, boundary, beyond.fault(best_converged) if beyond else None)


def _at_chance(curve: Curve) -> bool:
    accuracies = np.asarray(curve.accuracies, dtype=np.float64)
    tail = accuracies[-max(1, min(TAIL_EPOCHS, len(accuracies) // 10)) :]
    binomial = curve.chance * (1 - curve.chance) / curve.images
    deviation = math.sqrt(binomial + float(tail.var()) / len(tail))
    return abs(float(tail.mean()) - curve.chance) <= 2 * deviation

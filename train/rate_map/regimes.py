"""The regimes of training at a constant rate: where convergence turns into equilibrium, and the good part 2A of that.

Source: Sadrtdinov et al. 2024, arXiv:2410.22113, and its code (regimes 1 to 3, the good part 2A of regime 2). The rules
that decide are ours: the authors draw their boundaries by hand.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bigstep.records.rate_map import SecondPhase

BARRIER = 0.01  # train error between two solutions from which on they lie in different basins


def bisect(is_below: Callable[[float], bool], low: float, high: float, budget: int, ratio: float = 1.05) -> None:
    """Train between two rates, halving the logarithm of the gap in which a boundary lies.

    Args:
        is_below: trains at a rate and says whether it is below the boundary; True up to it and False above.
        low, high: rates on either side of it, 0 < low < high.
        budget: number of rates to test.
        ratio: stop when the ends of the gap differ by this factor or less.
    """
    for _ in range(budget):
        if high / low <= ratio:
            return
        middle = math.sqrt(low * high)
        low, high = (middle, high) if is_below(middle) else (low, middle)


@dataclass(frozen=True)
class Band:
    """The rates of 2A in ascending order, the first rate beyond, and why that one is 2B; None where none was tried."""

    inside: list[float]
    beyond: float | None
    why: str | None


def band_2a(rows: Sequence[SecondPhase], best_converged: float) -> Band:
    """Split regime 2 into 2A, from the threshold of convergence on, and 2B.

    2A = the rates next to the threshold, without a gap, for which the worse of the fine-tuned accuracies is at least
    the best accuracy of regime 1, and the train barrier between the fine-tuned networks is below 1 %.

    Args:
        rows: the rates of regime 2, in any order.
        best_converged: best accuracy of a run of regime 1, a fraction.
    """
    inside: list[float] = []
    for row in sorted(rows, key=lambda row: row.rate):
        if why := fault(row, best_converged):
            return Band(inside, row.rate, why)
        inside.append(row.rate)
    return Band(inside, None, None)


def fault(row: SecondPhase, best_converged: float) -> str | None:
    """Return why a rate is not in band 2A, or None if it is; a phase that diverged is a fault."""
    if row.small is None or row.large is None or row.barrier is None:
        return "a fine-tuned network diverged"
    worst = min(row.small, row.large)
    if worst < best_converged:
        return f"fine-tuned accuracy {worst:.4f} below {best_converged:.4f}, the best of regime 1"
    return None if row.barrier < BARRIER else f"train barrier {row.barrier:.2%} between the fine-tuned networks"

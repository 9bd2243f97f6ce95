"""Signals about a learning rate that need no bias label: from images with the training distribution alone.

Shapes: N samples, K classes. The sums behind them are those of `train.measure.loss_share`, with the mass of a few hard
samples standing in for that of the conflicting ones, which nobody has marked. That they track robustness is a
conjecture; the map reports them beside what they stand in for. Nothing here chooses.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.measure.loss_share import Floats, loss_entropy

HARD_SHARE = 0.1


def loss_gini(losses_N: Floats) -> float:
    """Return the Gini coefficient of the losses: how unevenly the loss is spread over the samples.

    G = sum over i, j of |l_i - l_j| / (2 N sum l)

    Returns:
        0 where all losses are equal, (N - 1) / N where one sample has all of it; NaN where all losses are 0.

    Source: Hurley and Rickard 2009, arXiv:0811.4706 (the Gini index over sorted values).
    """
    if not losses_N.sum() > 0:
        return float("nan")
    n = len(losses_N)
    ranks_N = np.arange(1, n + 1)
    shares_N = np.sort(losses_N) / losses_N.sum()
    return float(np.sum((2 * ranks_N - n - 1) * shares_N) / n)


def loss_concentration(losses_N: Floats) -> float:
    """Return 1 - entropy of the samples' shares in the loss / log N.

    Returns:
        0 where all losses are equal, 1 where one sample has all of it; NaN where all losses are 0. N >= 2.
    """
    return 1 - loss_entropy(losses_N) / math.log(len(losses_N))


def hardest(losses_N: Floats, share: float = HARD_SHARE) -> NDArray[np.bool_]:
    """Mark the ceil(share * N) samples with the largest losses; of equal losses the earlier samples."""
    marked_N = np.zeros(len(losses_N), dtype=np.bool_)
    marked_N[np.argsort(-losses_N, kind="stable")[: math.ceil(round(share * len(losses_N), 6))]] = True
    return marked_N


def agreement(first_NK: NDArray[Any], second_NK: NDArray[Any]) -> float:
    """Return the share of samples to which two networks give the same class: a fraction."""
    return float(np.mean(first_NK.argmax(axis=1) == second_NK.argmax(axis=1)))

"""How much of a network can be removed before it stops working."""

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import nn

# The accuracy hardly moves below one half, so that is where the grid is coarse.
FRACTIONS = (0.0, 0.2, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)


def pruned_copies(model: nn.Module, fractions: Sequence[float] = FRACTIONS) -> Iterator[tuple[float, nn.Module]]:
    """Yield each fraction with a copy whose smallest weights are zero, nothing retrained; they are ordered once.

    One threshold holds for all weight matrices. Biases and normalisation parameters (of one dimension) are kept.

    Args:
        model: any network.
        fractions: shares of the weights to remove, each in [0, 1].

    Source: Han et al. 2015, arXiv:1506.02626, section 3 (magnitude), here global over layers.
    """
    magnitudes = torch.cat([p.detach().abs().flatten() for p in model.parameters() if p.ndim > 1])
    order = torch.argsort(magnitudes, stable=True)
    for fraction in fractions:
        pruned = copy.deepcopy(model)
        weights = [p for p in pruned.parameters() if p.ndim > 1]
        gone = torch.zeros_like(magnitudes, dtype=torch.bool)
        gone[order[: round(fraction * len(magnitudes))]] = True
        with torch.no_grad():
            for weight, mask in zip(weights, gone.split([w.numel() for w in weights]), strict=True):
                weight[mask.view_as(weight)] = 0.0
        yield fraction, pruned


def curve(
    model: nn.Module, accuracy: Callable[[nn.Module], float], unpruned: float | None = None
) -> list[tuple[float, float]]:
    """Return (pruned fraction, accuracy) over FRACTIONS; `unpruned` is the accuracy of the model, where it is known."""
    known = [] if unpruned is None else [(0.0, unpruned)]
    return known + [(f, accuracy(pruned)) for f, pruned in pruned_copies(model, FRACTIONS[len(known) :])]


def area(points: list[tuple[float, float]]) -> float:
    """Return the area under accuracy over pruned fraction, divided by the unpruned accuracy.

    1 means that accuracy does not fall at all; values above 1 mean that it rises. 0.0 for an accuracy of zero.
    """
    fractions, accuracies = np.array(points).T
    unpruned = float(accuracies[0])
    return float(np.trapezoid(accuracies, fractions)) / unpruned if unpruned > 0 else 0.0


def largest_fraction(points: list[tuple[float, float]], margin: float) -> float:
    """Return the largest fraction r that can be removed with every accuracy up to r at least unpruned - margin.

    r* = max {r : A(s) >= A(0) - margin for all s <= r}, with A linear between the measured points, as in `area`.
    A curve that falls below and recovers counts up to its first fall only: nobody would bet on the recovery.

    Args:
        points: (fraction, accuracy) with rising fractions, the first at 0.
        margin: accuracy that may be lost, at least 0, as a fraction.

    Returns:
        In [0, the last fraction]; 0 or a little more where the first step already loses too much.
    """
    limit = points[0][1] - margin
    for (kept, good), (fraction, accuracy) in pairwise(points):
        if accuracy < limit:
            return kept + (fraction - kept) * (good - limit) / (good - accuracy)
    return points[-1][0]

"""Values of a bias that bigstep makes itself: aligned with the label but for an exact share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def contradict(
    labels_N: NDArray[np.int64], classes: int, values: int, share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Give each image the bias value of its label, label % values, but for an exact share that gets another one.

    The conflicting images are spread as evenly as their number allows over the labels and over the other values.

    Args:
        labels_N: labels in 0..classes-1.
        values: number of bias values, 2 or more.
        share: share of images whose bias contradicts the label, in [0, 1]; round(share * N) images do.

    Returns:
        int64, shape (N,), in 0..values-1.
    """
    bias = labels_N % values
    total = round(share * len(labels_N))
    of_label = np.full(classes, total // classes)
    of_label[rng.permutation(classes)[: total % classes]] += 1
    present = np.bincount(labels_N, minlength=classes)
    of_label = np.minimum(of_label, present)
    while missing := total - int(of_label.sum()):  # a rare label cannot give its part: the others give more
        of_label[np.flatnonzero(of_label < present)[:missing]] += 1
    for label in range(classes):
        members = rng.permutation(np.flatnonzero(labels_N == label))[: of_label[label]]
        shifts = 1 + (np.arange(len(members)) + rng.integers(values - 1)) % (values - 1)
        bias[members] = (label + shifts) % values
    return bias

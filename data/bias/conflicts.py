"""Values of a bias that bigstep makes itself: aligned with the label but for an exact share, or independent of it."""

import numpy as np
from numpy.typing import NDArray

from bigstep.records.images import SplitName

BIASED: tuple[SplitName, ...] = ("train", "validation_biased")  # which have the bias of training


def bias_of_split(
    split: SplitName,
    labels_N: NDArray[np.int64],
    classes: int,
    values: int,
    conflicting: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Give each image of a split its bias value: as `contradict` does in training's two, else as `evenly` does."""
    if split in BIASED:
        return contradict(labels_N, classes, values, conflicting, rng)
    return evenly(labels_N, values, rng)


def contradict(
    labels_N: NDArray[np.int64], classes: int, values: int, conflicting: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Give each image the bias value of its label, label % values, but for an exact share that gets another one.

    The conflicting images are spread as evenly as their number allows over the labels and over the other values.

    Args:
        labels_N: labels in 0..classes-1.
        values: number of bias values, 2 or more.
        conflicting: share of images whose bias contradicts the label, in [0, 1]; round(conflicting * N) images do.

    Returns:
        int64, shape (N,), in 0..values-1.
    """
    bias = labels_N % values
    total = round(conflicting * len(labels_N))
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


def evenly(labels_N: NDArray[np.int64], values: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Give each image one of `values` bias values at random, within every label equally often (within one).

    Returns:
        int64, shape (N,), in 0..values-1.
    """
    bias = np.empty_like(labels_N)
    for label in np.unique(labels_N):
        members = rng.permutation(np.flatnonzero(labels_N == label))
        bias[members] = rng.permutation(values)[np.arange(len(members)) % values]
    return bias

"""Who gets which bias, and which images are held out: what Colored MNIST and Corrupted CIFAR-10 share.

Everything here depends on labels and a generator alone, and counts exactly. Shapes: N images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def milestones(labels_N: NDArray[np.int64], classes: int, aligned: float) -> NDArray[np.int64]:
    """Give each image a bias value by its place among the images of its label, as LfF does; nothing is drawn.

    Of the n images of a label, value b = label takes the share `aligned` and every other value an equal part of the
    rest. The k-th image, k = 0, 1, ... in the order given, takes the first value whose milestone exceeds k,
    where the milestone of value b is round(n * (share of value 0 + ... + share of value b)). Values therefore come in
    blocks: the first images of every label have value 0, so shuffle before anybody takes the first few for a sample.

    Args:
        labels_N: labels in 0..classes-1.
        classes: number of labels, which is the number of bias values; at least 2.
        aligned: share of images whose bias equals the label, in [0, 1]; 1 / classes makes them independent.

    Returns:
        int64, shape (N,).

    Source: Nam et al. 2020, arXiv:2007.02561, their make_dataset.py (make_attr_labels); the arithmetic is theirs to
    the last bit, since the halves that it rounds decide counts.
    """
    shares = aligned * np.eye(classes) + (1 - aligned) / (classes - 1) * (1 - np.eye(classes))
    cumulative = np.cumsum(shares, axis=1)
    bias = np.empty_like(labels_N)
    for label in range(classes):
        members = np.flatnonzero(labels_N == label)
        passed = np.searchsorted((len(members) * cumulative[label]).round(), np.arange(len(members)), side="right")
        bias[members] = passed
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


def hold_out(labels_N: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose images to hold out, stratified by label: each label gives its exact share, rounded by largest remainder.

    The choice depends on the labels and the generator alone, so that it is the same at every bias.

    Args:
        labels_N: labels of all images, 0 or more.
        size: how many to hold out, at most N.

    Returns:
        bool, shape (N,): True for exactly `size` images.
    """
    counts = np.bincount(labels_N)
    share, remainder = np.divmod(counts * size, len(labels_N))  # whole numbers: no rounding depends on the platform
    share[np.argsort(-remainder, kind="stable")[: size - share.sum()]] += 1
    held = np.zeros(len(labels_N), dtype=np.bool_)
    for label, count in enumerate(share):
        held[rng.permutation(np.flatnonzero(labels_N == label))[:count]] = True
    return held

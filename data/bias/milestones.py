"""LfF's rule, which gives a bias by the place of an image in its file: Colored MNIST and Corrupted CIFAR-10 have it.

Shapes: N images.
"""

import numpy as np
from numpy.typing import NDArray

from bigstep.records.images import SplitName
from data.files.labelled import Source
from data.files.splits import hold_out

CLASSES = 10  # of both sets, and as many bias values: with one in ten aligned, those of test say nothing about labels


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


def shuffled_splits(
    source: Source, size: int, conflicting: float, rng: np.random.Generator
) -> tuple[dict[SplitName, NDArray[np.int64]], NDArray[np.int64]]:
    """Hold pictures out of train, shuffle every split, and give each picture the bias value of LfF's rule.

    The rule runs over all pictures in the order of the files, in which the first ones of every label have the first
    value. Who takes the first images of a split for a sample (a contact sheet, the ranges of INT8) would see no other,
    so that every split is shuffled. The choice is the same at every share.

    Args:
        size: how many pictures of train to hold out.
        conflicting: share of train whose bias contradicts the label, in [0, 1]; in test nine tenths do.

    Returns:
        The places of every split, and the bias value of the picture at each place, int64 (N,).
    """
    labels, test_labels = source.train.labels, source.test.labels
    train, held_out = (rng.permutation(rows) for rows in hold_out(labels, size, rng))
    places = source.places(train, held_out, rng.permutation(len(test_labels)))
    rules = milestones(labels, CLASSES, 1 - conflicting), milestones(test_labels, CLASSES, 1 / CLASSES)
    return places, np.concatenate(rules)

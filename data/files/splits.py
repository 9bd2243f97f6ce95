"""Splits drawn from a seed: exact counts per label, bias cells spread evenly, copies of a picture kept together."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bigstep.records.images import SplitName

SHARES: dict[SplitName, int] = {"train": 70, "validation_biased": 5, "validation": 10, "test": 15}  # per cent
FIRST: tuple[SplitName, ...] = ("train", "test", "validation", "validation_biased")  # who gets a rare label's images


def draw(
    labels_N: NDArray[np.int64],
    cells_N: NDArray[np.int64],
    sources_N: NDArray[np.int64],
    shares: Mapping[SplitName, int],
    rng: np.random.Generator,
) -> dict[SplitName, NDArray[np.int64]]:
    """Split images at random, with exact shares of every label's pictures (see `quota`).

    Images of one source stay together; a source counts once, with the label and cell of its first image. Within a
    label the cells are spread evenly: each split gets its share of each cell, within one picture.

    Args:
        labels_N: labels, 0 or more.
        cells_N: the label x bias cell of each image, any numbers.
        sources_N: the picture that each image is a copy of.
        shares: parts of the whole, for example per cent.

    Returns:
        Sorted indices by split.
    """
    sources, first, inverse = np.unique(sources_N, return_index=True, return_inverse=True)
    split_of = np.zeros(len(sources), dtype=np.int64)
    names = list(shares)
    for label in np.unique(labels_N[first]):
        members = np.flatnonzero(labels_N[first] == label)
        order = members[_interleaved(cells_N[first[members]], rng)]
        counts = quota(len(order), shares)
        split_of[order] = np.repeat(np.arange(len(names)), [counts[name] for name in names])
    return {name: np.flatnonzero(split_of[inverse] == number) for number, name in enumerate(names)}


def quota(n: int, shares: Mapping[SplitName, int]) -> dict[SplitName, int]:
    """Divide n pictures of one label by the method of largest remainders; ties go by the order of FIRST.

    Every split gets at least one where there are as many pictures as splits; of fewer, the first in FIRST get one each.
    """
    names = [name for name in FIRST if name in shares]
    if n < len(names):
        return {name: int(rank < n) for rank, name in enumerate(names)}
    whole = sum(shares.values())
    counts = {name: n * shares[name] // whole for name in names}
    by_remainder = sorted(names, key=lambda name: -(n * shares[name] % whole))
    for name in by_remainder[: n - sum(counts.values())]:
        counts[name] += 1
    for name in names:
        if not counts[name]:
            counts[max(names, key=lambda other: counts[other])] -= 1
            counts[name] = 1
    return counts


def hold_out(
    labels_N: NDArray[np.int64], size: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose images to hold out, stratified by label: each label gives its exact share, rounded by largest remainder.

    The choice depends on the labels and the generator alone, so that it is the same at every bias.

    Args:
        labels_N: labels of all images, 0 or more.
        size: how many to hold out, at most N.

    Returns:
        Sorted indices of those that stay, and of exactly `size` that are held out.
    """
    counts = np.bincount(labels_N)
    share, remainder = np.divmod(counts * size, len(labels_N))  # whole numbers: no rounding depends on the platform
    share[np.argsort(-remainder, kind="stable")[: size - share.sum()]] += 1
    held = np.zeros(len(labels_N), dtype=np.bool_)
    for label, count in enumerate(share):
        held[rng.permutation(np.flatnonzero(labels_N == label))[:count]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _interleaved(cells_M: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return an order in which every run of images holds each cell in proportion, within one image."""
    place = np.empty(len(cells_M))
    for cell in np.unique(cells_M):
        members = rng.permutation(np.flatnonzero(cells_M == cell))
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(place, kind="stable")

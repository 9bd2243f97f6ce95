"""Groups of images that a model may treat differently: aligned, conflicting, by label, by bias value.

An image is aligned in an attribute when its value is over-represented in its class in training, P(b | y) > P(b),
and conflicting otherwise. With several attributes it is aligned when it is so in every one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALIGNED = "aligned"
UNBIASED = "unbiased"  # the mean over all label and attribute cells
CONFLICTING = "conflicting"


@dataclass(frozen=True)
class Accuracies:
    """Accuracies as fractions; NaN where no image belongs to the group."""

    unbiased: float
    aligned: float
    conflicting: float


def cell_counts(labels_N: NDArray[np.int64], bias_N: NDArray[np.int64], classes: int, values: int) -> NDArray[np.int64]:
    """Count the images of every label with every bias value, shape (classes, values)."""
    counts = np.zeros((classes, values), dtype=np.int64)
    np.add.at(counts, (labels_N, bias_N), 1)
    return counts


def cells_present(
    labels_N: NDArray[np.int64], bias_NA: NDArray[np.int64], values: Mapping[str, Sequence[str]]
) -> tuple[int, int]:
    """Count the cells of label and all attributes that hold an image, and those that the names make, empty or not.

    Args:
        values: as in `members`.
    """
    present = len(np.unique(np.column_stack([labels_N, bias_NA]), axis=0))
    return present, math.prod(len(names) for names in values.values())


def over_represented(
    labels_N: NDArray[np.int64], bias_N: NDArray[np.int64], classes: int, values: int
) -> NDArray[np.bool_]:
    """Say which bias values training shows more often in a class than overall, P(b | y) > P(b).

    Args:
        labels_N, bias_N: the training labels in 0..classes-1 and bias values in 0..values-1.

    Returns:
        Shape (classes, values).
    """
    counts = cell_counts(labels_N, bias_N, classes, values)
    given = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    table: NDArray[np.bool_] = given > counts.sum(axis=0) / max(len(labels_N), 1)
    return table


def aligned_members(
    labels_N: NDArray[np.int64], bias_NA: NDArray[np.int64], aligned_AKB: Sequence[NDArray[np.bool_]]
) -> NDArray[np.bool_]:
    """Say which images are aligned in every attribute.

    Args:
        bias_NA: one bias value per image and attribute, shape (N, A), A >= 1.
        aligned_AKB: for each attribute the table of `over_represented`.
    """
    aligned: NDArray[np.bool_] = np.logical_and.reduce(
        [table[labels_N, bias_NA[:, a]] for a, table in enumerate(aligned_AKB)]
    )
    return aligned


def members(
    name: str,
    labels_N: NDArray[np.int64],
    bias_NA: NDArray[np.int64],
    aligned_N: NDArray[np.bool_] | None,
    values: Mapping[str, Sequence[str]],
) -> NDArray[np.bool_]:
    """Return the mask of a group named `aligned`, `conflicting`, or like `label=3,colour=gold`.

    A name that the data does not know gives an empty mask: the gate then cannot decide, which it says.

    Args:
        aligned_N: the mask of aligned images, None where no bias attribute is known.
        values: `label` and each bias attribute in column order, with the names of its values.
    """
    nobody = np.zeros(len(labels_N), dtype=np.bool_)
    if name in (ALIGNED, CONFLICTING):
        return nobody if aligned_N is None else aligned_N if name == ALIGNED else ~aligned_N
    columns = {key: bias_NA[:, a] for a, key in enumerate(k for k in values if k != "label")} | {"label": labels_N}
    mask = ~nobody
    for term in name.split(","):
        key, _, value = (part.strip() for part in term.partition("="))
        if key not in columns or value not in values[key]:
            return nobody
        mask &= columns[key] == list(values[key]).index(value)
    return mask


def accuracies(
    correct_N: NDArray[np.bool_],
    labels_N: NDArray[np.int64],
    bias_NA: NDArray[np.int64],
    aligned_N: NDArray[np.bool_] | None,
) -> Accuracies:
    """Return unbiased accuracy (the unweighted mean over the label x bias cells present), aligned and conflicting.

    Of a cell without images nobody knows the accuracy: who shows the mean says how many cells it lacks
    (`cells_present`).

    Source: Nam et al. 2020, arXiv:2007.02561, section 4 (unbiased and bias-conflicting evaluation).
    """
    cells, index = np.unique(np.column_stack([labels_N, bias_NA]), axis=0, return_inverse=True)
    right = np.bincount(index.ravel(), weights=correct_N, minlength=len(cells))
    unbiased = float(np.mean(right / np.bincount(index.ravel(), minlength=len(cells))))
    if aligned_N is None:
        return Accuracies(unbiased, float("nan"), float("nan"))
    return Accuracies(unbiased, _mean(correct_N[aligned_N]), _mean(correct_N[~aligned_N]))


def _mean(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")

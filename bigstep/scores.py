"""What every form said about a split: right or wrong per image, accuracy per group, flips between forms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bigstep.groups import ALIGNED, CONFLICTING, UNBIASED, accuracies, cells_present, members
from bigstep.intervals import accuracy_interval
from bigstep.records.images import Images, Split, SplitName
from bigstep.records.verdict import GroupScore

ALL = "all"
EVEN_CELLS = 1.25  # largest over smallest cell up to which the mean over cells and over images have the same bounds


@dataclass(frozen=True)
class Outputs:
    """One form's logits on a split, float (N, K), and what follows from them.

    `predicted` and `correct`, shape (N,), are None when any logit is not finite: the argmax of NaN is class 0, which
    is not a prediction.
    """

    logits: NDArray[np.floating]
    non_finite: int
    predicted: NDArray[np.int64] | None
    correct: NDArray[np.bool_] | None

    @classmethod
    def of(cls, logits_NK: NDArray[np.floating], labels_N: NDArray[np.int64]) -> "Outputs":
        """Count the non-finite logits and, if there are none, compare the predictions with the labels."""
        non_finite = int(logits_NK.size - np.isfinite(logits_NK).sum())
        if non_finite:
            return cls(logits_NK, non_finite, None, None)
        predicted = logits_NK.argmax(axis=1)
        return cls(logits_NK, 0, predicted, predicted == labels_N)


@dataclass(frozen=True)
class Evidence:
    """A split, the names of its groups, and the outputs of every form by name; `name` is what the split is called."""

    split: Split
    values: Mapping[str, Sequence[str]]
    forms: Mapping[str, Outputs]
    name: SplitName = "test"

    @classmethod
    def of(cls, images: Images, logits: Mapping[str, NDArray[np.floating]], name: SplitName = "test") -> "Evidence":
        """Judge every form's logits on a split."""
        split = images.split(name)
        outputs = {form: Outputs.of(array, split.labels) for form, array in logits.items()}
        return cls(split, images.value_names(), outputs, name)

    def mask(self, group: str) -> NDArray[np.bool_]:
        """Return the mask of a group; `all` takes every image. `unbiased` is a mean over cells, so it has none."""
        if group == ALL:
            return np.ones(len(self.split.labels), dtype=np.bool_)
        return members(group, self.split.labels, self.split.bias, self.split.aligned, self.values)

    def cells(self) -> tuple[int, int]:
        """Count the cells of label and all attributes that hold an image, and those that their names make."""
        return cells_present(self.split.labels, self.split.bias, self.values)

    def sources(self, group: str) -> int:
        """Count the independent sources of a group's images."""
        return len(np.unique(self.split.sources[self.mask(group)]))


@dataclass(frozen=True)
class Flips:
    """Of one group of n images, the predictions that went from right to wrong (negative) and back (positive)."""

    group: str
    n: int
    negative: int
    positive: int


def group_names(evidence: Evidence, declared: Sequence[str]) -> list[str]:
    """List the groups to report: unbiased, aligned, conflicting, every label, and others that the gate declares."""
    names = [UNBIASED]
    names += [ALIGNED, CONFLICTING] if evidence.split.aligned is not None else []
    names += [f"label={label}" for label in evidence.values["label"]]
    return names + [name for name in dict.fromkeys(declared) if name not in names]


def score(evidence: Evidence, form: str, group: str, confidence: float) -> GroupScore:
    """Return one form's accuracy on one group with one-sided clustered Wilson bounds.

    `unbiased` is the unweighted mean over the label x bias cells that hold images. Its bounds are those of the accuracy
    over all images, which is the same number where all cells hold equally many images (every digit appears in every
    colour); where the largest cell is over 1.25 times the smallest, or a cell is empty, they are left out.

    Args:
        confidence: confidence of each bound, in (0.5, 1).

    Returns:
        A score without accuracy where the group is empty or the form's logits are not finite.
    """
    mask, correct = evidence.mask(ALL if group == UNBIASED else group), evidence.forms[form].correct
    n = int(mask.sum())
    if correct is None or n == 0:
        return GroupScore(form=form, group=group, n=n, accuracy=None, low=None, high=None)
    bounds = accuracy_interval(correct[mask], evidence.split.sources[mask], confidence)
    estimate, low, high = bounds.estimate, bounds.low, bounds.high
    if group == UNBIASED:
        split = evidence.split
        estimate = accuracies(correct, split.labels, split.bias, split.aligned).unbiased
        if not _cells_are_even(evidence):
            return GroupScore(form=form, group=group, n=n, accuracy=estimate, low=None, high=None)
        low, high = min(low, estimate), max(high, estimate)
    return GroupScore(form=form, group=group, n=n, accuracy=estimate, low=low, high=high)


def flips(evidence: Evidence, before: str, after: str, group: str) -> Flips | None:
    """Count the flips from one form to another in a group; None if either form's logits are not finite."""
    was, now, mask = evidence.forms[before].correct, evidence.forms[after].correct, evidence.mask(group)
    if was is None or now is None:
        return None
    return Flips(group, int(mask.sum()), int((was & ~now & mask).sum()), int((~was & now & mask).sum()))


def _cells_are_even(evidence: Evidence) -> bool:
    split = evidence.split
    present, declared = evidence.cells()
    sizes = np.unique(np.column_stack([split.labels, split.bias]), axis=0, return_counts=True)[1]
    return present == declared and bool(sizes.max() <= EVEN_CELLS * sizes.min())

"""What is wrong with a set of labelled images as a whole: copies across splits, empty classes and cells, names.

Shapes: N images, A bias attributes.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from bigstep.records.images import SplitName
from data.files.findings import Finding, empty_cells, present
from data.files.listing import Row
from data.files.lookalikes import find

MIN_IMAGES = 20  # of a class in train: fewer is hardly learnt
HELD_OUT: tuple[SplitName, ...] = ("validation", "test")
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?", flags=re.ASCII)
SPECIAL = "=,"  # what verify.groups separates names with


def name_findings(columns: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Judge the names of labels, attributes and their values.

    Args:
        columns: `label` and each attribute, with the names of its values.
    """
    names = sorted({*columns, *(value for values in columns.values() for value in values)})
    broken = [name for name in names if any("\ud800" <= c <= "\udfff" for c in name)]
    return present(
        Finding("error", "names that are not UTF-8", broken, "rename them"),
        Finding(
            "warning",
            "names with characters that cannot be shown",
            [name for name in names if not name.isprintable() and name not in broken],
            "rename them",
        ),
        Finding(
            "warning",
            "names with = or a comma, which verify.groups cannot name",
            [name for name in names if any(c in SPECIAL for c in name)],
            "rename them",
        ),
        *(
            Finding("warning", f"values of {column} that differ in spelling alone", similar, "are they the same?")
            for column, similar in ((column, _similar(values)) for column, values in columns.items())
        ),
        Finding(
            "error",
            "columns of data.bias with one value alone",
            [name for name, values in columns.items() if name != "label" and len(values) == 1],
            "remove them from data.bias",
        ),
    )


def copy_findings(rows: Sequence[Row], sources_N: NDArray[np.int64]) -> list[Finding]:
    """Judge files with equal bytes.

    Across splits that were given, a copy is an error: what was trained on, or chosen by, would be tested on. Where
    bigstep splits, copies stay together, and only those with two labels are worth a warning: one label is wrong.
    """
    copies: defaultdict[int, list[Row]] = defaultdict(list)
    counts = np.bincount(sources_N)
    for row, source in zip(rows, sources_N.tolist(), strict=True):
        if counts[source] > 1:
            copies[source].append(row)
    across, disagree, agree = [], [], []
    for same in copies.values():
        splits, labels = {row.split for row in same}, {row.label for row in same}
        if len(splits) > 1:
            across.append(" = ".join(f"{row.path} ({row.split})" for row in same))
        if len(labels) > 1:
            disagree.append(" = ".join(f"{row.path} ({row.label})" for row in same))
        if len(splits) == len(labels) == 1:
            agree.append(" = ".join(row.path for row in same))
    return present(
        Finding(
            "error",
            "the same picture in several splits",
            across,
            "keep one of each, or remove the splits: bigstep keeps copies together when it splits",
        ),
        Finding("warning", "the same picture with several labels", disagree, "one of the labels is wrong"),
        Finding("note", "the same picture more than once, all in one split", agree),
    )


def alike_findings(
    rows: Sequence[Row], thumbs_NHWC: NDArray[np.uint8], sources_N: NDArray[np.int64], held_out_N: NDArray[np.bool_]
) -> list[Finding]:
    """Warn of held-out pictures that look like one to train on without being equal to it."""
    return present(
        Finding(
            "warning",
            "pictures of validation or test that look like one of train",
            [
                f"{rows[a].path} ~ {rows[b].path}"
                for a, b in find(thumbs_NHWC, held_out_N)
                if sources_N[a] != sources_N[b]
            ],
            "look at some; if they show one scene, put each scene into one split",
        )
    )


def flat_findings(rows: Sequence[Row], flat_N: NDArray[np.bool_]) -> list[Finding]:
    """Judge pictures that are nearly constant once they are decoded: whatever they showed is lost, or was never there.

    Args:
        flat_N: which are.
    """
    flat = [row for row, is_flat in zip(rows, flat_N.tolist(), strict=True) if is_flat]
    shown = {row.label for row, is_flat in zip(rows, flat_N.tolist(), strict=True) if not is_flat}
    return present(
        Finding(
            "warning" if shown else "error",
            "nearly constant pictures",
            [row.path for row in flat],
            "look at some: values that use a small part of their range, white on transparent, or damage",
        ),
        Finding(
            "warning",
            "labels of which every picture is nearly constant",
            sorted({row.label for row in flat} - shown),
            "there is nothing to learn from them but that",
        ),
    )


def class_findings(
    labels: Sequence[str], labels_N: NDArray[np.int64], splits: Mapping[SplitName, NDArray[np.int64]]
) -> list[Finding]:
    """Judge how many images each class has in each split."""
    counts = {
        name: dict(zip(labels, np.bincount(labels_N[rows], minlength=len(labels)).tolist(), strict=True))
        for name, rows in splits.items()
    }
    return present(
        Finding(
            "error",
            "classes, where a classifier needs two",
            labels if len(labels) < 2 else [],
            "add images of another class",
        ),
        Finding(
            "error",
            "splits without images",
            [name for name, rows in splits.items() if not len(rows)],
            "add images: each class needs at least four",
        ),
        Finding(
            "error",
            "labels that occur in validation or test and never in train",
            [label for label, n in counts["train"].items() if not n],
            "add images to train, or remove these",
        ),
        Finding(
            "warning",
            f"classes with fewer than {MIN_IMAGES} images in train",
            [f"{label}: {n}" for label, n in counts["train"].items() if 0 < n < MIN_IMAGES],
        ),
        *(
            Finding(
                "warning",
                f"classes without images in {name}",
                [label for label, n in counts[name].items() if not n],
                "nothing can be said about them",
            )
            for name in HELD_OUT
            if len(splits[name])
        ),
    )


def cell_findings(
    columns: Mapping[str, Sequence[str]], labels_N: NDArray[np.int64], bias_NA: NDArray[np.int64]
) -> list[Finding]:
    """Warn of label x bias cells without test images, each attribute by itself.

    Args:
        columns: as in `name_findings`, attributes in the order of bias_NA.
        labels_N, bias_NA: those of the test images.
    """
    return present(
        Finding(
            "warning",
            "groups without test images",
            empty_cells(columns, labels_N, bias_NA),
            "nothing can be said about them",
        )
    )


def _similar(values: Sequence[str]) -> list[str]:
    """Return the names that are equal but for capitals, blanks, hyphens and zeros that say nothing, together."""
    spelled: defaultdict[str, list[str]] = defaultdict(list)
    for value in values:
        plain = "".join(part for part in re.split(r"[\s_-]+", value.casefold()) if part)
        spelled[f"{Decimal(value).normalize()}" if NUMBER.fullmatch(value) else plain or value].append(value)
    return [" / ".join(same) for same in spelled.values() if len(same) > 1]

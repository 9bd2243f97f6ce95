"""What is wrong with a set of labelled images as a whole: copies across splits, empty classes and cells, names.

Shapes: N images, A bias attributes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bigstep.records.images import SplitName
from data.files.findings import Finding
from data.files.listing import Row
from data.files.lookalikes import find

MIN_IMAGES = 20  # of a class in train: fewer is hardly learnt
SPECIAL = "=,"  # what verify.groups separates names with


def name_findings(columns: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Judge the names of labels, attributes and their values.

    Args:
        columns: `label` and each attribute, with the names of its values.
    """
    names = sorted({*columns, *(value for values in columns.values() for value in values)})
    if broken := [name for name in names if any("\ud800" <= c <= "\udfff" for c in name)]:
        yield Finding("error", "names that are not UTF-8", broken, "rename them")
    if control := [name for name in names if not name.isprintable() and name not in broken]:
        yield Finding("warning", "names with characters that cannot be shown", control, "rename them")
    if special := [name for name in names if any(c in SPECIAL for c in name)]:
        yield Finding("warning", "names with = or a comma, which verify.groups cannot name", special, "rename them")
    for column, values in columns.items():
        folded: defaultdict[str, list[str]] = defaultdict(list)
        for value in values:
            folded[value.casefold()].append(value)
        if similar := [" / ".join(same) for same in folded.values() if len(same) > 1]:
            yield Finding("warning", f"values of {column} that differ in capitals alone", similar, "are they the same?")
    if single := [name for name, values in columns.items() if name != "label" and len(values) == 1]:
        yield Finding("error", "columns of data.bias with one value alone", single, "remove them from data.bias")


def copy_findings(rows: Sequence[Row], sources_N: NDArray[np.int64]) -> Iterator[Finding]:
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
    if across:
        yield Finding(
            "error",
            "the same picture in several splits",
            across,
            "keep one of each, or remove the splits: bigstep keeps copies together when it splits",
        )
    if disagree:
        yield Finding("warning", "the same picture with several labels", disagree, "one of the labels is wrong")
    if agree:
        yield Finding("note", "the same picture more than once, all in one split", agree)


def alike_findings(
    rows: Sequence[Row], thumbs_NHWC: NDArray[np.uint8], sources_N: NDArray[np.int64], held_out_N: NDArray[np.bool_]
) -> Iterator[Finding]:
    """Warn of held-out pictures that look like one to train on without being equal to it."""
    alike = [(a, b) for a, b in find(thumbs_NHWC, held_out_N) if sources_N[a] != sources_N[b]]
    if alike:
        yield Finding(
            "warning",
            "pictures of validation or test that look like one of train",
            [f"{rows[a].path} ~ {rows[b].path}" for a, b in alike],
            "look at some; if they show one scene, put each scene into one split",
        )


def class_findings(
    labels: Sequence[str], labels_N: NDArray[np.int64], splits: Mapping[SplitName, NDArray[np.int64]]
) -> Iterator[Finding]:
    """Judge how many images each class has in each split."""
    if len(labels) < 2:
        yield Finding("error", "classes, where a classifier needs two", labels, "add images of another class")
    if empty := [name for name, index in splits.items() if not len(index)]:
        yield Finding("error", "splits without images", empty, "add images: each class needs at least four")
    counts = {name: np.bincount(labels_N[index], minlength=len(labels)) for name, index in splits.items()}
    if unknown := [label for label, n in zip(labels, counts["train"], strict=True) if not n]:
        yield Finding(
            "error",
            "labels that occur in validation or test and never in train",
            unknown,
            "add images to train, or remove these",
        )
    few = [f"{label}: {n}" for label, n in zip(labels, counts["train"], strict=True) if 0 < n < MIN_IMAGES]
    if few:
        yield Finding("warning", f"classes with fewer than {MIN_IMAGES} images in train", few)
    for name in ("validation", "test"):
        if len(splits[name]) and (none := [label for label, n in zip(labels, counts[name], strict=True) if not n]):
            yield Finding("warning", f"classes without images in {name}", none, "nothing can be said about them")


def cell_findings(
    columns: Mapping[str, Sequence[str]],
    labels_N: NDArray[np.int64],
    bias_NA: NDArray[np.int64],
    test: NDArray[np.int64],
) -> Iterator[Finding]:
    """Warn of label x bias cells without test images, each attribute by itself.

    Args:
        columns: as in `name_findings`, attributes in the order of bias_NA.
        test: the indices of the test images.
    """
    labels, empty = columns["label"], []
    for column, (name, values) in enumerate((k, v) for k, v in columns.items() if k != "label"):
        counts = np.zeros((len(labels), len(values)), dtype=np.int64)
        np.add.at(counts, (labels_N[test], bias_NA[test, column]), 1)
        empty += [f"label={labels[k]},{name}={values[b]}" for k, b in np.argwhere(counts == 0)]
    if empty:
        yield Finding("warning", "groups without test images", empty, "nothing can be said about them")

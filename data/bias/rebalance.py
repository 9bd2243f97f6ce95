"""Make a biased test split unbiased by leaving images out."""

import itertools
import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bigstep.errors import DataError
from data.files.builder import Built, Part
from data.files.findings import SHOWN, empty_cells, shortened

STREAM = 2  # with the seed of the configuration it gives a generator that no builder has used


def rebalance(built: Built, seed: int) -> Built:
    """Return the data set with a test split of equally many images in every cell of label and all bias attributes.

    Every cell keeps as many images, chosen from the seed, as the smallest cell that has any; their order and ids stay.
    With several attributes, cells of their crossing may be empty: a finding names them. A second finding counts the
    images left out.

    Args:
        seed: of the configuration of the data.

    Raises:
        DataError: there is no attribute, or no test image has some label together with some value of an attribute:
            no choice of images makes the two independent.
    """
    test = built.parts["test"]
    _check(built, test)
    cells, cell_N, counts = np.unique(
        np.column_stack([test.labels, test.bias]), axis=0, return_inverse=True, return_counts=True
    )
    rng = np.random.default_rng((seed, STREAM))
    size = int(counts.min())
    kept = [rng.permutation(np.flatnonzero(cell_N.ravel() == cell))[:size] for cell in range(len(cells))]
    index = np.sort(np.concatenate(kept))
    return replace(
        built,
        parts={**built.parts, "test": test.take(index)},
        core=None if built.core is None else built.core[index],
        spurious=None if built.spurious is None else built.spurious[index],
        findings=[*built.findings, *_findings(built, cells, size, len(test.labels))],
    )


def _check(built: Built, test: Part) -> None:
    what = "the test split cannot be rebalanced"
    keep = "or set data.rebalance = false"
    if not built.attributes:
        raise DataError(what, got="no bias attribute", expected="one or more", do=f"name columns in data.bias, {keep}")
    if empty := empty_cells({"label": built.labels, **built.attributes}, test.labels, test.bias):
        raise DataError(
            what,
            got=f"no test image with {shortened(empty)}",
            expected="images of every label with every value of each bias attribute",
            do=f"add such images, leave the attribute out of data.bias, {keep}",
        )


def _findings(built: Built, cells: NDArray[np.int64], size: int, before: int) -> list[str]:
    after = size * len(cells)
    findings = [
        f"the test split was rebalanced: {size:,} images in each of {len(cells):,} cells of label and bias; "
        f"{before - after:,} of {before:,} images were left out"
    ]
    names = [built.labels, *built.attributes.values()]
    if count := math.prod(map(len, names)) - len(cells):  # of many attributes, most: only those named are looked for
        there = set(map(tuple, cells.tolist()))
        absent = (cell for cell in itertools.product(*(range(len(values)) for values in names)) if cell not in there)
        empty = [
            ",".join(
                f"{key}={values[i]}" for key, values, i in zip(["label", *built.attributes], names, cell, strict=True)
            )
            for cell in itertools.islice(absent, SHOWN)
        ]
        findings.append(
            f"no test image has {shortened(empty, count)}: the attributes are not wholly independent in the test split"
        )
    return findings

"""The images of a data set by split and group, as a table of plain text and as values."""

import numpy as np
from numpy.typing import NDArray

from bigstep.records.images import Images


def describe(images: Images) -> str:
    """Say what a data set holds: its name, the group table, and what was found in its source files."""
    return "\n".join([images.info.name, group_table(images), *images.info.findings])


def group_counts(images: Images) -> dict[str, dict[str, int | None]]:
    """Count the images of every split by group; aligned and conflicting are None where no bias is known.

    `smallest cell` is the smallest of label x attribute, each attribute by itself, the empty ones included: of the
    crossing of many attributes nearly every cell is empty.
    """
    found: dict[str, dict[str, int | None]] = {}
    classes, *sizes = (len(names) for names in images.value_names().values())
    for name in images.info.counts:
        split = images.split(name)  # type: ignore[arg-type]  # the names of counts are the splits
        cells = [_cells(split.labels, column, classes, size) for column, size in zip(split.bias.T, sizes, strict=True)]
        found[name] = {
            "images": len(split.labels),
            "aligned": None if split.aligned is None else int(split.aligned.sum()),
            "conflicting": None if split.aligned is None else int((~split.aligned).sum()),
            "smallest cell": int(min(counts.min() for counts in cells or [_cells(split.labels, 0, classes, 1)])),
        }
    return found


def group_table(images: Images) -> str:
    """Write `group_counts` as a table of plain text."""
    lines = [f"{'split':<18} {'images':>7} {'aligned':>8} {'conflicting':>12} {'smallest cell':>14}"]
    for name, counts in group_counts(images).items():
        images_, aligned, conflicting, smallest = ("-" if n is None else f"{n:,}" for n in counts.values())
        lines.append(f"{name:<18} {images_:>7} {aligned:>8} {conflicting:>12} {smallest:>14}")
    return "\n".join(lines)


def _cells(
    labels_N: NDArray[np.int64], values_N: NDArray[np.int64] | int, classes: int, values: int
) -> NDArray[np.int64]:
    return np.bincount(labels_N * values + values_N, minlength=classes * values)

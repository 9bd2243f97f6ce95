"""What a folder of images, or a CSV file that lists them, says about itself: a configuration to begin with."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from bigstep.config import DataConfig, VerifyConfig
from bigstep.decode import open_image
from bigstep.errors import DataError
from bigstep.groups import aligned_members, cell_counts, over_represented
from data.files import csv_listing
from data.files.findings import quoted, report, shortened
from data.files.listing import Listing, Row
from data.files.splits import SHARES
from data.sets import folder

SIZES_PX = (32, 64, 128, 224)
LOOKED_AT = 200  # images whose headers tell the size; the rest will hardly differ
MIN_VALUES, MAX_VALUES = 2, 20  # of a column that may be a bias attribute
LEVEL = 0.01  # chance that of columns drawn at random one is taken for a bias
LEAST_V = 0.1  # Cramer's V: what is usually called a small association
WIDTHS = (32, 64, 64)  # a network of convolutions that a CPU trains; one step takes pixels, not a flat vector


def infer(path: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Look at a user's images and choose the settings that depend on them.

    Args:
        path: a CSV file, a folder with exactly one, or class folders.

    Returns:
        Settings by section of the configuration, and sentences that say what was inferred and from what.

    Raises:
        DataError: there are no images, or the list of them cannot be used.
    """
    listing = folder.read(DataConfig(kind="folder", path=str(path)))
    says: list[str] = []
    candidates: list[str] = []
    if listing.table:
        columns, says = _columns(listing.table)
        candidates, more = _associated(csv_listing.read_listing(listing.table, columns))
        says += more
        listing = csv_listing.read_listing(listing.table, candidates)
    labels = sorted({row.label for row in listing.rows})
    given = any(row.split for row in listing.rows)
    size_px, size_says = _size_px(listing)
    groups = ["aligned", "conflicting"] if candidates else ["all"]
    settings: dict[str, dict[str, Any]] = {
        "data": {"kind": "folder", "path": str(path), "size_px": size_px, "bias": candidates},
        "train": {"network": "cnn", "widths": list(WIDTHS)},
        "verify": {"groups": groups},
    }
    shown = shortened(list(map(quoted, labels)))
    shares = ", ".join(f"{name} {share} %" for name, share in SHARES.items())
    return settings, [
        f"{quoted(listing.origin)}: {len(listing.rows):,} images of {len(labels)} classes ({shown})",
        "splits are as given" if given else f"splits are drawn from data.seed: {shares}",
        *says,
        *size_says,
        *_bias_sentences(listing.rows, candidates),
        *report(listing.findings),
    ]


def _columns(table_path: Path) -> tuple[list[str], list[str]]:
    """Choose the columns whose values may be those of a bias attribute, and say why the others' may not."""
    table, _ = csv_listing.read_csv(table_path)
    labels = table.values("label")
    chosen, says = [], []
    for name in dict.fromkeys(table.header):
        if name in csv_listing.RESERVED:
            continue
        cells = table.values(name)
        values = len({*cells})
        if "" in cells:
            why = "some of its cells are empty"
        elif not MIN_VALUES <= values <= MAX_VALUES:
            why = f"its values number {values:,}, not {MIN_VALUES} to {MAX_VALUES}"
        elif len({*zip(labels, cells, strict=True)}) == len({*labels}):
            why = "the label decides it, so no image contradicts it"
        else:
            chosen.append(name)
            continue
        says.append(f"column {quoted(name)} is not taken as a bias: {why}")
    return chosen, says


def _associated(listing: Listing) -> tuple[list[str], list[str]]:
    """Choose the attributes that go with the label in training, and say what shows that the others do not.

    A network can only learn from an attribute what it tells of the label. Tested by chi squared, at a level shared out
    among the columns, for of many columns some go with the label by chance; and by Cramer's V without its bias, for of
    many images the slightest association is significant.

    Source: Bergsma 2013, Journal of the Korean Statistical Society 42, equation 4 (V).
    """
    rows = [row for row in listing.rows if row.split in (None, "train")]
    _, codes = folder.codes_of(rows, listing.attributes)
    chosen, says = [], []
    for name, values_N in zip(listing.attributes, codes.T[1:], strict=True):
        counts = cell_counts(codes[:, 0], values_N, codes[:, 0].max() + 1, values_N.max() + 1)
        p, v = _association(counts)
        if p < LEVEL / len(listing.attributes) and v >= LEAST_V:
            chosen.append(name)
        else:
            says.append(
                f"column {quoted(name)} is not taken as a bias: it hardly goes with the label (p = {p:.2g}, Cramer's V "
                f"= {v:.2f}); add it to data.bias if you know better"
            )
    return chosen, says


def _association(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return the p-value of independence, and Cramer's V without its bias, 0 to 1, of a table of counts."""
    n, (rows, columns) = int(counts.sum()), counts.shape
    if min(rows, columns) < 2:
        return 1.0, 0.0
    test = chi2_contingency(counts, correction=False)
    phi2 = max(0.0, test.statistic / n - (rows - 1) * (columns - 1) / (n - 1))
    least = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    return float(test.pvalue), math.sqrt(phi2 / least) if least > 0 else 0.0


def _size_px(listing: Listing) -> tuple[int, list[str]]:
    """Return the side nearest to the median of the shorter sides, over images spread evenly over the list."""
    places = np.linspace(0, len(listing.rows) - 1, min(LOOKED_AT, len(listing.rows))).round().astype(int)
    files = [listing.root / listing.rows[place].path for place in places]
    sides = [side for file in files if (side := _shorter_side(file))]
    if not sides:
        raise DataError(f"{listing.origin}: none of {len(places)} images can be opened", got=str(files[0]))
    median = float(np.median(sides))
    size = min(SIZES_PX, key=lambda px: abs(px - median))
    return size, [
        f"images are scaled to {size} px: the shorter side of {len(sides)} of them has {median:.0f} px (median)"
    ]


def _shorter_side(file: Path) -> int:
    try:
        return min(open_image(file.read_bytes()).size)
    except (OSError, DataError):  # `bigstep data` reports every one of these
        return 0


def _bias_sentences(rows: Sequence[Row], attributes: Sequence[str]) -> Iterator[str]:
    if not attributes:
        yield "no bias attribute is known: the gate judges all images together, and cannot tell which contradict a bias"
        return
    yield f"bias attributes: {', '.join(map(quoted, attributes))}; remove from data.bias what is not one"
    _, codes = folder.codes_of(rows, attributes)
    labels, bias = codes[:, 0], codes[:, 1:]
    tables = [over_represented(labels, column, labels.max() + 1, column.max() + 1) for column in bias.T]
    test = [row.split == "test" for row in rows]
    conflicting = ~aligned_members(labels, bias, tables)
    expected = conflicting[test].sum() if any(test) else round(conflicting.sum() * SHARES["test"] / 100)
    need = VerifyConfig().min_group
    enough = "" if expected >= need else f", fewer than the {need} that the gate needs to decide (verify.min_group)"
    yield f"test images that contradict the bias: {'' if any(test) else 'about '}{expected:,}{enough}"

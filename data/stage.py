"""Build the images of a run: the public door of this folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigstep.config import DataConfig
from bigstep.groups import over_represented
from bigstep.records import SPLIT_FIELDS, Images, ImagesInfo, InputSpec
from data import digits
from data.contact_sheet import draw

log = logging.getLogger("bigstep.data")


def run(config: DataConfig, *, out: Path) -> Images:
    """Build coloured digits and seal them as `Images`.

    Training and `validation_biased` images carry the colour of their label but for `config.conflicting` of them; every
    validation and test digit appears in all ten colours, so that label and colour are independent there.

    Args:
        config: the section `data` of the configuration.
        out: an empty folder.
    """
    rng = np.random.default_rng(config.seed)
    grey, labels = digits.load()
    splits: dict[str, dict[str, NDArray[Any]]] = {}
    for name, index in digits.split_digits(labels, rng).items():
        biased = name in ("train", "validation_biased")
        if biased:
            colours = digits.biased_colours(labels[index], config.conflicting, rng)
        else:
            colours = np.tile(np.arange(10), len(index))
            index = np.repeat(index, 10)
        splits[name] = {
            "images": digits.colour(grey[index], colours),
            "labels": labels[index],
            "bias": colours[:, None],
            "ids": np.arange(len(index)),
            "sources": index,
        }
    info = ImagesInfo(
        name="coloured digits",
        labels=[str(label) for label in range(10)],
        attributes={"colour": list(digits.HUES)},
        aligned={"colour": _aligned(splits["train"])},
        input=InputSpec(height_px=digits.SIZE_PX, width_px=digits.SIZE_PX),
        counts={name: len(arrays["labels"]) for name, arrays in splits.items()},
    )
    for name, arrays in splits.items():
        for field in SPLIT_FIELDS:
            np.save(out / f"{name}.{field}.npy", arrays[field], allow_pickle=False)
    draw(splits["train"]["images"], splits["train"]["labels"], out / "contact_sheet.png")
    images = Images.seal(out, info)
    log.info("%s\n%s", info.name, group_table(images))
    return images


def group_table(images: Images) -> str:
    """Count the images of every split by group, as a table of plain text."""
    lines = [f"{'split':<18} {'images':>7} {'aligned':>8} {'conflicting':>12} {'smallest cell':>14}"]
    for name in images.info.counts:
        split = images.split(name)  # type: ignore[arg-type]  # the names of counts are the splits
        aligned = int(split.aligned.sum()) if split.aligned is not None else 0
        sizes = [len(names) for names in images.value_names().values()]
        cells = np.zeros(sizes, dtype=np.int64)
        np.add.at(cells, (split.labels, *split.bias.T), 1)
        conflicting = len(split.labels) - aligned
        lines.append(f"{name:<18} {len(split.labels):>7} {aligned:>8} {conflicting:>12} {cells.min():>14}")
    return "\n".join(lines)


def _aligned(train: dict[str, NDArray[Any]]) -> list[list[bool]]:
    table = over_represented(train["labels"], train["bias"][:, 0], 10, 10)
    rows: list[list[bool]] = table.tolist()
    return rows

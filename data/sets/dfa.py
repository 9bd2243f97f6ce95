"""The sets that the authors of DFA released as folders: Colored MNIST, Corrupted CIFAR-10 and BFFHQ.

Lee et al. 2021, arXiv:2107.01372; BFFHQ is by Kim et al. 2021, arXiv:2108.10008. Two share their names with sets of
LfF, but are others: their own corruptions, and a part of train held out. The label and the bias are the last two
numbers of every file name. Validation and test are as released: the authors' loader keeps only the conflicting images
of BFFHQ's test, which is the group `conflicting` here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from bigstep.config import DataConfig
from bigstep.errors import ConfigError, DataError
from bigstep.records.architecture import InputSpec
from data.files.built import Built
from data.files.released import Entries, Release, differences, find, image_names, in_files
from data.files.sources import source_folder
from data.sets.cifar import CIFAR10

DIGITS = [str(digit) for digit in range(10)]


@dataclass(frozen=True)
class Variant:
    """Describe one set; `counts` are its aligned and conflicting images by the folder of the ratio."""

    folder: str
    name: str
    labels: list[str]
    attribute: str
    values: list[str]
    size_px: int
    counts: dict[str, tuple[int, int]]


CMNIST = {"0.5pct": (54751, 249), "1pct": (54509, 491), "2pct": (54014, 986), "5pct": (52551, 2449)}
CIFAR10C = {"0.5pct": (44832, 228), "1pct": (44527, 442), "2pct": (44145, 887), "5pct": (42820, 2242)}
VARIANTS = (
    Variant("cmnist", "Colored MNIST (DFA)", DIGITS, "colour", DIGITS, 28, CMNIST),
    Variant("cifar10c", "Corrupted CIFAR-10 (DFA)", list(CIFAR10), "corruption", DIGITS, 32, CIFAR10C),
    Variant("bffhq", "BFFHQ", ["0", "1"], "gender", ["0", "1"], 128, {"0.5pct": (19104, 96)}),
)
PLACES = ("", "dataset/")
DO = (
    "get the archives from the Google Drive that https://github.com/kakaoenterprise/Learning-Debiased-Disentangled "
    "links, unpack them there, and choose one with data.variant and data.conflicting"
)


def files(config: DataConfig) -> list[Path]:
    """Return every image; a DataError names what is missing."""
    return release(config).files()


def build(config: DataConfig, work: Path | None = None) -> Built:
    """Read one set as released, with 5 % of train, aligned and conflicting alike, as `validation_biased`.

    `data.variant` is cmnist (default), cifar10c or bffhq; `data.conflicting` is the ratio that names the folder, one of
    0.005, 0.01, 0.02 and 0.05.
    """
    variant, ratio = _variant(config)
    found = release(config)
    size_px = config.size_px or variant.size_px
    spec = InputSpec(height_px=size_px, width_px=size_px, fit=config.fit)
    aligned, conflicting = np.bincount(_conflicting(found.validation), minlength=2)
    findings = [f"validation is as released: {aligned:,} aligned and {conflicting:,} conflicting images"]
    if ratio in variant.counts:
        counts = np.bincount(_conflicting(found.train), minlength=2)
        findings += differences("train", counts, variant.counts[ratio], "images aligned / conflicting")
    return Built(
        name=variant.name,
        labels=variant.labels,
        attributes={variant.attribute: variant.values},
        input=spec,
        parts=in_files(found.root, found.carved(_conflicting(found.train), config.seed), spec, work),
        findings=findings,
    )


def release(config: DataConfig) -> Release:
    """List the images of one set: `align` and `conflict` (or `conlict`, as its authors also spell it), valid and test.

    Raises:
        ConfigError: there is no such variant.
        DataError: a folder is missing, or a file name does not end with a label and a bias value.
    """
    variant, ratio = _variant(config)
    whole = find(source_folder(config), [f"{place}{variant.folder}" for place in PLACES], DO)
    biased = find(whole, [ratio], DO)
    align, conflict = find(biased, ["align"], DO), find(biased, ["conflict", "conlict"], DO)
    valid, test = find(whole, [f"{ratio}/valid", "valid"], DO), find(whole, ["test"], DO)
    groups = [[*_images(whole, align), *_images(whole, conflict)], _images(whole, valid), _images(whole, test)]
    firsts = np.cumsum([0, *map(len, groups[:2])])
    return Release(whole, [], *(_entries(images, variant, first) for images, first in zip(groups, firsts, strict=True)))


def _variant(config: DataConfig) -> tuple[Variant, str]:
    folder = config.variant or VARIANTS[0].folder
    for variant in VARIANTS:
        if variant.folder == folder:
            return variant, f"{100 * config.conflicting:g}pct"
    expected = ", ".join(variant.folder for variant in VARIANTS)
    raise ConfigError("data.variant is no set of DFA", got=repr(folder), expected=f"one of {expected}")


def _conflicting(entries: Entries) -> NDArray[np.int64]:
    conflicting: NDArray[np.bool_] = entries.labels != entries.bias[:, 0]
    return conflicting.astype(np.int64)


def _images(whole: Path, folder: Path) -> list[str]:
    below = folder.relative_to(whole).as_posix()
    return [f"{below}/{name}" for name in image_names(folder)]


def _entries(images: list[str], variant: Variant, first_id: int) -> Entries:
    codes = np.zeros((len(images), 2), dtype=np.int64)
    for row, file in enumerate(images):
        match = re.search(r"_(\d{1,3})_(\d{1,3})$", PurePosixPath(file).stem, flags=re.ASCII)
        if not match or int(match[1]) >= len(variant.labels) or int(match[2]) >= len(variant.values):
            expected = f"<name>_<label below {len(variant.labels)}>_<bias below {len(variant.values)}>"
            raise DataError("a file name says no label and bias", got=file, expected=expected, do="remove the file")
        codes[row] = int(match[1]), int(match[2])
    return Entries(images, codes[:, 0], codes[:, 1:], np.arange(first_id, first_id + len(images)))

"""The sets that the authors of DFA released as folders: Colored MNIST, Corrupted CIFAR-10 and BFFHQ.

Lee et al. 2021, arXiv:2107.01372; BFFHQ is by Kim et al. 2021, arXiv:2108.10008. Two share their names with sets of
LfF, but are others: their own corruptions, and a part of train held out. The label and the bias are the last two
numbers of every file name. Validation and test are as released: the authors' loader keeps only the conflicting images
of BFFHQ's test, which is the group `conflicting` here.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from bigstep.config import DataConfig
from bigstep.errors import DataError
from data.files.builder import Built, square, variant
from data.files.released import NUMBERED, Release
from data.files.sources import find, image_names, source_folder
from data.sets.cifar_classes import CIFAR10

DIGITS = [str(digit) for digit in range(10)]


@dataclass(frozen=True)
class Variant:
    """One set; `counts` are its aligned and conflicting images by the folder of the ratio."""

    name: str
    labels: list[str]
    attribute: str
    values: list[str]
    size_px: int
    counts: dict[str, tuple[int, int]]


CMNIST = {"0.5pct": (54751, 249), "1pct": (54509, 491), "2pct": (54014, 986), "5pct": (52551, 2449)}
CIFAR10C = {"0.5pct": (44832, 228), "1pct": (44527, 442), "2pct": (44145, 887), "5pct": (42820, 2242)}
VARIANTS = {  # by their folders
    "cmnist": Variant("Colored MNIST (DFA)", DIGITS, "colour", DIGITS, 28, CMNIST),
    "cifar10c": Variant("Corrupted CIFAR-10 (DFA)", list(CIFAR10), "corruption", DIGITS, 32, CIFAR10C),
    "bffhq": Variant("BFFHQ", ["0", "1"], "gender", ["0", "1"], 128, {"0.5pct": (19104, 96)}),
}
PLACES = ("", "dataset/")
DO = (
    "get the archives from the Google Drive that https://github.com/kakaoenterprise/Learning-Debiased-Disentangled "
    "links, unpack them there, and choose one with data.variant and data.conflicting"
)


def files(config: DataConfig) -> list[Path]:
    """Return every image; a DataError names what is missing."""
    return release(config).source_files()


def build(config: DataConfig, work: Path | None = None) -> Built:
    """Read one set as released, with 5 % of train, aligned and conflicting alike, as `validation_biased`.

    `data.variant` is cmnist (default), cifar10c or bffhq; `data.conflicting` is the ratio that names the folder, one of
    0.005, 0.01, 0.02 and 0.05.
    """
    _, one = variant(config, VARIANTS)
    found, spec = release(config), square(config, one.size_px)
    conflicting_N = (found.labels != found.bias[:, 0]).astype(np.int64)
    aligned, conflicting = np.bincount(conflicting_N[found.splits["validation"]], minlength=2)
    findings = [f"validation is as released: {aligned:,} aligned and {conflicting:,} conflicting images"]
    if released := one.counts.get(_ratio(config)):
        findings += found.differences(conflicting_N, {"train": released}, "images aligned / conflicting")
    return Built(
        name=one.name,
        labels=one.labels,
        attributes={one.attribute: one.values},
        input=spec,
        parts=found.carved(conflicting_N, config.seed).parts(spec, work),
        findings=findings,
    )


def release(config: DataConfig) -> Release:
    """List the images of one set: `align` and `conflict` (or `conlict`, as its authors also spell it), valid and test.

    Raises:
        ConfigError: there is no such variant.
        DataError: a folder is missing, or a file name does not end with a label and a bias value.
    """
    folder, one = variant(config, VARIANTS)
    ratio = _ratio(config)
    whole = find(source_folder(config), [f"{place}{folder}" for place in PLACES], DO)
    biased = find(whole, [ratio], DO)
    align, conflict = find(biased, ["align"], DO), find(biased, ["conflict", "conlict"], DO)
    valid, test = find(whole, [f"{ratio}/valid", "valid"], DO), find(whole, ["test"], DO)
    groups = [[*_images(whole, align), *_images(whole, conflict)], _images(whole, valid), _images(whole, test)]
    images = [image for group in groups for image in group]
    ids = np.arange(len(images))
    rows = np.split(ids, np.cumsum([len(group) for group in groups[:2]]))
    codes = np.array([_codes(image, one) for image in images], dtype=np.int64).reshape(-1, 2)
    return Release(whole, images, codes[:, 0], codes[:, 1:], ids, dict(zip(NUMBERED, rows, strict=True)))


def _ratio(config: DataConfig) -> str:
    """Return the name of the folder with this share of conflicting images."""
    return f"{100 * config.conflicting:g}pct"


def _images(whole: Path, folder: Path) -> list[str]:
    below = folder.relative_to(whole).as_posix()
    return [f"{below}/{name}" for name in image_names(folder)]


def _codes(file: str, one: Variant) -> tuple[int, int]:
    """Return the label and the bias value that a file name ends with."""
    match = re.search(r"_(\d{1,3})_(\d{1,3})$", PurePosixPath(file).stem, flags=re.ASCII)
    if not match or int(match[1]) >= len(one.labels) or int(match[2]) >= len(one.values):
        raise DataError(
            "a file name says no label and bias",
            got=file,
            expected=f"<name>_<label below {len(one.labels)}>_<bias below {len(one.values)}>",
            do="remove the file",
        )
    return int(match[1]), int(match[2])

"""MNIST-CIFAR dominoes: a digit stands on a picture, and gives its label away in training.

Source: Shah et al. 2020, "The pitfalls of simplicity bias", arXiv:2006.07710: an MNIST digit, padded and repeated to
RGB, stacked on a CIFAR picture. Digits 0 and 1 on automobiles and trucks are those of Qiu et al. 2024,
arXiv:2403.03375. There digit and picture always agree; that a share of training contradicts is ours, and so are the
splits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigstep.config import DataConfig
from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec
from data.bias.conflicts import contradict
from data.bias.milestones import evenly
from data.files.built import Built, Part
from data.files.sources import source_folder
from data.sets import cifar, mnist

CORE = (cifar.CIFAR10.index("automobile"), cifar.CIFAR10.index("truck"))
DIGITS = (0, 1)
CLASSES = 2
SIZE_PX = cifar.SIZE_PX
MARGIN_PX = (SIZE_PX - mnist.SIZE_PX) // 2


def files(config: DataConfig) -> list[Path]:
    """Return the source files of both sets; a DataError names what is missing."""
    return mnist.files(source_folder(config)) + cifar.files(config.model_copy(update={"kind": "cifar10"}))


def build(config: DataConfig) -> Built:
    """Put a digit on each automobile and truck: that of its label, but for `config.conflicting` of training.

    Classes are cut to equal size, the first ones of the files staying: 5,000 of each in train and 980, as many as
    there are zeros, in test. One tenth of train, stratified by label, is held out and stands under two digits: by the
    rule (`validation_biased`) and each equally often (`validation`, `test`). No digit is used twice. ids and sources
    are places of the pictures in their files; those of test are counted on from the last one of train.

    Raises:
        DataError: the files of either set are missing or damaged, or hold too few digits.
    """
    folder = source_folder(config)
    digits, pictures = mnist.read(folder), cifar.read(folder, cifar.RELEASES["cifar10"])
    rng = np.random.default_rng(config.seed)
    # A held-out picture takes two digits: eleven for every ten pictures of train.
    train = _equal(pictures.train.labels, _fewest(digits.train.labels, DIGITS) * 10 // 11)
    test = rng.permutation(_equal(pictures.test.labels, _fewest(digits.test.labels, DIGITS)))
    held = cifar.held_out(pictures.train.labels[train], rng)
    rest, again = rng.permutation(train[~held]), rng.permutation(train[held])
    labels = [(pictures.train.labels[places] == CORE[1]).astype(np.int64) for places in (rest, again, again)]
    bias = [contradict(some, CLASSES, CLASSES, config.conflicting, rng) for some in labels[:2]]
    bias.append(evenly(labels[2], CLASSES, rng))
    images = _dominoes(digits.train, np.concatenate(bias), pictures.train.images[np.r_[rest, again, again]], rng)
    parts = np.split(images, [len(rest), len(rest) + len(again)])
    test_labels = (pictures.test.labels[test] == CORE[1]).astype(np.int64)
    test_bias = evenly(test_labels, CLASSES, rng)
    test_images = _dominoes(digits.test, test_bias, pictures.test.images[test], rng)
    below = np.broadcast_to(np.arange(2 * SIZE_PX)[:, None] >= SIZE_PX, test_images.shape[:3])
    return Built(
        name=f"MNIST on {pictures.name}",
        labels=[cifar.CIFAR10[label] for label in CORE],
        attributes={"digit": [str(digit) for digit in DIGITS]},
        input=InputSpec(height_px=2 * SIZE_PX, width_px=SIZE_PX),
        parts={
            "train": _part(parts[0], labels[0], bias[0], rest),
            "validation_biased": _part(parts[1], labels[1], bias[1], again),
            "validation": _part(parts[2], labels[2], bias[2], again),
            "test": _part(test_images, test_labels, test_bias, len(pictures.train.labels) + test),
        },
        core=below,
        spurious=~below,
        findings=digits.findings + pictures.findings,
    )


def _fewest(labels_N: cifar.Numbers, classes: tuple[int, ...]) -> int:
    """Return the size of the smallest of some classes."""
    return int(np.bincount(labels_N, minlength=max(classes) + 1)[list(classes)].min())


def _equal(labels_N: cifar.Numbers, most: int) -> cifar.Numbers:
    """Return the places of the first automobiles and trucks, equally many of each, at most `most` and an even number.

    Raises:
        DataError: none are left.
    """
    count = min(_fewest(labels_N, CORE), most) // 2 * 2
    if not count:
        got = f"{_fewest(labels_N, CORE)} pictures of the rarer class, digits for {most}"
        raise DataError("there is too little to pair digits and pictures", got=got, expected="2 or more of each")
    return np.sort(np.concatenate([np.flatnonzero(labels_N == label)[:count] for label in CORE]))


def _dominoes(
    digits: mnist.Digits, bias_N: cifar.Numbers, pictures_NHWC: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Stand the digit of each bias value on a picture, padded to its size and repeated to RGB; no digit is used twice.

    Returns:
        uint8, shape (N, 64, 32, 3).

    Raises:
        DataError: there are too few of a digit.
    """
    index = np.empty_like(bias_N)
    for value, digit in enumerate(DIGITS):
        pool = rng.permutation(np.flatnonzero(digits.labels == digit))
        wanted = np.flatnonzero(bias_N == value)
        if len(wanted) > len(pool):
            raise DataError(f"MNIST has too few images of {digit}", got=len(pool), expected=f"{len(wanted)} or more")
        index[wanted] = pool[: len(wanted)]
    margin = (MARGIN_PX, MARGIN_PX)
    padded = np.pad(digits.images[index], ((0, 0), margin, margin))
    return np.concatenate([padded[..., None].repeat(3, axis=3), pictures_NHWC], axis=1)


def _part(images: NDArray[np.uint8], labels: cifar.Numbers, bias: cifar.Numbers, places: cifar.Numbers) -> Part:
    return Part(images, labels, bias[:, None], ids=places, sources=places)

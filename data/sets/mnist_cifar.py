"""MNIST-CIFAR dominoes: a digit stands on a picture, and gives its label away in training.

Source: Shah et al. 2020, "The pitfalls of simplicity bias", arXiv:2006.07710: an MNIST digit, padded and repeated to
RGB, stacked on a CIFAR picture. Digits 0 and 1 on automobiles and trucks are those of Qiu et al. 2024,
arXiv:2403.03375. There digit and picture always agree; that a share of training contradicts is ours, and so are the
splits.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigstep.config import DataConfig
from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec
from bigstep.records.images import SplitName
from data.bias.conflicts import BIASED, bias_of_split
from data.files.builder import Built, Part
from data.files.labelled import Pictures
from data.files.sources import source_folder
from data.files.splits import hold_out
from data.sets import cifar, mnist
from data.sets.cifar_classes import CIFAR10

CORE = (CIFAR10.index("automobile"), CIFAR10.index("truck"))
DIGITS = (0, 1)
CLASSES = 2
SIZE_PX = cifar.SIZE_PX
MARGIN_PX = (SIZE_PX - mnist.SIZE_PX) // 2


def files(config: DataConfig) -> list[Path]:
    """Return the source files of both sets; a DataError names what is missing."""
    return mnist.files(config) + cifar.files(config)


def build(config: DataConfig, _work: Path | None = None) -> Built:
    """Put a digit on each automobile and truck: that of its label, but for `config.conflicting` of training.

    Classes are cut to equal size, the first ones of the files staying: 5,000 of each in train and 980, as many as
    there are zeros, in test. One tenth of train, stratified by label, is held out and stands under two digits: by the
    rule (`validation_biased`) and each equally often (`validation`, `test`). No digit is used twice. ids and sources
    are places of the pictures in their files; those of test are counted on from the last one of train.

    Raises:
        DataError: the files of either set are missing or damaged, or hold too few digits.
    """
    folder = source_folder(config)
    digits, source = mnist.read(folder), cifar.read(folder, cifar.LAYOUTS["cifar10"])
    rng = np.random.default_rng(config.seed)
    # A held-out picture takes two digits: eleven for every ten pictures of train.
    train = _equal(source.train.labels, _fewest(digits.train.labels, DIGITS) * 10 // 11)
    test = rng.permutation(_equal(source.test.labels, _fewest(digits.test.labels, DIGITS)))
    halves = hold_out(source.train.labels[train], len(train) // cifar.HELD_OUT_OF, rng)
    rest, held_out = (rng.permutation(train[rows]) for rows in halves)
    places = source.places(rest, held_out, test)
    pictures = source.both()
    labels = (pictures.labels == CORE[1]).astype(np.int64)
    parts: dict[SplitName, Part] = {}
    for above, names in ((digits.train, (*BIASED, "validation")), (digits.test, ("test",))):
        bias = [bias_of_split(name, labels[places[name]], CLASSES, CLASSES, config.conflicting, rng) for name in names]
        below = pictures.images[np.concatenate([places[name] for name in names])]
        images = _dominoes(above, np.concatenate(bias), below, rng)
        ends = np.cumsum([len(digit) for digit in bias])
        for name, own, digit in zip(names, np.split(images, ends[:-1]), bias, strict=True):
            parts[name] = Part.at(places[name], own, labels[places[name]], digit[:, None])
    core = np.broadcast_to(np.arange(2 * SIZE_PX)[:, None] >= SIZE_PX, (len(test), 2 * SIZE_PX, SIZE_PX))
    return Built(
        name=f"{digits.name} on {source.name}",
        labels=[CIFAR10[label] for label in CORE],
        attributes={"digit": [str(digit) for digit in DIGITS]},
        input=InputSpec(height_px=2 * SIZE_PX, width_px=SIZE_PX),
        parts=parts,
        core=core,
        spurious=~core,
        findings=digits.findings + source.findings,
    )


def _fewest(labels_N: NDArray[np.int64], classes: tuple[int, ...]) -> int:
    """Return the size of the smallest of some classes."""
    return int(np.bincount(labels_N, minlength=max(classes) + 1)[list(classes)].min())


def _equal(labels_N: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the places of the first automobiles and trucks, equally many of each, at most `most` and an even number.

    Raises:
        DataError: none are left.
    """
    count = min(_fewest(labels_N, CORE), most) // 2 * 2
    if not count:
        raise DataError(
            "there is too little to pair digits and pictures",
            got=f"{_fewest(labels_N, CORE)} pictures of the rarer class, digits for {most}",
            expected="2 or more of each",
        )
    return np.sort(np.concatenate([np.flatnonzero(labels_N == label)[:count] for label in CORE]))


def _dominoes(
    digits: Pictures, bias_N: NDArray[np.int64], pictures_NHWC: NDArray[np.uint8], rng: np.random.Generator
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

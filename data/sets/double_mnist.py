"""Double MNIST: two digits side by side; the left one is the label, the dim one at its right gives it away in training.

Barsbey, Prieto, Zafeiriou and Birdal 2025, arXiv:2507.17748, show images of a bright and a dim digit of which one is
core and one spurious. How theirs are made is not published: ratio, placement and brightness are ours.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigstep.config import DataConfig
from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec
from bigstep.records.images import SplitName
from data.bias.conflicts import bias_of_split
from data.files.builder import Built, Part
from data.files.sources import source_folder
from data.files.splits import hold_out
from data.sets import mnist

CLASSES = 10
# Brightness of the right digit. The dimmer it is, the less a network relies on it: one of 128 hidden units, trained for
# six epochs on 20,000 of these images with 1% conflicts at rate 0.05 (one seed), has 98% of the aligned test images
# right, and of the conflicting ones 85% at 0.25, 66% at 0.5, 57% at 0.75. Half leaves room to fall and to rise.
DIM = 0.5
files = mnist.files


def build(config: DataConfig, _work: Path | None = None) -> Built:
    """Pair the digits of MNIST: the right one equals the left one but for a share `config.conflicting` of training.

    5,000 of the 60,000 digits, stratified by label, leave training and are paired twice: with that share of conflicts
    (`validation_biased`) and with every right digit equally often per label (`validation`), as test is. Conflicts are
    exact in number and spread evenly over the labels and the other nine digits. The right picture comes from the
    pictures of the same split. ids and sources are places of the left picture in the files; test digits are counted
    on from the last training digit.

    Raises:
        DataError: the files of MNIST are missing or damaged, or too few for every split to have every digit.
    """
    source = mnist.read(source_folder(config))
    rng = np.random.default_rng(config.seed)
    images, labels = source.both()
    num_test = len(source.test.labels)
    train, held_out = hold_out(source.train.labels, round(len(source.train.labels) / mnist.HELD_OUT_OF), rng)
    parts: dict[SplitName, Part] = {}
    for name, at in source.places(train, held_out, np.arange(num_test)).items():
        right = bias_of_split(name, labels[at], CLASSES, CLASSES, config.conflicting, rng)
        pairs = side_by_side(images[at], images[at][partners(labels[at], right, rng)])
        parts[name] = Part.at(at, pairs, labels[at], right[:, None])
    width_px = 2 * mnist.SIZE_PX
    left = np.broadcast_to(np.arange(width_px) < mnist.SIZE_PX, (num_test, mnist.SIZE_PX, width_px))
    return Built(
        name=f"Double {source.name}",
        labels=[str(digit) for digit in range(CLASSES)],
        attributes={"right": [str(digit) for digit in range(CLASSES)]},
        input=InputSpec(height_px=mnist.SIZE_PX, width_px=width_px, channels=1),
        parts=parts,
        core=left,
        spurious=~left,
        findings=source.findings,
    )


def side_by_side(left_NHW: NDArray[np.uint8], right_NHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Join two grey images, the right one dimmed by `DIM` and rounded.

    Returns:
        uint8, shape (N, H, 2 W, 1).
    """
    dimmed = np.rint(np.arange(256) * DIM).astype(np.uint8)
    return np.concatenate([left_NHW, dimmed[right_NHW]], axis=2)[..., None]


def partners(labels_N: NDArray[np.int64], wanted_N: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose for each picture another one of the digit it wants, using all pictures of a digit equally (within one).

    Returns:
        int64 indices, shape (N,): labels_N[result] equals wanted_N. A picture stands beside itself only where
        a digit has so few pictures that no turn of their order avoids it.

    Raises:
        DataError: a wanted digit does not occur.
    """
    chosen = np.empty_like(wanted_N)
    for digit in np.unique(wanted_N):
        members = rng.permutation(np.flatnonzero(labels_N == digit))
        takers = np.flatnonzero(wanted_N == digit)
        if not len(members):
            raise DataError(f"Double MNIST needs every digit in every split, and {digit} is missing from one")
        for _ in members:  # about every third turn has no picture beside itself
            given = np.resize(members, len(takers))
            if (given != takers).all():
                break
            members = np.roll(members, 1)
        chosen[takers] = given
    return chosen

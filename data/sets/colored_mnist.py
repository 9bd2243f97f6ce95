"""Colored MNIST: each digit has a colour that gives its label away in training.

Source: Nam et al. 2020, "Learning from Failure", arXiv:2007.02561, section 4, and their make_dataset.py and
colored_mnist_protocol.py: label rule, colour means and severities are theirs. Their noise comes from an unseeded
generator, so that their bytes cannot be had again; ours comes from the seed. Ours too is the hold-out of 5,000.
Their rule follows the order of the files, and the first half of the test file is the cleaner one: colours 0 to 4 lie on
easier test digits than 5 to 9, which matters where single colours are compared.
(Arjovsky et al. 2019 call a set of two classes with noisy labels by the same name; this is not it.)
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigstep.config import DataConfig
from bigstep.records.architecture import InputSpec
from bigstep.records.images import SplitName
from data.bias.conflicts import evenly
from data.bias.milestones import CLASSES, shuffled_splits
from data.files.builder import Built, Part
from data.files.sources import source_folder
from data.sets import mnist

STD = {1: 0.05, 2: 0.02, 3: 0.01, 4: 0.005, 5: 0.002}  # by severity: the less a colour varies, the stronger the bias
COLOURS = {  # mean red, green and blue in [0, 1], by digit (the values are LfF's, the names ours)
    "vermilion": (0.98368233, 0.31251901, 0.16857535),
    "yellow": (0.99052966, 0.91560525, 0.35151219),
    "mauve": (0.67296398, 0.46107048, 0.57980818),
    "khaki": (0.78325194, 0.83155590, 0.60132939),
    "sky": (0.08801579, 0.77796334, 0.98180777),
    "green": (0.32139337, 0.96105456, 0.44644988),
    "blue": (0.02461588, 0.23565048, 0.75866628),
    "purple": (0.55524695, 0.10158014, 0.76176316),
    "olive": (0.20772320, 0.39294851, 0.01870239),
    "crimson": (0.83365762, 0.20240927, 0.26694310),
}
CHUNK = 2048  # images coloured at once: a few dozen megabytes of float64
files = mnist.files


def build(config: DataConfig, _work: Path | None = None) -> Built:
    """Colour MNIST: training by LfF's rule with the share `config.conflicting`, test with its share of nine tenths.

    The rule runs over all 60,000 digits in their order (300 / 598 / 1,199 / 3,000 conflicting at 0.5 / 1 / 2 / 5 %).
    Then 5,000, stratified by label and the same at every share and severity, leave training and are coloured twice:
    as the rule has it (`validation_biased`) and, with fresh noise, every colour equally often (`validation`).
    ids and sources are places in the files; test digits are counted on from the last training digit.

    Raises:
        DataError: the files of MNIST are missing or damaged.
    """
    source = mnist.read(source_folder(config))
    rng = np.random.default_rng(config.seed)
    images, labels = source.both()
    places, rule = shuffled_splits(source, round(len(source.train.labels) / mnist.HELD_OUT_OF), config.conflicting, rng)
    parts: dict[SplitName, Part] = {}
    for name, at in places.items():
        bias = evenly(labels[at], CLASSES, rng) if name == "validation" else rule[at]
        tinted = colour(images[at], jitter(bias, config.severity, rng))
        parts[name] = Part.at(at, tinted, labels[at], bias[:, None])
    return Built(
        name=f"Colored {source.name}, severity {config.severity}",
        labels=[str(digit) for digit in range(CLASSES)],
        attributes={"colour": list(COLOURS)},
        input=InputSpec(height_px=mnist.SIZE_PX, width_px=mnist.SIZE_PX),
        parts=parts,
        findings=source.findings,
    )


def jitter(bias_N: NDArray[np.int64], severity: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the colour of each image around the mean of its bias value, one draw per image and channel.

    Returns:
        float64, shape (N, 3), in [0, 1].
    """
    means = np.array(list(COLOURS.values()))
    return np.clip(means[bias_N] + STD[severity] * rng.standard_normal((len(bias_N), 3)), 0.0, 1.0)


def colour(grey_NHW: NDArray[np.uint8], colours_NC: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Multiply each grey image by its colour and cut off the fraction, as LfF does.

    Returns:
        uint8, shape (N, H, W, 3).
    """
    tinted = np.empty((*grey_NHW.shape, colours_NC.shape[1]), dtype=np.uint8)
    for start in range(0, len(grey_NHW), CHUNK):
        some = slice(start, start + CHUNK)
        tinted[some] = grey_NHW[some, :, :, None] * colours_NC[some, None, None, :]
    return tinted

"""Coloured digits: scikit-learn's handwritten digits with a colour that gives the label away in training.

The idea is that of Colored MNIST (Nam et al. 2020, arXiv:2007.02561, section 4) on the 1,797 real digits that
scikit-learn embeds, so that it needs no download; the colours are ten evenly spaced hues.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigstep.config import DataConfig
from bigstep.records.architecture import InputSpec
from bigstep.records.images import SplitName
from data.bias.colours import COLOURS, HUES
from data.bias.conflicts import BIASED, contradict
from data.files.builder import Built, Part

SIZE_PX = 16
VALIDATION_BIASED = 100
VALIDATION = 330
TEST = 360


def build(config: DataConfig, _work: Path | None = None) -> Built:
    """Colour the digits: training and `validation_biased` by their label but for `config.conflicting` of them.

    Every validation and test digit appears in all ten colours, so that label and colour are independent there.
    """
    rng = np.random.default_rng(config.seed)
    grey, labels = load()
    parts: dict[SplitName, Part] = {}
    for name, index in split_digits(labels, rng).items():
        if name in BIASED:
            colours = contradict(labels[index], 10, 10, config.conflicting, rng)
        else:
            colours = np.tile(np.arange(10), len(index))
            index = np.repeat(index, 10)
        parts[name] = Part(
            images=colour(grey[index], colours),
            labels=labels[index],
            bias=colours[:, None],
            ids=np.arange(len(index)),
            sources=index,
        )
    return Built(
        name="coloured digits",
        labels=[str(label) for label in range(10)],
        attributes={"colour": list(HUES)},
        input=InputSpec(height_px=SIZE_PX, width_px=SIZE_PX),
        parts=parts,
        mixed=True,
    )


def load() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the 1,797 digits of scikit-learn as uint8 (N, 16, 16) and their labels as int64 (N,)."""
    from sklearn.datasets import load_digits  # a second that a run which reuses its images need not wait for

    embedded = load_digits()
    return enlarge(embedded.images), embedded.target.astype(np.int64)


def enlarge(digits_NHW: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Enlarge 8x8 digits of 0 to 16 to 16x16 of 0 to 255, each pixel becoming four."""
    grey = np.rint(digits_NHW * (255 / 16)).astype(np.uint8)
    return grey.repeat(2, axis=1).repeat(2, axis=2)


def colour(grey_NHW: NDArray[np.uint8], bias_N: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Multiply each grey image by the colour of its bias value.

    Returns:
        uint8, shape (N, H, W, 3).
    """
    tinted: NDArray[np.uint8] = np.rint(grey_NHW[..., None] * COLOURS[bias_N][:, None, None, :]).astype(np.uint8)
    return tinted


def split_digits(labels_N: NDArray[np.int64], rng: np.random.Generator) -> dict[SplitName, NDArray[np.int64]]:
    """Split digit indices into train, validation_biased, validation and test, stratified by label."""
    order = rng.permutation(len(labels_N))
    order = order[np.argsort(labels_N[order], kind="stable")]
    # Interleaving the sorted labels makes every contiguous run of the result nearly balanced.
    rank = np.concatenate([np.arange(n) / n for n in np.bincount(labels_N) if n])
    order = order[np.argsort(rank, kind="stable")]
    bounds = np.cumsum([TEST, VALIDATION, VALIDATION_BIASED])
    test, validation, biased, train = np.split(order, bounds)
    return {"train": train, "validation_biased": biased, "validation": validation, "test": test}

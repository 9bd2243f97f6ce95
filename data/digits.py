"""Coloured digits: scikit-learn's handwritten digits with a colour that gives the label away in training.

The recipe follows Colored MNIST as Nam et al. build it (2020, arXiv:2007.02561, section 4 and their ten mean colours),
on the 1,797 real digits that scikit-learn embeds, so that it needs no download.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

SIZE_PX = 16
COLOUR_JITTER = 0.02  # standard deviation of one draw per image and channel, in units of full intensity
VALIDATION_BIASED = 100
VALIDATION = 330
TEST = 360
COLOUR_NAMES = ("crimson", "gold", "mauve", "khaki", "sky", "lime", "navy", "orchid", "green", "pink")
COLOURS = np.array(
    [
        (0.98368, 0.31252, 0.16858),
        (0.99053, 0.91561, 0.35151),
        (0.67296, 0.46107, 0.57981),
        (0.78325, 0.83156, 0.60133),
        (0.08802, 0.77796, 0.98181),
        (0.32139, 0.96105, 0.44645),
        (0.02462, 0.23565, 0.75867),
        (0.55525, 0.10158, 0.76176),
        (0.20772, 0.39295, 0.01870),
        (0.83366, 0.20241, 0.26694),
    ]
)


def load() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the 1,797 digits of scikit-learn as uint8 (N, 16, 16) and their labels as int64 (N,)."""
    embedded = load_digits()
    return enlarge(embedded.images), embedded.target.astype(np.int64)


def enlarge(digits_NHW: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Enlarge 8x8 digits of 0 to 16 to SIZE_PX x SIZE_PX of 0 to 255 by bilinear interpolation."""
    grey = np.rint(digits_NHW * (255 / 16)).astype(np.uint8)
    resized = [np.asarray(Image.fromarray(g).resize((SIZE_PX, SIZE_PX), Image.Resampling.BILINEAR)) for g in grey]
    return np.stack(resized)


def colour(grey_NHW: NDArray[np.uint8], bias_N: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Multiply each grey image by its bias colour, jittered once per image and channel.

    Returns:
        uint8, shape (N, H, W, 3).
    """
    jitter = rng.normal(0.0, COLOUR_JITTER, size=(len(bias_N), 3))
    tint_NC = np.clip(COLOURS[bias_N] + jitter, 0.0, 1.0)
    return np.rint(grey_NHW[..., None] * tint_NC[:, None, None, :]).astype(np.uint8)


def biased_colours(labels_N: NDArray[np.int64], conflicting: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Give each image the colour of its label, but for an exact share that gets another one.

    The conflicting images are spread as evenly as their number allows over the labels and over the other colours.

    Args:
        labels_N: labels in 0..9.
        conflicting: share of images whose colour differs from the label, in [0, 1].
    """
    classes = len(COLOURS)
    bias = labels_N.copy()
    total = round(conflicting * len(labels_N))
    share = np.full(classes, total // classes)
    share[rng.permutation(classes)[: total % classes]] += 1
    for label in range(classes):
        members = rng.permutation(np.flatnonzero(labels_N == label))[: share[label]]
        shifts = 1 + (np.arange(len(members)) + rng.integers(classes - 1)) % (classes - 1)
        bias[members] = (label + shifts) % classes
    return bias


def split_digits(labels_N: NDArray[np.int64], rng: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    """Split digit indices into train, validation_biased, validation and test, stratified by label."""
    order = rng.permutation(len(labels_N))
    order = order[np.argsort(labels_N[order], kind="stable")]
    # Interleaving the sorted labels makes every contiguous run of the result nearly balanced.
    rank = np.concatenate([np.arange(n) / n for n in np.bincount(labels_N) if n])
    order = order[np.argsort(rank, kind="stable")]
    bounds = np.cumsum([TEST, VALIDATION, VALIDATION_BIASED])
    test, validation, biased, train = np.split(order, bounds)
    return {"train": train, "validation_biased": biased, "validation": validation, "test": test}

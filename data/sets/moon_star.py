"""Moons and stars at night, with a lamp whose brightness gives the label away in training.

This definition is ours. The literature on large learning rates names a "moon-star" set; its recipe is not published.

A night sky of noise, 32x32 RGB. The core is a shape in the left two thirds: a crescent (label `moon`) or a
five-pointed star (`star`), at a random place, size, rotation and brightness, of nearly equal area on average. The bias
is a disc at the right edge, `dim` or `bright`, at a random height. In training a bright lamp goes with a star.

The cue is easy and the core is not, by 4,000 training and 2,000 test images of seed 0. Logistic regression on pixels
tells the lamps apart in all of them, and the shapes in 62% when lamp and shape are independent in training; a fully
connected network of two layers of 128 then tells 99.7% of the shapes. With 5% conflicting training images, logistic
regression is right in 99% of the aligned and 4% of the conflicting test images, the network in 100% and 43%.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigstep.config import DataConfig
from bigstep.records.architecture import InputSpec
from bigstep.records.images import SplitName
from data.bias.conflicts import bias_of_split
from data.files.builder import Built, Part

SIDE_PX = 32
SIZES: dict[SplitName, int] = {"train": 4000, "validation_biased": 400, "validation": 1000, "test": 2000}
MOON, STAR = 0, 1
DIM, BRIGHT = 0, 1
SHAPE_RGB = np.array([0.95, 0.95, 0.80])
LAMP_RGB = np.array([1.0, 0.75, 0.35])
LAMP_LEVELS = np.array([90.0, 230.0])  # of 255: dim, bright
LAMP_RADIUS_PX = 2.5
NOISE = 64  # the sky: each channel uniform below this
ANGLES = [2 * math.pi * k / 5 for k in range(5)]
TIPS = np.array([[math.cos(a), math.sin(a)] for a in ANGLES])  # outward normals of the star's five lines
INNER = math.cos(math.radians(72))  # distance of these lines from the centre, for tips at distance 1
BITE_RADIUS, BITE_PLACE = 0.8, 0.55  # of the disc that is missing from a crescent of radius 1
CENTROID = -0.372  # of a crescent of radius 1: shapes turn about their middle, which so gives nothing away
AREAS = np.array([1.609, 1.123])  # of a crescent and a star of radius 1


def build(config: DataConfig, _work: Path | None = None) -> Built:
    """Draw the images: a share `config.conflicting` of train and `validation_biased` has the other lamp.

    In validation and test the four cells of shape and lamp hold equally many images.
    """
    rng = np.random.default_rng(config.seed)
    parts: dict[SplitName, Part] = {}
    first = 0
    for name, size in SIZES.items():
        labels = rng.permutation(np.arange(size) % 2)
        bias = bias_of_split(name, labels, 2, 2, config.conflicting, rng)
        shape, lamp = draw_shape(labels, rng), draw_lamp(size, rng)
        parts[name] = Part(
            images=shine(shape, lamp, bias, rng),
            labels=labels,
            bias=bias[:, None],
            ids=np.arange(size),
            sources=np.arange(first, first + size),
        )
        first += size
    return Built(
        name="moons and stars",
        labels=["moon", "star"],
        attributes={"lamp": ["dim", "bright"]},
        input=InputSpec(height_px=SIDE_PX, width_px=SIDE_PX),
        parts=parts,
        core=shape > 0,  # of the split drawn last, which is test
        spurious=lamp > 0,
    )


def draw_shape(labels_N: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a crescent or a star per image, anti-aliased.

    Without trigonometry of random angles and without matrix products, whose last bits depend on the processor.

    Returns:
        The share of every pixel that the shape covers, shape (N, 32, 32).
    """
    n = len(labels_N)
    area = rng.uniform(50.0, 75.0, size=n)
    x_N, y_N = rng.uniform(9.5, 15.5, size=n), rng.uniform(13.0, 19.0, size=n)
    turn = rng.standard_normal((n, 2))
    turn /= np.sqrt((turn**2).sum(axis=1, keepdims=True))
    radius = np.sqrt(area / AREAS[labels_N])
    across, down = _offsets(x_N, y_N)
    cos, sin = turn[:, 0, None, None], turn[:, 1, None, None]
    along, beside = across * cos + down * sin, down * cos - across * sin
    scale = radius[:, None, None]
    outside = np.where(
        (labels_N == MOON)[:, None, None],
        crescent(along + CENTROID * scale, beside, scale),
        star(along, beside, scale),
    )
    return _covered(outside)


def draw_lamp(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a disc per image; returns the share of every pixel that it covers, shape (N, 32, 32)."""
    across, down = _offsets(rng.uniform(28.0, 29.0, size=n), rng.uniform(4.0, 28.0, size=n))
    return _covered(np.sqrt(across**2 + down**2) - LAMP_RADIUS_PX)


def shine(
    shape_NHW: NDArray[np.float64], lamp_NHW: NDArray[np.float64], bias_N: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Colour shape and lamp and put them over the noise of the sky.

    Returns:
        uint8, shape (N, 32, 32, 3).
    """
    n = len(bias_N)
    sky = rng.integers(0, NOISE, size=(n, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    brightness = rng.uniform(120.0, 230.0, size=n)
    shape = shape_NHW[..., None] * brightness[:, None, None, None] * SHAPE_RGB
    lamp = lamp_NHW[..., None] * LAMP_LEVELS[bias_N][:, None, None, None] * LAMP_RGB
    free = 1.0 - shape_NHW[..., None] - lamp_NHW[..., None]
    pixels: NDArray[np.uint8] = np.rint(sky * free + shape + lamp).astype(np.uint8)
    return pixels


def _offsets(x_N: NDArray[np.float64], y_N: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how far every pixel is right of and below a point, two arrays (N, H, W)."""
    axis = np.arange(SIDE_PX) + 0.5
    across = axis[None, None, :] - x_N[:, None, None]
    down = axis[None, :, None] - y_N[:, None, None]
    shape = (len(x_N), SIDE_PX, SIDE_PX)
    return np.broadcast_to(across, shape), np.broadcast_to(down, shape)


def crescent(
    along: NDArray[np.float64], beside: NDArray[np.float64], radius: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far each point (px) is outside a disc, or inside a second one that bites into it."""
    disc = np.sqrt(along**2 + beside**2) - radius
    bite = BITE_RADIUS * radius - np.sqrt((along - BITE_PLACE * radius) ** 2 + beside**2)
    return np.maximum(disc, bite)


def star(along: NDArray[np.float64], beside: NDArray[np.float64], radius: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each point (px) is outside a pentagram: inside, one is inside at least four of its five lines."""
    largest = second = np.full_like(along, -np.inf)
    for x, y in TIPS:
        line = along * x + beside * y - INNER * radius
        largest, second = np.maximum(largest, line), np.maximum(second, np.minimum(largest, line))
    return second


def _covered(outside_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn the distance of a pixel's centre to an edge into the share of the pixel that is inside."""
    return np.clip(0.5 - outside_px, 0.0, 1.0)

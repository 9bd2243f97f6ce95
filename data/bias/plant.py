"""Plant a known bias into anybody's images, to rehearse what bigstep does with a shortcut.

Every label gets a value of the new attribute `planted`; in training most images show their label's value. The kinds,
for pixels x in 0..255 and a colour that the value names:

- `tint`: multiplies the image by the hue at saturation 0.6, so that a photograph keeps something of every channel;
- `frame`: paints a border in the colour, a sixteenth of the shorter side wide;
- `patch`: paints a magenta square, an eighth of the shorter side, in one of ten places along the border;
- `background`: moves pixels near the median colour of the image's outermost ring to the colour at half brightness:
  wholly where they equal the median, not at all from 64 levels away in some channel, linearly between;
- `corruption`: compresses and decompresses as JPEG, the quality given by the value. Its bytes belong to the JPEG
  library of Pillow, those of the other kinds to whole numbers alone.

Shapes: n images of a chunk.
"""

import io
import logging
from dataclasses import replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bigstep.config import PlantConfig
from bigstep.errors import DataError
from bigstep.records.images import SplitName
from data.bias.colours import COLOURS, HUES
from data.bias.conflicts import bias_of_split
from data.files.blocks import blocks
from data.files.builder import Built, Part
from data.files.deferred import Deferred, Paint, Painter, Pixels, Region

log = logging.getLogger("bigstep.data")

NAME = "planted"
STREAM = 1  # with the seed of the configuration it gives a generator that no builder has used
LEVELS = np.rint(255 * COLOURS).astype(np.uint8)
TINTS = np.rint(255 * (0.4 + 0.6 * COLOURS)).astype(np.uint16)
PATCH_RGB = np.array([255, 0, 255], dtype=np.uint8)
PLACES = {  # in thirds of the way down and of the way right, in halves along the top and the bottom
    "top left": (0, 0),
    "top": (0, 1 / 2),
    "top right": (0, 1),
    "upper right": (1 / 3, 1),
    "lower right": (2 / 3, 1),
    "bottom right": (1, 1),
    "bottom": (1, 1 / 2),
    "bottom left": (1, 0),
    "lower left": (2 / 3, 0),
    "upper left": (1 / 3, 0),
}
QUALITIES = (95, 70, 50, 36, 26, 18, 13, 10, 7, 5)
MIN_SIDE_PX = 8
NEAR = 64  # levels


def plant(built: Built, config: PlantConfig, seed: int) -> Built:
    """Return the data set with one more attribute, `planted`, painted into every image.

    There are as many values as labels, at most ten, in turn beyond; label k goes with value k. Of the images of train
    and `validation_biased` exactly round(conflicting * N) show another value, spread evenly over the labels; in
    validation and test every value is equally frequent within each label, within one image. Given attributes, labels,
    ids and sources stay; masks of core and spurious regions follow what is painted over. Grey images become RGB, but
    for `corruption`. Pixels that are still in image files are painted when they are decoded.

    Args:
        built: any data set of two labels or more.
        seed: of the configuration of the data.

    Raises:
        DataError: an attribute `planted` exists, there is one label, or images are too small for the kind.
    """
    _check(built, config)
    painter, names, placed = KINDS[config.kind]
    values = min(len(built.labels), len(names))
    steps = np.array([value * len(names) // values for value in range(values)])  # evenly spaced among the ten
    channels = built.input.channels if config.kind == "corruption" else 3
    rng = np.random.default_rng((seed, STREAM))
    parts: dict[SplitName, Part] = {}
    for done, name in enumerate(get_args(SplitName), start=1):
        part = built.parts[name]
        bias = bias_of_split(name, part.labels, len(built.labels), values, config.conflicting, rng)
        paint = Paint(config.kind, painter, steps[bias], channels, placed)
        images, region = _paint(part.images, paint)
        parts[name] = replace(part, images=images, bias=np.column_stack([part.bias, bias]))
        log.info("planted %s in %s", config.kind, name, extra={"done": done, "total": len(built.parts)})
    core, spurious = built.core, built.spurious
    if region is not None:  # of the test split, the last; of files' pixels it is known when they are painted
        core = None if core is None else core & ~region
        spurious = region if spurious is None else spurious | region
    labels, bias = parts["train"].labels, parts["train"].bias[:, -1]
    where = f"{int((bias != labels % values).sum()):,} of {len(labels):,} training images"
    return replace(
        built,
        name=f"{built.name}, planted {config.kind}",
        attributes={**built.attributes, NAME: [names[step] for step in steps]},
        input=built.input.model_copy(update={"channels": channels}),
        parts=parts,
        core=core,
        spurious=spurious,
        findings=[*built.findings, f"a bias was planted, {config.kind}; it contradicts the label in {where}"],
    )


def tint(pixels: Pixels, steps: NDArray[np.int64]) -> tuple[Pixels, None]:
    """Multiply each image by its hue."""
    factors = TINTS[steps][:, None, None, :]
    return ((pixels * factors + 127) // 255).astype(np.uint8), None


def frame(pixels: Pixels, steps: NDArray[np.int64]) -> tuple[Pixels, Region]:
    """Paint a border in the colour of each image, a sixteenth of the shorter side wide, at least one pixel."""
    height, width = pixels.shape[1:3]
    wide = max(1, min(height, width) // 16)
    border = np.ones((height, width), dtype=np.bool_)
    border[wide:-wide, wide:-wide] = False
    painted = np.where(border[None, :, :, None], LEVELS[steps][:, None, None, :], pixels)
    return painted, np.broadcast_to(border, pixels.shape[:3])


def patch(pixels: Pixels, steps: NDArray[np.int64]) -> tuple[Pixels, Region]:
    """Paint a square at the place of each image, an eighth of the shorter side, at least two pixels."""
    height, width = pixels.shape[1:3]
    side = max(2, min(height, width) // 8)
    region = np.zeros(pixels.shape[:3], dtype=np.bool_)
    for step, (down, right) in enumerate(PLACES.values()):
        top, left = round(down * (height - side)), round(right * (width - side))
        region[steps == step, top : top + side, left : left + side] = True
    return np.where(region[..., None], PATCH_RGB, pixels), region


def background(pixels: Pixels, steps: NDArray[np.int64]) -> tuple[Pixels, Region]:
    """Move pixels towards the colour of each image, the more the nearer they are to the median of its outermost ring.

    The region is where a pixel became more than half that colour.
    """
    ring = [pixels[:, 0], pixels[:, -1], pixels[:, 1:-1, 0], pixels[:, 1:-1, -1]]
    median = np.median(np.concatenate(ring, axis=1), axis=1).astype(np.int32)
    away = np.abs(pixels - median[:, None, None, :]).max(axis=3, keepdims=True)
    keep = np.minimum(away * 255 // NEAR, 255)
    colours = LEVELS[steps].astype(np.int32)[:, None, None, :] // 2
    mixed = (pixels * keep + colours * (255 - keep) + 127) // 255
    return mixed.astype(np.uint8), keep[..., 0] < 128


def corruption(pixels: Pixels, steps: NDArray[np.int64]) -> tuple[Pixels, None]:
    """Compress each image as JPEG in its quality, without subsampling of colours, and decompress it."""
    out = np.empty_like(pixels)
    for position, (image, step) in enumerate(zip(pixels, steps, strict=True)):
        file = io.BytesIO()
        Image.fromarray(image if image.shape[2] == 3 else image[..., 0]).save(
            file, "JPEG", quality=QUALITIES[step], subsampling=0
        )
        with Image.open(file, formats=["JPEG"]) as decoded:
            out[position] = np.asarray(decoded).reshape(image.shape)
    return out, None


KINDS: dict[str, tuple[Painter, tuple[str, ...], bool]] = {  # how, names of the ten values, whether place matters
    "tint": (tint, HUES, False),
    "frame": (frame, HUES, True),
    "patch": (patch, tuple(PLACES), True),
    "background": (background, HUES, True),
    "corruption": (corruption, tuple(f"quality {quality}" for quality in QUALITIES), False),
}


def _check(built: Built, config: PlantConfig) -> None:
    what = f"a bias of kind {config.kind} cannot be planted"
    if NAME in built.attributes:
        raise DataError(what, got=f"an attribute {NAME!r}", expected="another name", do="rename it in the source")
    if len(built.labels) < 2:
        raise DataError(what, got=f"the only label {', '.join(built.labels)}", expected="two labels or more")
    side = min(built.input.height_px, built.input.width_px)
    if KINDS[config.kind][2] and side < MIN_SIDE_PX:
        raise DataError(
            what,
            got=f"images of {built.input.height_px} x {built.input.width_px} pixels",
            expected=f"{MIN_SIDE_PX} pixels or more on each side",
            do="plant another kind, tint or corruption, or set data.size_px",
        )


def _paint(images: Pixels | Deferred, paint: Paint) -> tuple[Pixels | Deferred, Region | None]:
    """Paint all images, a block at a time, and return where; or say how to, where there are no pixels yet."""
    if isinstance(images, Deferred):
        return replace(images, paint=paint), None
    shape = (*images.shape[:3], paint.channels)
    painted, region = np.empty(shape, dtype=np.uint8), np.zeros(shape[:3], dtype=np.bool_) if paint.has_region else None
    for rows in blocks(shape):
        pixels = np.broadcast_to(images[rows], (rows.stop - rows.start, *shape[1:]))
        painted[rows], found = paint.painter(pixels, paint.steps[rows])
        if region is not None:
            region[rows] = found
    return painted, region

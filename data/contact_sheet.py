"""A picture of the training images, one row per label."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROWS, COLUMNS = 20, 24
SMALL_PX, LARGE_PX = 48, 96  # small images are enlarged without smoothing, large ones lose rows and columns of pixels
MOST_SCALE = 3
GAP_PX = 2


def draw(images_NHWC: NDArray[np.uint8], labels_N: NDArray[np.int64], path: Path) -> None:
    """Write a PNG with the first images of every label, a row each, for at most ROWS labels."""
    labels = np.unique(labels_N)[:ROWS]
    side = max(images_NHWC.shape[1:3])
    scale, step = min(MOST_SCALE, max(1, SMALL_PX // side)), -(-side // LARGE_PX)
    height, width = (scale * -(-n // step) for n in images_NHWC.shape[1:3])
    cell_h, cell_w = height + GAP_PX, width + GAP_PX
    shape = (len(labels) * cell_h + GAP_PX, COLUMNS * cell_w + GAP_PX, images_NHWC.shape[3])
    sheet = np.full(shape, 32, dtype=np.uint8)
    for row, label in enumerate(labels):
        for column, index in enumerate(np.flatnonzero(labels_N == label)[:COLUMNS]):
            top, left = row * cell_h + GAP_PX, column * cell_w + GAP_PX
            shown = images_NHWC[index][::step, ::step].repeat(scale, axis=0).repeat(scale, axis=1)
            sheet[top : top + height, left : left + width] = shown
    Image.fromarray(sheet.squeeze()).save(path)

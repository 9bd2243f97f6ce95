"""A picture of the training images, one row per label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLUMNS = 24
SCALE = 3
GAP_PX = 2


def draw(images_NHWC: NDArray[np.uint8], labels_N: NDArray[np.int64], path: Path) -> None:
    """Write a PNG with the first images of every label, a row each, enlarged without smoothing."""
    labels = np.unique(labels_N)
    height, width, channels = images_NHWC.shape[1:]
    cell_h, cell_w = height * SCALE + GAP_PX, width * SCALE + GAP_PX
    sheet = np.full((len(labels) * cell_h + GAP_PX, COLUMNS * cell_w + GAP_PX, channels), 32, dtype=np.uint8)
    for row, label in enumerate(labels):
        for column, image in enumerate(images_NHWC[labels_N == label][:COLUMNS]):
            top, left = row * cell_h + GAP_PX, column * cell_w + GAP_PX
            enlarged = image.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
            sheet[top : top + height * SCALE, left : left + width * SCALE] = enlarged
    Image.fromarray(sheet.squeeze()).save(path)

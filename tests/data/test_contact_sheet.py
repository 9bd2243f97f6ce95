"""The contact sheet of unusual inputs: grey images, few images, a missing label."""

import numpy as np
import pytest
from PIL import Image

from data.contact_sheet import draw


@pytest.mark.parametrize("channels", [1, 3])
def test_one_row_per_label_that_occurs(tmp_path, channels):
    images = np.full((3, 4, 5, channels), 255, np.uint8)
    draw(images, np.array([0, 7, 7]), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape[:2] == (2 * (4 * 3 + 2) + 2, 24 * (5 * 3 + 2) + 2)
    assert sheet.mode == ("L" if channels == 1 else "RGB")
    assert (pixels == 255).sum() == 3 * (4 * 3) * (5 * 3) * channels


def test_a_row_holds_at_most_24_images(tmp_path):
    draw(np.full((30, 2, 2, 1), 255, np.uint8), np.zeros(30, np.int64), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert (np.asarray(sheet) == 255).sum() == 24 * 36

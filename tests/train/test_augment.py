"""Flips and shifts: what they may do to an image, and that they depend on the generator alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.augment import SHIFT, augment


def images(n, height, width):
    return torch.arange(1.0, 1 + n * 2 * height * width).view(n, 2, height, width)


def shifted(image_CHW, down, right):
    """Return an image moved by whole pixels, zero where nothing is."""
    height, width = image_CHW.shape[1:]
    padded = torch.nn.functional.pad(image_CHW, (width, width, height, height))
    return padded[:, height - down : 2 * height - down, width - right : 2 * width - right]


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(1, 17), st.integers(1, 17), st.integers(0, 99))
def test_every_image_is_a_flip_and_a_shift_of_itself(n, height, width, seed):
    x = images(n, height, width)
    out = augment(x, "flip-shift", np.random.default_rng(seed))
    down, right = height // SHIFT, width // SHIFT
    for before, after in zip(x, out, strict=True):
        candidates = [
            shifted(mirrored, i, j)
            for mirrored in (before, before.flip(2))
            for i in range(-down, down + 1)
            for j in range(-right, right + 1)
        ]
        assert any(torch.equal(after, candidate) for candidate in candidates)


@pytest.mark.parametrize("kind", ["flip", "flip-shift"])
def test_about_half_is_mirrored_and_the_generator_decides(kind):
    x = torch.arange(1.0, 17.0).repeat(400, 1, 16, 1)
    out = augment(x, kind, np.random.default_rng(3))
    mirrored = (out[:, 0, 8, 4] > out[:, 0, 8, 11]).float().mean()
    assert 0.4 < mirrored < 0.6
    assert torch.equal(out, augment(x, kind, np.random.default_rng(3)))
    assert not torch.equal(out, augment(x, kind, np.random.default_rng(4)))


def test_none_changes_nothing_and_draws_nothing():
    rng = np.random.default_rng(0)
    x = images(2, 4, 4)
    assert augment(x, "none", rng) is x
    assert rng.random() == np.random.default_rng(0).random()

"""Bands of spatial frequencies: they sum to the image, and single waves fall into the band that they belong to."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from bigstep.records.architecture import Architecture, InputSpec
from train.measure.bands import BANDS, band_accuracies, band_images, band_masks


@settings(deadline=None, max_examples=40)
@given(st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9)), st.data())
def test_bands_sum_to_the_image(shape, data):
    images_NHWC = data.draw(arrays(np.uint8, (*shape, 3)))
    parts_BNHWC = band_images(images_NHWC)
    assert parts_BNHWC.shape == (4, *shape, 3) and parts_BNHWC.dtype == np.float32
    np.testing.assert_allclose(parts_BNHWC.sum(axis=0), images_NHWC / 255, atol=1e-5)
    np.testing.assert_allclose(parts_BNHWC[1:].mean(axis=(2, 3)), 0, atol=1e-5)


def test_edges_at_32_pixels_are_those_of_the_source():
    waves = np.minimum(np.arange(32), 32 - np.arange(32))
    radius_HW = waves[:, None] + waves[None, :]
    for mask_HW, (low, high) in zip(band_masks(32, 32, BANDS), ((0, 0), (1, 8), (9, 24), (25, 32)), strict=True):
        np.testing.assert_array_equal(mask_HW, (radius_HW >= low) & (radius_HW <= high))


@pytest.mark.parametrize(("height", "width"), [(28, 56), (7, 5), (1, 34)])
def test_every_frequency_is_in_one_band(height, width):
    assert (band_masks(height, width, BANDS).sum(axis=0) == 1).all()


def wave(k):
    """Return a 32 x 32 image with k waves along its width, in uint8."""
    row = np.round(127 + 100 * np.cos(2 * np.pi * k * np.arange(32) / 32))
    return np.tile(row.astype(np.uint8)[None, None, :, None], (1, 32, 1, 3))


@pytest.mark.parametrize(("k", "band"), [(8, 1), (9, 2), (16, 2)])
def test_a_wave_is_found_in_its_band(k, band):
    parts_BNHWC = band_images(wave(k))
    # uint8 rounding puts a little elsewhere; 16 waves along one axis are only half of the largest distance
    energy_B = np.square(parts_BNHWC[1:]).sum(axis=(1, 2, 3, 4))
    assert energy_B[band - 1] > 0.99 * energy_B.sum()


def test_a_flat_image_is_all_zero_band():
    parts_BNHWC = band_images(np.full((1, 4, 6, 3), 51, np.uint8))
    np.testing.assert_allclose(parts_BNHWC[0], 0.2, atol=1e-6)
    np.testing.assert_allclose(parts_BNHWC[1:], 0, atol=1e-6)


def test_accuracies_of_a_network_that_sees_brightness_alone():
    """Class 1 is bright; the mean of the normalised image tells, so only the zero band does."""
    architecture = Architecture(
        family="mlp", widths={}, classes=2, input=InputSpec(height_px=8, width_px=8), mean=(0.5,) * 3, std=(0.1,) * 3
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2), nn.Dropout())
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 192))
        model[1].bias.copy_(torch.tensor([1.0, 0.0]))  # class 0 when nothing is seen
    labels_N = np.arange(30) % 2
    noise_NHWC = np.random.default_rng(0).integers(0, 50, (30, 8, 8, 3))
    images_NHWC = (noise_NHWC + 60 + 120 * labels_N[:, None, None, None]).astype(np.uint8)
    assert band_accuracies(model, images_NHWC, labels_N, architecture, batch=7) == (1.0, 0.5, 0.5, 0.5)
    assert model.training and model[2].training

"""The parts of corruptions, each against the definition it has elsewhere."""

import numpy as np
import pytest
from scipy import ndimage

from data.bias import filters


@pytest.fixture
def x():
    return np.random.default_rng(0).random((3, 16, 21, 2))


def test_correlation_is_that_of_scipy(x):
    kernel = np.arange(15.0).reshape(5, 3) - 4
    expected = ndimage.correlate(x, kernel[None, :, :, None], mode="mirror")
    np.testing.assert_allclose(filters.correlated(x, kernel), expected, atol=1e-9)


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.07, 1.25, 1.75, 2.25])
@pytest.mark.parametrize("size", [8, 16, 32, 45])
def test_zooming_enlarges_the_middle_as_scipy_does(factor, size):
    image = np.random.default_rng(1).random((size, size))
    crop = int(np.ceil(size / factor))
    top = (size - crop) // 2
    large = ndimage.zoom(image[top : top + crop, top : top + crop], factor, order=1)
    cut = (large.shape[0] - size) // 2
    found = filters.zoomed(image[None, :, :, None], factor)[0, :, :, 0]
    np.testing.assert_allclose(found, large[cut : cut + size, cut : cut + size], atol=1e-9)


def test_zooming_keeps_the_axes_apart(x):
    np.testing.assert_allclose(filters.zoomed(x, 1.0), x)
    rows = np.broadcast_to(np.arange(16.0)[:, None, None], (2, 16, 21, 1))
    zoomed = filters.zoomed(rows, 1.5)
    assert np.ptp(zoomed, axis=2).max() < 1e-9 and np.ptp(zoomed, axis=1).min() > 8


def test_resampling_is_that_of_scipy(x):
    places = np.random.default_rng(2).uniform(-30, 60, (2, 3, 16, 21))
    found = filters.resampled(x, places[0], places[1])
    for image in range(3):
        for channel in range(2):
            expected = ndimage.map_coordinates(x[image, :, :, channel], places[:, image], order=1, mode="mirror")
            np.testing.assert_allclose(found[image, :, :, channel], expected, atol=1e-9)


def test_dragging_spreads_a_point_along_its_direction():
    points = np.zeros((4, 21, 21, 1))
    points[:, 10, 10] = 1.0
    angles = np.array([0.0, -np.pi / 2, np.pi, np.pi / 4])
    found = filters.dragged(points, 4, 2.0, angles)[..., 0]
    weights = np.exp(-(np.arange(9) ** 2) / 8)
    weights /= weights.sum()
    np.testing.assert_allclose(found[0, 10, 10:1:-1], weights, atol=1e-12)  # each pixel looks to its right
    np.testing.assert_allclose(found[1, 10:19, 10], weights, atol=1e-12)  # and each to the one above it
    np.testing.assert_allclose(found[2, 10, 10:19], weights, atol=1e-12)
    assert found[3, 9, 9] == pytest.approx(weights[1] + weights[2]), "the nearest pixel to 1 and 1.4 steps"
    assert found.sum(axis=(1, 2)) == pytest.approx([1.0] * 4)


def test_dragging_a_flat_image_leaves_it_flat(x):
    flat = np.full_like(x, 0.3)
    np.testing.assert_allclose(filters.dragged(flat, 9, 2.5, np.array([0.1, 1.0, -2.0])), 0.3)


@pytest.mark.parametrize(("radius", "softness"), [(0.3, 0.4), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)])
def test_a_disk_is_round_and_sums_to_one(radius, softness):
    disk = filters.disk(radius, softness)
    assert disk.sum() == pytest.approx(1.0) and disk.min() >= 0.0
    assert disk.shape[0] % 2 == 1
    np.testing.assert_allclose(disk, disk.T)
    np.testing.assert_allclose(disk, disk[::-1])


def test_a_hard_disk_covers_the_pixels_within_its_radius():
    disk = filters.disk(1.5, 0.01)
    np.testing.assert_allclose(disk[disk > 1e-6], 1 / 9)


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 8, 8), (2, 20, 45)])
def test_plasma_fills_the_unit_range_and_differs_by_image(shape):
    maps = filters.plasma(shape, 2.0, np.random.default_rng(0))
    assert maps.shape == shape and maps.min() >= 0.0 and maps.max() <= 1.0
    assert np.abs(maps[0] - maps[1]).mean() > 0.02
    if shape[1] == 32:
        assert (np.ptp(maps, axis=(1, 2)) == 1.0).all()


def test_plasma_is_the_smoother_the_faster_it_decays():
    steps = [
        np.abs(np.diff(filters.plasma((20, 32, 32), decay, np.random.default_rng(0)), axis=1)).mean()
        for decay in (1.2, 1.75, 3.0)
    ]
    assert steps == sorted(steps, reverse=True) and steps[0] > 2 * steps[2]


def test_a_plasma_without_noise_is_the_mean_of_its_neighbours():
    class Still:
        """Give 1 at the coarsest scale and 0 at every finer one."""

        def uniform(self, _low, _high, shape):
            return np.ones(shape) * (shape[-1] == 1)

    maps = filters.plasma((1, 4, 4), 2.0, Still())[0] * 1.5
    # Corner 0, centre 1, edges (0 + 0 + 1 + 1) / 4 + 1 = 1.5; then means of four, and the largest is called 1.
    np.testing.assert_allclose(maps[::2, ::2], [[0.0, 1.5], [1.5, 1.0]])
    np.testing.assert_allclose(maps[1::2, 1::2], np.full((2, 2), 1.0))
    np.testing.assert_allclose(maps[0, 1], (0.0 + 1.5 + 1.0 + 1.0) / 4)

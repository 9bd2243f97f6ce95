"""The corruptions of CIFAR-10-C: range, determinism, pinned strength, and what each of them does."""

import hashlib

import numpy as np
import pytest

from bigstep.errors import DataError
from data.bias import corruptions
from data.bias.corruptions import CONSTANTS, corrupt

# Mean absolute difference to `clean`, in grey levels, by level. The seed is fixed: the tolerance is for other Pillows.
GOLDEN = {
    "gaussian_noise": (7.93, 11.81, 15.70, 17.65, 19.46),
    "shot_noise": (5.97, 8.47, 13.31, 15.21, 18.53),
    "impulse_noise": (1.30, 2.50, 3.91, 6.26, 9.08),
    "speckle_noise": (5.80, 9.56, 11.46, 15.19, 18.70),
    "gaussian_blur": (1.22, 5.24, 6.95, 8.54, 11.75),
    "defocus_blur": (1.31, 3.50, 5.42, 6.68, 10.66),
    "glass_blur": (16.43, 16.39, 16.75, 30.05, 29.86),
    "motion_blur": (9.33, 14.50, 19.04, 21.36, 24.26),
    "zoom_blur": (14.70, 15.19, 18.07, 20.68, 23.33),
    "snow": (11.31, 24.65, 26.44, 37.69, 53.21),
    "frost": (18.05, 26.59, 27.21, 26.95, 29.27),
    "fog": (10.74, 21.22, 27.55, 32.61, 39.55),
    "spatter": (1.16, 3.56, 7.84, 3.26, 5.42),
    "brightness": (8.56, 16.76, 24.65, 32.88, 43.82),
    "contrast": (13.54, 27.08, 32.47, 37.94, 46.04),
    "saturate": (33.22, 42.68, 20.68, 31.01, 33.61),
    "elastic_transform": (31.97, 32.93, 24.47, 24.28, 18.75),
    "pixelate": (1.99, 4.79, 5.04, 8.03, 11.53),
    "jpeg_compression": (11.49, 13.28, 14.26, 15.09, 16.49),
}
# Levels of these are ordered by their constants, all of which grow (or shrink) from level to level.
ORDERED = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "gaussian_blur", "zoom_blur", "motion_blur"),
    *("brightness", "contrast", "pixelate", "jpeg_compression"),
)
OF_PILLOW = ("jpeg_compression", "pixelate")
# Of all other corruptions at levels 1 and 5. If it changes, so does every set that anybody has built.
DIGEST = "14f29077b57710cfa3ad28c81c46098f9d4946df11c3d378bfb6ef0042c3ed05"


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def clean():
    """Return 24 images of coloured waves with a bright and a dark box, from formulas alone."""
    place = np.arange(32) / 32
    k = np.arange(24)[:, None, None, None]
    rows, columns, channel = place[:, None, None], place[None, :, None], np.arange(3)
    waves = np.sin(2 * np.pi * ((1 + k % 4) * rows + (1 + k % 3) * columns + channel / (3 + k % 5)))
    images = np.rint(128 + 70 * waves).astype(np.uint8)
    for number, image in enumerate(images):
        image[4 + number % 8 : 14 + number % 8, 5:15] = (250, 240, 20 * (number % 10))
        image[18:28, 12 + number % 8 : 22 + number % 8] = (10 * (number % 10), 5, 60)
    return images


@pytest.mark.parametrize("name", CONSTANTS)
def test_strength_by_level_is_pinned(name, clean):
    corrupted = [corrupt(clean, name, level, rng(level)) for level in (1, 2, 3, 4, 5)]
    assert all(images.dtype == np.uint8 and images.shape == clean.shape for images in corrupted)
    strength = [np.abs(images.astype(float) - clean).mean() for images in corrupted]
    assert strength == pytest.approx(GOLDEN[name], rel=0.02, abs=0.02)
    if name in ORDERED:
        assert strength == sorted(strength) and strength[0] < strength[4]


def test_the_bytes_are_pinned_but_for_those_of_pillow(clean):
    digest = hashlib.sha256()
    for name in sorted(set(CONSTANTS) - set(OF_PILLOW)):
        for level in (1, 5):
            digest.update(corrupt(clean, name, level, rng()).tobytes())
    assert digest.hexdigest() == DIGEST


def test_images_are_left_alone_and_chance_is_all_in_the_generator(clean):
    before = clean.copy()
    first = corrupt(clean, "elastic_transform", 3, rng())
    np.testing.assert_array_equal(first, corrupt(clean, "elastic_transform", 3, rng()))
    assert (first != corrupt(clean, "elastic_transform", 3, rng(1))).any()
    np.testing.assert_array_equal(clean, before)


def test_every_image_is_corrupted_in_its_own_way(clean):
    same = np.repeat(clean[:1], 6, axis=0)
    drawn = {
        name for name in CONSTANTS if (corrupt(same, name, 5, rng())[1:] != corrupt(same, name, 5, rng())[:1]).any()
    }
    fixed = {"gaussian_blur", "defocus_blur", "zoom_blur", "brightness", "contrast", "saturate", *OF_PILLOW}
    assert drawn == set(CONSTANTS) - fixed


@pytest.mark.parametrize("name", CONSTANTS)
@pytest.mark.parametrize("shape", [(0, 32, 32, 3), (2, 8, 8, 3), (1, 20, 45, 3)])
def test_any_number_and_shape_of_images(name, shape):
    images = rng().integers(0, 256, shape, dtype=np.uint8)
    for level in (1, 4):
        assert corrupt(images, name, level, rng()).shape == shape


@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white_images_stay_numbers(value):
    images = np.full((2, 16, 16, 3), value, np.uint8)
    means = {name: corrupt(images, name, 5, rng()).mean() for name in CONSTANTS}
    untouched = {name for name, mean in means.items() if mean == value}
    averages = {"gaussian_blur", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "contrast", "pixelate"}
    assert averages | {"elastic_transform"} <= untouched
    assert abs(means["jpeg_compression"] - value) <= 1
    assert means["brightness"] == (pytest.approx(76.5, abs=0.5) if value == 0 else 255)


def test_chunks_follow_one_another(clean, monkeypatch):
    monkeypatch.setattr(corruptions, "CHUNK", 10)
    stream = rng()
    parts = [corrupt(clean[start : start + 10], "snow", 5, stream) for start in (0, 10, 20)]
    np.testing.assert_array_equal(corrupt(clean, "snow", 5, rng()), np.concatenate(parts))


def test_brightness_and_saturation_are_those_of_hsv():
    import colorsys

    colours = rng().integers(0, 256, (40, 3), dtype=np.uint8)
    colours[:3] = [[90, 90, 90], [0, 0, 0], [0, 130, 130]]
    images = colours[:, None, None].repeat(8, axis=1).repeat(8, axis=2)
    bright, vivid = (corrupt(images, name, 5, rng())[:, 0, 0] for name in ("brightness", "saturate"))
    for colour, brighter, more_vivid in zip(colours, bright, vivid, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(colour / 255))
        expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.3, 1.0))
        np.testing.assert_allclose(brighter, np.array(expected) * 255, atol=0.51)
        expected = colorsys.hsv_to_rgb(hue, min(saturation * 2.5 + 0.2, 1.0), value)
        np.testing.assert_allclose(more_vivid, np.array(expected) * 255, atol=0.51)


def test_contrast_draws_towards_the_mean_of_each_channel():
    images = np.zeros((1, 8, 8, 3), np.uint8)
    images[:, :4, :, 0], images[:, :, :, 1] = 200, 90
    corrupted = corrupt(images, "contrast", 5, rng())[0]
    assert corrupted[0, 0].tolist() == [115, 90, 0] and corrupted[7, 7].tolist() == [85, 90, 0]


def test_noise_has_the_stated_strength():
    grey = np.full((40, 32, 32, 3), 128, np.uint8)
    x = 128 / 255
    deviation = {n: corrupt(grey, n, 5, rng()).std() / 255 for n in ("gaussian_noise", "shot_noise", "speckle_noise")}
    assert deviation["gaussian_noise"] == pytest.approx(0.10, rel=0.02)
    assert deviation["shot_noise"] == pytest.approx(np.sqrt(x / 50), rel=0.02)
    assert deviation["speckle_noise"] == pytest.approx(0.2 * x, rel=0.02)
    struck = corrupt(grey, "impulse_noise", 5, rng())
    assert [(struck == value).mean() for value in (0, 255)] == pytest.approx([0.035, 0.035], rel=0.05)


def test_glass_takes_pixels_from_at_most_two_rounds_away():
    images = np.zeros((4, 16, 16, 3), np.uint8)
    images[:, 8, 8] = 255
    lit = corrupt(images, "glass_blur", 1, rng()).max(axis=3) > 0
    assert lit.any(axis=(1, 2)).any()
    assert not lit[:, :8].any() and not lit[:, :, :8].any(), "pixels come from above and from the left only"


def test_mud_is_brown_and_water_is_light(clean):
    black = np.zeros((4, 32, 32, 3), np.uint8)
    mud = corrupt(black, "spatter", 5, rng()).reshape(-1, 3)
    full = mud[mud[:, 0] >= 60]
    assert len(full) > 20 and np.abs(full - np.array([63, 42, 20])).max() <= 3
    wet = corrupt(black, "spatter", 3, rng())
    assert wet.max() == 119  # half of 238
    assert (wet[..., 1] == wet[..., 2]).all() and (wet[..., 0] <= wet[..., 1]).all()


def test_fog_and_frost_and_snow_brighten_the_dark():
    dark = np.full((8, 32, 32, 3), 40, np.uint8)
    for name in ("frost", "snow"):
        images = corrupt(dark, name, 5, rng())
        assert images.mean() > 60 and images.reshape(8, -1).std(axis=1).min() > 5, name
    dark[:, :4] = 200
    assert corrupt(dark, "fog", 5, rng())[:, 4:].mean() > 60


@pytest.mark.parametrize(
    ("shape", "dtype", "name", "level", "message"),
    [
        ((1, 16, 16, 3), np.uint8, "rain", 1, "no such corruption"),
        ((1, 16, 16, 3), np.uint8, "snow", 0, "no such level"),
        ((1, 16, 16, 3), np.uint8, "snow", 6, "no such level"),
        ((1, 16, 16, 3), np.float32, "snow", 1, "only RGB"),
        ((1, 16, 16, 1), np.uint8, "snow", 1, "only RGB"),
        ((16, 16, 3), np.uint8, "snow", 1, "only RGB"),
        ((1, 7, 16, 3), np.uint8, "snow", 1, "too small"),
    ],
)
def test_wrong_requests_are_explained(shape, dtype, name, level, message):
    with pytest.raises(DataError, match=message):
        corrupt(np.zeros(shape, dtype), name, level, rng())


def test_levels_are_complete_and_at_level_5_those_that_the_field_quotes():
    assert len(CONSTANTS) == 19 and all(len(levels) == 5 for levels in CONSTANTS.values())
    assert [CONSTANTS[name][4] for name in ("shot_noise", "motion_blur", "fog")] == [(50,), (9, 2.5), (1.5, 1.75)]

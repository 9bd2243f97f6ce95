"""Planted biases: exact counts, what each kind paints and what it leaves alone, masks, memory, and refusals."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigstep.config import PlantConfig
from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec
from data.bias import plant
from data.files import blocks
from data.files.builder import Built, Part

SIZES = {"train": 90, "validation_biased": 30, "validation": 31, "test": 47}
DIGESTS = {
    "tint": "e6b13346be2c6506aa83259cbac31cf3ae8eb18319e4a7a92d588745789071d7",
    "frame": "a950c6102fb735f7bfd4ba623a02abf47d2486953d2600bd88a9d20c4627ada5",
    "patch": "770c7f3f5a425e6bd4954d9e3a259f472be43bf394a518e5ea7a42612570aa03",
    "background": "f1362044c1a7c0aa7a009d0f6dc46d27c23cc809729d8be942d34e723eb33c8b",
}


def make(labels=3, channels=3, side=16, sizes=SIZES, attributes=0):
    """Return noise of every grey value with labels in turn."""
    rng = np.random.default_rng(0)
    parts = {}
    for name, n in sizes.items():
        pixels = rng.integers(0, 256, size=(n, side, side + 2, channels), dtype=np.uint8)
        bias = rng.integers(0, 2, size=(n, attributes))
        parts[name] = Part(pixels, np.arange(n) % labels, bias, np.arange(n), np.arange(n) + 100)
    return Built(
        name="noise",
        labels=[f"l{k}" for k in range(labels)],
        attributes={f"a{k}": ["no", "yes"] for k in range(attributes)},
        input=InputSpec(height_px=side, width_px=side + 2, channels=channels),
        parts=parts,
        findings=["noise is noise"],
    )


def planted(built, kind="tint", conflicting=0.1, seed=0):
    return plant.plant(built, PlantConfig(kind=kind, conflicting=conflicting), seed)


def test_every_kind_of_the_configuration_has_a_painter_and_ten_values():
    assert list(plant.KINDS) == list(get_args(PlantConfig.model_fields["kind"].annotation))
    assert all(len(set(names)) == 10 for _, names, _ in plant.KINDS.values())


@pytest.mark.parametrize("kind", plant.KINDS)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(kind, digest_of):
    built = make()
    digest = digest_of(planted(built, kind))
    assert digest == digest_of(planted(built, kind)) != digest_of(planted(built, kind, seed=1))
    assert digest == DIGESTS.get(kind, digest)  # the bytes of a JPEG belong to Pillow


@settings(deadline=None, max_examples=25)
@given(
    labels=st.integers(min_value=2, max_value=13),
    conflicting=st.floats(min_value=0.0, max_value=0.8),
    seed=st.integers(min_value=0, max_value=99),
)
def test_counts_are_exact_in_training_and_even_elsewhere(labels, conflicting, seed):
    built = planted(make(labels, side=8), conflicting=conflicting, seed=seed)
    values = len(built.attributes["planted"])
    assert values == min(labels, 10) == len(set(built.attributes["planted"]))
    for name, part in built.parts.items():
        value, n = part.bias[:, -1], len(part.labels)
        table = np.zeros((labels, values), dtype=int)
        np.add.at(table, (part.labels, value), 1)
        if name in ("train", "validation_biased"):
            assert (value != part.labels % values).sum() == round(conflicting * n)
        else:
            assert (table.max(axis=1) - table.min(axis=1) <= 1).all()


@pytest.mark.parametrize("kind", plant.KINDS)
def test_everything_but_the_pixels_stays_and_the_given_set_is_not_changed(kind, digest_of):
    given_ = make(attributes=2)
    before = digest_of(given_)
    built = planted(given_, kind)
    assert digest_of(given_) == before
    assert list(built.attributes) == ["a0", "a1", "planted"] and built.labels == given_.labels
    assert built.input == given_.input and built.name == f"noise, planted {kind}"
    assert built.findings == [
        "noise is noise",
        f"a bias was planted, {kind}; it contradicts the label in 9 of 90 training images",
    ]
    for name, part in built.parts.items():
        old = given_.parts[name]
        assert part.images.shape == old.images.shape and part.images.dtype == np.uint8
        assert not np.array_equal(part.images, old.images)
        np.testing.assert_array_equal(part.bias[:, :2], old.bias)
        for field in ("labels", "ids", "sources"):
            np.testing.assert_array_equal(getattr(part, field), getattr(old, field))


def test_a_tint_multiplies_by_a_hue_that_keeps_something_of_every_channel():
    white = np.full((10, 2, 2, 3), 255, np.uint8)
    painted, region = plant.tint(white, np.arange(10))
    assert region is None
    assert painted[0, 0, 0].tolist() == [255, 102, 102]
    assert painted[5, 0, 0].tolist() == [102, 255, 255]
    half, _ = plant.tint(np.full((1, 1, 1, 3), 128, np.uint8), np.array([0]))
    assert half[0, 0, 0].tolist() == [128, 51, 51]


def test_a_frame_covers_the_border_and_nothing_else():
    noise = make(side=40).parts["test"].images[:10]
    painted, region = plant.frame(noise, np.arange(10))
    inner = (slice(None), slice(2, -2), slice(2, -2))
    np.testing.assert_array_equal(painted[inner], noise[inner])
    assert not region[inner].any() and region.sum() == 10 * (40 * 42 - 36 * 38)
    assert (painted[region].reshape(10, -1, 3) == plant.LEVELS[:, None]).all()


@pytest.mark.parametrize("side", [8, 9, 16, 33])
def test_patches_lie_at_ten_places_that_do_not_overlap(side):
    noise = make(side=side).parts["test"].images[:10]
    painted, region = plant.patch(noise, np.arange(10))
    edge = max(2, side // 8)
    assert (region.sum(axis=(1, 2)) == edge**2).all() and region.sum(axis=0).max() == 1
    assert (painted[region] == plant.PATCH_RGB).all()
    np.testing.assert_array_equal(painted[~region], noise[~region])
    assert region[0, 0, 0] and region[5, -1, -1]  # what two labels get
    assert (region[:, 0] | region[:, -1]).any(axis=1).sum() == 6


def test_a_background_is_what_is_near_the_median_of_the_outermost_ring():
    image = np.full((1, 8, 8, 3), 100, np.uint8)
    image[0, 0, :3] = 255  # a few pixels of the ring do not move its median
    image[0, 3, 3] = 100 + 32
    image[0, 4, 4] = (100, 100, 164)
    painted, region = plant.background(image, np.array([0]))
    assert painted[0, 7, 7].tolist() == [127, 0, 0]
    assert painted[0, 0, 0].tolist() == [255] * 3 and painted[0, 4, 4].tolist() == [100, 100, 164]
    assert painted[0, 3, 3].tolist() == [129, 66, 66]  # half of each
    assert region[0].sum() == 64 - 4 and not region[0, 4, 4]


def test_stronger_compression_loses_more():
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, size=(1, 4, 4, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    pixels = np.clip(smooth.astype(int) + rng.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8)
    painted, region = plant.corruption(pixels.repeat(10, axis=0), np.arange(10))
    lost = np.abs(painted.astype(int) - pixels).mean(axis=(1, 2, 3))
    assert region is None
    assert 0 < lost[0] < 5 and lost[9] > 10 and (np.diff(lost) > 0).all()


@pytest.mark.parametrize(("kind", "channels"), [("tint", 3), ("frame", 3), ("patch", 3), ("background", 3)])
def test_grey_images_become_rgb_where_colour_is_painted(kind, channels):
    built = planted(make(channels=1), kind)
    assert built.input.channels == built.parts["train"].images.shape[3] == channels


def test_grey_images_stay_grey_when_compressed():
    built = planted(make(channels=1), "corruption")
    assert built.input.channels == built.parts["train"].images.shape[3] == 1


@pytest.mark.parametrize("kind", ["frame", "patch", "background"])
def test_masks_follow_what_is_painted_over(kind):
    given_ = make()
    everywhere = np.ones((47, 16, 18), dtype=bool)
    old = np.zeros_like(everywhere)
    old[:, 5, 5] = True
    alone = planted(given_, kind)
    assert alone.core is None and alone.spurious.shape == everywhere.shape and alone.spurious.any()
    both = planted(replace(given_, core=everywhere, spurious=old), kind)
    np.testing.assert_array_equal(both.spurious, alone.spurious | old)
    np.testing.assert_array_equal(both.core, ~alone.spurious)
    assert old.sum() == 47, "the given mask stays"


@pytest.mark.parametrize("kind", ["tint", "corruption"])
def test_masks_stay_where_a_bias_is_no_matter_of_place(kind):
    core = np.ones((47, 16, 18), dtype=bool)
    built = planted(replace(make(), core=core), kind)
    assert built.spurious is None and built.core is core


def test_blocks_change_nothing(monkeypatch, digest_of):
    expected = digest_of(planted(make(channels=1), "patch"))
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2000)  # two images
    assert digest_of(planted(make(channels=1), "patch")) == expected


def test_an_empty_split_stays_empty():
    built = planted(make(sizes={**SIZES, "test": 0}), "patch")
    assert built.parts["test"].images.shape == (0, 16, 18, 3) and built.spurious.shape == (0, 16, 18)


@pytest.mark.parametrize(
    ("kind", "change", "got"),
    [
        ("tint", {"attributes": {"planted": ["a"]}}, "an attribute 'planted'"),
        ("tint", {"labels": ["cat"]}, "the only label cat"),
        ("patch", {"input": InputSpec(height_px=1, width_px=34)}, "images of 1 x 34 pixels"),
    ],
)
def test_what_cannot_be_planted_is_refused(kind, change, got):
    with pytest.raises(DataError, match="cannot be planted") as raised:
        planted(replace(make(), **change), kind)
    assert raised.value.got == got

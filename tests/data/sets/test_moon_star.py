"""Moons and stars: the drawing, exact counts, masks, the bytes, and how easy the cue is against the core."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bigstep.config import DataConfig
from data.sets import moon_star

SPLITS = ("train", "validation_biased", "validation", "test")
SIZES = dict(zip(SPLITS, (400, 40, 40, 200), strict=True))
DIGEST = "547244e241928a3f76ff510c121b17d191f7bad60d1d6e9adf9e5301bcadb111"


@pytest.fixture(scope="module")
def build_small():
    def build(**config):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(moon_star, "SIZES", SIZES)
            return moon_star.build(DataConfig(kind="moon-star", **config))

    return build


@pytest.fixture(scope="module")
def built(build_small):
    return build_small(conflicting=0.1)


def test_the_bytes_are_pinned(built, build_small, digest_of):
    assert digest_of(built) == DIGEST
    assert digest_of(build_small(conflicting=0.1)) == DIGEST
    assert digest_of(build_small(conflicting=0.1, seed=1)) != DIGEST


def test_counts_are_exact_and_the_test_is_unbiased(built):
    def cells(name):
        part = built.parts[name]
        return np.bincount(part.labels * 2 + part.bias[:, 0], minlength=4).tolist()

    assert cells("train") == [180, 20, 20, 180]
    assert cells("validation_biased") == [18, 2, 2, 18]
    assert cells("validation") == [10] * 4
    assert cells("test") == [50] * 4


def test_shapes_have_the_area_that_was_asked_and_stay_clear_of_edge_and_lamp():
    labels = np.arange(400) % 2
    covered = moon_star.draw_shape(labels, np.random.default_rng(0))
    areas = covered.sum(axis=(1, 2))
    assert areas.min() > 48 and areas.max() < 80
    assert areas[labels == 0].mean() == pytest.approx(areas[labels == 1].mean(), rel=0.04)
    assert covered[:, :, 25:].max() == covered[:, [0, 31]].max() == covered[:, :, 0].max() == 0


@pytest.mark.parametrize(("outline", "arcs"), [(moon_star.star, 5), (moon_star.crescent, 1)])
def test_a_circle_through_the_tips_of_a_star_meets_five_and_through_a_crescent_one(outline, arcs):
    angle = np.linspace(0, 2 * np.pi, 1000, endpoint=False)
    inside = outline(0.9 * np.cos(angle), 0.9 * np.sin(angle), np.ones(1000)) < 0
    assert (inside & ~np.roll(inside, 1)).sum() == arcs
    assert 0.05 < inside.mean() < 0.95


def test_the_lamp_is_bright_or_dim_by_its_bias_and_the_mask_is_where_it_shines(built):
    test = built.parts["test"]
    assert built.spurious.shape == built.core.shape == (200, 32, 32)
    assert not (built.core & built.spurious).any()
    assert (built.spurious.sum(axis=(1, 2)) >= 20).all() and (built.core.sum(axis=(1, 2)) >= 48).all()
    red = np.where(built.spurious, test.images[..., 0], 0).max(axis=(1, 2))
    assert (red[test.bias[:, 0] == moon_star.BRIGHT] == 230).all()
    assert (red[test.bias[:, 0] == moon_star.DIM] == 90).all()


def test_outside_both_masks_there_is_only_noise(built):
    sky = built.parts["test"].images[~(built.core | built.spurious)]
    assert sky.max() == 63 and sky.mean() == pytest.approx(31.5, abs=0.5)


def test_a_linear_model_takes_the_lamp_and_not_the_shape(built):
    def flat(part):
        return part.images.reshape(len(part.labels), -1) / 255

    train, test = built.parts["train"], built.parts["test"]
    right = LogisticRegression(C=0.1).fit(flat(train), train.labels).predict(flat(test)) == test.labels
    aligned = test.labels == test.bias[:, 0]
    assert right[aligned].mean() > 0.9
    assert right[~aligned].mean() < 0.2


def test_sources_are_of_one_split_and_ids_unique(built):
    sources = np.concatenate([built.parts[name].sources for name in SPLITS])
    assert len(np.unique(sources)) == len(sources) == 680
    assert all(len(np.unique(part.ids)) == len(part.ids) for part in built.parts.values())

"""The recipe of coloured digits: exact counts, even spread, colours and enlargement."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.bias.colours import COLOURS, HUES
from data.bias.conflicts import contradict
from data.sets import digits


def test_the_embedded_digits_are_whole():
    grey, labels = digits.load()
    assert grey.shape == (1797, 16, 16) and grey.dtype == np.uint8
    assert labels.dtype == np.int64 and np.bincount(labels).tolist() == [
        178,
        182,
        177,
        183,
        181,
        182,
        181,
        179,
        174,
        180,
    ]
    assert grey.min() == 0 and grey.max() == 255


def test_enlarging_makes_four_pixels_of_one_and_spans_the_whole_range():
    digit = np.arange(64.0).reshape(1, 8, 8) % 17
    large = digits.enlarge(digit)
    assert large.shape == (1, 16, 16)
    for top, left in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        np.testing.assert_array_equal(large[:, top::2, left::2], np.rint(digit * 255 / 16))
    assert digits.enlarge(np.full((1, 8, 8), 16.0)).min() == 255


def test_a_colour_multiplies_the_grey_value():
    grey = np.full((10, 2, 2), 200, np.uint8)
    tinted = digits.colour(grey, np.arange(10))
    assert tinted.shape == (10, 2, 2, 3) and tinted.dtype == np.uint8
    assert tinted[0, 0, 0].tolist() == [200, 0, 0]  # red
    assert tinted[5, 0, 0].tolist() == [0, 200, 200]  # cyan
    assert tinted[1, 0, 0].tolist() == [200, 120, 0]  # orange: hue 36 degrees, green at 0.6


def test_ten_colours_are_ten_different_bright_hues():
    assert len(COLOURS) == len(HUES) == len(set(HUES)) == 10
    assert (COLOURS.max(axis=1) == 1.0).all() and (COLOURS.min(axis=1) == 0.0).all()
    apart = np.abs(COLOURS[:, None] - COLOURS[None]).max(axis=2) + np.eye(10)
    assert apart.min() > 0.35


@settings(deadline=None, max_examples=60)
@given(
    present=st.lists(st.integers(min_value=0, max_value=40), min_size=10, max_size=10),
    share=st.floats(min_value=0.0, max_value=1.0),
    seed=st.integers(min_value=0, max_value=2**32 - 1),
)
def test_the_share_of_conflicting_colours_is_exact_and_even(present, share, seed):
    labels = np.repeat(np.arange(10), present)
    bias = contradict(labels, 10, 10, share, np.random.default_rng(seed))
    conflicting = bias != labels
    assert conflicting.sum() == round(share * len(labels))
    assert ((bias >= 0) & (bias <= 9)).all()
    for label in range(10):
        others = np.delete(np.bincount(bias[labels == label], minlength=10), label)
        assert others.max() - others.min() <= 1


def test_conflicting_images_are_spread_over_the_labels():
    labels = np.repeat(np.arange(10), 20)
    bias = contradict(labels, 10, 10, 0.13, np.random.default_rng(0))
    assert sorted(np.bincount(labels[bias != labels], minlength=10).tolist()) == [2] * 4 + [3] * 6


def test_a_rare_label_gives_all_it_has_and_the_others_the_rest():
    labels = np.repeat(np.arange(10), [1] + [20] * 9)
    bias = contradict(labels, 10, 10, 0.5, np.random.default_rng(0))
    conflicting = np.bincount(labels[bias != labels], minlength=10)
    assert conflicting.sum() == 90 and conflicting[0] == 1 and conflicting[1:].min() >= 9


def test_choosing_colours_leaves_the_labels_alone():
    labels = np.tile(np.arange(10), 5)
    contradict(labels, 10, 10, 0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(labels, np.tile(np.arange(10), 5))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_splits_share_no_digit_and_are_stratified(seed):
    _, labels = digits.load()
    splits = digits.split_digits(labels, np.random.default_rng(seed))
    assert {name: len(index) for name, index in splits.items()} == {
        "train": 1007,
        "validation_biased": 100,
        "validation": 330,
        "test": 360,
    }
    assert sorted(np.concatenate(list(splits.values())).tolist()) == list(range(1797))
    for name, index in splits.items():
        counts = np.bincount(labels[index], minlength=10)
        assert counts.max() - counts.min() <= (10 if name == "train" else 2), name

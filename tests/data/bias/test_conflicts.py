"""Bias values that contradict the label in an exact share of images, also where labels and values differ in number."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.bias.conflicts import bias_of_split, contradict, evenly

LABELS = st.lists(st.integers(min_value=0, max_value=9), min_size=1, max_size=120)
SEEDS = st.integers(min_value=0, max_value=2**32 - 1)


@settings(deadline=None, max_examples=60)
@given(
    present=st.lists(st.integers(min_value=0, max_value=30), min_size=2, max_size=13),
    values=st.integers(min_value=2, max_value=10),
    share=st.floats(min_value=0.0, max_value=1.0),
    seed=st.integers(min_value=0, max_value=2**32 - 1),
)
def test_the_share_is_exact_and_spread_over_the_other_values(present, values, share, seed):
    labels = np.repeat(np.arange(len(present)), present)
    bias = contradict(labels, len(present), values, share, np.random.default_rng(seed))
    assert (bias != labels % values).sum() == round(share * len(labels))
    for label in range(len(present)):
        others = np.delete(np.bincount(bias[labels == label], minlength=values), label % values)
        assert others.max() - others.min() <= 1


def test_conflicts_are_spread_over_the_labels():
    labels = np.repeat(np.arange(4), 20)
    bias = contradict(labels, 4, 2, 0.125, np.random.default_rng(0))
    assert sorted(np.bincount(labels[bias != labels % 2], minlength=4).tolist()) == [2, 2, 3, 3]


@settings(deadline=None, max_examples=50)
@given(labels=LABELS, values=st.integers(min_value=1, max_value=12), seed=SEEDS)
def test_even_bias_gives_every_value_to_every_label_equally_often(labels, values, seed):
    labels = np.array(labels)
    bias = evenly(labels, values, np.random.default_rng(seed))
    for label in np.unique(labels):
        assert np.ptp(np.bincount(bias[labels == label], minlength=values)) <= 1
    assert bias.min() >= 0 and bias.max() < values


def test_even_bias_depends_on_the_seed_and_not_on_the_place():
    labels = np.repeat(np.arange(10), 100)
    one, other = (evenly(labels, 10, np.random.default_rng(seed)) for seed in (0, 1))
    assert (one != other).mean() > 0.8
    assert abs(np.corrcoef(one, np.arange(1000))[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("split", "conflicting"), [("train", 4), ("validation_biased", 4), ("validation", 20), ("test", 20)]
)
def test_training_and_biased_validation_alone_are_biased(split, conflicting):
    labels = np.repeat(np.arange(2), 20)
    bias = bias_of_split(split, labels, 2, 2, 0.1, np.random.default_rng(0))
    assert (bias != labels).sum() == conflicting

"""Bias values that contradict the label in an exact share of images, also where labels and values differ in number."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data.bias.conflicts import contradict


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

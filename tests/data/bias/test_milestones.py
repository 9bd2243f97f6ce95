"""The label rule of LfF against its definition, even bias, and the hold-out: exact counts all three."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.bias.milestones import evenly, hold_out, milestones

TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # MNIST
TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
LABELS = st.lists(st.integers(min_value=0, max_value=9), min_size=1, max_size=120)
SEEDS = st.integers(min_value=0, max_value=2**32 - 1)


def cells(labels, bias):
    return np.bincount(labels * 10 + bias, minlength=100).reshape(10, 10)


@pytest.mark.parametrize(
    ("share", "conflicting", "smallest", "largest"),
    [(0.005, 300, 3, 4), (0.01, 598, 6, 8), (0.02, 1199, 12, 15), (0.05, 3000, 30, 38)],
)
def test_the_counts_of_colored_mnist_are_those_of_lff(share, conflicting, smallest, largest):
    labels = np.repeat(np.arange(10), TRAIN)
    bias = milestones(labels, 10, 1 - share)
    off_diagonal = cells(labels, bias)[~np.eye(10, dtype=bool)]
    assert (bias != labels).sum() == conflicting
    assert (off_diagonal.min(), off_diagonal.max()) == (smallest, largest)


def test_with_an_aligned_share_of_a_tenth_label_and_bias_are_independent():
    labels = np.repeat(np.arange(10), TEST)
    table = cells(labels, milestones(labels, 10, 0.1))
    assert (table.min(), table.max()) == (89, 114)
    assert (np.ptp(table, axis=1) <= 1).all()


@settings(deadline=None, max_examples=50)
@given(labels=LABELS, aligned=st.floats(min_value=0.0, max_value=1.0))
def test_the_k_th_image_takes_the_first_value_whose_milestone_exceeds_k(labels, aligned):
    found = milestones(np.array(labels), 10, aligned)
    seen = [0] * 10
    for label, bias in zip(labels, found.tolist(), strict=True):
        shares = [aligned if value == label else (1 - aligned) / 9 for value in range(10)]
        passed = [round(labels.count(label) * sum(shares[: value + 1])) > seen[label] for value in range(10)]
        # Adding up in another order can move a half to the other side: the value may be the next one then.
        assert passed.index(True) == bias or abs(labels.count(label) * sum(shares[: bias + 1]) % 1 - 0.5) < 1e-9
        seen[label] += 1


def test_the_rule_follows_the_order_given():
    assert milestones(np.zeros(10, dtype=np.int64), 10, 0.1).tolist() == list(range(10))
    assert milestones(np.full(4, 1), 2, 0.5).tolist() == [0, 0, 1, 1]


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


@settings(deadline=None, max_examples=50)
@given(labels=LABELS, share=st.floats(min_value=0.0, max_value=1.0), seed=SEEDS)
def test_the_hold_out_is_exact_and_stratified(labels, share, seed):
    labels = np.array(labels)
    size = int(share * len(labels))
    held = hold_out(labels, size, np.random.default_rng(seed))
    assert held.dtype == np.bool_ and held.sum() == size
    due = np.bincount(labels) * size / len(labels)
    assert (np.abs(np.bincount(labels[held], minlength=len(due)) - due) < 1).all()


def test_the_hold_out_of_mnist():
    held = hold_out(np.repeat(np.arange(10), TRAIN), 5000, np.random.default_rng(0))
    assert np.bincount(np.repeat(np.arange(10), TRAIN)[held]).tolist() == [
        *(494, 562, 496, 511, 487, 452, 493, 522, 487, 496)
    ]

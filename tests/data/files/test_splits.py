"""Splits: exact counts per label, even cells, sources kept together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.files.splits import SHARES, draw, hold_out, quota

MNIST = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
LABELS = st.lists(st.integers(min_value=0, max_value=9), min_size=1, max_size=120)
SEEDS = st.integers(min_value=0, max_value=2**32 - 1)


@pytest.mark.parametrize(
    ("n", "counts"),
    [
        (0, [0, 0, 0, 0]),
        (1, [1, 0, 0, 0]),
        (2, [1, 0, 0, 1]),
        (3, [1, 0, 1, 1]),
        (4, [1, 1, 1, 1]),
        (5, [2, 1, 1, 1]),
        (10, [6, 1, 1, 2]),
        (20, [14, 1, 2, 3]),
        (100, [70, 5, 10, 15]),
        (101, [71, 5, 10, 15]),
    ],
)
def test_quotas_are_largest_remainders_and_nobody_goes_without(n, counts):
    found = quota(n, SHARES)
    assert [found[name] for name in SHARES] == counts


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5000))
def test_a_quota_is_within_one_of_its_share(n):
    found = quota(n, SHARES)
    assert sum(found.values()) == n
    if n >= 20:
        assert all(abs(found[name] - n * share / 100) < 1 for name, share in SHARES.items())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=4, max_size=4), st.integers(0, 999))
def test_every_image_is_in_one_split_and_cells_are_even(sizes, seed):
    cells = np.repeat(np.arange(4), sizes)
    labels, sources = cells // 2, np.arange(len(cells))
    drawn = draw(labels, cells, sources, SHARES, np.random.default_rng(seed))
    assert sorted(np.concatenate(list(drawn.values())).tolist()) == list(range(len(cells)))
    for name, share in SHARES.items():
        for label in (0, 1):
            total = sum(sizes[2 * label : 2 * label + 2])
            assert (labels[drawn[name]] == label).sum() == quota(total, SHARES)[name]
            if total >= 20:
                for cell in (2 * label, 2 * label + 1):
                    assert abs((cells[drawn[name]] == cell).sum() - sizes[cell] * share / 100) < 2.5


def test_copies_stay_together_and_count_once():
    sources = np.repeat(np.arange(40), 3)
    labels = sources % 2
    drawn = draw(labels, labels, sources, SHARES, np.random.default_rng(0))
    assert {name: len(index) for name, index in drawn.items()} == {
        "train": 84,
        "validation_biased": 6,
        "validation": 12,
        "test": 18,
    }
    assert sum(len(np.unique(sources[index])) for index in drawn.values()) == 40


def test_a_seed_decides_and_rare_cells_reach_every_split_in_turn():
    labels = np.zeros(200, np.int64)
    cells = (np.arange(200) < 4).astype(np.int64)
    where = [draw(labels, cells, np.arange(200), SHARES, np.random.default_rng(seed)) for seed in range(200)]
    again = draw(labels, cells, np.arange(200), SHARES, np.random.default_rng(0))
    assert all(np.array_equal(again[name], where[0][name]) for name in SHARES)
    share = np.mean([(drawn["test"] < 4).sum() for drawn in where]) / 4
    assert share == pytest.approx(0.15, abs=0.03)


@settings(deadline=None, max_examples=50)
@given(labels=LABELS, share=st.floats(min_value=0.0, max_value=1.0), seed=SEEDS)
def test_the_hold_out_is_exact_and_stratified(labels, share, seed):
    labels = np.array(labels)
    size = int(share * len(labels))
    rest, held = hold_out(labels, size, np.random.default_rng(seed))
    assert len(held) == size and sorted([*rest, *held]) == list(range(len(labels)))
    due = np.bincount(labels) * size / len(labels)
    assert (np.abs(np.bincount(labels[held], minlength=len(due)) - due) < 1).all()


def test_the_hold_out_of_mnist():
    _, held = hold_out(np.repeat(np.arange(10), MNIST), 5000, np.random.default_rng(0))
    assert np.bincount(np.repeat(np.arange(10), MNIST)[held]).tolist() == [
        *(494, 562, 496, 511, 487, 452, 493, 522, 487, 496)
    ]

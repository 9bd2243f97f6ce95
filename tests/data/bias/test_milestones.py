"""The label rule of LfF against its definition, with exact counts, and the shuffled splits that it is read from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.bias.milestones import milestones, shuffled_splits
from data.files.labelled import Pictures, Source

TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # MNIST
TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
LABELS = st.lists(st.integers(min_value=0, max_value=9), min_size=1, max_size=120)


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


def test_shuffled_splits_hold_out_and_follow_the_rule_of_the_whole_files():
    labels, test_labels = np.repeat(np.arange(10), 30), np.repeat(np.arange(10), 20)
    source = Source(*(Pictures(np.zeros((len(some), 1, 1), np.uint8), some) for some in (labels, test_labels)), "", [])
    places, rule = shuffled_splits(source, 40, 0.1, np.random.default_rng(0))
    assert rule.tolist() == [*milestones(labels, 10, 0.9), *milestones(test_labels, 10, 0.1)]
    assert {name: len(at) for name, at in places.items()} == {
        "train": 260,
        "validation_biased": 40,
        "validation": 40,
        "test": 200,
    }
    assert places["validation"].tolist() == places["validation_biased"].tolist()
    assert sorted([*places["train"], *places["validation"]]) == list(range(300))
    assert sorted(places["test"]) == list(range(300, 500)) != places["test"].tolist()

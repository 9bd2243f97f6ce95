"""Class separation against its definition over pairs, and on cases by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from train.measure.separation import separation


def over_pairs(z_ND, labels_N):
    """Follow the definition literally, with every pair."""
    z_ND = z_ND.abs().double()
    distance_NN = 1 - torch.nn.functional.cosine_similarity(z_ND[:, None], z_ND[None], dim=2)
    groups = [torch.nonzero(labels_N == k)[:, 0] for k in labels_N.unique()]
    between = torch.stack([distance_NN[a][:, b].mean() for a in groups for b in groups])
    within = torch.stack([distance_NN[a][:, a].mean() for a in groups])
    return float(1 - within.mean() / between.mean())


def test_perfectly_clustered_one_hot_classes_are_separated():
    labels_N = torch.arange(30) % 3
    assert separation(torch.eye(3)[labels_N] * torch.rand(30, 1).add(0.1), labels_N) == pytest.approx(1)


def test_labels_that_do_not_depend_on_z_are_not():
    torch.manual_seed(0)
    value = separation(torch.rand(2000, 8), torch.randint(0, 4, (2000,)))
    assert 0 < value < 0.01


def test_by_hand():
    # Class 0 holds e1 and e2, class 1 holds e1 twice: d_within = (1/2 + 0) / 2, d_between = (1/2 + 0 + 1/2 + 1/2) / 4.
    z_ND = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [-4.0, 0.0]])
    assert separation(z_ND, torch.tensor([0, 0, 1, 1])) == pytest.approx(1 - 0.25 / 0.375)


def test_one_direction_for_all_is_no_separation():
    z_ND = torch.rand(10, 1) * torch.tensor([[1.0, 2.0, 3.0]])
    assert separation(z_ND, torch.arange(10) % 2) == 0.0
    assert separation(torch.zeros(10, 3), torch.arange(10) % 2) == pytest.approx(0.0)


@settings(deadline=None, max_examples=40)
@given(
    arrays("float64", (9, 4), elements=st.floats(-5, 5).map(lambda v: round(v, 2))),
    arrays("int64", 9, elements=st.integers(0, 6)),
)
def test_class_means_give_what_all_pairs_give(z, labels):
    z_ND, labels_N = torch.from_numpy(z), torch.from_numpy(np.array(labels))
    if (z_ND == 0).all(dim=1).any() or len(labels_N.unique()) < 2:
        return
    value = separation(z_ND, labels_N)
    assert -1e-9 <= value <= 1 + 1e-9
    expected = over_pairs(z_ND, labels_N)
    assert value == pytest.approx(expected, abs=1e-6) or value == 0.0  # 0 / 0 where all lie in one direction

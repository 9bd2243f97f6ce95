"""Sparsity and compressibility, on vectors whose values a person can compute."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from train.measure.sparsity import activation_sparsity, compressibility, dead_units, network_compressibility, pq_index

vectors = arrays("float64", (3, 6), elements=st.floats(-1e3, 1e3).map(lambda v: v if abs(v) > 1e-6 else 0.0))


@pytest.mark.parametrize(("p", "q"), [(1, 2), (0.5, 1), (1, 4)])
def test_the_pq_index_of_one_hot_and_constant_vectors(p, q):
    d = 9
    assert pq_index(torch.eye(d), p, q) == pytest.approx(1 - d ** (1 / q - 1 / p))
    assert pq_index(torch.full((2, d), -3.0), p, q) == pytest.approx(0, abs=1e-12)


def test_the_pq_index_by_hand():
    # ||(3, 4, 0, 0)||_1 = 7, ||.||_2 = 5, 4**(1/2 - 1) = 1/2
    assert pq_index(torch.tensor([[3.0, -4.0, 0.0, 0.0]])) == pytest.approx(0.3)
    assert pq_index(torch.tensor([[3.0, 4.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])) == pytest.approx(0.15)


def test_a_row_of_zeros_is_flat():
    assert pq_index(torch.zeros(2, 4)) == 0.0
    assert pq_index(torch.tensor([[0.0, 0.0], [1.0, 0.0]])) == pytest.approx((1 - 2**-0.5) / 2)


@settings(deadline=None, max_examples=40)
@given(vectors, st.floats(1e-3, 1e3))
def test_the_pq_index_ignores_scale_and_stays_in_its_range(z, scale):
    z_ND = torch.from_numpy(z)
    index = pq_index(z_ND)
    assert 0 <= index <= 1 - 6**-0.5 + 1e-12
    assert pq_index(z_ND * scale) == pytest.approx(index, abs=1e-9)


def test_float32_extremes_do_not_overflow():
    z_ND = torch.tensor([[1e30, 0.0, 0.0, 0.0], [1e-30, 0.0, 0.0, 0.0]])
    assert pq_index(z_ND) == pytest.approx(0.5)
    assert compressibility(z_ND.flatten(), 1 / 8) == pytest.approx(1.0)


def test_compressibility_by_hand():
    w_N = torch.tensor([3.0, -12.0, 4.0, 0.0])
    assert compressibility(w_N, 0.25) == pytest.approx(1 - 5 / 13)
    assert compressibility(w_N, 0.2) == pytest.approx(1 - 5 / 13)  # 0.8 of a number is one number
    assert compressibility(w_N, 0.25, q=1) == pytest.approx(1 - 7 / 19)
    assert compressibility(w_N, 0.0) == 0.0


def test_keeping_everything_loses_nothing():
    assert compressibility(torch.randn(50), 1.0) == 1.0
    assert compressibility(torch.zeros(5), 0.2) == 1.0


def test_rounding_does_not_keep_one_more():
    assert 0.07 * 100 > 7
    assert compressibility(torch.ones(100), 0.07) == pytest.approx(1 - math.sqrt(0.93))


@settings(deadline=None, max_examples=40)
@given(vectors, st.floats(0, 1), st.floats(0, 1))
def test_keeping_more_never_loses_more(w, a, b):
    w_N = torch.from_numpy(w.ravel())
    low, high = sorted((a, b))
    assert 0 <= compressibility(w_N, low) <= compressibility(w_N, high) + 1e-12 <= 1 + 1e-12


def test_a_network_is_one_vector_of_weights_without_biases():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.Linear(1, 3))
    with torch.no_grad():
        model[0].weight.fill_(12.0)
        model[2].weight.copy_(torch.tensor([[3.0], [4.0], [0.0]]))
        model[2].bias.fill_(1000.0)
    assert network_compressibility(model, 0.25) == pytest.approx(1 - 5 / 13)


def test_zeros_and_dead_units_are_counted():
    z_ND = torch.tensor([[0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 0.0, 1.0]])
    assert activation_sparsity(z_ND) == 5 / 8
    assert dead_units(z_ND) == 2
    assert dead_units(torch.zeros(3, 4)) == 4 and activation_sparsity(torch.ones(2, 2)) == 0

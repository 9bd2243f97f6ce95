"""Barriers, angles and agreement on cases that a person can compute."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bigstep.errors import TrainError
from train.rate_map import barrier as geometry
from train.rate_map.barrier import agreement, angle, barrier, errors_between


def linear(weight, bias=None):
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))
    return layer


def hidden_pair(used):
    """Return logits (2 relu(x), 1.5) of a network with two hidden units, of which one is used."""
    other = 1 - used
    weight, head = [[0.0], [0.0]], [[0.0, 0.0], [0.0, 0.0]]
    weight[used], weight[other], head[0][used] = [2.0], [0.0], 1.0
    return nn.Sequential(linear(weight), nn.ReLU(), linear(head, [0.0, 1.5]))


ONES = torch.ones(4, 1)
MIXED = ONES, torch.tensor([0, 0, 0, 1])


def test_identical_points_have_no_barrier():
    model = linear([[1.0, 2.0], [0.5, -1.0]])
    x_NC = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    images = x_NC, torch.arange(30) % 2
    assert barrier(model, model, *images) == 0.0
    assert len({error for _, error in errors_between(model, model, *images)}) == 1


def test_a_barrier_by_hand(monkeypatch):
    monkeypatch.setattr(geometry, "POINTS", 5)
    first, second = linear([[3.0], [0.0]], [-2.0, 0.0]), linear([[-5.0], [0.0]], [1.0, 0.0])
    errors = errors_between(first, second, *MIXED)  # the output is 1 - 5 a: class 0 at a = 0 alone
    assert errors == [(0.0, 0.25), (0.25, 0.75), (0.5, 0.75), (0.75, 0.75), (1.0, 0.75)]
    assert barrier(first, second, *MIXED) == 0.75 - (0.75 * 0.25 + 0.25 * 0.75)  # at 0.25
    assert barrier(first, linear([[-2.0], [0.0]], [3.0, 0.0]), *MIXED) == 0.0  # the output is 1 all along


def test_the_same_function_with_its_units_swapped_lies_behind_a_barrier(monkeypatch):
    monkeypatch.setattr(geometry, "POINTS", 3)
    case = hidden_pair(0), hidden_pair(1), ONES, torch.zeros(4, dtype=torch.long)
    assert torch.equal(hidden_pair(0)(ONES), hidden_pair(1)(ONES))
    assert errors_between(*case) == [(0.0, 0.0), (0.5, 1.0), (1.0, 0.0)]  # halfway 0.5 * 1 + 0.5 * 1 = 1, below 1.5
    assert barrier(*case) == 1.0


def test_statistics_of_batch_norm_are_measured_at_each_place():
    x_NC = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])

    def network(shift):
        return nn.Sequential(linear([[1.0]], [shift]), nn.BatchNorm1d(1), linear([[-1.0], [1.0]]))

    first, second = network(0.0), network(100.0)  # running statistics still say mean 0, variance 1
    errors = errors_between(first, second, x_NC, torch.tensor([0, 0, 1, 1]))
    assert errors == [(pytest.approx(i / 10), 0.0) for i in range(11)]
    assert float(first[1].running_mean) == 0.0 and first.training and first[1].training
    assert agreement(first, second, x_NC) == 0.5  # as they stand, the second says class 1 always


@given(st.floats(0, math.pi))
def test_the_angle_of_two_directions(radians):
    found = angle(linear([[1.0, 0.0]]), linear([[math.cos(radians), math.sin(radians)]]))
    assert found == pytest.approx(radians, abs=2e-7)


@settings(deadline=None)
@given(st.floats(0.01, 100), st.integers(0, 100))
def test_the_length_of_weights_and_their_biases_do_not_count(factor, seed):
    torch.manual_seed(seed)
    first, second = nn.Linear(4, 3), nn.Linear(4, 3)
    with torch.no_grad():
        second.weight.copy_(factor * first.weight)
    assert angle(first, second) == pytest.approx(0.0, abs=1e-6)
    assert math.isnan(angle(first, linear([[0.0] * 4] * 3, [1.0] * 3)))


def test_the_angle_of_w_and_3w_is_zero():
    assert angle(linear([[1.0, 2.0]]), linear([[3.0, 6.0]])) == pytest.approx(0.0, abs=1e-15)


def test_agreement_counts_classes():
    x_NC = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [1.0, 3.0]])
    same, swapped, one = (linear(w) for w in ([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]], [[9.0, 9], [0, 0]]))
    assert (agreement(same, same, x_NC), agreement(same, swapped, x_NC), agreement(same, one, x_NC)) == (1.0, 0.0, 0.5)


def test_networks_of_different_shape_have_no_line():
    with pytest.raises(TrainError, match=r"differences in weight\n"):
        barrier(linear([[1.0]]), linear([[1.0, 2.0]]), *MIXED)
    with pytest.raises(TrainError, match="one architecture"):
        geometry.angle(linear([[1.0]]), linear([[1.0]], [0.0]))

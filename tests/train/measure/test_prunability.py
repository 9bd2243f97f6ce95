"""Global magnitude pruning and the area under its curve, on cases that a person can compute."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from train.measure import prunability


def pruned_by(model, fraction):
    """Return the copy of a network without a share of its weights."""
    ((_, pruned),) = prunability.pruned_copies(model, (fraction,))
    return pruned


def two_layers(first, second) -> nn.Sequential:
    first, second = torch.as_tensor(first, dtype=torch.float32), torch.as_tensor(second, dtype=torch.float32)
    model = nn.Sequential(nn.Linear(first.shape[1], first.shape[0]), nn.Linear(second.shape[1], second.shape[0]))
    with torch.no_grad():
        model[0].weight.copy_(first)
        model[1].weight.copy_(second)
        for layer in model:
            layer.bias.fill_(0.001)
    return model


def weights(model):
    return [p.detach() for p in model.parameters() if p.ndim > 1]


def test_the_smallest_weights_of_all_layers_go_first():
    model = two_layers([[4.0, -1.0], [0.5, 8.0]], [[-2.0, 16.0], [0.25, 32.0]])
    half = pruned_by(model, 0.5)
    assert half[0].weight.tolist() == [[4.0, 0.0], [0.0, 8.0]]
    assert half[1].weight.tolist() == [[0.0, 16.0], [0.0, 32.0]]


def test_the_network_itself_and_all_biases_are_kept():
    model = two_layers([[1.0, 2.0]], [[3.0]])
    pruned = pruned_by(model, 1.0)
    assert [w.abs().max().item() for w in weights(pruned)] == [0.0, 0.0]
    assert all((layer.bias == 0.001).all() for layer in pruned)
    assert [w.tolist() for w in weights(model)] == [[[1.0, 2.0]], [[3.0]]]


def test_pruning_nothing_gives_a_copy():
    model = two_layers(torch.eye(3), torch.eye(3))
    same = pruned_by(model, 0.0)
    assert same is not model
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


def test_an_identity_survives_until_its_zeros_are_used_up():
    model = two_layers(torch.eye(4), torch.eye(4))
    survives = pruned_by(model, 0.75)
    assert torch.equal(weights(survives)[0], torch.eye(4))
    left = weights(pruned_by(model, 0.8))
    assert sum(int((w != 0).sum()) for w in left) == 32 - round(0.8 * 32)  # of equal weights the earlier go first


def test_convolutions_are_pruned_and_normalisation_is_not():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    pruned = pruned_by(model, 1.0)
    assert (pruned[0].weight == 0).all() and (pruned[1].weight == 1).all()


@settings(deadline=None, max_examples=60)
@given(
    first=arrays("float32", (3, 4), elements=st.integers(-5, 5).map(float)),
    second=arrays("float32", (2, 3), elements=st.floats(-2, 2, width=32)),
    fraction=st.floats(0, 1),
)
def test_exactly_the_share_is_zero_and_nothing_larger_went(first, second, fraction):
    model = two_layers(first, second)
    before = torch.cat([w.flatten() for w in weights(model)])
    after = torch.cat([w.flatten() for w in weights(pruned_by(model, fraction))])
    gone, kept = (after == 0) & (before != 0), after != 0
    assert (after == 0).sum() == max(round(fraction * len(before)), (before == 0).sum())
    assert torch.equal(after[kept], before[kept])
    assert not (gone.any() and kept.any()) or before[gone].abs().max() <= before[kept].abs().min()


def test_the_curve_asks_for_every_fraction_once():
    model = two_layers(torch.arange(1.0, 51).view(5, 10), torch.arange(51.0, 101).view(10, 5))
    curve = prunability.curve(model, lambda m: float(sum((w != 0).sum() for w in weights(m))) / 100)
    assert tuple(fraction for fraction, _ in curve) == prunability.FRACTIONS
    assert [share for _, share in curve] == pytest.approx([1 - f for f in prunability.FRACTIONS])


def test_copies_made_together_are_those_made_one_by_one():
    torch.manual_seed(0)
    model = two_layers(torch.randn(4, 6).round(decimals=1), torch.randn(3, 4).round(decimals=1))  # with equal weights
    fractions = []
    for fraction, pruned in prunability.pruned_copies(model):
        alone = pruned_by(model, fraction)
        assert all(torch.equal(a, b) for a, b in zip(pruned.parameters(), alone.parameters(), strict=True))
        fractions.append(fraction)
    assert tuple(fractions) == prunability.FRACTIONS


def area_of(accuracy):
    return prunability.area([(fraction, accuracy(fraction)) for fraction in prunability.FRACTIONS])


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        (lambda _: 0.8, 1.0),
        (lambda f: 1.0 - f, 0.5),
        (lambda f: 0.4 * (1.0 - f), 0.5),
        (lambda _: 0.0, 0.0),
        (lambda f: 0.5 + 0.5 * f, 1.5),
        (lambda f: float(f == 0.0), 0.1),  # a triangle over the first gap of 0.2
    ],
)
def test_areas_by_hand(accuracy, expected):
    assert area_of(accuracy) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("points", "margin", "expected"),
    [
        ([(0.0, 0.9), (0.5, 0.9), (1.0, 0.9)], 0.0, 1.0),
        ([(0.0, 0.9), (0.5, 0.9), (1.0, 0.1)], 0.08, 0.55),
        ([(0.0, 0.8), (0.4, 0.6), (1.0, 0.9)], 0.05, 0.1),  # the recovery does not count
        ([(0.0, 0.8), (0.4, 0.75), (1.0, 0.75)], 0.05, 1.0),
        ([(0.0, 0.5), (0.2, 0.4), (1.0, 0.1)], 0.0, 0.0),
        ([(0.0, 0.5), (0.2, 0.9), (1.0, 0.1)], 0.0, 0.6),  # halfway down from 0.9 to 0.1
    ],
)
def test_the_largest_removable_fraction_by_hand(points, margin, expected):
    assert prunability.largest_fraction(points, margin) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=14, max_size=14), st.floats(0, 1), st.floats(0, 1))
def test_a_wider_margin_never_removes_less(accuracies, a, b):
    points = list(zip(prunability.FRACTIONS, accuracies, strict=True))
    low, high = sorted((a, b))
    assert 0 <= prunability.largest_fraction(points, low) <= prunability.largest_fraction(points, high) + 1e-12
    assert prunability.largest_fraction(points, 1.0) == 1.0

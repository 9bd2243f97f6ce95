"""Regimes of hand-written runs, boundaries found by bisection, and the split of regime 2."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.rate_map.regimes import Bracket, Curve, Regime, SecondPhase, bisect, classify, split


def curve(losses, accuracies, *, classes=10, images=10_000):
    return Curve(losses, accuracies, 1 / classes, images)


def test_a_run_that_reaches_the_loss_converges_even_if_it_leaves_again():
    found = classify(curve([2.0, 0.5, 0.009, 0.3], [0.2, 0.6, 0.8, 0.7]), 0.01)
    assert (found.regime, found.epochs, found.converged_at) == (Regime.CONVERGENCE, 4, 3)
    assert classify(curve([2.0, 0.01, math.nan], [0.2, 0.8, 0.1]), 0.01).regime is Regime.DIVERGENCE  # not below 0.01


def test_a_run_that_settles_above_chance_is_an_equilibrium():
    found = classify(curve([1.5] * 200, [0.1] * 180 + [0.31] * 20), 0.01)
    assert (found.regime, found.converged_at) == (Regime.EQUILIBRIUM, None)
    assert classify(curve([1.5] * 200, [0.31] * 180 + [0.1] * 20), 0.01).regime is Regime.DIVERGENCE
    assert classify(curve([1.5] * 20, [0.1] * 18 + [0.3] * 2), 0.01).regime is Regime.EQUILIBRIUM  # a tenth: 2 epochs


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_divergence(loss):
    assert classify(curve([1.0, loss], [0.5, 0.5]), 0.01).regime is Regime.DIVERGENCE
    assert classify(curve([loss], []), 0.01).regime is Regime.DIVERGENCE


def test_chance_is_two_standard_deviations_wide():
    # sqrt(0.1 * 0.9 / 10,000) = 0.003, and no spread over epochs
    for accuracy, regime in [(0.1059, 3), (0.1061, 2), (0.0941, 3), (0.0939, 2)]:
        assert classify(curve([2.3] * 50, [accuracy] * 50), 0.01).regime == regime
    # with a spread of 0.02 over 20 epochs: sqrt(0.003^2 + 0.02^2 / 20) = 0.00538
    for centre, regime in [(0.1107, 3), (0.1109, 2)]:
        accuracies = [centre - 0.02, centre + 0.02] * 100
        assert classify(curve([2.3] * 200, accuracies), 0.01).regime == regime


@given(st.floats(1e-4, 10.0, exclude_min=True, exclude_max=True), st.integers(2, 15))
def test_a_bracket_holds_the_boundary_and_halves_with_each_test(boundary, budget):
    found = bisect(lambda rate: rate <= boundary, 1e-4, 10.0, budget, ratio=1.0)
    assert len(found.tested) == budget
    assert found.low <= boundary < found.high
    assert math.log(found.high / found.low) == pytest.approx(math.log(1e5) / 2 ** (budget - 2))
    assert all(below == (rate <= found.low) for rate, below in found.tested)


def test_bisection_stops_when_the_bracket_is_narrow():
    found = bisect(lambda rate: rate < 0.3, 0.1, 1.0, 100, ratio=1.1)
    assert len(found.tested) < 10 and found.high / found.low <= 1.1
    assert str(Bracket(0.25, 0.5, [])) == "0.25 to 0.5"


@pytest.mark.parametrize(
    ("below", "low", "high", "text", "tests"),
    [(False, None, 0.1, "below 0.1", 1), (True, 1.0, None, "not reached up to 1", 2)],
)
def test_a_boundary_outside_gives_a_bound(below, low, high, text, tests):
    found = bisect(lambda _: below, 0.1, 1.0, 10)
    assert (found.low, found.high, str(found), len(found.tested)) == (low, high, text, tests)


def row(rate, small=0.9, large=0.9, barrier=0.0):
    return SecondPhase(rate, small, large, averaged=0.9, barrier=barrier, agreement=0.95)


def test_2a_goes_from_the_threshold_to_the_first_fault():
    rows = [row(0.4), row(0.1), row(0.2), row(0.8, small=0.85), row(1.6)]
    found = split(rows, best_converged=0.88)
    assert found.inside == [0.1, 0.2, 0.4]  # 1.6 would do, but lies behind a gap
    assert (found.boundary.low, found.boundary.high) == (0.4, 0.8)
    assert found.why == "fine-tuned accuracy 0.8500 below 0.8800, the best of regime 1"


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"large": 0.87}, "accuracy 0.8700"),
        ({"small": math.nan}, "accuracy nan"),
        ({"large": math.nan}, "accuracy"),
        ({"barrier": 0.01}, "barrier 1.00%"),
        ({"barrier": math.nan}, "barrier"),
    ],
)
def test_every_condition_of_2a_is_needed(fault, why):
    found = split([row(0.1), row(0.2, **fault)], best_converged=0.88)
    assert found.inside == [0.1] and why in found.why


def test_the_limits_of_2a_are_included_or_not_as_stated():
    assert split([row(0.1, small=0.88, large=0.88, barrier=0.0099)], best_converged=0.88).inside == [0.1]


def test_2a_may_be_empty_or_all_of_regime_2():
    empty, whole = split([row(0.1, small=0.5)], 0.88), split([row(0.1), row(0.2)], 0.88)
    assert (empty.inside, str(empty.boundary)) == ([], "below 0.1")
    assert (whole.inside, str(whole.boundary), whole.why) == ([0.1, 0.2], "not reached up to 0.2", None)
    assert str(split([], 0.88).boundary) == "no rate was tested"


def test_the_published_split_lies_in_the_bracket():
    # SI ResNet-18, CIFAR-10: the two published rates of regime 2; the authors draw the boundary at 1.4e-3.
    rows = [row(1e-3, small=0.885, large=0.887, barrier=0.001), row(1e-2, small=0.787, large=0.840, barrier=0.001)]
    found = split(rows, best_converged=0.866)
    assert found.boundary.low < 1.4e-3 < found.boundary.high

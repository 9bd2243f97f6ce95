"""Boundaries found by bisection, and the split of regime 2."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigstep.records.rate_map import SecondPhase
from train.rate_map.regimes import band_2a, bisect


@given(st.floats(1e-4, 10.0, exclude_min=True, exclude_max=True), st.integers(1, 13))
def test_each_test_halves_the_gap_that_holds_the_boundary(boundary, budget):
    tested, gap = [], [1e-4, 10.0]

    def is_below(rate):
        tested.append(rate)
        gap[not rate <= boundary] = rate
        return rate <= boundary

    bisect(is_below, *gap, budget, ratio=1.0)
    assert len(tested) == budget and gap[0] <= boundary < gap[1]
    assert math.log(gap[1] / gap[0]) == pytest.approx(math.log(1e5) / 2**budget)


def test_bisection_stops_when_the_gap_is_narrow():
    tested = []
    bisect(lambda rate: tested.append(rate) or rate < 0.3, 0.1, 1.0, 100, ratio=1.1)
    assert 3 < len(tested) < 10 and min(abs(rate / 0.3 - 1) for rate in tested) < 0.1


def row(rate, small=0.9, large=0.9, barrier=0.0):
    others = dict.fromkeys(("small_conflicting", "large_conflicting", "averaged_conflicting", "angle", "fault"))
    numbers = {"small": small, "large": large, "averaged": 0.9, "barrier": barrier, "agreement": 0.95}
    return SecondPhase(rate=rate, seed=0, regime=2, **numbers, **others)


def test_2a_goes_from_the_threshold_to_the_first_fault():
    rows = [row(0.4), row(0.1), row(0.2), row(0.8, small=0.85), row(1.6)]
    found = band_2a(rows, best_converged=0.88)
    assert found.inside == [0.1, 0.2, 0.4]  # 1.6 would do, but lies behind a gap
    assert found.beyond == 0.8
    assert found.why == "fine-tuned accuracy 0.8500 below 0.8800, the best of regime 1"


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"large": 0.87}, "accuracy 0.8700"),
        ({"small": None}, "a fine-tuned network diverged"),
        ({"large": None}, "diverged"),
        ({"barrier": 0.01}, "barrier 1.00%"),
        ({"barrier": None}, "diverged"),
    ],
)
def test_every_condition_of_2a_is_needed(fault, why):
    found = band_2a([row(0.1), row(0.2, **fault)], best_converged=0.88)
    assert found.inside == [0.1] and why in found.why


def test_the_limits_of_2a_are_included_or_not_as_stated():
    assert band_2a([row(0.1, small=0.88, large=0.88, barrier=0.0099)], best_converged=0.88).inside == [0.1]


def test_2a_may_be_empty_or_all_of_regime_2():
    empty, whole = band_2a([row(0.1, small=0.5)], 0.88), band_2a([row(0.1), row(0.2)], 0.88)
    assert (empty.inside, empty.beyond) == ([], 0.1)
    assert (whole.inside, whole.beyond, whole.why) == ([0.1, 0.2], None, None)
    assert band_2a([], 0.88).beyond is None


def test_the_published_split_lies_in_the_bracket():
    # SI ResNet-18, CIFAR-10: the two published rates of regime 2; the authors draw the boundary at 1.4e-3.
    rows = [row(1e-3, small=0.885, large=0.887, barrier=0.001), row(1e-2, small=0.787, large=0.840, barrier=0.001)]
    found = band_2a(rows, best_converged=0.866)
    assert found.inside[-1] < 1.4e-3 < found.beyond

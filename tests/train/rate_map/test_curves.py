"""Fits over learning rates: breaks that were planted, shapes that are there or not, and a published threshold."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigstep.errors import TrainError
from train.rate_map.curves import edge_gap, norm_break, sharpness_break, stalling_rate, u_test

RATES = np.geomspace(0.01, 1.0, 15)

# Epochs until train loss < 1e-2, SI ResNet-18 on CIFAR-10, three seeds (code of Sadrtdinov et al. 2024). Runs at
# 4.0e-4, 4.2e-4 and 4.27e-4 had not converged.
PUBLISHED = {
    1e-4: (18, 17, 20),
    1.5e-4: (25, 23, 23),
    2e-4: (27, 27, 25),
    2.5e-4: (40, 37, 40),
    3e-4: (90, 81, 83),
    3.5e-4: (336, 511, 402),
    3.7e-4: (501, 1101),
    3.8e-4: (1541,),
    3.9e-4: (2621,),
}


@settings(deadline=None, max_examples=8)
@given(st.floats(0.02, 0.5))
def test_an_exact_break_is_found(rate):
    sharpness = 2 / np.maximum(RATES, rate)
    found = sharpness_break(RATES, sharpness)
    assert found.rate == pytest.approx(rate, rel=0.005) and found.inside
    assert found.low <= found.rate <= found.high and found.high / found.low < 1.02
    assert found.level == pytest.approx(2 / rate, rel=0.005) and found.slope == -1.0
    assert edge_gap(RATES, sharpness, found.rate * 1.01) == pytest.approx(0.0, abs=1e-12)
    norm = norm_break(RATES, 30 + 7 * np.maximum(0, RATES - rate))
    assert norm.rate == pytest.approx(rate, rel=0.01) and norm.inside
    assert (norm.level, norm.slope) == pytest.approx((30, 7), rel=0.01)


def test_the_interval_holds_the_break_about_as_often_as_it_says():
    rng, inside, width = np.random.default_rng(0), 0, []
    for _ in range(30):
        noisy = 20 * np.exp(0.1 * rng.normal(size=15)) / np.maximum(1.0, RATES / 0.1)
        found = sharpness_break(RATES, noisy, confidence=0.9)
        inside += found.low <= 0.1 <= found.high
        width.append(found.high / found.low)
    assert inside >= 23  # 27 expected; binomial, two and a half standard deviations less
    assert 1.05 < np.median(width) < 1.5


@pytest.mark.parametrize("fit", [sharpness_break, norm_break])
def test_a_sweep_without_a_break_shows_none(fit):
    noise = 1 + 0.05 * np.random.default_rng(1).normal(size=15)
    assert not fit(RATES, 10 * noise).inside
    whole = 2 / RATES if fit is sharpness_break else 3 + 5 * RATES
    assert not fit(RATES, whole * noise).inside


def test_edge_gap_by_hand():
    assert edge_gap([0.1, 0.2, 0.4], [5.0, 11.0, 4.0], above=0.1) == pytest.approx((0.1 + 0.2) / 2)
    assert math.isnan(edge_gap([0.1], [5.0], above=0.1))


@pytest.mark.parametrize(("sign", "kind"), [(1, "U"), (-1, "inverted U")])
def test_a_u_is_found_with_its_turn(sign, kind):
    noise = 0.02 * np.random.default_rng(0).normal(size=15)
    found = u_test(RATES, sign * ((np.log(RATES) - math.log(0.08)) ** 2 / 4 + noise))
    assert found.kind == kind and found.p < 1e-4 and found.turn == pytest.approx(0.08, rel=0.05)
    exact = u_test(RATES, sign * (np.log(RATES) - math.log(0.2)) ** 2)
    assert exact.kind == kind and exact.turn == pytest.approx(0.2)


def test_curvature_alone_is_no_u():
    u = np.log(RATES) - np.log(RATES[0])
    noise = 0.02 * np.random.default_rng(0).normal(size=15)
    monotone = u_test(RATES, u**2 + 0.5 * u + noise)  # rises from the first rate on
    assert monotone.kind == "none" and monotone.p > 0.5 and monotone.turn is None
    assert u_test(RATES, [0.7] * 15).kind == "none"


def test_noise_is_called_a_shape_no_more_often_than_stated():
    rng = np.random.default_rng(0)
    shapes = sum(u_test(RATES, rng.normal(size=15)).kind != "none" for _ in range(400))
    assert shapes <= 2 * 0.05 * 400  # both shapes, each at 5 % at most


def test_the_published_threshold_of_convergence():
    rates, epochs = zip(*[(rate, e) for rate, runs in PUBLISHED.items() for e in runs], strict=True)
    found = stalling_rate(rates, epochs)
    assert found.rate == pytest.approx(4.0e-4, rel=0.03)
    assert 3.9e-4 < found.low < found.rate < found.high < 4.3e-4


def test_a_planted_threshold_and_exponent():
    rates = np.geomspace(0.02, 0.19, 8)
    found = stalling_rate(rates, 3.0 / (0.2 - rates) ** 1.5)
    assert found.rate == pytest.approx(0.2, rel=0.01) and found.exponent == pytest.approx(1.5, rel=0.02)


def test_rates_slower_because_they_are_small_do_not_count():
    rates = np.geomspace(0.001, 0.19, 14)
    epochs = 1 / rates + 3.0 / (0.2 - rates) ** 1.5
    fastest = rates[epochs.argmin()]
    found = stalling_rate(rates, epochs)
    again = stalling_rate(rates[rates >= fastest], epochs[rates >= fastest])
    assert found == again and found.rate == pytest.approx(0.2, rel=0.05)


def test_times_that_hardly_grow_leave_the_threshold_open():
    noise = np.random.default_rng(3).normal(size=8)
    found = stalling_rate(np.geomspace(0.01, 0.1, 8), [10, *(10.5 + 0.4 * noise[1:])])
    assert found.high == math.inf


@pytest.mark.parametrize("fit", [sharpness_break, norm_break, u_test, stalling_rate])
def test_what_cannot_be_fitted_is_refused(fit):
    with pytest.raises(TrainError, match="3 different rates"):
        fit([0.1, 0.1, 0.2, 0.3], [1, 2, 3, 4])
    with pytest.raises(TrainError, match=r"nan at rate 0\.2"):
        fit([0.1, 0.2, 0.3, 0.4], [1, math.nan, 3, 4])

"""The break in sharpness: found where it was planted, and not found where there is none."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigstep.errors import TrainError
from train.rate_map.curves import sharpness_break

RATES = np.geomspace(0.01, 1.0, 15)


@settings(deadline=None, max_examples=8)
@given(st.floats(0.02, 0.5))
def test_an_exact_break_is_found(rate):
    sharpness = 2 / np.maximum(RATES, rate)
    found = sharpness_break(RATES, sharpness)
    assert found.rate == pytest.approx(rate, rel=0.005) and found.inside
    assert found.low <= found.rate <= found.high and found.high / found.low < 1.02
    assert found.level == pytest.approx(2 / rate, rel=0.005)


def test_the_interval_holds_the_break_about_as_often_as_it_says():
    rng, inside, width = np.random.default_rng(0), 0, []
    for _ in range(30):
        noisy = 20 * np.exp(0.1 * rng.normal(size=15)) / np.maximum(1.0, RATES / 0.1)
        found = sharpness_break(RATES, noisy, confidence=0.9)
        inside += found.low <= 0.1 <= found.high
        width.append(found.high / found.low)
    assert inside >= 23  # 27 expected; binomial, two and a half standard deviations less
    assert 1.05 < np.median(width) < 1.5


def test_a_sweep_without_a_break_shows_none():
    noise = 1 + 0.05 * np.random.default_rng(1).normal(size=15)
    assert not sharpness_break(RATES, 10 * noise).inside
    assert not sharpness_break(RATES, 2 / RATES * noise).inside


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(TrainError, match="3 different rates"):
        sharpness_break([0.1, 0.1, 0.2, 0.3], [1, 2, 3, 4])
    for value in (math.nan, 0.0):
        with pytest.raises(TrainError, match=rf"{value} at rate 0\.2"):
            sharpness_break([0.1, 0.2, 0.3, 0.4], [1, value, 3, 4])

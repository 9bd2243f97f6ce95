"""Signals without a bias label, by hand and against their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from train.measure.label_free import agreement, hardest, loss_concentration, loss_gini


def test_equal_losses_are_not_concentrated():
    assert loss_gini(np.full(7, 0.3)) == pytest.approx(0)
    assert loss_concentration(np.full(7, 0.3)) == pytest.approx(0)


def test_one_sample_with_all_of_the_loss():
    assert loss_gini(np.array([0.0, 5.0, 0.0, 0.0])) == pytest.approx(3 / 4)
    assert loss_concentration(np.array([0.0, 5.0, 0.0, 0.0])) == pytest.approx(1)


def test_gini_by_hand():
    assert loss_gini(np.array([3.0, 1.0])) == pytest.approx(0.25)  # (2 + 2) / (2 * 2 * 4)


@settings(deadline=None, max_examples=40)
@given(arrays("float64", 6, elements=st.floats(0.01, 50)), st.floats(0.1, 10))
def test_gini_is_the_mean_difference_whatever_the_scale(losses_N, scale):
    pairs = np.abs(losses_N[:, None] - losses_N[None]).sum() / (2 * 6 * losses_N.sum())
    assert loss_gini(losses_N) == pytest.approx(pairs, abs=1e-9)
    assert loss_gini(scale * losses_N) == pytest.approx(pairs, abs=1e-9)
    assert -1e-9 <= loss_concentration(losses_N) <= 1


def test_no_loss_gives_no_number():
    assert math.isnan(loss_gini(np.zeros(3))) and math.isnan(loss_concentration(np.zeros(3)))


def test_the_hardest_are_the_largest_losses_the_earlier_of_equals():
    assert hardest(np.array([1.0, 3.0, 2.0, 3.0, 0.0]), 0.4).tolist() == [False, True, False, True, False]
    assert hardest(np.array([1.0, 1.0, 1.0]), 0.1).tolist() == [True, False, False]
    assert hardest(np.arange(100.0), 0.07).sum() == 7


def test_agreement_is_of_classes_not_of_logits():
    first = np.array([[2.0, 1.0], [0.0, 9.0], [1.0, 0.0], [0.0, 1.0]])
    second = np.array([[9.0, 1.0], [3.0, 2.0], [1.0, 0.5], [0.0, 5.0]])
    assert agreement(first, second) == 0.75

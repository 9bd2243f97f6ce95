"""Whose loss it is and whom the errors follow, by hand and against their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax

from train.measure.loss_share import (
    bias_following,
    conflicting_loss_ratio,
    conflicting_loss_share,
    error_confidence,
    logit_norm,
    loss_entropy,
    sample_losses,
)

FIRST = np.array([True, False, False, False])


@settings(deadline=None, max_examples=40)
@given(arrays("float64", (5, 3), elements=st.floats(-30, 30)), arrays("int64", 5, elements=st.integers(0, 2)))
def test_losses_are_cross_entropies(logits_NK, labels_N):
    expected_N = -log_softmax(logits_NK, axis=1)[np.arange(5), labels_N]
    np.testing.assert_allclose(sample_losses(logits_NK, labels_N), expected_N, rtol=1e-9, atol=1e-12)


def test_tiny_and_huge_losses_keep_their_precision():
    losses_N = sample_losses(np.array([[100.0, 0.0], [0.0, 1e4], [-3e38, 3e38]], np.float32), np.zeros(3, np.int64))
    np.testing.assert_allclose(losses_N, [math.exp(-100), 1e4, 6e38], rtol=1e-6)


def test_equal_losses_give_the_share_of_the_samples():
    losses_N = sample_losses(np.zeros((4, 10)), np.arange(4))
    np.testing.assert_allclose(losses_N, math.log(10))
    assert conflicting_loss_share(losses_N, FIRST) == pytest.approx(0.25)
    assert conflicting_loss_ratio(losses_N, FIRST) == pytest.approx(1 / 3)
    assert loss_entropy(losses_N) == pytest.approx(math.log(4))


def test_shares_by_hand():
    losses_N = np.array([6.0, 1.0, 1.0, 0.0])
    assert conflicting_loss_share(losses_N, FIRST) == 0.75
    assert conflicting_loss_ratio(losses_N, FIRST) == 3.0
    assert loss_entropy(losses_N) == pytest.approx(-0.75 * math.log(0.75) + 0.25 * math.log(8))
    assert loss_entropy(np.array([0.0, 2.0])) == 0.0


def test_growing_logits_move_the_loss_to_the_mispredicted():
    logits_NK = np.array([[-1.0, 1.0]] + [[1.0, -1.0]] * 3)
    shares = [conflicting_loss_share(sample_losses(a * logits_NK, np.zeros(4, np.int64)), FIRST) for a in (0, 1, 3, 9)]
    assert shares == sorted(shares) and shares[0] == 0.25 and shares[-1] > 0.999999


def test_nothing_to_share_is_no_number():
    assert math.isnan(conflicting_loss_share(np.zeros(4), FIRST))
    assert math.isnan(conflicting_loss_ratio(np.ones(4), np.ones(4, np.bool_)))
    assert math.isnan(loss_entropy(np.zeros(4)))


def test_confidence_counts_errors_only():
    logits_NK = np.log([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    labels_N = np.array([0, 1, 0, 1])
    assert error_confidence(logits_NK, labels_N) == pytest.approx(0.7)
    assert error_confidence(logits_NK, labels_N, np.array([True, True, False, True])) == pytest.approx(0.8)
    assert math.isnan(error_confidence(logits_NK, labels_N, FIRST))


def test_logit_norm_is_a_mean():
    assert logit_norm(np.array([[3.0, 4.0], [0.0, -1.0]], np.float32)) == pytest.approx(3.0)


def test_errors_that_equal_the_bias_follow_it():
    labels_N, bias_NA = np.array([0, 0, 0, 1, 2]), np.array([[1], [1], [2], [0], [2]])
    predicted_N = np.array([1, 2, 0, 0, 1])  # follows, does not, is right, follows, is aligned
    assert bias_following(predicted_N, labels_N, bias_NA, [np.eye(3, dtype=np.bool_)]) == pytest.approx(2 / 3)


def test_one_value_may_suggest_several_labels():
    table = np.array([[True, False], [True, False], [False, True], [False, True]])  # two values for four labels
    labels_N, bias_NA = np.array([0, 0, 1, 2, 3]), np.array([[1], [1], [1], [0], [1]])
    predicted_N = np.array([2, 3, 0, 0, 0])  # the third errs among labels with its value, the last is aligned
    assert bias_following(predicted_N, labels_N, bias_NA, [table]) == 0.75


def test_only_the_attribute_that_contradicts_can_be_followed():
    tables = [np.eye(3, dtype=np.bool_), np.eye(3, dtype=np.bool_)]
    labels_N, bias_NA = np.array([0, 0]), np.array([[0, 1], [0, 1]])
    assert bias_following(np.array([1, 2]), labels_N, bias_NA, tables) == 0.5
    assert math.isnan(bias_following(np.array([0, 0]), labels_N, bias_NA, tables))

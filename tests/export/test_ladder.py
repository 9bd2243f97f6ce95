"""The rungs of the parity ladder, by hand; numbers that are not finite measure nothing."""

import numpy as np
import pytest

from export import ladder


@pytest.mark.parametrize(
    ("images", "largest", "sizes"),
    [(100, 64, [1, 2, 33, 64]), (1, 64, [1]), (40, 64, [1, 2, 33]), (10, 1, [1]), (10, 2, [1, 2]), (10, 3, [1, 2, 3])],
)
def test_batch_sizes_are_one_two_the_largest_and_one_between(images, largest, sizes):
    assert ladder.batch_sizes(images, largest) == sizes


def test_logits_are_taken_at_every_batch_size():
    class Counting:
        def predict(self, images):
            return np.full((len(images), 2), len(images), np.float32)

    found = ladder.logits_by_batch(Counting(), np.zeros((9, 1, 1, 1), np.uint8), 4)
    assert found[:, 0].tolist() == [1, 2, 2, 3, 3, 3, 4, 4, 4, 4]


def test_the_largest_difference_counts_relative_to_large_logits():
    reference = np.array([[0.5, -0.25], [0.0, 0.1]], np.float32)
    rung = ladder.max_abs_rung("net", reference, reference + np.float32([[0, 0], [0, -0.01]]), 1e-4)
    assert (rung.network, rung.measure, rung.limit, rung.n) == ("net", "max_abs_difference", 1e-4, 2)
    assert rung.measured == pytest.approx(0.01, rel=1e-3)
    assert ladder.max_abs_rung("net", reference * 40, reference * 40 + 1, 1e-4).measured == pytest.approx(1 / 20)
    assert ladder.max_abs_rung("net", reference, reference, 1e-4).measured == 0.0


def test_agreement_is_the_share_of_equal_predictions():
    a = np.array([[1, 0], [0, 1], [2, 0], [0, 3]], np.float32)
    b = np.array([[9, 0], [1, 0], [5, 4], [0, 1]], np.float32)
    rung = ladder.agreement_rung("net", a, b, 0.97)
    assert (rung.measure, rung.measured, rung.limit, rung.n) == ("argmax_agreement", 0.75, 0.97, 4)
    assert ladder.agreement_rung("net", a, a, 0.97).measured == 1.0


@pytest.mark.parametrize("rung", [ladder.max_abs_rung, ladder.agreement_rung])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sides", [(0,), (1,), (0, 1)])
def test_numbers_that_are_not_finite_measure_nothing(rung, bad, sides):
    logits = [np.ones((3, 2), np.float32), np.ones((3, 2), np.float32)]
    for side in sides:
        logits[side][1, 1] = bad
    assert rung("net", *logits, 0.5).measured is None

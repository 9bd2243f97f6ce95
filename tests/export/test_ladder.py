"""The rungs of the parity ladder, by hand; numbers that are not finite measure nothing."""

import numpy as np
import pytest

from bigstep import rules
from bigstep.config import ExportConfig
from export import ladder


@pytest.mark.parametrize(
    ("images", "largest", "sizes"),
    [
        (100, 64, [1, 2, 33, 64]),
        (1, 64, [1]),
        (40, 64, [1, 2, 21, 40]),  # the largest takes every image that there is
        (10, 1, [1]),
        (10, 2, [1, 2]),
        (10, 3, [1, 2, 3]),
    ],
)
def test_batch_sizes_are_one_two_the_largest_and_one_between(images, largest, sizes):
    assert ladder.batch_sizes(images, largest) == sizes


class Brightness:
    """Stand for a file: the logits of an image are its number and zero, plus an error in some batches."""

    def __init__(self, **errors: float) -> None:
        self.errors, self.sizes = errors, []

    def predict(self, images):
        self.sizes.append(len(images))
        number = images.reshape(len(images), -1)[:, 0].astype(np.float32)
        return np.column_stack([number + self.errors.get(f"of{len(images)}", 0.0), np.zeros_like(number)])

    predict_all = predict


def numbered(count):
    return np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize(("count", "distinct", "sizes"), [(200, 64, [1, 2, 33, 64]), (9, 9, [1, 2, 5, 9])])
def test_every_image_counts_once_however_many_batches_it_was_in(count, distinct, sizes):
    float32, int8 = Brightness(), Brightness()
    few, all_images = ladder.climb(ExportConfig(), "net", Brightness().predict, [float32, int8], numbered(count))
    assert (few.n, list(few.batch_sizes), few.measured) == (distinct, sizes, 0.0)
    assert float32.sizes == [*sizes, count]  # INT8 is compared on all of them, each once
    assert (all_images.n, all_images.batch_sizes, all_images.measured) == (count, (), 1.0)


@pytest.mark.parametrize("size", [1, 2, 33, 64])
def test_a_difference_at_any_batch_size_is_found(size):
    wrong = Brightness(**{f"of{size}": 0.5})
    [rung] = ladder.climb(ExportConfig(), "net", Brightness().predict, [wrong], numbered(64))
    assert rung.measured == pytest.approx(0.5 / 63)


def test_a_share_of_equal_predictions_below_the_usual_limit_fails():
    """The limit is that of the configuration: 96 of 100 equal predictions are too few, 97 are enough."""
    bright = np.where(np.arange(100) < 60, 9, 0).astype(np.uint8).reshape(-1, 1, 1, 1)  # class 0, or a tie: class 0

    def turned(count):
        class Turned(Brightness):
            def predict_all(self, images):
                logits = Brightness.predict(self, images)
                logits[:count] = logits[:count, ::-1]
                return logits

        return Turned()

    for count, outcome in ((3, "passed"), (4, "failed")):
        [_, rung] = ladder.climb(ExportConfig(), "net", Brightness().predict, [Brightness(), turned(count)], bright)
        assert rung.measured == pytest.approx(1 - count / 100)
        assert rules.parity(rung).outcome == outcome


def test_the_largest_difference_counts_relative_to_large_logits():
    reference = np.array([[0.5, -0.25], [0.0, 0.1]], np.float32)
    rung = ladder.max_abs_rung("net", reference, [reference + np.float32([[0, 0], [0, -0.01]])], 1e-4)
    assert (rung.network, rung.measure, rung.limit, rung.n) == ("net", "max_abs_difference", 1e-4, 2)
    assert rung.measured == pytest.approx(0.01, rel=1e-3)
    assert ladder.max_abs_rung("net", reference * 40, [reference * 40 + 1], 1e-4).measured == pytest.approx(1 / 20)
    assert ladder.max_abs_rung("net", reference, [reference[:1], reference], 1e-4).measured == 0.0


def test_agreement_is_the_share_of_equal_predictions():
    a = np.array([[1, 0], [0, 1], [2, 0], [0, 3]], np.float32)
    b = np.array([[9, 0], [1, 0], [5, 4], [0, 1]], np.float32)
    rung = ladder.agreement_rung("net", a, b, 0.97)
    assert (rung.measure, rung.measured, rung.limit, rung.n) == ("argmax_agreement", 0.75, 0.97, 4)
    assert ladder.agreement_rung("net", a, a, 0.97).measured == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sides", [(0,), (1,), (0, 1)])
def test_numbers_that_are_not_finite_measure_nothing(bad, sides):
    one, other = np.ones((3, 2), np.float32), np.ones((3, 2), np.float32)
    for side in sides:
        (one, other)[side][1, 1] = bad
    assert ladder.max_abs_rung("net", one, [other[:1], other], 0.5).measured is None
    assert ladder.agreement_rung("net", one, other, 0.5).measured is None

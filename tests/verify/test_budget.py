"""Budgets on the clock: three outcomes from the bounds, and NaN never passes."""

from math import nan

import pytest

from bigstep.records.measured import Latency
from serve.bench import Timed
from verify import budget

SLOW = Latency(
    batch=1,
    n=700,
    p50_ms=4.0,
    p90_ms=5.0,
    p99_ms=6.0,
    p99_low_ms=5.5,
    p99_high_ms=7.0,
    images_per_s=1000.0,
    images_per_s_low=900.0,
    images_per_s_high=1200.0,
)


def changed(**values):
    return SLOW.model_copy(update=values)


def judged(latency=SLOW, **budgets):
    found = budget.checks("small", latency, latency, **({"max_p99_ms": None, "min_images_per_s": None} | budgets))
    assert len(found) == len(budgets)
    return found[0] if found else None


def test_no_budget_no_check():
    assert judged() is None


@pytest.mark.parametrize(
    ("budgets", "outcome"),
    [
        ({"max_p99_ms": 7.0}, "passed"),
        ({"max_p99_ms": 6.999}, "undecided"),
        ({"max_p99_ms": 5.5}, "undecided"),
        ({"max_p99_ms": 5.499}, "failed"),
        ({"min_images_per_s": 900.0}, "passed"),
        ({"min_images_per_s": 900.1}, "undecided"),
        ({"min_images_per_s": 1200.0}, "undecided"),
        ({"min_images_per_s": 1200.1}, "failed"),
    ],
)
def test_the_bounds_decide(budgets, outcome):
    check = judged(**budgets)
    assert check.outcome == outcome
    assert check.says.endswith(f"{budget.ENDS[outcome]}.") and "99% confidence" in check.says
    (limit,) = budgets.values()
    assert check.limit == limit and check.n == 700
    assert (check.measured, check.bound) == ((6.0, 7.0) if "max_p99_ms" in budgets else (1000.0, 900.0))


def test_both_budgets_are_judged_on_their_own_readings():
    fast = changed(batch=8, n=99, images_per_s=8000.0, images_per_s_low=7000.0, images_per_s_high=9000.0)
    p99, throughput = budget.checks("small", SLOW, fast, max_p99_ms=8.0, min_images_per_s=5000.0)
    assert (p99.name, throughput.name) == ("latency budget", "throughput budget")
    assert (p99.outcome, throughput.outcome) == ("passed", "passed")
    assert p99.form == throughput.form == "small"
    assert "in 99 queries of 8, 8,000 images per second, at least 7,000, at most 9,000" in throughput.says
    assert "700 queries of one image is 6.000 ms, at least 5.500 ms, at most 7.000 ms" in p99.says


def test_a_slow_model_is_not_said_to_answer_nothing():
    slow = changed(batch=1, n=1, images_per_s=0.0278, images_per_s_low=None, images_per_s_high=None)
    assert "in 1 query of 1, 0.0278 images per second, bounds need 20" in judged(slow, min_images_per_s=1.0).says


@pytest.mark.parametrize("n", [1, 100, 458, 661])
def test_a_budget_is_not_passed_on_too_few_queries(n):
    check = judged(Timed(1, (0.001,) * n).latency, max_p99_ms=5.0)
    assert (check.outcome, check.measured) == ("undecided", None)
    assert "needs 662 queries" in check.says


def test_a_slow_model_fails_on_few_queries():
    assert judged(Timed(1, (0.1,) * 20).latency, max_p99_ms=5.0).outcome == "failed"


@pytest.mark.parametrize(("n", "outcome"), [(19, "undecided"), (20, "passed")])
def test_a_throughput_is_not_passed_on_too_few_queries(n, outcome):
    check = judged(Timed(1, (0.001,) * n).latency, min_images_per_s=500.0)
    assert check.outcome == outcome and ("bounds need 20 queries" in check.says) == (n < 20)


@pytest.mark.parametrize("budgets", [{"max_p99_ms": 1e9}, {"min_images_per_s": 1e-9}])
def test_nan_never_passes(budgets):
    assert judged(Timed(1, (nan,) * 700).latency, **budgets).outcome != "passed"
    broken = changed(p99_low_ms=None, p99_high_ms=nan, images_per_s_low=nan, images_per_s_high=None)
    assert judged(broken, **budgets).outcome == "undecided"
    broken = changed(p99_low_ms=nan, p99_high_ms=nan, images_per_s_low=nan, images_per_s_high=nan)
    assert judged(broken, **budgets).outcome == "failed"

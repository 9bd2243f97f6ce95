"""Reading the clock: every file alone and at its best batch, as often as a budget needs, and judged afterwards."""

import pytest

from bigstep.config import VerifyConfig
from bigstep.records.measured import Latency, Measured
from verify import measure
from verify.measure import FOR_A_BUDGET, FOR_THE_REPORT, Effort

QUICK = Effort(700, 0.2)


@pytest.fixture
def exported(world):
    images, _, exported = world.records()
    return images, exported


def test_every_file_is_timed_singly_and_at_its_best_batch(exported):
    images, files = exported
    measured = measure.measure(images, files, QUICK)
    names = {form.name for form in files.info.forms}
    assert set(measured.latency) == set(measured.throughput) == names
    assert all(latency.batch == 1 and latency.p50_ms > 0 for latency in measured.latency.values())
    for best in measured.throughput.values():
        assert best.batch in {2**k for k in range(7)} and best.images_per_s > 0
    assert (measured.queries, measured.seconds) == (QUICK.queries, QUICK.seconds)
    assert measured.fingerprint["load_before"] and measure.machine().items() <= measured.fingerprint.items()


def test_a_budget_gets_more_queries_than_a_column_of_the_report(exported):
    assert measure.effort(VerifyConfig()) == FOR_THE_REPORT
    assert measure.effort(VerifyConfig(max_p99_ms=1.0)) == FOR_A_BUDGET
    assert measure.effort(VerifyConfig(min_images_per_s=1.0)) == FOR_A_BUDGET
    few, many = (measure.measure(*exported, Effort(queries, 60.0)) for queries in (32, 64))
    assert {one.n for one in few.latency.values()} == {32} and {one.n for one in many.latency.values()} == {64}
    for measured, wanted, enough in ((few, 32, True), (few, 64, False), (many, 32, True)):
        assert measure.suffices(measured, Effort(wanted, 60.0)) == enough
    assert not measure.suffices(many, Effort(64, 61.0)), "a slow file would get more queries in more time"


@pytest.mark.parametrize(("p99_ms", "rate", "outcome"), [(8.0, 800.0, "passed"), (5.0, 1300.0, "failed")])
def test_one_reading_is_judged_by_whatever_budgets_are_set(exported, p99_ms, rate, outcome):
    _, files = exported
    singly = {name: reading(n) for n, name in enumerate(("compact-int8", "dense-fp32"), start=700)}
    best = {name: reading(n, batch=8) for n, name in enumerate(("compact-int8", "dense-fp32"), start=900)}
    measured = Measured(queries=4096, seconds=120.0, latency=singly, throughput=best, fingerprint={})
    assert measure.judge(VerifyConfig(), files, measured) == []
    checks = measure.judge(VerifyConfig(max_p99_ms=p99_ms, min_images_per_s=rate), files, measured)
    assert [(check.form, check.outcome, check.n) for check in checks] == [
        ("compact-int8", outcome, 700),
        ("compact-int8", outcome, 900),
    ]


def reading(n, batch=1):
    bounds = {"p99_low_ms": 5.5, "p99_high_ms": 7.0, "images_per_s_low": 900.0, "images_per_s_high": 1200.0}
    return Latency(batch=batch, n=n, p50_ms=4.0, p90_ms=5.0, p99_ms=6.0, images_per_s=1000.0, **bounds)

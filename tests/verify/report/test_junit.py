"""JUnit XML, read back with another's parser: nothing that blocks a release looks green, whatever it says."""

from dataclasses import replace

import pytest
from junitparser import Error, Failure, JUnitXml

from bigstep.errors import ConfigError, TrainError
from bigstep.records.run import RunRecords
from verify.report import junit
from verify.report.run_outcome import RunOutcome

HOSTILE = "\x00\x1b[31m]]> <b>&amp; \ud800 \ufffe | `` *x* _y_ [z](u) $1$ ~~\r\nsecond\ttab"


@pytest.fixture
def passed(judged, changed, check):
    checks = [check(group="a"), check(group="b")]
    return changed(judged, verdict={"checks": checks, "outcome": "passed"})


def read(outcome):
    """Return the cases by suite and name; their counts are checked on the way."""
    document = JUnitXml.fromstring(junit.document(outcome))
    cases = {}
    for suite in document:
        cases[suite.name] = {case.name: case for case in suite}
        assert len(cases[suite.name]) == len(list(suite)), "names are unique"
        assert {case.classname for case in suite} == {f"bigstep.{suite.name}"}
    stated = [counts(document), *map(counts, document)]
    document.update_statistics()
    assert stated == [counts(document), *map(counts, document)]
    return cases


def counts(suite):
    return suite.tests, suite.failures, suite.errors, suite.skipped, suite.time


def looks(cases):
    """Return how each case looks, as one word."""
    return {name: type(case.result[0]).__name__.lower() if case.result else "ok" for name, case in cases.items()}


def test_a_passed_run_is_green(passed, ended):
    outcome = ended(passed)
    cases = read(outcome)
    assert looks(cases["stages"]) == dict.fromkeys(outcome.planned, "ok")
    assert looks(cases["gate"]) == {"floor (a)": "ok", "floor (b)": "ok"}
    assert set(cases) == {"stages", "gate"}
    assert cases["stages"]["train"].time == 1.234
    assert cases["gate"]["floor (a)"].system_out == "It is 0.9."


def test_a_reused_stage_passes_and_says_so(passed, ended):
    outcome = ended(passed)
    outcome.history[1].action = "reused"
    cases = read(outcome)["stages"]
    assert looks(cases)["train"] == "ok" and "reused" in cases["train"].system_out
    assert cases["data"].system_out is None


@pytest.mark.parametrize(("outcome", "kind"), [("failed", Failure), ("undecided", Error)])
def test_what_did_not_pass_blocks_and_says_why(passed, changed, check, ended, outcome, kind):
    checks = [check(group="a"), check(outcome, "It is 0.4 | bad.", group="b")]
    cases = read(ended(changed(passed, verdict={"checks": checks, "outcome": outcome})))["gate"]
    (result,) = cases["floor (b)"].result
    assert type(result) is kind
    assert (result.type, result.message, result.text) == (outcome, "It is 0.4 | bad.", "It is 0.4 | bad.")
    assert looks(cases)["floor (a)"] == "ok"


def test_a_verdict_without_checks_is_not_green(passed, changed, ended):
    run = changed(passed, verdict={"checks": [], "outcome": "undecided"})
    assert looks(read(ended(run))["gate"]) == {"gate": "error"}


@pytest.mark.parametrize(("budget", "look"), [("passed", "ok"), ("failed", "failure"), ("undecided", "error")])
def test_budgets_have_a_suite_of_their_own(passed, changed, check, ended, budget, look):
    run = changed(passed, budgets=[check(budget, "It takes 3 ms.", rule="latency budget")])
    cases = read(ended(run))
    assert looks(cases["budgets"]) == {"latency budget": look}
    assert set(looks(cases["gate"]).values()) == {"ok"}
    after = read(ended(run, OSError(28, "No space left on device", "bundle")))
    assert looks(after["budgets"]) == {"latency budget": look}, "what was judged is told, whatever came after"


def test_a_users_error_has_its_message_and_no_traceback(passed, ended):
    error = TrainError("every rate diverged", do="lower it")
    outcome = ended(passed, error, ran=1, begun=True)
    cases = read(outcome)
    assert looks(cases["stages"]) == dict(zip(outcome.planned, ["ok", "error", *["skipped"] * 3], strict=True))
    assert looks(cases["gate"]) == {"gate": "skipped"}
    (result,) = cases["stages"]["train"].result
    assert (result.type, result.message) == ("TrainError", "every rate diverged")
    assert result.text == str(error)
    assert cases["stages"]["train"].time == 0.5


def test_an_internal_error_shows_where_it_came_from(passed, ended):
    try:
        raise ZeroDivisionError("division by zero")
    except ZeroDivisionError as error:
        cases = read(ended(passed, error, ran=3, begun=True))
    (result,) = cases["stages"]["export"].result
    assert isinstance(result, Error)
    assert (result.type, result.message) == ("ZeroDivisionError", "division by zero")
    assert result.text.startswith("division by zero\n\nTraceback (most recent call last):\n")


def test_a_cancelled_job_is_no_success(passed, ended):
    cases = read(ended(passed, KeyboardInterrupt(), ran=1, begun=True))["stages"]
    (result,) = cases["train"].result
    assert isinstance(result, Error)
    assert (result.type, "goes on from here" in result.message) == ("interrupted", True)
    assert looks(cases)["compress"] == "skipped"


def test_an_error_between_stages_has_a_case(passed, ended):
    before = ended(passed, ConfigError("the package jinja2 is not installed"), ran=0)
    assert looks(read(before)["stages"]) == {"before data": "error", **dict.fromkeys(before.planned, "skipped")}
    cases = read(ended(passed, OSError(28, "No space left on device", "bundle")))
    assert looks(cases["stages"]) == {**dict.fromkeys(before.planned, "ok"), "after verify": "error"}
    assert looks(cases["gate"]) == {"floor (a)": "ok", "floor (b)": "ok"}


def test_a_run_of_some_stages_has_no_gate(passed, ended):
    outcome = ended(passed, TrainError("no rate fits"), ran=1, begun=True)
    records = RunRecords(data=passed.images, train=passed.trained)
    cases = read(RunOutcome("small", outcome.planned[:2], ended(passed).history[:2], records))
    assert looks(cases["stages"]) == {"data": "ok", "train": "ok"} and set(cases) == {"stages"}
    stopped = replace(outcome, planned=outcome.planned[:2])
    assert set(read(stopped)) == {"stages"}, "verify was not asked for, so no gate was missed"


def test_repeated_names_are_told_apart(passed, changed, check, ended):
    checks = [check(group=group) for group in ("a", "a", "a) (2", "x" * 9000, "x" * 9000)]
    cases = read(ended(changed(passed, verdict={"checks": checks})))["gate"]
    assert list(cases)[:3] == ["floor (a)", "floor (a) (2)", "floor (a) (2) (2)"]
    assert len(cases) == 5 and max(map(len, cases)) < 600


def test_no_text_breaks_the_file(passed, changed, check, ended):
    run = changed(passed, verdict={"checks": [check("failed", HOSTILE, group=HOSTILE)], "outcome": "failed"})
    (case,) = read(replace(ended(run), name=HOSTILE))["gate"].values()
    assert case.result[0].text.startswith("\\x00\\x1b[31m]]> <b>&amp; \\ud800 \\ufffe | `` *x* _y_")
    cases = read(ended(passed, RuntimeError(HOSTILE), ran=1, begun=True))
    assert looks(cases["stages"])["train"] == "error"


def test_a_very_long_message_keeps_its_ends(passed, ended):
    error = ConfigError("a" * 100_000 + "\nthe end")
    (result,) = read(ended(passed, error, ran=0))["stages"]["before data"].result
    assert len(result.message) < 600 and len(result.text) < 21_000
    assert result.text.endswith("the end")
    assert "80,008 characters left out" in result.text

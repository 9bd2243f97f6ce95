"""How a run ended: every planned stage has a place, and so has the error."""

import pytest

from bigstep.errors import ConfigError
from verify.report.run_outcome import GO_ON, StageRun, message, origin


def states(outcome):
    return {run.stage: run.action for run in outcome.stages()}


def test_a_run_that_ended_well_has_a_verdict(judged, ended):
    outcome = ended(judged)
    assert set(states(outcome).values()) == {"ran"} and len(outcome.stages()) == 5
    assert outcome.records.judged.verdict.info == judged.verdict.info
    assert outcome.records.judged.measured == judged.measured


def test_an_error_in_a_stage_leaves_the_rest_unreached(judged, ended):
    outcome = ended(judged, ConfigError("no"), ran=3, begun=True)
    assert list(states(outcome).values()) == ["ran", "ran", "ran", "stopped", "not reached"]
    assert outcome.records.judged is None


@pytest.mark.parametrize(("ran", "place"), [(0, "before data"), (2, "after train"), (5, "after verify")])
def test_an_error_between_stages_has_a_place(judged, ended, ran, place):
    found = states(ended(judged, ConfigError("no"), ran=ran))
    assert found[place] == "stopped" and len(found) == 6


def test_a_run_cannot_end_well_with_a_stage_under_way_or_missing(judged, ended):
    for ran, begun in ((4, True), (4, False)):
        with pytest.raises(AssertionError):
            ended(judged, ran=ran, begun=begun)
    outcome = ended(judged)
    with pytest.raises(AssertionError):
        type(outcome)("small", outcome.planned, outcome.history[::-1], outcome.records)


def test_the_message_is_the_errors_own(tmp_path):
    error = ConfigError("no such rate", do="lower it")
    assert (message(error), origin(error)) == (str(error), "")
    assert GO_ON in message(KeyboardInterrupt()) and origin(KeyboardInterrupt()) == ""
    assert message(RuntimeError(" \n")) == "RuntimeError"
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError("by zero")
    assert origin(caught.value).startswith("Traceback (most recent call last):\n")


def test_a_stage_is_noted_while_it_runs():
    run = StageRun("train", "begun", 0.0)
    run.action, run.seconds = "ran", 2.5
    assert run == StageRun("train", "ran", 2.5)

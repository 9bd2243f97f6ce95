"""Checks: their names are those that CI systems follow from run to run, and their outcomes are three-way."""

from math import nan

import pytest

from bigstep.records.verdict import Check, three_way, worst


def check(rule, **about):
    return Check(rule=rule, outcome="passed", relation="<=", limit=0.5, n=10, says="It holds.", **about)


@pytest.mark.parametrize(
    ("about", "name"),
    [
        ({"rule": "finite outputs", "form": "dense-fp32"}, "finite outputs (dense-fp32)"),
        ({"rule": "not constant", "form": "compact-int8"}, "not constant (compact-int8)"),
        ({"rule": "bytes", "form": "compact-int8"}, "bytes"),
        ({"rule": "parity", "rung": "dense: PyTorch, ONNX float32"}, "parity (dense: PyTorch, ONNX float32)"),
        ({"rule": "group present", "group": "label=3"}, "group present (label=3)"),
        ({"rule": "non-inferiority", "form": "compact-int8", "group": "aligned"}, "non-inferiority (aligned)"),
        ({"rule": "floor", "form": "compact-int8", "group": "conflicting"}, "floor (conflicting)"),
        ({"rule": "latency budget", "form": "compact-int8"}, "latency budget"),
        ({"rule": "throughput budget", "form": "compact-int8"}, "throughput budget"),
    ],
)
def test_a_check_is_named_by_its_rule_and_by_what_tells_it_from_others(about, name):
    found = check(**about)
    assert found.name == found.as_json()["name"] == name
    assert Check.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("passes", "fails", "outcome"),
    [(True, False, "passed"), (False, True, "failed"), (False, False, "undecided"), (nan <= 1, nan > 1, "undecided")],
)
def test_an_outcome_is_sure_or_undecided(passes, fails, outcome):
    assert three_way(passes=passes, fails=fails) == outcome


def test_the_worst_outcome_counts():
    assert worst(["passed", "undecided", "failed"]) == "failed"
    assert worst(["passed", "undecided"]) == "undecided"
    assert worst([]) == "passed"

"""Checks: their names are those that CI systems follow from run to run, and their outcomes are three-way."""

from math import nan

import pytest

from bigstep.records.verdict import SEVERITY, Check, GroupScore, VerdictInfo, three_way, worst


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


# ---- the sentence that every surface begins with ---------------------------------------------------------------------


def judged_by(*groups, floor=None, weakest="conflicting", outcome="passed", **accuracies):
    about = {"form": "small", "outcome": "passed", "n": 90, "says": "It holds."}
    checks = [Check(rule="non-inferiority", group=group, relation="<=", limit=0.03, **about) for group in groups]
    checks.append(Check(rule="floor", group=weakest, relation=">", limit=floor or 0.1, **about))
    scores = [
        GroupScore(form=form, group=group, n=90, accuracy=accuracy, low=None, high=None)
        for form, add in (("other", 0.0), ("small", 0.001))
        for group, accuracy in (
            (group.replace("_", "="), None if a is None else a + add) for group, a in accuracies.items()
        )
    ]
    return VerdictInfo(outcome=outcome, floor=floor, checks=checks, scores=scores, comparisons=[], judged={}, notes=[])


def test_a_pass_claims_what_was_judged_and_no_more():
    levels = {"unbiased": 0.609, "aligned": 0.988, "conflicting": 0.567}
    plain = judged_by("aligned", "conflicting", **levels)
    assert plain.headline("small", []) == (
        "Passed: no worse than before compression (margin 3 points); level of robustness not required: "
        "conflicting 56.8%, aligned 98.9%."
    )
    assert judged_by("aligned", "conflicting", floor=0.5, **levels).headline("small", ["passed"]) == (
        "Passed: no worse than before compression (margin 3 points), and above the required 50.0% on conflicting "
        "images: conflicting 56.8%, aligned 98.9%."
    )
    assert judged_by("label=3", label_3=0.799, **levels).headline("small", []) == (
        "Passed: no worse than before compression in label=3 (margin 3 points); level of robustness not required: "
        "conflicting 56.8%, aligned 98.9%, label=3 80.0%."
    )


def test_data_without_a_known_bias_claims_no_robustness():
    found = judged_by("all", weakest="all", unbiased=0.899, all=0.909, aligned=None, conflicting=None)
    assert found.headline("small", []) == (
        "Passed: no worse than before compression (margin 3 points); level of accuracy not required: all 91.0%."
    )


@pytest.mark.parametrize("verdict", SEVERITY)
@pytest.mark.parametrize("budgets", [(), ("passed",), ("passed", "undecided"), ("undecided", "failed")])
def test_no_headline_says_passed_but_where_all_is(verdict, budgets):
    said = judged_by("aligned", outcome=verdict, aligned=0.9).headline("small", budgets)
    decided = worst([verdict, *budgets])
    assert said.startswith({"passed": "Passed:", "failed": "Failed:", "undecided": "Undecided:"}[decided])
    assert "may be shipped" not in said

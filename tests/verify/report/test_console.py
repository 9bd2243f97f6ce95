"""The end of a run, drawn from the records' numbers."""

import shlex
from pathlib import Path

import pytest

from verify.report.console import SIGNS, Summary

GROUPS = ("unbiased", "aligned", "conflicting")
BUNDLE = Path("run/bundles/0123-4567")


@pytest.fixture
def shown(tmp_path, capsys):
    """Return a function that prints the end of a run, and returns what was printed."""

    def show(run, folder=tmp_path):
        Summary(run, folder, BUNDLE).show()
        return capsys.readouterr().out

    return show


def test_the_models_are_the_served_file_the_dense_one_and_the_baselines(judged, changed, tmp_path):
    unserved = judged.exported.info.forms[0].model_copy(update={"precision": "fp32"})
    run = changed(judged, exported={"forms": [unserved, *judged.exported.info.forms]})
    scores = {(s.form, s.group): s.accuracy for s in run.verdict.info.scores}
    models = Summary(run, tmp_path, BUNDLE).as_json()["models"]
    assert [model["model"] for model in models] == ["compact-int8", "dense-fp32", "adam-fp32", "adam-compact-int8"]
    for model in models:
        name = model["model"]
        assert model["bytes"] == (run.exported.folder / run.exported.info.form(name).file).stat().st_size
        assert [model[group] for group in GROUPS] == [scores[name, group] for group in GROUPS]
        assert model["latency_ms"] == run.measured.latency[name].p50_ms


def test_another_number_is_shown(judged, changed, shown):
    form = judged.exported.info.forms[0].model_copy(update={"bytes": 1234567})
    other = {("compact-int8", "conflicting"): 0.12345, ("compact-int8", "aligned"): None}
    scores = [
        s.model_copy(update={"accuracy": other.get((s.form, s.group), s.accuracy)}) for s in judged.verdict.info.scores
    ]
    exported = {"forms": [form, *judged.exported.info.forms[1:]]}
    out = shown(changed(judged, exported=exported, verdict={"scores": scores}, measured={"latency": {}}))
    row = next(line for line in out.splitlines() if line.startswith("compact-int8"))
    assert row.split()[1:] == ["1,234,567", "100.0%", "-", "12.3%", "-"]


def test_the_json_has_every_check_with_its_name(judged, changed, check, tmp_path):
    budget = check("failed", rule="latency budget", form="compact-int8")
    found = Summary(changed(judged, budgets=[budget]), tmp_path, BUNDLE).as_json()
    assert [one["name"] for one in found["checks"]] == [one.name for one in judged.verdict.info.checks]
    assert found["budgets"] == [budget.as_json()]
    assert found["notes"] == judged.verdict.info.notes and found["why_this_rate"] == judged.trained.info.why
    assert (found["bundle"], found["report"]) == (str(BUNDLE), f"{tmp_path}/report.html")
    passed = Summary(judged, tmp_path, BUNDLE).as_json()
    assert (passed["bundle"], passed["last_good_bundle"]) == (f"{tmp_path}/bundle", None)


@pytest.mark.parametrize("verdict", ["passed", "failed", "undecided"])
def test_only_a_passed_run_says_how_to_serve(judged, changed, shown, verdict):
    out = shown(changed(judged, verdict={"outcome": verdict}))
    sign = {"passed": "PASSED", "failed": "FAILED", "undecided": "CANNOT TELL"}[verdict]
    assert f"Verdict: {sign}," in out
    assert ("Serve:" in out) == ("Query:" in out) == (verdict == "passed")
    assert (f"Bundle:  {BUNDLE}, not to be served" in out) == (verdict != "passed")


def test_a_run_that_did_not_pass_says_what_stays(judged, changed, shown, tmp_path):
    run = changed(judged, verdict={"outcome": "failed"})
    assert "not to be served; none has passed" in shown(run)
    (tmp_path / "bundle").mkdir()
    assert f"not to be served; {tmp_path}/bundle is still the last that passed" in shown(run)
    assert Summary(run, tmp_path, BUNDLE).as_json()["last_good_bundle"] == f"{tmp_path}/bundle"


def test_every_check_that_did_not_pass_is_told(judged, changed, shown):
    first, *rest = judged.verdict.info.checks
    failed = first.model_copy(update={"outcome": "failed", "says": "NaN in [red]7[/] logits."})
    out = shown(changed(judged, verdict={"checks": [failed, *rest], "outcome": "failed"}))
    assert f"FAILED {first.name}: NaN in [red]7[/] logits.\n" in out, "what a check says is no markup"
    assert f"{len(rest)} of {len(rest) + 1} checks passed" in out


@pytest.mark.parametrize(
    ("verdict", "budgets", "expected"),
    [
        ("passed", [], "passed"),
        ("passed", ["passed", "passed"], "passed"),
        ("passed", ["passed", "undecided"], "undecided"),
        ("passed", ["undecided", "failed"], "failed"),
        ("undecided", ["passed"], "undecided"),
        ("undecided", ["failed"], "failed"),
        ("failed", ["passed"], "failed"),
    ],
)
def test_the_outcome_is_the_worse_of_verdict_and_budgets(
    judged, changed, check, shown, tmp_path, verdict, budgets, expected
):
    checks = [check(found, "It took [red]long[/].", rule="latency budget") for found in budgets]
    run = changed(judged, verdict={"outcome": verdict}, budgets=checks)
    found = Summary(run, tmp_path, BUNDLE).as_json()
    assert (run.outcome, found["outcome"], found["verdict"]) == (expected, expected, verdict)
    out = shown(run)
    assert ("Budgets:" in out) == bool(budgets)
    assert out.count("It took [red]long[/].") == sum(found != "passed" for found in budgets)
    assert ("Serve:" in out) == (expected == "passed")
    assert f"Verdict: {SIGNS[verdict].partition(']')[2].removesuffix('[/]')}," in out


def test_paths_with_blanks_are_quoted(judged, shown, tmp_path):
    folder = tmp_path / "my run"
    assert f"serve {shlex.quote(str(folder / 'bundle'))}" in shown(judged, folder)

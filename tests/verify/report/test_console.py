"""The end of a run, drawn from the records' numbers."""

import json
import shutil
from dataclasses import replace

import pytest

from bigstep.records.verdict import Check
from verify.report import console as summary


@pytest.fixture
def outcome(small_run):
    return summary.read(small_run.records, small_run.folder)


def test_the_rows_are_the_served_file_the_dense_one_and_the_baselines(outcome, small_run):
    exported, verdict = small_run.records["export"].info, small_run.records["verify"].info
    names = [row.model for row in outcome.rows]
    assert names[:2] == [exported.served, "dense-fp32"] and len(set(names)) == len(names)
    shown = {form.name for form in exported.forms if form.role in ("baseline", "dense")}
    assert shown <= set(names) <= {form.name for form in exported.forms}
    scores = {(s.form, s.group): s.accuracy for s in verdict.scores}
    measured = json.loads((small_run.folder / "bundle" / "measured.json").read_text())
    for row in outcome.rows:
        form = exported.form(row.model)
        assert row.bytes == form.bytes == (small_run.records["export"].folder / form.file).stat().st_size
        for group in ("unbiased", "aligned", "conflicting"):
            assert getattr(row, group) == scores[row.model, group]
        assert row.latency_ms == measured["latency"][row.model]["p50_ms"]


def test_another_number_is_shown(outcome, capsys):
    changed = replace(outcome.rows[0], bytes=1234567, conflicting=0.12345, aligned=None, latency_ms=None)
    replace(outcome, rows=[changed]).show()
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(changed.model))
    assert row.split()[1:] == ["1,234,567", f"{100 * changed.unbiased:.1f}%", "-", "12.3%", "-"]


@pytest.mark.parametrize("verdict", ["passed", "failed", "undecided"])
def test_only_a_passed_run_says_how_to_serve(outcome, capsys, verdict):
    replace(outcome, verdict=verdict).show()
    out = capsys.readouterr().out
    sign = {"passed": "PASSED", "failed": "FAILED", "undecided": "CANNOT TELL"}[verdict]
    assert f"Verdict: {sign}," in out
    assert ("Serve:" in out) == ("Query:" in out) == (verdict == "passed")


def test_every_check_that_did_not_pass_is_told(outcome, capsys):
    checks = list(outcome.info.checks)
    checks[0] = checks[0].model_copy(update={"outcome": "failed", "says": "NaN in [red]7[/] logits."})
    info = outcome.info.model_copy(update={"checks": checks, "outcome": "failed"})
    replace(outcome, info=info, verdict="failed").show()
    out = capsys.readouterr().out
    assert f"FAILED {checks[0].name}: NaN in [red]7[/] logits.\n" in out, "what a check says is no markup"
    assert f"{len(checks) - 1} of {len(checks)} checks passed" in out


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
def test_the_outcome_is_the_worse_of_verdict_and_budgets(outcome, capsys, verdict, budgets, expected):
    values = {"measured": 6.0, "bound": 7.0, "relation": "<=", "limit": 5.0, "n": 700, "says": "It took [red]long[/]."}
    checks = [Check(name=f"budget {i}", outcome=found, **values) for i, found in enumerate(budgets)]
    end = replace(outcome, verdict=verdict, budgets=checks)
    assert end.outcome == expected
    assert (end.as_json()["outcome"], end.as_json()["verdict"]) == (expected, verdict)
    assert end.as_json()["budgets"] == [check.model_dump(mode="json") for check in checks]
    end.show()
    out = capsys.readouterr().out
    assert ("Budgets:" in out) == bool(budgets)
    assert out.count("It took [red]long[/].") == sum(found != "passed" for found in budgets)
    assert ("Serve:" in out) == (expected == "passed")
    assert f"Verdict: {summary.SIGNS[verdict].partition(']')[2].removesuffix('[/]')}," in out


def test_budgets_are_read_from_what_was_measured(small_run, tmp_path):
    verdict = small_run.records["verify"]
    folder = shutil.copytree(verdict.folder, tmp_path / "verdict")
    check = {"name": "latency budget", "outcome": "failed", "measured": 6.0, "bound": 7.0, "relation": "<="}
    check |= {"limit": 5.0, "n": 700, "says": "Too slow."}
    measured = json.loads((folder / "measured.json").read_text())
    assert measured["budgets"] == [] == summary.read(small_run.records, small_run.folder).budgets
    (folder / "measured.json").write_text(json.dumps(measured | {"budgets": [check]}))
    records = small_run.records | {"verify": replace(verdict, folder=folder)}
    found = summary.read(records, small_run.folder)
    assert found.budgets == [Check.model_validate(check)]
    assert (found.verdict, found.outcome) == (verdict.info.outcome, "failed")


def test_paths_with_blanks_are_quoted(outcome, tmp_path, capsys):
    replace(outcome, folder=tmp_path / "my run").show()
    assert f"serve '{tmp_path / 'my run' / 'bundle'}'" in capsys.readouterr().out

"""The page of a CI job: the headline is what the exit code says, and no text breaks it or makes it too long."""

import re
import shlex
from dataclasses import replace

import pytest

from bigstep.errors import ConfigError, TrainError
from bigstep.records.run import RunRecords
from bigstep.records.verdict import HEADLINES
from verify.report import job_summary, wording
from verify.report.run_outcome import RunOutcome

PASSED = "Passed: every check; level of robustness not required: conflicting 100.0%, aligned 100.0%."
HOSTILE = "\x00\x1b[31m]]> <b>&amp; \ud800 \ufffe | `` *x* _y_ [z](u) $1$ ~~\r\nsecond\ttab"


@pytest.fixture
def passed(judged, changed, check):
    checks = [check(group="a"), check(group="b")]
    return changed(judged, verdict={"checks": checks, "outcome": "passed"})


@pytest.fixture
def page(tmp_path):
    return lambda outcome: job_summary.document(outcome, tmp_path)


def test_a_passed_run_says_how_to_serve(passed, ended, page, tmp_path):
    found = page(ended(passed))
    assert found.startswith(f"## ✔ {PASSED}\n\n**small** · 2 of 2 checks passed\n")
    assert f"```sh\nbigstep serve {shlex.quote(f'{tmp_path}/bundle')}\n```" in found


def test_a_reused_stage_says_so(passed, ended, page):
    outcome = ended(passed)
    outcome.history[1].action = "reused"
    assert "| train | ✔ reused | 1.2 |\n| compress | ✔ done | 1.2 |" in page(outcome)


@pytest.mark.parametrize("outcome", ["failed", "undecided"])
def test_what_did_not_pass_is_told(passed, changed, check, ended, page, outcome):
    checks = [check(group="a"), check(outcome, "It is 0.4 | bad.", group="b")]
    found = page(ended(changed(passed, verdict={"checks": checks, "outcome": outcome})))
    icon = wording.ICONS[outcome]
    assert found.startswith(f"## {icon} {HEADLINES[outcome, outcome]}\n\n**small** · 1 of 2 checks passed")
    assert f"| {icon} {outcome} | floor (b) | It is 0.4 \\| bad. |" in found
    assert "floor (a)" not in found and "bigstep serve" not in found


@pytest.mark.parametrize(
    ("verdict", "budget", "headline"),
    [
        ("passed", "failed", "## ✘ Failed: the gate passed this file, but a budget was not kept."),
        ("passed", "undecided", "## ? Undecided: the gate passed this file, but a budget could not be decided."),
        ("undecided", "failed", "## ✘ Failed: a budget was not kept, and the test data cannot tell the rest."),
        ("failed", "undecided", f"## ✘ {HEADLINES['failed', 'failed']}"),
        ("passed", "passed", f"## ✔ {PASSED}"),
    ],
)
def test_the_headline_is_the_worse_of_verdict_and_budgets(
    passed, changed, check, ended, page, verdict, budget, headline
):
    budgets = [check(budget, "It takes 3 ms.", rule="latency budget")]
    run = changed(passed, verdict={"checks": [check(verdict)], "outcome": verdict}, budgets=budgets)
    found = page(ended(run))
    assert found.startswith(headline + "\n")
    assert f"| {wording.ICONS[budget]} {budget} | latency budget | It takes 3 ms. |" in found
    assert ("bigstep serve" in found) == (verdict == budget == "passed")


def test_a_users_error_has_its_message_and_no_traceback(passed, ended, page):
    error = TrainError("every rate diverged", do="lower it")
    found = page(ended(passed, error, ran=1, begun=True))
    assert found.startswith(f"## ✘ Stopped in train\n\n**small** · TrainError\n\n```text\n{error}\n```\n\n")
    assert "the same command goes on from here" in found and "Traceback" not in found
    assert "| train | ✘ stopped here | 0.5 |\n| compress | not reached | n/a |" in found
    assert passed.images.digest in found and passed.trained.digest not in found


def test_an_internal_error_is_called_a_bug(passed, ended, page):
    try:
        raise ZeroDivisionError("division by zero")
    except ZeroDivisionError as error:
        found = page(ended(passed, error, ran=3, begun=True))
    assert "Traceback (most recent call last):" in found and "This is a bug in bigstep" in found
    assert "goes on from here" not in found


def test_a_cancelled_job_is_no_bug(passed, ended, page):
    found = page(ended(passed, KeyboardInterrupt(), ran=1, begun=True))
    assert found.startswith("## ✘ Interrupted in train\n")
    assert "bug" not in found and "Traceback" not in found


def test_an_error_before_the_first_stage_has_a_place(passed, ended, page):
    found = page(ended(passed, ConfigError("the package jinja2 is not installed"), ran=0))
    assert found.startswith("## ✘ Stopped before data\n") and "Digests" not in found


def test_an_error_after_the_verdict_hides_the_green_light(passed, ended, page):
    found = page(ended(passed, OSError(28, "No space left on device", "bundle")))
    assert found.startswith("## ✘ Stopped after verify\n")
    assert "Passed, 2 of 2 checks passed. The run did not end: ship nothing." in found
    assert not [text for text in (PASSED, "bigstep serve", "report.html") if text in found]


def test_a_run_of_some_stages_is_done(passed, ended, page):
    outcome = ended(passed)
    records = RunRecords(data=passed.images, train=passed.trained)
    found = page(RunOutcome("small", outcome.planned[:2], outcome.history[:2], records))
    assert found.startswith("## ✔ Done: data, train\n")


def test_the_table_is_drawn_from_the_records(passed, changed, ended, page):
    exported, scores = passed.exported.info, passed.verdict.info.scores
    other = [s.model_copy(update={"accuracy": 0.12345}) if s.form == exported.served else s for s in scores]
    found = page(ended(changed(passed, verdict={"scores": other})))
    rows = [line.split(" | ") for line in found.splitlines() if line.startswith("| ") and "ms |" in line]
    assert len(rows) == len(exported.forms)
    assert rows[0][:2] == [f"| **{exported.served}**", "compressed, served"]
    assert rows[0][4:7] == ["12.3%"] * 3
    dense = next(row for row in rows if row[0] == "| dense-fp32")
    assert dense[3] == "1.00x"
    assert rows[0][3] == f"{exported.dense.bytes / exported.form(exported.served).bytes:.2f}x"
    assert rows[0][7] == f"{passed.measured.latency[exported.served].p50_ms:.3f} ms |"


def test_no_text_breaks_the_page(passed, changed, check, ended, page):
    hostile = check("failed", HOSTILE, group=HOSTILE)
    budget = check("undecided", HOSTILE.replace("\ud800", ""), rule="latency budget")
    notes = {"notes": [HOSTILE, "# no heading", "1. no list"]}
    run = changed(passed, verdict={"checks": [hostile], "outcome": "failed", **notes}, budgets=[budget])
    found = page(replace(ended(run), name=HOSTILE))
    for table in re.findall(r"(?:^\|.*\n)+", found, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1, table
    assert "<b>" not in found
    assert "- \\# no heading\n- 1\\. no list\n" in found
    stopped = ended(passed, RuntimeError(HOSTILE + "\n```\n````"), ran=1, begun=True)
    assert "\n`````text\n" in page(stopped)


def test_the_page_stays_below_githubs_limit_and_says_what_is_missing(passed, changed, check, ended, page):
    wide = "\ud800" * 3000
    many = [check("failed", wide, group=f"{n}{wide}") for n in range(30)]
    budgets = [check("failed", "\x1b" * 3000, rule="latency budget")] * 30
    told = {"notes": [wide] * 30, "judged": {f"{n}{wide}": "0" * 64 for n in range(90)}}
    run = changed(passed, verdict={"checks": many, "outcome": "failed", **told}, budgets=budgets)
    outcome = replace(ended(run), name=wide)
    found = page(outcome)
    assert len(found.encode()) < 300_000
    assert len(re.findall(r"\n_\d+ more lines are left out here; all are in report\.html\._\n", found)) == 3
    assert "more lines are left out here; all are in the manifests of the records._" in found
    assert found.rstrip().endswith("</details>")
    assert found.count("<details>") == found.count("</details>")
    found = page(replace(outcome, error=RuntimeError("`" * 1_000_000)))
    assert len(found.encode()) < 300_000
    assert "characters left out" in found

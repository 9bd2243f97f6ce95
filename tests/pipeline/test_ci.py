"""What a CI job reads, read back with another's parser: nothing that blocks a release looks green, whatever it says."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest
from junitparser import Error, Failure, JUnitXml

from bigstep.errors import ConfigError, TrainError
from bigstep.records.verdict import Check
from bigstep.text import fenced, markdown, printable
from pipeline import ci
from pipeline.stages import NAMES
from verify.report import wording
from verify.report.run_outcome import RunOutcome, StageRun

STAGES = list(NAMES)
HOSTILE = "\x00\x1b[31m]]> <b>&amp; \ud800 \ufffe | `` *x* _y_ [z](u) $1$ ~~\r\nsecond\ttab"


def check(outcome="passed", name="floor", says="It is 0.9."):
    return Check(name=name, outcome=outcome, measured=0.9, bound=0.8, relation=">=", limit=0.5, n=10, says=says)


def history(*, ran=5, begun=False):
    runs = [StageRun(stage, "ran", 1.2345) for stage in STAGES[:ran]]
    return runs + ([StageRun(STAGES[ran], "begun", 0.5)] if begun else [])


@pytest.fixture
def passed(small_run):
    """Return the outcome of a run that passed."""
    outcome = RunOutcome("small", STAGES, history(), small_run.records)
    return judged(outcome, [check(name="a"), check(name="b")], "passed")


def judged(outcome, checks, verdict, **update):
    record = outcome.records["verify"]
    info = record.info.model_copy(update={"checks": checks, "outcome": verdict, **update})
    return replace(outcome, records={**outcome.records, "verify": type(record)(record.folder, record.digest, info)})


def stopped(passed, error, *, ran=0, begun=False):
    """Return the outcome of a run that an error stopped after some stages, or within the next one."""
    records = {stage: passed.records[stage] for stage in STAGES[:ran]}
    return replace(passed, history=history(ran=ran, begun=begun), records=records, error=error)


def raised(code):
    try:
        exec(code)
    except Exception as error:
        return error


def written(folder, outcome):
    """Write both files; return the cases by suite and name, and the page. Their counts are checked on the way."""
    ci.write(folder, outcome)
    assert sorted(path.name for path in folder.iterdir()) == ["junit.xml", "summary.md"]
    document = JUnitXml.fromfile(str(folder / "junit.xml"))
    cases = {}
    for suite in document:
        cases[suite.name] = {case.name: case for case in suite}
        assert len(cases[suite.name]) == len(list(suite)), "names are unique"
        assert {case.classname for case in suite} == {f"bigstep.{suite.name}"}
    stated = [counts(document), *map(counts, document)]
    document.update_statistics()
    assert stated == [counts(document), *map(counts, document)]
    return cases, (folder / "summary.md").read_text(encoding="utf-8")


def counts(suite):
    return suite.tests, suite.failures, suite.errors, suite.skipped, suite.time


def looks(cases):
    """Return how each case looks, as one word."""
    return {name: type(case.result[0]).__name__.lower() if case.result else "ok" for name, case in cases.items()}


def test_a_passed_run_is_green(passed, tmp_path):
    cases, page = written(tmp_path, passed)
    assert looks(cases["stages"]) == dict.fromkeys(STAGES, "ok")
    assert looks(cases["gate"]) == {"a": "ok", "b": "ok"}
    assert set(cases) == {"stages", "gate"}
    assert cases["stages"]["train"].time == 1.234
    assert cases["gate"]["a"].system_out == "It is 0.9."
    assert page.startswith(f"## ✔ {wording.HEADLINES['passed']}\n\n**small** · 2 of 2 checks passed\n")
    assert f"```sh\nbigstep serve {tmp_path}/bundle\n```" in page


def test_a_reused_stage_passes_and_says_so(passed, tmp_path):
    passed.history[1].action = "reused"
    cases, page = written(tmp_path, passed)
    assert looks(cases["stages"])["train"] == "ok"
    assert "reused" in cases["stages"]["train"].system_out
    assert cases["stages"]["data"].system_out is None
    assert "| train | ✔ reused | 1.2 |" in page


@pytest.mark.parametrize(("outcome", "kind"), [("failed", Failure), ("undecided", Error)])
def test_what_did_not_pass_blocks_and_says_why(passed, tmp_path, outcome, kind):
    run = judged(passed, [check(name="a"), check(outcome, "b", "It is 0.4 | bad.")], outcome)
    cases, page = written(tmp_path, run)
    (result,) = cases["gate"]["b"].result
    assert type(result) is kind
    assert (result.type, result.message, result.text) == (outcome, "It is 0.4 | bad.", "It is 0.4 | bad.")
    assert looks(cases["gate"])["a"] == "ok"
    assert page.startswith(
        f"## {wording.ICONS[outcome]} {wording.HEADLINES[outcome]}\n\n**small** · 1 of 2 checks passed"
    )
    assert f"| {wording.ICONS[outcome]} {outcome} | b | It is 0.4 \\| bad. |" in page
    assert "bigstep serve" not in page


def test_a_verdict_without_checks_is_not_green(passed, tmp_path):
    cases, _ = written(tmp_path, judged(passed, [], "undecided"))
    assert looks(cases["gate"]) == {"gate": "error"}


@pytest.mark.parametrize(
    ("verdict", "budget", "headline"),
    [
        ("passed", "failed", "## ✘ Failed: the gate passed this file, but a budget was not kept."),
        ("passed", "undecided", "## ? Undecided: the gate passed this file, but a budget could not be decided."),
        ("undecided", "failed", "## ✘ Failed: a budget was not kept, and the test data cannot tell the rest."),
        ("failed", "undecided", f"## ✘ {wording.HEADLINES['failed']}"),
        ("passed", "passed", f"## ✔ {wording.HEADLINES['passed']}"),
    ],
)
def test_the_headline_is_the_worse_of_verdict_and_budgets(passed, tmp_path, verdict, budget, headline):
    run = replace(judged(passed, [check(verdict)], verdict), budgets=[check(budget, "p50", "It takes 3 ms.")])
    cases, page = written(tmp_path, run)
    assert looks(cases["budgets"]) == {"p50": {"passed": "ok", "failed": "failure", "undecided": "error"}[budget]}
    assert page.startswith(headline + "\n")
    assert f"| {wording.ICONS[budget]} {budget} | p50 | It takes 3 ms. |" in page
    assert ("bigstep serve" in page) == (verdict == budget == "passed")


def test_a_users_error_has_its_message_and_no_traceback(passed, tmp_path):
    error = raised("from bigstep.errors import TrainError\nraise TrainError('every rate diverged', do='lower it')")
    cases, page = written(tmp_path, stopped(passed, error, ran=1, begun=True))
    assert isinstance(error, TrainError)
    assert looks(cases["stages"]) == dict(zip(STAGES, ["ok", "error", *["skipped"] * 3], strict=True))
    assert looks(cases["gate"]) == {"gate": "skipped"}
    (result,) = cases["stages"]["train"].result
    assert (result.type, result.message) == ("TrainError", "every rate diverged")
    assert result.text == str(error)
    assert cases["stages"]["train"].time == 0.5
    assert page.startswith(f"## ✘ Stopped in train\n\n**small** · TrainError\n\n```text\n{error}\n```\n\n")
    assert "the same command goes on from here" in page
    assert "Traceback" not in page
    assert "| train | ✘ stopped here | 0.5 |\n| compress | not reached | n/a |" in page
    assert passed.records["data"].digest in page


def test_an_internal_error_shows_where_it_came_from(passed, tmp_path):
    cases, page = written(tmp_path, stopped(passed, raised("1 / 0"), ran=3, begun=True))
    (result,) = cases["stages"]["export"].result
    assert isinstance(result, Error)
    assert (result.type, result.message) == ("ZeroDivisionError", "division by zero")
    assert result.text.startswith("division by zero\n\nTraceback (most recent call last):\n")
    assert "Traceback (most recent call last):" in page
    assert "This is a bug in bigstep" in page
    assert "goes on from here" not in page


def test_a_cancelled_job_is_no_success_and_no_bug(passed, tmp_path):
    cases, page = written(tmp_path, stopped(passed, KeyboardInterrupt(), ran=1, begun=True))
    (result,) = cases["stages"]["train"].result
    assert isinstance(result, Error)
    assert (result.type, "goes on from here" in result.message) == ("interrupted", True)
    assert looks(cases["stages"])["compress"] == "skipped"
    assert page.startswith("## ✘ Interrupted in train\n")
    assert "bug" not in page and "Traceback" not in page


def test_an_error_before_the_first_stage_has_a_place(passed, tmp_path, monkeypatch):
    for name in ("verify.report.page", "verify.report.plots", "jinja2", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)  # so that importing it fails: it may be what is missing
    error = ConfigError("the package jinja2 is not installed", do="pip install jinja2")
    cases, page = written(tmp_path, stopped(passed, error))
    assert looks(cases["stages"]) == {"before data": "error", **dict.fromkeys(STAGES, "skipped")}
    assert page.startswith("## ✘ Stopped before data\n")
    assert "Digests" not in page


def test_an_error_after_the_verdict_hides_the_green_light(passed, tmp_path):
    error = OSError(28, "No space left on device", "bundle")
    cases, page = written(tmp_path, replace(passed, error=error))
    assert looks(cases["stages"]) == {**dict.fromkeys(STAGES, "ok"), "after verify": "error"}
    assert looks(cases["gate"]) == {"a": "ok", "b": "ok"}
    assert page.startswith("## ✘ Stopped after verify\n")
    assert "Passed, 2 of 2 checks passed. The run did not end: ship nothing." in page
    assert not [text for text in (wording.HEADLINES["passed"], "bigstep serve", "report.html") if text in page]


def test_a_run_of_some_stages_has_no_gate(passed, tmp_path):
    names = STAGES[:2]
    run = RunOutcome("small", names, history(ran=2), {name: passed.records[name] for name in names})
    cases, page = written(tmp_path, run)
    assert looks(cases["stages"]) == {"data": "ok", "train": "ok"}
    assert set(cases) == {"stages"}
    assert page.startswith("## ✔ Done: data, train\n")
    error = replace(run, history=history(ran=1, begun=True), error=TrainError("no rate fits"))
    assert set(written(tmp_path, error)[0]) == {"stages"}, "verify was not asked for, so no gate was missed"


def test_a_run_cannot_end_well_with_a_stage_under_way_or_missing(passed):
    for runs in (history(ran=4, begun=True), history(ran=4), history()[::-1]):
        with pytest.raises(AssertionError):
            replace(passed, history=runs)


def test_the_table_is_drawn_from_the_records(passed, tmp_path):
    exported, scores = passed.records["export"].info, passed.records["verify"].info.scores
    changed = [s.model_copy(update={"accuracy": 0.12345}) if s.form == exported.served else s for s in scores]
    _, page = written(tmp_path, judged(passed, [check()], "passed", scores=changed))
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ") and "ms |" in line]
    assert len(rows) == len(exported.forms)
    assert rows[0][0] == f"| **{exported.served}**"
    assert rows[0][4:7] == ["12.3%"] * 3
    dense = next(row for row in rows if row[0] == "| dense-fp32")
    assert dense[3] == "1.00x"
    size = exported.form("dense-fp32").bytes / exported.form(exported.served).bytes
    assert rows[0][3] == f"{size:.2f}x"


def test_repeated_names_are_told_apart(passed, tmp_path):
    names = ["a", "a", "a (2)", "", "x" * 9000, "x" * 9000]
    cases, _ = written(tmp_path, judged(passed, [check(name=name) for name in names], "passed"))
    assert list(cases["gate"])[:4] == ["a", "a (2)", "a (2) (2)", "unnamed"]
    assert max(map(len, cases["gate"])) < 600


def test_no_text_breaks_either_file(passed, tmp_path):
    run = judged(passed, [check("failed", HOSTILE, HOSTILE)], "failed", notes=[HOSTILE, "# no heading", "1. no list"])
    run = replace(run, name=HOSTILE, budgets=[check("undecided", HOSTILE, HOSTILE)])
    cases, page = written(tmp_path, run)
    (case,) = cases["gate"].values()
    assert case.result[0].text.startswith("\\x00\\x1b[31m]]> <b>&amp; \\ud800 \\ufffe | `` *x* _y_")
    for table in re.findall(r"(?:^\|.*\n)+", page, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1, table
    assert "<b>" not in page
    assert "- \\# no heading\n- 1\\. no list\n" in page
    ci.write(tmp_path, stopped(passed, RuntimeError(HOSTILE + "\n```\n````"), ran=1, begun=True))
    assert "\n`````text\n" in (tmp_path / "summary.md").read_text()
    assert JUnitXml.fromfile(str(tmp_path / "junit.xml")).errors == 1


def test_an_error_without_words_has_the_name_of_its_class(passed, tmp_path):
    cases, _ = written(tmp_path, stopped(passed, RuntimeError(" \n"), ran=1, begun=True))
    assert cases["stages"]["train"].result[0].message == "RuntimeError"


def test_the_page_stays_below_githubs_limit_and_says_what_is_missing(passed, tmp_path):
    wide = "\ud800" * 3000
    many = [check("failed", f"{n}{wide}", wide) for n in range(30)]
    run = judged(passed, many, "failed", notes=[wide] * 30, judged={f"{n}{wide}": "0" * 64 for n in range(90)})
    run = replace(run, name=wide, budgets=many)
    _, page = written(tmp_path, run)
    assert len(page.encode()) < 300_000
    assert len(re.findall(r"\n_\d+ more lines are left out here; all are in report\.html\._\n", page)) == 3
    assert "more lines are left out here; all are in the manifests of the records._" in page
    assert page.rstrip().endswith("</details>")
    assert page.count("<details>") == page.count("</details>")
    _, page = written(tmp_path, replace(run, error=raised(f"raise RuntimeError({'`' * 1_000_000!r})")))
    assert len(page.encode()) < 300_000
    assert "characters left out" in page


def test_a_very_long_message_keeps_its_ends(passed, tmp_path):
    error = ConfigError("a" * 100_000 + "\nthe end")
    cases, _ = written(tmp_path, stopped(passed, error))
    (result,) = cases["stages"]["before data"].result
    assert len(result.message) < 600 and len(result.text) < 21_000
    assert result.text.endswith("the end")
    assert "80,008 characters left out" in result.text


@pytest.fixture
def full_disk(tmp_path):
    """Return a folder in which what is written for a moment lands on a full device; old results lie there."""
    for name in ("junit.xml", "summary.md"):
        (tmp_path / name).write_text("an older, green result")
        (tmp_path / f".{name}.tmp").symlink_to("/dev/full")
    return tmp_path


def test_a_full_disk_does_not_hide_the_first_error(passed, full_disk, caplog):
    ci.write(full_disk, stopped(passed, ConfigError("the disk is full")))
    assert "junit.xml cannot be written: No space left on device" in caplog.text
    assert list(full_disk.iterdir()) == [], "an older result must not stand for this run"


def test_a_passed_run_that_cannot_say_so_is_an_error(passed, full_disk):
    with pytest.raises(OSError, match="No space left"):
        ci.write(full_disk, passed)
    assert not (full_disk / "junit.xml").exists()


def test_results_of_an_earlier_run_are_removed(passed, tmp_path):
    written(tmp_path, passed)
    ci.remove(tmp_path, reports=True)
    ci.remove(tmp_path, reports=True)
    assert list(tmp_path.iterdir()) == []


def test_text_is_made_safe_and_kept_readable():
    assert printable("a\r\nb\rc\x85\x1b", 99) == "a\nb\nc\\x85\\x1b"
    assert printable("é 漢 😀", 99) == "é 漢 😀"
    assert printable("0123456789", 4) == "01 [... 6 characters left out ...] 89"
    assert markdown("    + a|b\n<i>") == "\\+ a\\|b &lt;i&gt;"
    assert fenced("a ```` b", 99, "sh") == "`````sh\na ```` b\n`````"

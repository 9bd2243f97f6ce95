"""The run on one page of GitHub-flavoured Markdown, for the page of a CI job.

GitHub takes at most 1 MiB from a step, and shows nothing of a longer page. Every part of this one has a bound of its
own (`MOST_PART_BYTES`, `MOST_MESSAGE`), so that the page stays below 300 kB whatever the run holds.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from bigstep.errors import BigstepError
from bigstep.groups import ALIGNED, CONFLICTING, UNBIASED
from bigstep.records.exported import Exported
from bigstep.records.verdict import SEVERITY, Check, Outcome, Verdict, VerdictInfo, worst
from bigstep.text import fenced, format_bytes, markdown
from verify.report.run_outcome import GO_ON, RunOutcome, message, origin
from verify.report.wording import ICONS, NONE, ORDER, ROLES, headline

MOST_PART_BYTES = 16_000
MOST_MESSAGE = 8_000  # characters
MOST_NAME = 200
STATES = {"reused": "✔ reused", "ran": "✔ done", "stopped": "✘ stopped here", "not reached": "not reached"}


def document(outcome: RunOutcome, folder: Path) -> str:
    """Return the page: what was decided, the numbers, what did not pass, and what to do next.

    Args:
        folder: the run folder, as the user named it.
    """
    parts = []
    if outcome.error is not None:
        parts.append(_error(outcome, outcome.error))
    if outcome.verdict is not None:
        parts.append(_judged(outcome, outcome.verdict, folder))
    elif outcome.error is None:
        parts.append(f"## ✔ Done: {', '.join(outcome.planned)}\n\n**{_name(outcome)}**")
    parts.append(_stages(outcome))
    if outcome.records:
        parts.append(_digests(outcome))
    return "\n\n".join(parts) + "\n"


def _error(outcome: RunOutcome, error: BaseException) -> str:
    stopped = next(stage.name for stage in outcome.stages() if stage.state == "stopped")
    place = stopped if " " in stopped else f"in {stopped}"  # "before data", "after verify"
    if isinstance(error, KeyboardInterrupt):
        return f"## ✘ Interrupted {place}\n\n**{_name(outcome)}** · {GO_ON}."
    parts = [f"## ✘ Stopped {place}", f"**{_name(outcome)}** · {markdown(type(error).__name__)}"]
    parts.append(fenced(message(error), MOST_MESSAGE))
    if origin(error):
        parts.append(_folded("Traceback", fenced(origin(error), MOST_MESSAGE)))
    mendable = isinstance(error, BigstepError | OSError)
    bug = "This is a bug in bigstep; please report it with the traceback."
    parts.append(f"Once that is mended, {GO_ON}." if mendable else bug)
    return "\n\n".join(parts)


def _judged(outcome: RunOutcome, verdict: VerdictInfo, folder: Path) -> str:
    """Tell the verdict; after an error, which has the headline, as a section below it."""
    whole = "report.html" if outcome.error is None else "the run folder"
    open_ = [check for check in verdict.checks if check.outcome != "passed"]
    parts = [_headline(outcome, verdict, f"{len(verdict.checks) - len(open_)} of {len(verdict.checks)} checks passed")]
    parts += [_checks("check", open_, whole)] if open_ else []
    parts += [_checks("budget", outcome.budgets, whole)] if outcome.budgets else []
    parts.append(_forms(outcome, whole))
    if outcome.error is None:
        parts.append(_next(folder, passed=_worst(outcome, verdict) == "passed"))
    if verdict.notes:
        notes = _kept([f"- {markdown(note)}" for note in verdict.notes], whole)
        parts.append(_folded(f"Notes ({len(verdict.notes)})", notes))
    return "\n\n".join(parts)


def _headline(outcome: RunOutcome, verdict: VerdictInfo, tally: str) -> str:
    if outcome.error is not None:
        said = f"{verdict.outcome.capitalize()}, {tally}. The run did not end: ship nothing."
        return f"### What the gate said\n\n{said}"
    of_all = _worst(outcome, verdict)
    return f"## {ICONS[of_all]} {headline(verdict.outcome, of_all)}\n\n**{_name(outcome)}** · {tally}"


def _worst(outcome: RunOutcome, verdict: VerdictInfo) -> Outcome:
    """Return what the exit code says: the worse of the verdict and the budgets."""
    return worst([verdict.outcome, *(check.outcome for check in outcome.budgets)])


def _checks(head: str, checks: Sequence[Check], whole: str) -> str:
    ranked = sorted(checks, key=lambda check: SEVERITY.index(check.outcome))
    rows = [[f"{ICONS[c.outcome]} {c.outcome}", markdown(c.name, MOST_NAME), markdown(c.says)] for c in ranked]
    return _table(["", head, "what it says"], rows, whole)


def _forms(outcome: RunOutcome, whole: str) -> str:
    exported, verdict = outcome.records["export"], outcome.records["verify"]
    assert isinstance(exported, Exported)
    assert isinstance(verdict, Verdict)
    latency = json.loads((verdict.folder / "measured.json").read_bytes())["latency"]
    found = {(score.form, score.group): score for score in verdict.info.scores}
    dense = exported.info.dense()
    rows = []
    for form in sorted(exported.info.forms, key=lambda f: (f.name != exported.info.served, ORDER.index(f.role))):
        served = form.name == exported.info.served
        p50 = latency.get(form.name, {}).get("p50_ms")
        name = markdown(form.name, MOST_NAME)
        row = [f"**{name}**" if served else name, ROLES[form.role] + (", served" if served else "")]
        row += [format_bytes(form.bytes), f"{dense.bytes / form.bytes:.2f}x"]
        for group in (UNBIASED, ALIGNED, CONFLICTING):
            score = found.get((form.name, group))
            row.append(NONE if score is None or score.accuracy is None else f"{score.accuracy:.1%}")
        rows.append([*row, NONE if p50 is None else f"{p50:.3f} ms"])
    heads = ["file", "network", "bytes:", "times smaller:", "unbiased:", "aligned:", "conflicting:", "latency:"]
    about = (
        "Accuracies are on the test split; latency is the median of one image at a time, on the machine of this run."
    )
    return f"{_table(heads, rows, whole)}\n\n{about}"


def _next(folder: Path, *, passed: bool) -> str:
    report = f"The whole story, with bounds and plots: {markdown(str(folder / 'report.html'))}"
    if not passed:
        return report
    command = f"bigstep serve {shlex.quote(str(folder / 'bundle'))}"
    return f"Next:\n\n{fenced(command, MOST_MESSAGE, 'sh')}\n\n{report}"


def _stages(outcome: RunOutcome) -> str:
    rows = [
        [stage.name, STATES[stage.state], NONE if stage.state == "not reached" else f"{stage.seconds:.1f}"]
        for stage in outcome.stages()
    ]
    table = _table(["stage", "", "seconds:"], rows, "junit.xml")
    return _folded("Stages", table) if outcome.error is None else table


def _digests(outcome: RunOutcome) -> str:
    rows = [[record.kind, f"`{record.digest}`"] for record in outcome.records.values()]
    if outcome.verdict is not None:
        rows += [[f"{markdown(form, MOST_NAME)} (file)", f"`{sha}`"] for form, sha in outcome.verdict.judged.items()]
    return _folded("Digests (SHA-256)", _table(["", "digest"], rows, "the manifests of the records"))


def _name(outcome: RunOutcome) -> str:
    return markdown(outcome.name, MOST_NAME)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], whole: str) -> str:
    """Return a table of escaped cells; a head that ends with a colon stands for a column of numbers."""
    lines = [f"| {' | '.join(head.removesuffix(':') for head in heads)} |"]
    lines.append(f"| {' | '.join('---:' if head.endswith(':') else '---' for head in heads)} |")
    return "\n".join(lines) + "\n" + _kept([f"| {' | '.join(row)} |" for row in rows], whole)


def _kept(lines: Sequence[str], whole: str) -> str:
    """Return as many lines as there is room for, and a sentence that says how many are missing and where they are."""
    kept: list[str] = []
    size = 0
    for line in lines:
        size += len(line.encode())
        if size > MOST_PART_BYTES:
            missing = len(lines) - len(kept)
            return "\n".join([*kept, "", f"_{missing:,} more lines are left out here; all are in {whole}._"])
        kept.append(line)
    return "\n".join(kept)


def _folded(title: str, content: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n\n{content}\n\n</details>"

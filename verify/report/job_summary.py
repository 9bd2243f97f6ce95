"""The run on one page of GitHub-flavoured Markdown, for the page of a CI job.

GitHub takes at most 1 MiB from a step, and shows nothing of a longer page. Every part of this one has a bound of its
own (`MOST_PART_BYTES`, `MOST_MESSAGE`), so that the page stays below 300 kB whatever the run holds.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from bigstep.errors import BigstepError
from bigstep.groups import ALIGNED, CONFLICTING, UNBIASED
from bigstep.records.run import JudgedRun
from bigstep.records.verdict import Check
from bigstep.text import fenced, format_bytes, markdown
from verify.report import facts
from verify.report.run_outcome import GO_ON, POINTER, RunOutcome, message, origin, refused
from verify.report.wording import ICONS, NONE

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
    if outcome.records.judged is not None:
        parts.append(_judged(outcome, outcome.records.judged, folder))
    elif outcome.error is None:
        parts.append(f"## ✔ Done: {', '.join(outcome.planned)}\n\n**{_name(outcome)}**")
    parts.append(_stages(outcome))
    if outcome.records.made():
        parts.append(_digests(outcome))
    return "\n\n".join(parts) + "\n"


def _error(outcome: RunOutcome, error: BaseException) -> str:
    stopped = next(stage.stage for stage in outcome.stages() if stage.action == "stopped")
    place = stopped if " " in stopped else f"in {stopped}"  # "before data", "after verify"
    if isinstance(error, KeyboardInterrupt):
        return f"## ✘ Interrupted {place}\n\n**{_name(outcome)}** · {GO_ON}."
    parts = [
        f"## ✘ Stopped {place}",
        f"**{_name(outcome)}** · {markdown(type(error).__name__)}",
        fenced(message(error), MOST_MESSAGE),
    ]
    if origin(error):
        parts.append(_folded("Traceback", fenced(origin(error), MOST_MESSAGE)))
    parts.append(
        f"Once that is mended, {GO_ON}."
        if isinstance(error, BigstepError | OSError)
        else "This is a bug in bigstep; please report it with the traceback."
    )
    return "\n\n".join(parts)


def _judged(outcome: RunOutcome, run: JudgedRun, folder: Path) -> str:
    """Tell the verdict; after an error, which has the headline, as a section below it."""
    whole, verdict = "report.html" if outcome.error is None else "the run folder", run.verdict.info
    open_ = [check for check in verdict.checks if check.outcome != "passed"]
    parts = [_headline(outcome, run, f"{len(verdict.checks) - len(open_)} of {len(verdict.checks)} checks passed")]
    parts += [
        _checks(head, checks, whole) for head, checks in {"check": open_, "budget": run.budgets}.items() if checks
    ]
    parts.append(_forms(run, whole))
    if outcome.error is None:
        parts.append(_next(outcome, folder, passed=run.outcome == "passed"))
    if notes := facts.notes(run):
        parts.append(_folded(f"Notes ({len(notes)})", _kept([f"- {markdown(note)}" for note in notes], whole)))
    return "\n\n".join(parts)


def _headline(outcome: RunOutcome, run: JudgedRun, tally: str) -> str:
    verdict = run.verdict.info.outcome
    if outcome.error is not None:
        return f"### What the gate said\n\n{verdict.capitalize()}, {tally}. The run did not end: ship nothing."
    return f"## {ICONS[run.outcome]} {markdown(run.headline)}\n\n**{_name(outcome)}** · {tally}"


def _checks(head: str, checks: Sequence[Check], whole: str) -> str:
    return _table(
        ["", head, "what it says"],
        [
            [f"{ICONS[check.outcome]} {check.outcome}", markdown(check.name, MOST_NAME), markdown(check.says)]
            for check in facts.worst_first(checks)
        ],
        whole,
    )


def _forms(run: JudgedRun, whole: str) -> str:
    rows = []
    for file in sorted(facts.forms(run), key=lambda file: not file.served):
        name = markdown(file.form.name, MOST_NAME)
        accuracies = [file.accuracy(group) for group in (UNBIASED, ALIGNED, CONFLICTING)]
        rows.append(
            [
                f"**{name}**" if file.served else name,
                file.role,
                format_bytes(file.form.bytes),
                f"{file.smaller:.2f}x",
                *(NONE if accuracy is None else f"{accuracy:.1%}" for accuracy in accuracies),
                f"{file.latency.p50_ms:.3f} ms" if file.latency else NONE,
            ]
        )
    heads = ["file", "network", "bytes:", "times smaller:", "unbiased:", "aligned:", "conflicting:", "latency:"]
    about = (
        "Accuracies are on the test split; latency is the median of one image at a time, on the machine of this run."
    )
    return f"{_table(heads, rows, whole)}\n\n{about}"


def _next(outcome: RunOutcome, folder: Path, *, passed: bool) -> str:
    report = f"The whole story, with bounds and plots: {markdown(str(folder / 'report.html'))}"
    if not passed:
        bundle = outcome.records.bundle
        return f"{report}\n\nIts bundle: {markdown(f'{bundle.folder}, {refused(folder)}')}" if bundle else report
    command = f"bigstep serve {shlex.quote(str(folder / POINTER))}"
    return f"Next:\n\n{fenced(command, MOST_MESSAGE, 'sh')}\n\n{report}"


def _stages(outcome: RunOutcome) -> str:
    table = _table(
        ["stage", "", "seconds:"],
        [
            [stage.stage, STATES[stage.action], NONE if stage.action == "not reached" else f"{stage.seconds:.1f}"]
            for stage in outcome.stages()
        ],
        "junit.xml",
    )
    return _folded("Stages", table) if outcome.error is None else table


def _digests(outcome: RunOutcome) -> str:
    rows = [[record.kind, f"`{record.digest}`"] for record in outcome.records.made().values()]
    if outcome.records.judged is not None:
        rows += [
            [f"{markdown(form, MOST_NAME)} (file)", f"`{sha}`"]
            for form, sha in outcome.records.judged.verdict.info.judged.items()
        ]
    return _folded("Digests (SHA-256)", _table(["", "digest"], rows, "the manifests of the records"))


def _name(outcome: RunOutcome) -> str:
    return markdown(outcome.name, MOST_NAME)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], whole: str) -> str:
    """Return a table of escaped cells; a head that ends with a colon stands for a column of numbers."""
    names = f"| {' | '.join(head.removesuffix(':') for head in heads)} |"
    rule = f"| {' | '.join('---:' if head.endswith(':') else '---' for head in heads)} |"
    return f"{names}\n{rule}\n" + _kept([f"| {' | '.join(row)} |" for row in rows], whole)


def _kept(lines: Sequence[str], whole: str) -> str:
    """Return as many lines as there is room for, and a sentence that says how many are missing and where they are."""
    kept: list[str] = []
    size = 0
    for line in lines:
        size += len(line.encode())
        if size > MOST_PART_BYTES:
            return "\n".join(
                [*kept, "", f"_{len(lines) - len(kept):,} more lines are left out here; all are in {whole}._"]
            )
        kept.append(line)
    return "\n".join(kept)


def _folded(title: str, content: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n\n{content}\n\n</details>"

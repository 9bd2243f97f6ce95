"""What the command line prints at the end: a short table, the verdict, and what to do next."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from bigstep.records.exported import Exported, Form
from bigstep.records.sealed import Record
from bigstep.records.trained import Trained
from bigstep.records.verdict import Check, Outcome, Verdict, VerdictInfo, worst
from bigstep.terminal import Terminal, command
from verify.report.run_outcome import EXAMPLE, budgets

SIGNS = {"passed": "[green]PASSED[/]", "failed": "[red]FAILED[/]", "undecided": "[yellow]CANNOT TELL[/]"}


@dataclass(frozen=True)
class Row:
    """Hold one line of the table; accuracies and latency are None where they could not be measured."""

    model: str
    bytes: int
    unbiased: float | None
    aligned: float | None
    conflicting: float | None
    latency_ms: float | None


@dataclass(frozen=True)
class Summary:
    """Hold what the end of a run says; `budgets` are checks on the clock, which are no part of the verdict."""

    folder: Path
    verdict: Outcome
    rows: list[Row]
    info: VerdictInfo
    budgets: list[Check]
    why: str

    @property
    def outcome(self) -> Outcome:
        """Return the worse of the verdict and the budgets, which is what the exit code says."""
        return worst([self.verdict, *(budget.outcome for budget in self.budgets)])

    def as_json(self) -> dict[str, Any]:
        """Return the summary as plain values."""
        return {
            "outcome": self.outcome,
            "verdict": self.verdict,
            "models": [vars(row) for row in self.rows],
            "checks": [check.model_dump(mode="json") for check in self.info.checks],
            "budgets": [budget.model_dump(mode="json") for budget in self.budgets],
            "notes": self.info.notes,
            "why_this_rate": self.why,
            "bundle": str(self.folder / "bundle"),
            "report": str(self.folder / "report.html"),
        }

    def show(self) -> None:
        """Print the table, the verdict and the next commands."""
        console = Terminal()
        console.print(self._table())
        for check in [*self.info.checks, *self.budgets]:
            if check.outcome != "passed":
                console.print(f"{SIGNS[check.outcome]} {escape(f'{check.name}: {check.says}')}", soft_wrap=True)
        for note in self.info.notes:
            console.print(f"Note: {note}", markup=False, soft_wrap=not console.is_terminal)
        passed = sum(check.outcome == "passed" for check in self.info.checks)
        console.print(f"\nVerdict: {SIGNS[self.verdict]}, {passed} of {len(self.info.checks)} checks passed")
        if self.budgets:
            outcomes = [budget.outcome for budget in self.budgets]
            kept = f"{outcomes.count('passed')} of {len(outcomes)} surely kept, on the machine that verified"
            console.print(f"Budgets: {SIGNS[worst(outcomes)]}, {kept}")
        console.print(f"Report:  {self.folder / 'report.html'}", soft_wrap=True, markup=False)
        if self.outcome == "passed":
            bundle = shlex.quote(str(self.folder / "bundle"))
            console.print(f"Serve:   {shlex.quote(command())} serve {bundle}", soft_wrap=True, markup=False)
            example = shlex.quote(f"@{self.folder / EXAMPLE}")
            query = f"curl --data-binary {example} -H 'Content-Type: image/png' http://127.0.0.1:8000/predict"
            console.print(f"Query:   {query}", soft_wrap=True, markup=False)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("model")
        for heading in ("bytes", "unbiased", "aligned", "conflicting", "ms"):
            table.add_column(heading, justify="right")
        for row in self.rows:
            accuracies = [_percent(v) for v in (row.unbiased, row.aligned, row.conflicting)]
            latency = "-" if row.latency_ms is None else f"{row.latency_ms:.3f}"
            table.add_row(row.model, f"{row.bytes:,}", *accuracies, latency)
        return table


def read(records: dict[str, Record[Any]], folder: Path) -> Summary:
    """Collect the summary from the records: the served file, the dense one, and every baseline."""
    exported, verdict, trained = records["export"], records["verify"], records["train"]
    assert isinstance(exported, Exported)
    assert isinstance(verdict, Verdict)
    assert isinstance(trained, Trained)
    measured = json.loads((records["bundle"].folder / "measured.json").read_bytes())
    shown = [f for f in exported.info.forms if f.name == exported.info.served or f.role != "compact"]
    rows = [_row(form, verdict.info, measured) for form in shown]
    return Summary(folder, verdict.info.outcome, rows, verdict.info, budgets(records), trained.info.why)


def _row(form: Form, verdict: VerdictInfo, measured: dict[str, Any]) -> Row:
    found = {s.group: s.accuracy for s in verdict.scores if s.form == form.name}
    latency = measured.get("latency", {}).get(form.name, {}).get("p50_ms")
    return Row(form.name, form.bytes, found.get("unbiased"), found.get("aligned"), found.get("conflicting"), latency)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"

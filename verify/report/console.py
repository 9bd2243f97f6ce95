"""What the command line prints at the end: a short table, the verdict, and what to do next."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from bigstep.groups import ALIGNED, CONFLICTING, UNBIASED
from bigstep.records.run import JudgedRun
from bigstep.records.verdict import worst
from bigstep.terminal import Terminal, command
from verify.report import facts
from verify.report.facts import FormFacts
from verify.report.run_outcome import EXAMPLE, POINTER, last_good, refused

GROUPS = (UNBIASED, ALIGNED, CONFLICTING)
SIGNS = {"passed": "[green]PASSED[/]", "failed": "[red]FAILED[/]", "undecided": "[yellow]CANNOT TELL[/]"}


@dataclass(frozen=True)
class Summary:
    """The end of a run: every file but the unserved ones of the compact network, the verdict, and what to do next.

    Attributes:
        folder: the run folder.
        bundle: where the bundle of this run lies.
    """

    run: JudgedRun
    folder: Path
    bundle: Path

    def as_json(self) -> dict[str, Any]:
        """Return the summary as plain values."""
        return {
            "outcome": self.run.outcome,
            "headline": self.run.headline,
            "verdict": self.run.verdict.info.outcome,
            "models": [
                {
                    "model": file.form.name,
                    "bytes": file.form.bytes,
                    **{group: file.accuracy(group) for group in GROUPS},
                    "latency_ms": file.latency.p50_ms if file.latency else None,
                }
                for file in self._files()
            ],
            "checks": [check.as_json() for check in self.run.verdict.info.checks],
            "budgets": [check.as_json() for check in self.run.budgets],
            "notes": facts.notes(self.run),
            "why_this_rate": self.run.trained.info.why,
            "bundle": str(self.folder / POINTER if self.run.outcome == "passed" else self.bundle),
            "last_good_bundle": str(found) if (found := last_good(self.folder)) else None,
            "report": str(self.folder / "report.html"),
        }

    def show(self) -> None:
        """Print the table, the verdict and the next commands."""
        console, verdict, budgets = Terminal(), self.run.verdict.info, self.run.budgets
        console.print(self._table())
        for check in [*verdict.checks, *budgets]:
            if check.outcome != "passed":
                console.print(f"{SIGNS[check.outcome]} {escape(f'{check.name}: {check.says}')}", soft_wrap=True)
        for note in facts.notes(self.run):
            console.print(f"Note: {note}", markup=False, soft_wrap=not console.is_screen)
        passed = sum(check.outcome == "passed" for check in verdict.checks)
        console.print(f"\nVerdict: {SIGNS[verdict.outcome]}, {passed} of {len(verdict.checks)} checks passed")
        if budgets:
            outcomes = [budget.outcome for budget in budgets]
            kept = f"{outcomes.count('passed')} of {len(outcomes)} surely kept, on the machine that verified"
            console.print(f"Budgets: {SIGNS[worst(outcomes)]}, {kept}")
        console.print(self.run.headline, soft_wrap=not console.is_terminal, markup=False)
        console.print(f"Report:  {self.folder / 'report.html'}", soft_wrap=True, markup=False)
        if self.run.outcome != "passed":
            console.print(f"Bundle:  {self.bundle}, {refused(self.folder)}", soft_wrap=True, markup=False)
        else:
            bundle = shlex.quote(str(self.folder / POINTER))
            console.print(f"Serve:   {shlex.quote(command())} serve {bundle}", soft_wrap=True, markup=False)
            example = shlex.quote(f"@{self.folder / EXAMPLE}")
            query = f"curl --data-binary {example} -H 'Content-Type: image/png' http://127.0.0.1:8000/predict"
            console.print(f"Query:   {query}", soft_wrap=True, markup=False)

    def _files(self) -> list[FormFacts]:
        return [file for file in facts.forms(self.run) if file.served or file.form.role != "compact"]

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("model")
        for heading in ("bytes", *GROUPS, "ms"):
            table.add_column(heading, justify="right")
        for file in self._files():
            cells = [
                "-" if (accuracy := file.accuracy(group)) is None else f"{100 * accuracy:.1f}%" for group in GROUPS
            ]
            table.add_row(
                file.form.name, f"{file.form.bytes:,}", *cells, f"{file.latency.p50_ms:.3f}" if file.latency else "-"
            )
        return table

"""What `bigstep lr-map` prints at the end: a table of rates, the thresholds, the answer, and where the page lies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from bigstep.records.rate_map import RateMap
from bigstep.terminal import Terminal
from verify.report.map_facts import mean

COLUMNS = {  # metric: heading, format
    "unbiased": ("unbiased", "{:.3f}"),
    "conflicting": ("conflict.", "{:.3f}"),
    "worst_group": ("worst", "{:.3f}"),
    "removable_within_1": ("removable", "{:.3f}"),
    "steps_to_fit": ("steps", "{:,.0f}"),
    "sharpness_eta_half": ("S*eta/2", "{:.3g}"),
}


@dataclass(frozen=True)
class MapSummary:
    """A finished map, and the folder in which its page lies."""

    record: RateMap
    folder: Path

    def as_json(self) -> dict[str, Any]:
        """Return thresholds, means over seeds and the answer as plain values."""
        info = self.record.info
        return {
            "digest": self.record.digest,
            "thresholds": [threshold.model_dump(mode="json") for threshold in info.thresholds],
            "band_2a": info.band,
            "answer": info.answer,
            "rates": [{"rate": rate, **{name: mean(info, name, rate) for name in COLUMNS}} for rate in info.rates],
            "page": str(self.folder / "lr-map.html"),
            "numbers": str(self.folder / "lr-map.csv"),
        }

    def show(self) -> None:
        """Print the table, a sentence for each threshold, and the answer."""
        console = Terminal()
        console.print(self._table())
        wrap = not console.is_screen
        for threshold in self.record.info.thresholds:
            console.print(f"{threshold.name}: {threshold.says}", markup=False, soft_wrap=wrap)
        console.print(f"\n{self.record.info.answer}\n", markup=False, soft_wrap=wrap)
        console.print(f"Page:    {self.folder / 'lr-map.html'}", markup=False, soft_wrap=True)
        console.print(f"Numbers: {self.folder / 'lr-map.csv'}", markup=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("rate", justify="right")
        table.add_column("fitted", justify="right")
        for heading, _ in COLUMNS.values():
            table.add_column(heading, justify="right")
        for rate in self.record.info.rates:
            statuses = [t.status for t in self.record.info.trials if t.rate == rate]
            cells = [
                "-" if (value := mean(self.record.info, name, rate)) is None else form.format(value)
                for name, (_, form) in COLUMNS.items()
            ]
            table.add_row(f"{rate:.4g}", f"{statuses.count('fitted')}/{len(statuses)}", *cells)
        return table

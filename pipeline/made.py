"""What a run up to a stage prints: where the record of that stage lies and, of images, what they are."""

from dataclasses import dataclass
from typing import Any

import typer

from bigstep.records.images import Images
from bigstep.records.sealed import Record
from verify.report.group_table import describe, group_counts


@dataclass(frozen=True)
class Made:
    """The record of the last stage that ran."""

    record: Record[Any]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        record = self.record
        found: dict[str, Any] = {"kind": record.kind, "digest": record.digest, "folder": str(record.folder)}
        if isinstance(record, Images):
            found |= {"counts": record.info.counts, "groups": group_counts(record), "findings": record.info.findings}
        return found

    def show(self) -> None:
        """Print it; of images also the group table, and what was found in them."""
        if isinstance(self.record, Images):
            typer.echo(f"{describe(self.record)}\n")
        typer.echo(f"{self.record.kind} {self.record.digest}\n{self.record.folder}")

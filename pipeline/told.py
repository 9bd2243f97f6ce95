"""What a dry run and a run up to a stage print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bigstep.records.images import Images
from bigstep.records.sealed import Record
from pipeline.run import Step
from verify.report.group_table import describe, group_counts


def dry_run_text(steps: Sequence[Step]) -> str:
    """Say for each stage what would happen."""
    return "\n".join(f"{step.stage:<9} {step.action:<7} {step.record}".rstrip() for step in steps)


def dry_run_json(steps: Sequence[Step]) -> list[dict[str, str]]:
    """Say the same as plain values."""
    return [{name: getattr(step, name) for name in ("stage", "action", "record", "key")} for step in steps]


def stage_text(records: dict[str, Record[Any]], until: str) -> str:
    """Say where the record of a single stage lies; of data, also what they are and what was found in them."""
    record, told = records[until], ""
    if isinstance(record, Images):
        told = f"{describe(record)}\n\n"
    return f"{told}{record.kind} {record.digest}\n{record.folder}"


def stage_json(records: dict[str, Record[Any]], until: str) -> dict[str, Any]:
    """Say the same as plain values."""
    record = records[until]
    found: dict[str, Any] = {"kind": record.kind, "digest": record.digest, "folder": str(record.folder)}
    if isinstance(record, Images):
        found |= {"counts": record.info.counts, "groups": group_counts(record), "findings": record.info.findings}
    return found

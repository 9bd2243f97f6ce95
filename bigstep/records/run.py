"""The records of one run, one for each stage."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from bigstep.records.bundle import Bundle
from bigstep.records.compact import Compact
from bigstep.records.exported import Exported
from bigstep.records.images import Images
from bigstep.records.measured import Measured
from bigstep.records.provenance import Provenance
from bigstep.records.sealed import Record
from bigstep.records.trained import Trained
from bigstep.records.verdict import Check, Outcome, Verdict, worst


@dataclass(frozen=True)
class JudgedRun:
    """The five records of a run that has reached a verdict, and its clock readings: what every report is drawn from.

    Attributes:
        measured: empty where the run stopped before.
        budgets: the checks of the served file's speed, by the present configuration; none where no budget is set.
    """

    images: Images
    trained: Trained
    compact: Compact
    exported: Exported
    verdict: Verdict
    measured: Measured
    budgets: Sequence[Check]

    def provenance(self) -> dict[str, Provenance]:
        """Return how each record was made, by its kind; nothing of one that does not say."""
        records: list[Record[Any]] = [self.images, self.trained, self.compact, self.exported, self.verdict]
        found = {record.kind: Provenance.read(record.folder) for record in records}
        return {kind: one for kind, one in found.items() if one is not None}

    @property
    def outcome(self) -> Outcome:
        """Return the worse of the verdict and the budgets, which is what the exit code says."""
        return worst([self.verdict.info.outcome, *(check.outcome for check in self.budgets)])

    @property
    def headline(self) -> str:
        """Return the one sentence that every report begins with."""
        return self.verdict.info.headline(self.exported.info.served, [check.outcome for check in self.budgets])


@dataclass(frozen=True)
class RunRecords:
    """The records of a run by stage, and what it is reported from; None where a stage was not asked for or reached."""

    data: Images | None = None
    train: Trained | None = None
    compress: Compact | None = None
    export: Exported | None = None
    verify: Verdict | None = None
    bundle: Bundle | None = None
    judged: JudgedRun | None = None

    def made(self) -> dict[str, Record[Any]]:
        """Return the records that there are, by stage, in the order of the stages."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: record for name, record in found.items() if isinstance(record, Record)}

    def judge(self, measured: Measured, budgets: Sequence[Check]) -> Self:
        """Return the records with what they are reported from, once there is a verdict; see `JudgedRun`."""
        if self.verify is None:
            return self
        assert self.data and self.train and self.compress and self.export
        judged = JudgedRun(self.data, self.train, self.compress, self.export, self.verify, measured, budgets)
        return replace(self, judged=judged)

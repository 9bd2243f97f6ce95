"""The records of one run, one for each stage."""

from dataclasses import dataclass, fields
from typing import Any

from bigstep.records.bundle import Bundle
from bigstep.records.compact import Compact
from bigstep.records.exported import Exported
from bigstep.records.images import Images
from bigstep.records.measured import Measured
from bigstep.records.sealed import Record
from bigstep.records.trained import Trained
from bigstep.records.verdict import Outcome, Verdict, worst


@dataclass(frozen=True)
class JudgedRun:
    """The five records of a run that has reached a verdict, and its clock readings: what every report is drawn from."""

    images: Images
    trained: Trained
    compact: Compact
    exported: Exported
    verdict: Verdict
    measured: Measured

    @property
    def outcome(self) -> Outcome:
        """Return the worse of the verdict and the budgets, which is what the exit code says."""
        return worst([self.verdict.info.outcome, *(check.outcome for check in self.measured.budgets)])


@dataclass(frozen=True)
class RunRecords:
    """The records of a run by stage; None where a stage was not asked for or not reached."""

    data: Images | None = None
    train: Trained | None = None
    compress: Compact | None = None
    export: Exported | None = None
    verify: Verdict | None = None
    bundle: Bundle | None = None

    def made(self) -> dict[str, Record[Any]]:
        """Return the records that there are, by stage, in the order of the stages."""
        return {f.name: record for f in fields(self) if (record := getattr(self, f.name)) is not None}

    def judged(self) -> JudgedRun:
        """Return what a run that has reached a verdict is reported from."""
        assert self.data and self.train and self.compress and self.export and self.verify
        measured = Measured.read(self.verify.folder)
        return JudgedRun(self.data, self.train, self.compress, self.export, self.verify, measured)

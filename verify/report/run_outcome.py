"""How a run went, for those who were not there: what was planned, what was done, what was decided, what stopped it."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bigstep.errors import BigstepError
from bigstep.records.run import RunRecords

EXAMPLE = "example.png"  # in the run folder: a test image, for a first query
POINTER = "bundle"  # in the run folder: the bundle of the last run that passed
GO_ON = "the same command goes on from here: a finished stage is not run again"


@dataclass
class StageRun:
    """A planned stage, or the place between stages where a run stopped; how long it took, in seconds.

    While it runs it has `begun`, then it was `reused` or `ran`; where an error came it `stopped`.
    """

    stage: str
    action: Literal["begun", "reused", "ran", "stopped", "not reached"]
    seconds: float


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    Args:
        name: the configuration's name.
        planned: the stages that the command asked for, in order; at least one.
        history: one entry per stage begun, in order; the last is `begun` where it was under way when the error came.
        records: what is finished.
        error: what stopped the run, if anything did.
    """

    name: str
    planned: Sequence[str]
    history: Sequence[StageRun]
    records: RunRecords
    error: BaseException | None = None

    def __post_init__(self) -> None:
        assert [run.stage for run in self.history] == list(self.planned[: len(self.history)])
        if self.error is None:
            assert len(self.history) == len(self.planned)
            assert all(run.action != "begun" for run in self.history)

    def stages(self) -> list[StageRun]:
        """Return what became of every planned stage, in order.

        A run that stopped where no stage was under way (a package is missing, the bundle cannot be written) has one
        entry more, `before data` or `after verify`, so that the error always has a place.
        """
        done = [run for run in self.history if run.action != "begun"]
        if self.error is None:
            return done
        under_way = [replace(run, action="stopped") for run in self.history if run.action == "begun"]
        between = StageRun(f"after {done[-1].stage}" if done else f"before {self.planned[0]}", "stopped", 0.0)
        return [
            *done,
            *(under_way or [between]),
            *[StageRun(name, "not reached", 0.0) for name in self.planned[len(self.history) :]],
        ]


def last_good(folder: Path) -> Path | None:
    """Return the bundle of the last run that passed in a run folder, if any did."""
    return folder / POINTER if (folder / POINTER).is_dir() else None


def refused(folder: Path) -> str:
    """Say of a bundle that did not pass what that means for the one that is served."""
    found = last_good(folder)
    return f"not to be served; {found} is still the last that passed" if found else "not to be served; none has passed"


def message(error: BaseException) -> str:
    """Say what stopped a run: the error's own words, or its class where it has none."""
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted; {GO_ON}"
    return str(error).strip() or type(error).__name__


def origin(error: BaseException) -> str:
    """Return the traceback of an error that the user did not cause, and nothing for all others."""
    if isinstance(error, BigstepError | KeyboardInterrupt):
        return ""
    return "".join(traceback.format_exception(error)).strip()

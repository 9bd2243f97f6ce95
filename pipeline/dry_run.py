"""What a run would do: which stages it would reuse, resume or run. Nothing is written."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import typer

from bigstep.config import Config
from bigstep.records.sealed import Record
from pipeline.device import resolve_device
from pipeline.keys import keys
from pipeline.stages import DATA, MAP, NAMES, STAGES, Result, Stage, five
from pipeline.store import SHORT, Store

R = TypeVar("R", bound=Record[Any])


@dataclass(frozen=True)
class Step:
    """One stage: `reuse`, `resume` or `run`. The keys are empty where it rests on a stage still to run.

    `work_key` names the folder in which the stage works.
    """

    stage: str
    action: str
    record: str
    key: str
    work_key: str


@dataclass(frozen=True)
class DryRun:
    """The steps of a run, in order."""

    steps: list[Step]

    def as_json(self) -> list[dict[str, str]]:
        """Return them as plain values."""
        return [{name: getattr(step, name) for name in ("stage", "action", "record", "key")} for step in self.steps]

    def show(self) -> None:
        """Print a line for each stage."""
        for step in self.steps:
            typer.echo(f"{step.stage:<9} {step.action:<7} {step.record}".rstrip())


def dry_run(config: Config, folder: Path, until: str = "verify", device: str | None = None) -> DryRun:
    """Foresee a run.

    A damaged record is taken to come out the same when it is made again, so that later stages can still be reused.

    Args:
        until: the last stage, or `lr-map` for the map and the images that it reads.
        device: `cpu` or `cuda`, for a run on another machine; the default is what a run here would use.
    """
    device = device or resolve_device(config.device)
    if until == MAP.name:
        forecast = _Forecast(Store(folder), config, device, (DATA, MAP))
        forecast.make(MAP, forecast.make(DATA))
    else:
        forecast = _Forecast(Store(folder), config, device, STAGES[: NAMES.index(until) + 1])
        five(forecast.make)
    return DryRun(forecast.steps)


@dataclass
class _Forecast:
    """A run foreseen: what was planned, and what would become of it so far."""

    store: Store
    config: Config
    device: str
    planned: tuple[Stage[Any], ...]
    steps: list[Step] = field(default_factory=list)

    def make(self, stage: Stage[R], *inputs: Result[Any]) -> Result[R]:
        """Foresee one stage; its digest is that of the record made under the same key, if there was one."""
        if stage not in self.planned:
            return Result(stage.name)
        known = {one.stage: one.digest for one in inputs if one.digest is not None}
        if len(known) < len(inputs):
            self.steps.append(Step(stage.name, "run", "", "", ""))
            return Result(stage.name)
        found = keys(stage, self.config, known, self.device)
        record = self.store.find(stage.makes, found.record)
        begun = (self.store.folder / "partial" / f"{stage.name}-{found.work[:SHORT]}").is_dir()
        self.steps.append(
            Step(
                stage.name,
                "reuse" if record else "resume" if begun and stage.resumes else "run",
                record.folder.name if record else "",
                found.record,
                found.work,
            )
        )
        return Result(stage.name, self.store.noted(found.record))

"""The five stages and the map: what each makes, and where its code begins."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from bigstep.config import Config, Section
from bigstep.records.compact import Compact
from bigstep.records.exported import Exported
from bigstep.records.images import Images
from bigstep.records.rate_map import RateMap
from bigstep.records.run import RunRecords
from bigstep.records.sealed import Record
from bigstep.records.trained import Trained
from bigstep.records.verdict import Verdict
from bigstep.rules import Demands

R = TypeVar("R", bound=Record[Any])


@dataclass(frozen=True)
class Stage(Generic[R]):
    """One step of the pipeline.

    Attributes:
        name: what users call it.
        makes: the kind of record.
        door: the module with its `run`.
        reads: its section of the configuration.
        heeds: what `verify` and `export` will ask of a file decides its work.
        sources: the module that hashes what it reads of the user's own files, if it reads any.
        chosen: modules that its section chooses at run time.
        on_device: it computes on a GPU where there is one.
        rounds: its numbers are rounded as the instructions of the processor have it.
        resumes: it goes on from what a killed run left in its folder.
        keeps_work: and does so also when the user's files have changed.
    """

    name: str
    makes: type[R]
    door: str
    reads: str
    heeds: bool = False
    sources: str = ""
    chosen: Callable[[Any], tuple[str, ...]] = lambda _: ()
    on_device: bool = False
    rounds: bool = True
    resumes: bool = False
    keeps_work: bool = False

    def section(self, config: Config) -> Section:
        """Return the settings of the stage."""
        section: Section = getattr(config, self.reads)
        return section

    def demands(self, config: Config) -> Demands | None:
        """Return what later stages will ask of a file, if the stage heeds it."""
        return Demands.of(config) if self.heeds else None


DATA = Stage(
    "data",
    Images,
    door="data.stage",
    reads="data",
    sources="data.stage",
    chosen=lambda section: (importlib.import_module("data.stage").BUILDERS[section.kind],),
    rounds=False,
    resumes=True,
    keeps_work=True,
)
TRAIN = Stage(
    "train",
    Trained,
    door="train.stage",
    reads="train",
    sources="train.networks.user_files",
    on_device=True,
    resumes=True,
)
COMPRESS = Stage("compress", Compact, door="compress.stage", reads="compress", heeds=True, on_device=True)
EXPORT = Stage("export", Exported, door="export.stage", reads="export")
VERIFY = Stage("verify", Verdict, door="verify.stage", reads="verify")
STAGES: tuple[Stage[Any], ...] = (DATA, TRAIN, COMPRESS, EXPORT, VERIFY)
NAMES = tuple(stage.name for stage in STAGES)
MAP = Stage(  # beside the five: nothing reads it
    "lr-map",
    RateMap,
    door="train.rate_map.stage",
    reads="train",
    sources="train.networks.user_files",
    on_device=True,
    resumes=True,
)


@dataclass(frozen=True)
class Result(Generic[R]):
    """What a stage gave, or would give: a digest where that is known, a record where there is one."""

    stage: str
    digest: str | None = None
    record: R | None = None


class Make(Protocol):
    """Something that takes a stage with its inputs: to run it, or to foresee what a run would do."""

    def __call__(self, stage: Stage[R], *inputs: Result[Any]) -> Result[R]:
        """Return the result of a stage; an empty one where it is beyond what was asked for."""


def five(make: Make) -> RunRecords:
    """Take the stages in their order, each with the results that it reads."""
    images = make(DATA)
    trained = make(TRAIN, images)
    compact = make(COMPRESS, images, trained)
    exported = make(EXPORT, images, trained, compact)
    verdict = make(VERIFY, images, compact, exported)
    return RunRecords(images.record, trained.record, compact.record, exported.record, verdict.record)

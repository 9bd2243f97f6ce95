"""Run the pipeline: each stage a function of settings and of records, skipped where nothing that decides it changed."""

import importlib
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bigstep import numerics
from bigstep.config import Config
from bigstep.config_file import to_toml
from bigstep.records.measured import NOTHING, Measured
from bigstep.records.rate_map import Checkpoint, RateMap
from bigstep.records.run import RunRecords
from bigstep.records.sealed import WORK, Record, replace_file, sha256
from bigstep.records.verdict import Check
from pipeline import bundle, ci, closure, readings, rehearsal
from pipeline.device import resolve_device
from pipeline.keys import Keys, code_of, keys
from pipeline.provenance import provenance
from pipeline.stages import DATA, EXPORT, MAP, NAMES, STAGES, TRAIN, Result, Stage, five
from pipeline.store import Store
from verify.report.run_outcome import RunOutcome, StageRun

log = logging.getLogger("bigstep")
MAP_PAGE = "verify.report.map_page"
R = TypeVar("R", bound=Record[Any])


def run(config: Config, folder: Path, until: str = "verify", *, measure_again: bool = False) -> RunRecords:
    """Run the stages up to and including one of them, reusing every record whose key is unchanged.

    Args:
        measure_again: read the clock also where this machine has measured these files before.

    Returns:
        The records; after `verify` the bundle as well, and what the run is reported from.
    """
    store, judges = Store(folder), until == "verify"
    work = _Work(store, config, STAGES[: NAMES.index(until) + 1])
    with store.locked():
        ci.remove(folder, reports=judges)
        try:
            with store.telling_a_full_disk():
                work.begin(*([bundle.REPORT, readings.DOOR] if judges else []))
                five(work.make)
                if judges:
                    work.judge(again=measure_again)
                    work.made["bundle"] = bundle.publish(store, config, work.records())
        except BaseException as error:
            ci.write(folder, work.outcome(error))
            raise
        with store.telling_a_full_disk():
            ci.write(folder, work.outcome())
        return work.records()


def draw_map(config: Config, folder: Path, checkpoints: Sequence[Checkpoint] = ()) -> RateMap:
    """Draw up the learning-rate map, or reuse it, and write its page, tables and picture into the run folder.

    Args:
        checkpoints: networks of a user's own training, one per rate and seed, to measure in place of training.
    """
    store = Store(folder)
    work = _Work(store, config, (DATA, MAP), checkpoints)
    with store.locked(), store.telling_a_full_disk():
        work.begin(MAP_PAGE)
        found = work.make(MAP, work.make(DATA)).record
        assert found is not None
        for name, content in importlib.import_module(MAP_PAGE).documents(found.info, config.name).items():
            replace_file(store.folder / name, content.encode("utf-8"))
        return found


@dataclass
class _Work:
    """A run under way: what was planned, and what has been made so far, by stage."""

    store: Store
    config: Config
    planned: Sequence[Stage[Any]]
    checkpoints: Sequence[Checkpoint] = ()
    device: str = "cpu"
    history: list[StageRun] = field(default_factory=list)
    made: dict[str, Any] = field(default_factory=dict)
    measured: Measured = NOTHING
    budgets: Sequence[Check] = ()

    def begin(self, *beside: str) -> None:
        """Note the configuration, and find out before hours of training what a later stage would miss.

        Args:
            beside: modules that are needed beside the stages.
        """
        numerics.choose(self.config.numerics)
        replace_file(self.store.folder / "config.toml", to_toml(self.config).encode("utf-8"))
        for code in [*(code_of(stage, self.config) for stage in self.planned), closure.of(*beside)]:
            code.versions()
        importlib.import_module("data.fetch").fetch(self.config.data)
        self.device = resolve_device(self.config.device)

    def make(self, stage: Stage[R], *inputs: Result[Any]) -> Result[R]:
        """Reuse the record of a stage or run it; nothing comes of one that was not planned."""
        if stage not in self.planned:
            return Result(stage.name)
        run, start_s = StageRun(stage.name, "begun", 0.0), time.perf_counter()
        self.history.append(run)
        try:
            record, run.action = self._reuse(stage, *inputs)
        finally:
            run.seconds = time.perf_counter() - start_s
        self.made[stage.name] = record
        return Result(stage.name, record.digest, record)

    def judge(self, *, again: bool) -> None:
        """Measure the judged files where that is needed, and judge the budgets of the present configuration."""
        images, exported = self.made[DATA.name], self.made[EXPORT.name]
        door = importlib.import_module(readings.DOOR)
        self.measured = readings.take(self.store, self.config.verify, images, exported, again=again)
        self.budgets = door.judge(self.config.verify, exported, self.measured)

    def records(self) -> RunRecords:
        """Return what there is by now."""
        return RunRecords(**self.made).judge(self.measured, self.budgets)

    def outcome(self, error: BaseException | None = None) -> RunOutcome:
        """Say how the run went."""
        planned = [stage.name for stage in self.planned]
        return RunOutcome(self.config.name, planned, self.history, self.records(), error)

    def _reuse(self, stage: Stage[R], *inputs: Result[Any]) -> tuple[R, Any]:
        given = self.checkpoints if stage is MAP else ()
        digests = {one.stage: str(one.digest) for one in inputs}
        digests |= {f"checkpoint {c.rate!r} {c.seed}": sha256(c.path) for c in given}
        found = keys(stage, self.config, digests, self.device)
        record = self.store.find(stage.makes, found.record)
        if record is not None:
            log.info("%s: unchanged", stage.name)
            return record, "reused"
        log.info("%s: running", stage.name)
        return self._run(stage, [one.record for one in inputs], found, given), "ran"

    def _run(self, stage: Stage[R], inputs: Sequence[Any], found: Keys, given: Sequence[Checkpoint]) -> R:
        out = self.store.partial(stage.name, found.work)
        if not stage.resumes:
            shutil.rmtree(out)
            out.mkdir()
        if stage is TRAIN and ".py:" in self.config.train.network:
            log.info("%s: trying %s on the whole road", stage.name, self.config.train.network)
            rehearsal.rehearse(self.config, inputs[0], self._enter, out / WORK / ".rehearsal")
        provenance(found.decides).write(out)
        return self.store.publish(self._enter(stage, self.config, inputs, out, given), found.record)

    def _enter(
        self, stage: Stage[R], config: Config, inputs: Sequence[Any], out: Path, given: Sequence[Checkpoint] = ()
    ) -> R:
        device = self.device if stage.on_device else None
        optional = {"device": device, "checkpoints": given, "demands": stage.demands(config)}
        extra = {name: value for name, value in optional.items() if value}
        record: R = importlib.import_module(stage.door).run(stage.section(config), *inputs, **extra, out=out)
        return record

"""The pipeline: five stages in order, each a function of its section and of records, skipped when nothing changed."""

from __future__ import annotations

import importlib
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from bigstep.config import Config, to_toml
from bigstep.errors import RecordError
from bigstep.machine import resolve_device
from bigstep.records.bundle import Bundle, BundleInfo
from bigstep.records.compact import Compact
from bigstep.records.exported import Exported
from bigstep.records.images import Images
from bigstep.records.rate_map import Checkpoint, RateMap
from bigstep.records.sealed import Record, sha256
from bigstep.records.trained import Trained
from bigstep.records.verdict import Verdict
from pipeline import ci
from pipeline.store import SHORT, Store, code_digest, make_key, replace_file, replace_folder, versions
from verify.report.run_outcome import EXAMPLE, RunOutcome, StageRun, budgets

log = logging.getLogger("bigstep")
SHARED = ("bigstep/records", *(f"bigstep/{m}.py" for m in ("errors", "groups", "intervals", "decode")))
MAP_FILES = ("lr-map.html", "lr-map.md", "lr-map.csv", "lr-map-thresholds.csv", "lr-map.svg")
RUNTIME = ("numpy", "onnxruntime")


@dataclass(frozen=True)
class Stage:
    """Describe a stage: the record it makes, the stages it reads, and what its result depends on."""

    name: str
    makes: type[Record[Any]]
    reads: tuple[str, ...]
    code: tuple[str, ...]
    packages: tuple[str, ...]
    on_device: bool = False
    resumes: bool = False
    section: str = ""  # of the configuration, where it has another name
    door: str = ""  # the module with its `run`, where that is another than its folder's `stage`


MACHINE = "bigstep/machine.py"
GRAPH = ("export/graph.py", "serve/predictor.py")
NETWORK = ("torch", "torchvision", "torch-pruning", "safetensors", "scipy")
TORCH = (*RUNTIME, *NETWORK, "onnx", "onnx-ir", "onnxscript")
VISION = "bigstep/vision.py"
STAGES = (
    Stage(
        "data",
        Images,
        (),
        ("data", VISION, MACHINE),
        ("numpy", "Pillow", "scikit-learn", "scipy"),
        resumes=True,
    ),
    Stage("train", Trained, ("data",), ("train", VISION, MACHINE), ("numpy", *NETWORK), on_device=True, resumes=True),
    Stage(
        "compress",
        Compact,
        ("data", "train"),
        ("compress", "train", VISION, *GRAPH),
        TORCH,
        on_device=True,
    ),
    Stage("export", Exported, ("data", "train", "compress"), ("export", "train", VISION, "serve/predictor.py"), TORCH),
    Stage(
        "verify",
        Verdict,
        ("data", "compress", "export"),
        ("verify", "bigstep/scores.py", "bigstep/text.py", "serve/predictor.py", "serve/bench.py", MACHINE),
        (*RUNTIME, "scipy", "Jinja2", "matplotlib"),
    ),
)
MAP = Stage(  # beside the five: nothing reads it
    "lr-map",
    RateMap,
    ("data",),
    ("train", VISION, MACHINE),
    ("numpy", "scipy", "captum", *NETWORK),
    on_device=True,
    resumes=True,
    section="train",
    door="train.rate_map.stage",
)
SOURCES = {"data": "data.stage", "train": "train.networks.user_files"}
NAMES = tuple(stage.name for stage in STAGES)


@dataclass(frozen=True)
class Step:
    """Say what a dry run found: `reuse`, `resume` or `run`. The keys are empty where it rests on a stage still to run.

    `partial_key` names the folder in which the stage works.
    """

    stage: str
    action: str
    record: str
    key: str
    partial_key: str


def run(config: Config, folder: Path, until: str = "verify") -> dict[str, Record[Any]]:
    """Run the stages up to and including one of them, reusing every record whose key is unchanged.

    Returns:
        The records by stage name; after `verify` also `bundle`.
    """
    store, planned = Store(folder), NAMES[: NAMES.index(until) + 1]
    records: dict[str, Record[Any]] = {}
    history: list[StageRun] = []
    with store.locked():
        ci.remove(folder, reports=until == "verify")
        try:
            with store.telling_a_full_disk():
                _run_stages(store, config, records, history, planned)
                if until == "verify":
                    records["bundle"] = _bundle(store, config, records)
                outcome = RunOutcome(config.name, planned, history, records, budgets=budgets(records))
        except BaseException as error:
            ci.write(folder, RunOutcome(config.name, planned, history, records, error=error))
            raise
        with store.telling_a_full_disk():
            ci.write(folder, outcome)
        return records


def draw_map(config: Config, folder: Path, checkpoints: Sequence[Checkpoint] = ()) -> RateMap:
    """Draw up the learning-rate map, or reuse it, and write its page, tables and picture into the run folder.

    Args:
        checkpoints: networks of a user's own training, one per rate and seed, to measure in place of training.
    """
    store, stages = Store(folder), (STAGES[0], MAP)
    with store.locked(), store.telling_a_full_disk():
        replace_file(store.folder / "config.toml", to_toml(config).encode("utf-8"))
        versions([package for stage in stages for package in stage.packages] + ["Jinja2", "matplotlib"])
        device = resolve_device(config.device)
        records: dict[str, Record[Any]] = {}
        for stage in stages:
            records[stage.name], _ = _run_stage(store, stage, config, records, device, checkpoints)
        found = records[MAP.name]
        assert isinstance(found, RateMap)
        documents = importlib.import_module("verify.report.map_page").documents(found.info, config.name)
        for name, content in documents.items():
            replace_file(store.folder / name, content.encode("utf-8"))
        return found


def dry_run(config: Config, folder: Path, until: str = "verify", device: str | None = None) -> list[Step]:
    """Say for every stage whether it would be reused, resumed or run; nothing is written.

    A damaged record is taken to come out the same when it is made again, so that later stages can still be reused.

    Args:
        until: the last stage, or `lr-map` for the map and the images that it reads.
        device: `cpu` or `cuda`, for a run on another machine; the default is what a run here would use.
    """
    store = Store(folder)
    device = device or resolve_device(config.device)
    digests: dict[str, str] = {}
    steps = []
    for stage in (STAGES[0], MAP) if until == MAP.name else STAGES[: NAMES.index(until) + 1]:
        found, action, key, partial_key = None, "run", "", ""
        if all(name in digests for name in stage.reads):
            key, partial_key = _keys(stage, config, digests, device)
            found, noted = store.find(stage.makes, key), store.noted(key)
            begun = (folder / "partial" / f"{stage.name}-{partial_key[:SHORT]}").is_dir()
            action = "reuse" if found else "resume" if begun and stage.resumes else "run"
            digests |= {stage.name: noted} if noted else {}
        steps.append(Step(stage.name, action, found.folder.name if found else "", key, partial_key))
    return steps


def _run_stages(
    store: Store, config: Config, records: dict[str, Record[Any]], history: list[StageRun], planned: Sequence[str]
) -> None:
    replace_file(store.folder / "config.toml", to_toml(config).encode("utf-8"))
    stages = STAGES[: len(planned)]
    versions([package for stage in stages for package in stage.packages])  # before hours of training, not after
    device = resolve_device(config.device)
    for stage in stages:
        run, start_s = StageRun(stage.name, "begun", 0.0), time.perf_counter()
        history.append(run)
        try:
            records[stage.name], run.action = _run_stage(store, stage, config, records, device)
        finally:
            run.seconds = time.perf_counter() - start_s


def _run_stage(
    store: Store,
    stage: Stage,
    config: Config,
    records: dict[str, Record[Any]],
    device: str,
    checkpoints: Sequence[Checkpoint] = (),
) -> tuple[Record[Any], Literal["reused", "ran"]]:
    given = checkpoints if stage is MAP else ()
    digests = {name: record.digest for name, record in records.items()}
    digests |= {f"checkpoint {c.rate!r} {c.seed}": sha256(c.path) for c in given}
    key, partial_key = _keys(stage, config, digests, device)
    found = store.find(stage.makes, key)
    if found:
        log.info("%s: unchanged", stage.name)
        return found, "reused"
    log.info("%s: running", stage.name)
    out = store.partial(stage.name, partial_key)
    if not stage.resumes:
        shutil.rmtree(out)
        out.mkdir()
    inputs = [records[name] for name in stage.reads]
    extra = ({"device": device} if stage.on_device else {}) | ({"checkpoints": given} if given else {})
    made: Record[Any] = importlib.import_module(stage.door or f"{stage.name}.stage").run(
        getattr(config, stage.section or stage.name), *inputs, **extra, out=out
    )
    return store.publish(made, key), "ran"


def _keys(stage: Stage, config: Config, digests: dict[str, str], device: str) -> tuple[str, str]:
    """Return the key of a stage's record, and that of the folder in which it works.

    They differ for the images: when one of a million files was mended, the others need not be decoded again, and the
    stage itself sees to it that what it finds there was made from the present files.
    """
    decides = {
        "stage": stage.name,
        "config": getattr(config, stage.section or stage.name).model_dump(mode="json"),
        "inputs": {
            name: digest for name, digest in digests.items() if name in stage.reads or name.startswith("checkpoint ")
        },
        "code": code_digest((*stage.code, *SHARED)),
        "sources": _sources(stage, config),
        "versions": versions(stage.packages),
        "device": device if stage.on_device else None,
    }
    return make_key(decides), make_key(decides if stage.reads else {**decides, "sources": None})


def _sources(stage: Stage, config: Config) -> Any:
    """Return hashes of what a stage reads that no other stage made: a user's images, network and weights."""
    section = stage.section or stage.name
    module = SOURCES.get(section)
    return importlib.import_module(module).sources(getattr(config, section)) if module else None


def _bundle(store: Store, config: Config, records: dict[str, Record[Any]]) -> Bundle:
    """Put together what is shipped, and draw the report beside it; keep the present bundle if it is the same."""
    place = store.folder / "bundle"
    made_from = {name: records[name].digest for name in NAMES}
    made_from["report"] = code_digest(("verify",))
    bundle = _open_bundle(place)
    if not bundle or bundle.info.made_from != made_from or bundle.info.name != config.name:
        bundle = _make_bundle(store, config.name, records, made_from)
    for name in ("report.html", "report.md"):
        shutil.copyfile(place / name, store.folder / name)
    images = records["data"]
    assert isinstance(images, Images)
    Image.fromarray(np.array(images.split("test").images[0]).squeeze()).save(store.folder / EXAMPLE)
    return bundle


def _make_bundle(store: Store, name: str, records: dict[str, Record[Any]], made_from: dict[str, str]) -> Bundle:
    log.info("bundle: running")
    place = store.folder / "bundle"
    exported, verdict = records["export"], records["verify"]
    assert isinstance(exported, Exported)
    assert isinstance(verdict, Verdict)
    out = store.partial("bundle", verdict.digest)
    shutil.rmtree(out)
    out.mkdir()
    forms = [form for form in exported.info.forms if form.role == "compact"]
    for form in forms:
        shutil.copyfile(exported.folder / form.file, out / form.file)
    shutil.copyfile(verdict.folder / "measured.json", out / "measured.json")
    importlib.import_module("verify.report.page").write(
        out,
        bundle_name=name,
        images=records["data"],
        trained=records["train"],
        compact=records["compress"],
        exported=exported,
        verdict=verdict,
    )
    info = BundleInfo(
        name=name,
        contract=exported.info.contract,
        forms=forms,
        served=exported.info.served,
        verdict=verdict.info,
        made_from=made_from,
    )
    bundle = Bundle.seal(out, info)
    replace_folder(out, place)
    return Bundle(place, bundle.digest, bundle.info)


def _open_bundle(place: Path) -> Bundle | None:
    try:
        return Bundle.open(place)
    except RecordError as error:
        if place.exists():
            log.warning("%s\n  it is made again", error)
        return None

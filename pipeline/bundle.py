"""Put together what is shipped, draw the report beside it, and let `bundle` point to the last one that passed.

A bundle lies in bundles/<its digest>-<key>, where the key stands for all that it tells, clock readings and budgets
included: it is never changed and never replaced by another. `bundle` moves only when a run passes.
"""

import errno
import importlib
import json
import logging
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from bigstep.config import Config
from bigstep.config_file import to_toml
from bigstep.errors import RecordError
from bigstep.records.bundle import Bundle, BundleInfo
from bigstep.records.measured import FILE
from bigstep.records.provenance import FILE as PROVENANCE
from bigstep.records.run import JudgedRun, RunRecords
from bigstep.records.sealed import write_json
from pipeline import ci, closure
from pipeline.store import SHORT, Store, replace_folder
from verify.report.run_outcome import EXAMPLE, POINTER

log = logging.getLogger("bigstep")
REPORT = "verify.report.page"
BUNDLES = "bundles"
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}  # FAT, and some shares of other machines


def publish(store: Store, config: Config, records: RunRecords) -> Bundle:
    """Return the bundle of a judged run, made anew unless there is the same one, and point to it if the run passed."""
    judged = records.judged
    assert judged is not None
    made_from = {stage: record.digest for stage, record in records.made().items()}
    made_from["report"] = closure.of(REPORT).digest()
    tells = [
        made_from,
        to_toml(config),
        judged.measured.model_dump(mode="json"),
        [budget.as_json() for budget in judged.budgets],
    ]
    key = sha256(json.dumps(tells, sort_keys=True).encode()).hexdigest()[:SHORT]
    bundle = _known(store, key) or _make(store, config, judged, made_from, key)
    for copy in ci.REPORTS:
        shutil.copyfile(bundle.folder / copy, store.folder / copy)
    Image.fromarray(np.array(judged.images.split("test").images[0]).squeeze()).save(store.folder / EXAMPLE)
    if judged.outcome == "passed":
        _point(store.folder / POINTER, bundle.folder)
    return bundle


def _known(store: Store, key: str) -> Bundle | None:
    for place in (store.folder / BUNDLES).glob(f"[!.]*-{key}"):
        try:
            return Bundle.open(place)
        except RecordError as error:
            log.warning("%s\n  it is made again", error)
    return None


def _make(store: Store, config: Config, judged: JudgedRun, made_from: dict[str, str], key: str) -> Bundle:
    log.info("bundle: running")
    exported, verdict = judged.exported, judged.verdict
    out = store.partial("bundle", key)
    shutil.rmtree(out)
    out.mkdir()
    forms = [form for form in exported.info.forms if form.role == "compact"]
    for form in forms:
        shutil.copyfile(exported.folder / form.file, out / form.file)
    judged.measured.write(out / FILE)
    (out / "config.toml").write_text(to_toml(config), encoding="utf-8")
    write_json(out / "verdict.json", verdict.info.model_dump(mode="json"))
    write_json(out / PROVENANCE, {stage: one.model_dump(mode="json") for stage, one in judged.provenance().items()})
    importlib.import_module(REPORT).write(out, config.name, judged)
    bundle = Bundle.seal(
        out,
        BundleInfo(
            name=config.name,
            contract=exported.info.contract,
            forms=forms,
            served=exported.info.served,
            verdict=verdict.info,
            budgets={budget.rule: budget.outcome for budget in judged.budgets},
            made_from=made_from,
        ),
    )
    place = store.folder / BUNDLES / f"{bundle.digest[:SHORT]}-{key}"
    place.parent.mkdir(exist_ok=True)
    replace_folder(out, place)  # what may lie there is the same one, damaged
    return Bundle(place, bundle.digest, bundle.info)


def _point(pointer: Path, target: Path) -> None:
    """Make a relative link, at once: whoever opens it finds the old bundle or the new one.

    A folder is there in its place where a copy of the run folder was made by something that follows links, or where
    the file system has no links: then the bundle itself is copied.
    """
    to, made = target.relative_to(pointer.parent), pointer.with_name(f".{pointer.name}.tmp")
    if pointer.is_symlink() and pointer.readlink() == to:
        return
    if made.is_dir() and not made.is_symlink():
        shutil.rmtree(made)
    made.unlink(missing_ok=True)
    try:
        made.symlink_to(to)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copytree(target, made)
    if pointer.is_symlink():
        made.replace(pointer)
    else:
        replace_folder(made, pointer)

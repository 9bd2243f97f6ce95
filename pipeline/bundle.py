"""Put together what is shipped, and draw the report beside it."""

import importlib
import logging
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from bigstep.errors import RecordError
from bigstep.records.bundle import Bundle, BundleInfo
from bigstep.records.measured import Measured
from bigstep.records.run import JudgedRun, RunRecords
from pipeline import ci, closure
from pipeline.store import Store, replace_folder
from verify.report.run_outcome import EXAMPLE

log = logging.getLogger("bigstep")
REPORT = "verify.report.page"


def publish(store: Store, name: str, records: RunRecords) -> Bundle:
    """Return the bundle of a judged run; the present one stays if it is the same.

    Args:
        name: what the configuration calls the run.
    """
    judged, place = records.judged(), store.folder / "bundle"
    made_from = {stage: record.digest for stage, record in records.made().items()}
    made_from["report"] = closure.of(REPORT).digest()
    bundle = _open(place)
    same = bundle and (bundle.info.made_from, bundle.info.name) == (made_from, name)
    # Clock readings and budgets are in no digest, and the report tells them.
    if not bundle or not same or Measured.read(place) != judged.measured:
        bundle = _make(store, name, judged, made_from)
    for copy in ci.REPORTS:
        shutil.copyfile(place / copy, store.folder / copy)
    Image.fromarray(np.array(judged.images.split("test").images[0]).squeeze()).save(store.folder / EXAMPLE)
    return bundle


def _make(store: Store, name: str, judged: JudgedRun, made_from: dict[str, str]) -> Bundle:
    log.info("bundle: running")
    place, exported, verdict = store.folder / "bundle", judged.exported, judged.verdict
    out = store.partial("bundle", verdict.digest)
    shutil.rmtree(out)
    out.mkdir()
    forms = [form for form in exported.info.forms if form.role == "compact"]
    for form in forms:
        shutil.copyfile(exported.folder / form.file, out / form.file)
    judged.measured.write(out)
    importlib.import_module(REPORT).write(out, name, judged)
    bundle = Bundle.seal(
        out,
        BundleInfo(
            name=name,
            contract=exported.info.contract,
            forms=forms,
            served=exported.info.served,
            verdict=verdict.info,
            made_from=made_from,
        ),
    )
    replace_folder(out, place)
    return Bundle(place, bundle.digest, bundle.info)


def _open(place: Path) -> Bundle | None:
    try:
        return Bundle.open(place)
    except RecordError as error:
        if place.exists():
            log.warning("%s\n  it is made again", error)
        return None

"""Judge the exported files on the test split: the public door of this folder. Nothing is caught: no crash is a pass."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigstep.config import VerifyConfig
from bigstep.errors import RecordError
from bigstep.records.compact import Compact
from bigstep.records.exported import Exported
from bigstep.records.images import Images
from bigstep.records.verdict import Verdict, VerdictInfo
from bigstep.scores import Evidence, group_names, score
from serve.predictor import Predictor
from verify import gate

log = logging.getLogger("bigstep.verify")


def run(config: VerifyConfig, images: Images, compact: Compact, exported: Exported, *, out: Path) -> Verdict:
    """Run every exported file over the test split, decide, and seal the decision as a `Verdict`.

    The folder holds `logits.<form>.npy` (float32, N x K) and `ids.npy` (N,). No clock is read here: how fast the files
    are holds for a machine, the verdict for these bytes (see `verify.measure`).

    Args:
        config: the section `verify` of the configuration.
        compact: what the compression stage judged; the served file must have the same bytes.
        out: a folder to fill.

    Raises:
        RecordError: a file is missing or altered, is not a model, or its contract is not that of the images.
    """
    _check_contract(images, exported)
    out.mkdir(parents=True, exist_ok=True)
    predictors = {
        form.name: Predictor.open(exported.folder / form.file, exported.info.contract, sha256=form.sha256)
        for form in exported.info.forms
    }
    evidence = Evidence.of(images, _predict(predictors, images, out))
    checks = gate.checks(config, evidence, compact, exported)
    comparisons = gate.comparisons(config, evidence, exported)
    groups = group_names(evidence, config.groups)
    info = VerdictInfo(
        outcome=gate.outcome(checks),
        floor=config.floor,
        checks=checks,
        scores=[score(evidence, name, group, config.confidence) for name in predictors for group in groups],
        comparisons=comparisons,
        judged={name: predictor.sha256 for name, predictor in predictors.items()},
        notes=gate.notes(config, evidence, compact, exported, comparisons),
    )
    log.info("verdict: %s", info.outcome)
    return Verdict.seal(out, info)


def _predict(predictors: dict[str, Predictor], images: Images, out: Path) -> dict[str, NDArray[np.float32]]:
    split = images.split("test")
    np.save(out / "ids.npy", np.asarray(split.ids), allow_pickle=False)
    logits: dict[str, NDArray[np.float32]] = {}
    for done, (name, predictor) in enumerate(predictors.items(), start=1):
        logits[name] = predictor.predict_all(split.images)
        np.save(out / f"logits.{name}.npy", logits[name], allow_pickle=False)
        log.info("ran %s on %d test images", name, len(split.ids), extra={"done": done, "total": len(predictors)})
    return logits


def _check_contract(images: Images, exported: Exported) -> None:
    contract, info = exported.info.contract, images.info
    if (contract.labels, contract.input) != (info.labels, info.input):
        raise RecordError(
            "the exported files were made for other images",
            got=f"labels {contract.labels}, {contract.input}",
            expected=f"labels {info.labels}, {info.input}",
            do="export again from the same images",
        )

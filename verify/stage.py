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
from bigstep.records.measured import Latency, Measured
from bigstep.records.verdict import Verdict, VerdictInfo
from bigstep.scores import Evidence, group_names, score
from serve.bench import best_batches, fingerprint, load, measure_interleaved
from serve.predictor import Predictor
from verify import budget, gate

log = logging.getLogger("bigstep.verify")

TIMED_QUERIES = 700  # a few more than serve.bench needs to state a 99th percentile
TIMED_SECONDS = 2.0  # at batch 1, for all forms together: the report's column, not a benchmark
BUDGET_QUERIES = 4096  # where a budget is set: the bounds that decide it narrow with the number of queries
BUDGET_SECONDS = 120.0
SEARCH_SECONDS = 1.0
MAX_BATCH = 64
TIMED_IMAGES = 64


def run(config: VerifyConfig, images: Images, compact: Compact, exported: Exported, *, out: Path) -> Verdict:
    """Run every exported file over the test split, decide, and seal the decision as a `Verdict`.

    The folder holds `logits.<form>.npy` (float32, N x K), `ids.npy` (N,) and, outside the digest, what was `Measured`.
    Budgets are not part of the verdict: they hold for this machine, the verdict for these bytes.

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
    _measure(config, predictors, exported.info.served, images).write(out)
    checks = gate.checks(config, evidence, compact, exported)
    comparisons = gate.comparisons(config, evidence, exported)
    groups = group_names(evidence, config.groups)
    info = VerdictInfo(
        outcome=gate.outcome(checks),
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


def _measure(config: VerifyConfig, predictors: dict[str, Predictor], served: str, images: Images) -> Measured:
    sample, load_before = np.array(images.split("test").images[:TIMED_IMAGES]), load()
    budgets = {"max_p99_ms": config.max_p99_ms, "min_images_per_s": config.min_images_per_s}
    queries, seconds = TIMED_QUERIES, TIMED_SECONDS
    if any(budgets.values()):
        queries, seconds = BUDGET_QUERIES, BUDGET_SECONDS

    def timed(batches: dict[str, int], max_seconds: float) -> dict[str, Latency]:
        found = measure_interleaved(predictors, sample, batches=batches, queries=queries, max_seconds=max_seconds)
        return {name: one.latency for name, one in found.items()}

    latency = timed(dict.fromkeys(predictors, 1), seconds)
    best = best_batches(predictors, sample, max_batch=MAX_BATCH, max_seconds=SEARCH_SECONDS)
    throughput = timed(best, seconds / 2)
    checks = budget.checks(served, latency[served], throughput[served], **budgets)
    machine = {**fingerprint(), "load_before": load_before}
    return Measured(latency=latency, throughput=throughput, budgets=checks, fingerprint=machine)


def _check_contract(images: Images, exported: Exported) -> None:
    contract, info = exported.info.contract, images.info
    if (contract.labels, contract.input) != (info.labels, info.input):
        raise RecordError(
            "the exported files were made for other images",
            got=f"labels {contract.labels}, {contract.input}",
            expected=f"labels {info.labels}, {info.input}",
            do="export again from the same images",
        )

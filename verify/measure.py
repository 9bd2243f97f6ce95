"""Read the clock: how fast every exported file is on this machine. What is measured is judged in `verify.budget`."""

from dataclasses import dataclass

import numpy as np

from bigstep.config import VerifyConfig
from bigstep.records.exported import Exported
from bigstep.records.images import Images
from bigstep.records.measured import Latency, Measured
from bigstep.records.verdict import Check
from serve.bench import best_batches, fingerprint, load, measure_interleaved
from serve.predictor import Predictor
from verify import budget

SEARCH_SECONDS = 1.0
MAX_BATCH = 64
TIMED_IMAGES = 64


@dataclass(frozen=True)
class Effort:
    """How much is measured: queries of each file, and the seconds that all of them together may take at batch 1."""

    queries: int
    seconds: float


# A few more queries than serve.bench needs to state a 99th percentile: the report's column, not a benchmark.
FOR_THE_REPORT = Effort(700, 2.0)
FOR_A_BUDGET = Effort(4096, 120.0)  # the bounds that decide it narrow with the number of queries


def effort(config: VerifyConfig) -> Effort:
    """Return what a configuration needs."""
    return FOR_THE_REPORT if config.max_p99_ms is None and config.min_images_per_s is None else FOR_A_BUDGET


def machine() -> dict[str, str]:
    """Return what a reading depends on beside the files: the machine's fingerprint without its load."""
    return {name: value for name, value in fingerprint().items() if name != "load"}


def suffices(measured: Measured, wanted: Effort) -> bool:
    """Tell whether readings were taken with no less effort than is wanted now."""
    return measured.queries >= wanted.queries and measured.seconds >= wanted.seconds


def measure(images: Images, exported: Exported, wanted: Effort) -> Measured:
    """Time every exported file at batch 1 and at its best batch, all in turns, on images of the test split.

    Raises:
        RecordError: a file is missing or altered.
    """
    predictors = {
        form.name: Predictor.open(exported.folder / form.file, exported.info.contract, sha256=form.sha256)
        for form in exported.info.forms
    }
    sample, load_before = np.array(images.split("test").images[:TIMED_IMAGES]), load()

    def timed(batches: dict[str, int], max_seconds: float) -> dict[str, Latency]:
        found = measure_interleaved(
            predictors, sample, batches=batches, queries=wanted.queries, max_seconds=max_seconds
        )
        return {name: one.latency for name, one in found.items()}

    latency = timed(dict.fromkeys(predictors, 1), wanted.seconds)
    best = best_batches(predictors, sample, max_batch=MAX_BATCH, max_seconds=SEARCH_SECONDS)
    throughput = timed(best, wanted.seconds / 2)
    return Measured(
        queries=wanted.queries,
        seconds=wanted.seconds,
        latency=latency,
        throughput=throughput,
        fingerprint={**fingerprint(), "load_before": load_before},
    )


def judge(config: VerifyConfig, exported: Exported, measured: Measured) -> list[Check]:
    """Return the checks of the budgets that are set, by what was measured of the served file."""
    served = exported.info.served
    return budget.checks(
        served,
        measured.latency[served],
        measured.throughput[served],
        max_p99_ms=config.max_p99_ms,
        min_images_per_s=config.min_images_per_s,
    )

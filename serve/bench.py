"""Latency and throughput of a model on this machine, measured so that models can be compared with each other.

One query at a time: the next one starts when the last has ended (the SingleStream scenario of MLPerf Inference; the
figures are in that style and are not MLPerf results). The clock covers `Predictor.predict` on a batch of raw pixels in
memory: no decoding, no HTTP. Draws from the images are uniform, with replacement, from a fixed seed. The control is
the interleaving: models take turns, so what disturbs one disturbs its neighbours, and their ratio stands.
"""

import bigstep.telemetry  # noqa: F401 - before onnxruntime

# isort: split
import logging
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from scipy.stats import binom, t

from bigstep import machine
from bigstep.numerics import instructions
from bigstep.records.measured import Latency
from serve.predictor import Device, Predictor

log = logging.getLogger("bigstep.bench")

SEED = 0
WARM_UP_QUERIES = 10  # the first calls grow the memory arena of onnxruntime
WARM_UP_SECONDS = 0.5  # of one model; after two queries no more are begun
TURN_QUERIES = 16  # queries of one model before the next one has its turn
TURN_BYTES = 64 * 1024 * 1024  # what the drawn images of one turn may take
ROUNDS = 10  # a turn is shortened where fewer rounds than these would fit into the time
MIN_FOR_P90 = 64  # fewest queries for which MLPerf's early stopping (99 % confidence, one discarded) has an estimate
MIN_FOR_P99 = 662
CONFIDENCE = 0.99  # of each one-sided bound, as in MLPerf
PARTS = 10  # consecutive parts of a measurement whose means bound the throughput
MIN_FOR_THROUGHPUT = 2 * PARTS
SEARCH_QUERIES = 32
MIN_GAIN = 1.02  # a larger batch must be this many times as fast: below, it only adds latency
PATIENCE = 2  # sizes in a row without a gain before a model leaves the search
PROGRESS_SECONDS = 2.0

Clock = Callable[[], float]


@dataclass(frozen=True)
class Timed:
    """The seconds of every counted query of one model, in the order they were made; each had `batch` images."""

    batch: int
    seconds: tuple[float, ...]

    @property
    def latency(self) -> Latency:
        """Return the percentiles and the throughput that these queries can tell."""
        n = len(self.seconds)
        p50, p90, p99 = (1000.0 * float(np.percentile(self.seconds, q, method="inverted_cdf")) for q in (50, 90, 99))
        low, high = percentile_bounds(self.seconds, 0.99)
        slow, fast = throughput_bounds(self.seconds, self.batch)
        return Latency(
            batch=self.batch,
            n=n,
            p50_ms=p50,
            p90_ms=p90 if n >= MIN_FOR_P90 else None,
            p99_ms=p99 if n >= MIN_FOR_P99 else None,
            p99_low_ms=None if low is None else 1000.0 * low,
            p99_high_ms=None if high is None else 1000.0 * high,
            images_per_s=n * self.batch / sum(self.seconds),
            images_per_s_low=slow,
            images_per_s_high=fast,
        )


def percentile_bounds(values: tuple[float, ...], share: float) -> tuple[float | None, float | None]:
    """Bound a percentile from below and from above by order statistics, each with a confidence of CONFIDENCE.

    With k of n values below the percentile distributed as Binomial(n, share), the upper bound is the value of rank
    F^-1(0.99) + 1 and the lower one that of rank F^-1(0.01). No shape is assumed; independence is.

    Args:
        values: at least one, in any order and unit.
        share: the percentile as a fraction in (0, 1).

    Returns:
        The two bounds, in the unit of the values; None where no rank is extreme enough. For the 99th percentile the
        upper bound needs 459 values.

    Source: David and Nagaraja 2003, Order Statistics, section 7.1; the upper bound is MLPerf Inference's early
        stopping criterion (github.com/mlcommons/inference_policies).
    """
    n, ranked = len(values), np.sort(values)
    low, high = (int(binom.ppf(q, n, share)) for q in (1 - CONFIDENCE, CONFIDENCE))
    return float(ranked[low - 1]) if low >= 1 else None, float(ranked[high]) if high < n else None


def throughput_bounds(seconds: tuple[float, ...], batch: int) -> tuple[float | None, float | None]:
    """Bound the images per second from below and from above by batch means, each with a confidence of CONFIDENCE.

    batch / (m + h) and batch / (m - h),   h = t(0.99, PARTS - 1) * s / sqrt(PARTS)

    where m is the mean time of a query and s the standard deviation of the means of PARTS consecutive parts: neighbours
    in time share disturbances, parts much less so.

    Args:
        seconds: the time of each query, in order.
        batch: images per query.

    Returns:
        The two bounds; None with fewer than MIN_FOR_THROUGHPUT queries, and for an upper bound that is infinite.

    Source: Law 2015, Simulation Modeling and Analysis, section 9.5.3 (the method of batch means).
    """
    if len(seconds) < MIN_FOR_THROUGHPUT:
        return None, None
    means = [part.mean() for part in np.array_split(np.asarray(seconds), PARTS)]
    half = float(t.ppf(CONFIDENCE, PARTS - 1) * np.std(means, ddof=1) / np.sqrt(PARTS))
    mean = float(np.mean(seconds))
    return batch / (mean + half), batch / (mean - half) if half < mean else None


def measure_interleaved(
    predictors: Mapping[str, Predictor],
    images_NHWC: NDArray[np.uint8],
    *,
    batches: Mapping[str, int],
    queries: int,
    max_seconds: float,
    clock: Clock = time.perf_counter,
) -> dict[str, Timed]:
    """Time several models in turns, so that the noise of the machine hits all of them alike.

    Turns of up to TURN_QUERIES queries per model, forwards then backwards through the models; models with one batch
    size get the same queries. The query before each turn is not counted: it finds the caches full of another model.

    Args:
        predictors: the models by name, at least one; all take images of one shape.
        images_NHWC: uint8, at least one image, to draw from.
        batches: images per query of each model, at least 1.
        queries: counted queries per model, at least 1, where the time allows them.
        max_seconds: time for everything but the warm-up; looked at between rounds, of which at least one is run.
        clock: seconds since any moment.

    Returns:
        The times by model, all with the same number of queries.

    Source: MLPerf Inference rules, scenarios and early stopping (github.com/mlcommons/inference_policies).
    """
    if not predictors or min(queries, len(images_NHWC), *(batches[name] for name in predictors)) < 1:
        raise ValueError(f"want at least one model, image, query and batch: {len(images_NHWC)}, {queries}, {batches}")
    drawn = {name: _queries(images_NHWC, batches[name]) for name in predictors}
    round_seconds = sum(_warm_up(predictor, drawn[name], clock) for name, predictor in predictors.items())
    largest_bytes = max(batches[name] for name in predictors) * images_NHWC[0].nbytes
    fit = int(max_seconds / ROUNDS / round_seconds) if round_seconds > 0 else TURN_QUERIES
    turn = max(1, min(TURN_QUERIES, TURN_BYTES // largest_bytes, fit))
    seconds: dict[str, list[float]] = {name: [] for name in predictors}
    order = list(predictors)
    start, done = clock(), 0
    told = start
    while done == 0 or (done < queries and clock() - start < max_seconds):
        count = min(turn, queries - done)
        for name in order:
            seconds[name] += _turn(predictors[name], [next(drawn[name]) for _ in range(count)], clock)
        order.reverse()
        done += count
        if clock() - told >= PROGRESS_SECONDS:
            told = clock()
            total = math.ceil(max_seconds)
            log.info(
                "batch %s: %d queries",
                _span(batches),
                done,
                extra={"done": min(int(told - start), total), "total": total},
            )
    return {name: Timed(batches[name], tuple(values)) for name, values in seconds.items()}


def best_batches(
    predictors: Mapping[str, Predictor],
    images_NHWC: NDArray[np.uint8],
    *,
    max_batch: int,
    max_seconds: float,
    clock: Clock = time.perf_counter,
) -> dict[str, int]:
    """Find the batch size at which each model answers most images per second.

    Powers of two from 1 up, all models in turns at each size, compared by their median query. A model leaves when two
    sizes in a row gain less than 2 %, or when the next size would not fit into the time. What wins here won among
    several noisy readings and must be measured anew.

    Args:
        max_batch: largest size to try, at least 1.
        max_seconds: time for all sizes together; the first is always run.
        clock: seconds since any moment.

    Returns:
        A power of two per model.
    """
    end = clock() + max_seconds
    best = dict.fromkeys(predictors, (0.0, 0))  # images per second, batch
    climbing = dict(predictors)
    for power in range(max_batch.bit_length()):
        batch = 2**power
        timed = measure_interleaved(
            climbing,
            images_NHWC,
            batches=dict.fromkeys(climbing, batch),
            queries=SEARCH_QUERIES,
            max_seconds=max_seconds / max_batch.bit_length(),
            clock=clock,
        )
        medians = {name: float(np.median(one.seconds)) for name, one in timed.items()}
        for name, median in medians.items():
            if batch / median >= MIN_GAIN * best[name][0]:
                best[name] = (batch / median, batch)
        # The next size takes twice as long, at least two queries to warm up and two in its turn.
        fits = clock() + 8 * sum(medians.values()) <= end
        climbing = {name: p for name, p in climbing.items() if fits and batch < best[name][1] * 2**PATIENCE}
        if not climbing:
            break
    return {name: batch for name, (_, batch) in best.items()}


def load() -> str:
    """Return the load averages of this machine."""
    return "{:.1f} {:.1f} {:.1f} (1, 5, 15 min)".format(*os.getloadavg())


def fingerprint(*, threads: int = 1, device: Device = "cpu", root: Path = Path("/")) -> dict[str, str]:
    """Return what a reader must know of this machine to judge a latency, and its load now.

    Args:
        threads: as given to `Predictor.open`.
        device: likewise.
        root: where `proc` and `sys` lie.
    """
    found = machine.describe(root)
    return {
        "cpu": found.cpu,
        "instructions": instructions(root),
        "cpus": f"{found.usable_cores} usable of {found.cores}",
        "smt_siblings": machine.smt_siblings(root),
        "governor": machine.governor(root),
        "cgroup_cpus": "no limit" if found.quota is None else f"{found.quota:.2f}",
        "device": device if device == "cpu" else f"{device}: {machine.nvidia(root)}",
        "kernel": found.system,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": ort.__version__,
        "threads": f"{threads} per call, no spinning",
        "load": load(),
    }


def _queries(images_NHWC: NDArray[np.uint8], batch: int) -> Iterator[NDArray[np.uint8]]:
    draw = np.random.default_rng(SEED)
    while True:
        yield np.asarray(images_NHWC[draw.integers(len(images_NHWC), size=batch)])


def _warm_up(predictor: Predictor, queries: Iterator[NDArray[np.uint8]], clock: Clock) -> float:
    """Run the queries that are not counted, and return the seconds of the fastest."""
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) < WARM_UP_QUERIES and sum(seconds) < WARM_UP_SECONDS):
        seconds.append(_seconds(predictor, next(queries), clock))
    return min(seconds)


def _turn(predictor: Predictor, queries: list[NDArray[np.uint8]], clock: Clock) -> list[float]:
    predictor.predict(queries[0])
    return [_seconds(predictor, images_NHWC, clock) for images_NHWC in queries]


def _seconds(predictor: Predictor, images_NHWC: NDArray[np.uint8], clock: Clock) -> float:
    start = clock()
    predictor.predict(images_NHWC)
    return clock() - start


def _span(batches: Mapping[str, int]) -> str:
    sizes = sorted(set(batches.values()))
    return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"

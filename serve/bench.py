"""Latency of one model call on this machine, measured so that models can be compared with each other.

One query at a time: the next one starts when the last has ended (the SingleStream scenario of MLPerf Inference; the
figures are in that style and are no MLPerf results). The clock covers `Predictor.predict` on a batch of raw pixels in
memory: no decoding, no HTTP. Draws from the images are uniform, with replacement, from a fixed seed.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serve.predictor import Predictor

SEED = 0
WARM_UP_QUERIES = 10  # the first calls grow the memory arena of onnxruntime
ROUND_QUERIES = 16  # queries of one model before the next one has its turn
MIN_FOR_P90 = 64  # fewest queries for which MLPerf's early stopping (99 % confidence, one discarded) has an estimate
MIN_FOR_P99 = 662


@dataclass(frozen=True)
class Latency:
    """Hold what one query of `batch` images takes; a percentile is None where `n` queries are too few for it.

    Percentiles are in milliseconds, by nearest rank; `images_per_s` is all images over the summed time of the queries.
    """

    batch: int
    n: int
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    images_per_s: float


def measure(
    predictor: Predictor, images_NHWC: NDArray[np.uint8], *, batch: int, min_queries: int, max_seconds: float
) -> Latency:
    """Time `min_queries` queries of one model, fewer if `max_seconds` run out; see `measure_interleaved`."""
    only = {"model": predictor}
    return measure_interleaved(only, images_NHWC, batch=batch, min_queries=min_queries, max_seconds=max_seconds)[
        "model"
    ]


def measure_interleaved(
    predictors: Mapping[str, Predictor],
    images_NHWC: NDArray[np.uint8],
    *,
    batch: int,
    min_queries: int,
    max_seconds: float,
) -> dict[str, Latency]:
    """Time several models in turns on the same queries, so that the noise of the machine hits all of them alike.

    Rounds of ROUND_QUERIES queries per model, forwards then backwards through the models. The query before each turn
    is not counted: it finds the caches full of another model.

    Args:
        predictors: the models by name; all take images of one shape.
        images_NHWC: uint8, at least one image, to draw from.
        batch: images per query, at least 1.
        min_queries: counted queries per model, at least 1.
        max_seconds: time for everything but the warm-up; looked at between rounds, of which at least one is run.

    Returns:
        One `Latency` per model, all with the same number of queries.

    Source: MLPerf Inference rules, scenarios and early stopping (github.com/mlcommons/inference_policies).
    """
    if batch < 1 or min_queries < 1 or len(images_NHWC) < 1:
        raise ValueError(f"want at least one image, query and batch: {len(images_NHWC)}, {min_queries}, {batch}")
    queries = _queries(images_NHWC, batch)
    for predictor in predictors.values():
        for _ in range(WARM_UP_QUERIES):
            predictor.predict(next(queries))
    seconds: dict[str, list[float]] = {name: [] for name in predictors}
    order = list(predictors)
    stop, done = time.perf_counter() + max_seconds, 0
    while done == 0 or (done < min_queries and time.perf_counter() < stop):
        drawn = [next(queries) for _ in range(min(ROUND_QUERIES, min_queries - done))]
        for name in order:
            seconds[name] += _turn(predictors[name], drawn)
        order.reverse()
        done += len(drawn)
    return {name: _latency(values, batch) for name, values in seconds.items()}


def fingerprint(*, threads: int = 1) -> dict[str, str]:
    """Return what a reader must know of this machine to judge a latency; `threads` as given to `Predictor.open`."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # Linux or not
    return {
        "cpu": _cpu_model(),
        "cpus": f"{usable} usable of {os.cpu_count()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": ort.__version__,
        "threads": f"{threads} per call, no spinning",
        "load": "{:.1f} {:.1f} {:.1f} (1, 5, 15 min)".format(*os.getloadavg()),
    }


def _queries(images_NHWC: NDArray[np.uint8], batch: int) -> Iterator[NDArray[np.uint8]]:
    draw = np.random.default_rng(SEED)
    while True:
        yield np.asarray(images_NHWC[draw.integers(len(images_NHWC), size=batch)])


def _turn(predictor: Predictor, queries: list[NDArray[np.uint8]]) -> list[float]:
    predictor.predict(queries[0])
    seconds = []
    for images_NHWC in queries:
        start = time.perf_counter()
        predictor.predict(images_NHWC)
        seconds.append(time.perf_counter() - start)
    return seconds


def _latency(seconds: list[float], batch: int) -> Latency:
    n = len(seconds)
    p50, p90, p99 = (1000.0 * float(np.percentile(seconds, q, method="inverted_cdf")) for q in (50, 90, 99))
    return Latency(
        batch=batch,
        n=n,
        p50_ms=p50,
        p90_ms=p90 if n >= MIN_FOR_P90 else None,
        p99_ms=p99 if n >= MIN_FOR_P99 else None,
        images_per_s=n * batch / sum(seconds),
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

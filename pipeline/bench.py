"""What `bigstep bench` does: time every model of a bundle on this machine, and say whether budgets are kept."""

import logging
import time
from dataclasses import dataclass
from math import inf
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from bigstep.errors import ConfigError
from bigstep.machine import usable_cores
from bigstep.records.bundle import Bundle
from bigstep.records.exported import Form
from bigstep.records.measured import Latency
from bigstep.records.sealed import write_json
from bigstep.records.verdict import Check, Outcome, worst
from bigstep.terminal import Terminal
from serve.bench import (
    MIN_FOR_P90,
    MIN_FOR_P99,
    Clock,
    Timed,
    best_batches,
    fingerprint,
    load,
    measure_interleaved,
)
from serve.predictor import Device, Predictor
from verify import budget
from verify.report.console import SIGNS

log = logging.getLogger("bigstep.bench")

SEED = 0
IMAGES = 64  # of noise, to draw queries from
QUERIES = 24_576  # of each model, where the time allows it: what MLPerf asks for a 90th percentile
MOST_BATCH = 4096
SHARES = {"singly": 0.5, "search": 0.2, "best": 0.3}  # of the time
STYLE = "MLPerf-style (one query at a time), not an MLPerf result"
INPUT = f"uniform noise, seed {SEED}: a bundle holds no images. No decoding, no HTTP"


@dataclass(frozen=True)
class BenchOptions:
    """How to measure. Each field is a flag of `bigstep bench`.

    Attributes:
        threads: threads of one call of the model, at most the cores that this process may use.
        device: where the models run.
        max_batch: largest batch to try, 1 to MOST_BATCH.
        seconds: time for all measurements together, but for warming up and loading.
        max_p99_ms: budget of the served file's 99th percentile at batch 1; None for none.
        min_images_per_s: budget of its throughput at its best batch; None for none.
        raw: a JSON file to write every single time to; replaced if it is there.

    Raises:
        ConfigError: a value is out of range.
    """

    threads: int = 1
    device: Device = "cpu"
    max_batch: int = 64
    seconds: float = 20.0
    max_p99_ms: float | None = None
    min_images_per_s: float | None = None
    raw: Path | None = None

    def __post_init__(self) -> None:
        for name, most in (("threads", usable_cores()), ("max_batch", MOST_BATCH)):
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"{name} is out of range", got=getattr(self, name), expected=f"1 to {most}")
        for name in ("seconds", "max_p99_ms", "min_images_per_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < inf:
                raise ConfigError(f"{name} is out of range", got=value, expected="a finite number above 0")
        if self.raw is not None and (got := _obstacle(self.raw)):
            raise ConfigError(f"{self.raw} cannot be written", got=got, expected="a file, which will be replaced")


@dataclass(frozen=True)
class FormTimings:
    """What was timed of one form of the bundle: single images, and batches of the best size."""

    form: Form
    single: Timed
    best: Timed


@dataclass(frozen=True)
class Timings:
    """What a benchmark found out."""

    bundle: Bundle
    options: BenchOptions
    forms: list[FormTimings]
    budgets: list[Check]
    machine: dict[str, str]

    @property
    def outcome(self) -> Outcome:
        """Return the worst outcome of the budgets, passed where there is none."""
        return worst(check.outcome for check in self.budgets)

    def as_json(self) -> dict[str, Any]:
        """Return everything but the single times as plain values."""
        info = self.bundle.info
        return {
            "outcome": self.outcome,
            "budgets": [check.as_json() for check in self.budgets],
            "bundle": info.name,
            "digest": self.bundle.digest,
            "served": info.served,
            "models": {
                timed.form.name: {
                    "sha256": timed.form.sha256,
                    "batch_1": timed.single.latency.model_dump(),
                    "best_batch": timed.best.latency.model_dump(),
                }
                for timed in self.forms
            },
            "machine": self.machine,
            "seconds": self.options.seconds,
            "style": STYLE,
            "input": INPUT,
        }

    def raw_json(self) -> dict[str, Any]:
        """Return the same with the milliseconds of every counted query, in the order they were made."""

        def listed(timed: Timed) -> list[float]:
            return [round(1000 * seconds, 6) for seconds in timed.seconds]

        return self.as_json() | {
            "query_ms": {
                one.form.name: {"batch_1": listed(one.single), "best_batch": listed(one.best)} for one in self.forms
            }
        }

    def write_raw(self) -> None:
        """Write what `raw_json` returns to the file that the options name, if they name one.

        Raises:
            ConfigError: the disk is full, or the folder takes no files any more.
        """
        if self.options.raw is None:
            return
        try:
            # A link stays, and what it points to is replaced.
            write_json(self.options.raw.resolve(), self.raw_json())
        except OSError as error:
            raise ConfigError(f"{self.options.raw} cannot be written", got=error.strerror) from error

    def show(self) -> None:
        """Print the table, what it means, and the budgets."""
        console, machine = Terminal(), self.machine
        info = self.bundle.info
        where = f"{machine['device']}, {self.options.threads} thread{'s' if self.options.threads > 1 else ''}"
        console.print(f"{info.name} on {machine['cpu']} (CPUs: {machine['cpus']}), {where}", markup=False)
        console.print(self._table())
        console.print(f"* is served. {STYLE}.", markup=False)
        console.print(f"Input: {INPUT}.", markup=False)
        console.print(f"Load: {machine['load_before']} before, {machine['load']} after.", markup=False)
        for text in self._missing():
            console.print(text, markup=False)
        for check in self.budgets:
            console.print(f"{SIGNS[check.outcome]} {escape(f'{check.name}: {check.says}')}", soft_wrap=True)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("file", overflow="fold")
        for heading in ("batch", "queries", "p50 ms", "p90 ms", "p99 ms", "images/s"):
            table.add_column(heading, justify="right", no_wrap=True)
        for timed in self.forms:
            name = f"{timed.form.name}{' *' if timed.form.name == self.bundle.info.served else ''}"
            table.add_row(escape(name), "1", *_cells(timed.single.latency))
            table.add_row("", f"best {timed.best.batch}", *_cells(timed.best.latency))
        return table

    def _missing(self) -> list[str]:
        fewest = min(len(timed.seconds) for one in self.forms for timed in (one.single, one.best))
        needs = [f"p{q} needs {n}" for q, n in ((90, MIN_FOR_P90), (99, MIN_FOR_P99)) if fewest < n]
        return [f"-: {' and '.join(needs)} queries; give them more --seconds."] if needs else []


def run(bundle_folder: Path, options: BenchOptions, clock: Clock = time.perf_counter) -> Timings:
    """Time every form of a bundle at batch 1 and at its best batch, in turns, and judge the budgets of the served one.

    Args:
        bundle_folder: a sealed bundle, whatever its verdict.
        clock: seconds since any moment.

    Raises:
        RecordError: a file is missing or altered, or is not a model.
        ConfigError: the device is not there, or the file for the single times would lie in the bundle.
    """
    bundle = Bundle.open(bundle_folder)
    if options.raw is not None and options.raw.resolve().is_relative_to(bundle_folder.resolve()):
        raise ConfigError(f"{options.raw} lies in the bundle, which never changes", do="give a path outside of it")
    info, load_before = bundle.info, load()
    predictors = {
        form.name: Predictor.open(
            bundle.folder / form.file, info.contract, sha256=form.sha256, threads=options.threads, device=options.device
        )
        for form in info.forms
    }
    single, best = _measure(bundle, predictors, options, clock)
    return Timings(
        bundle=bundle,
        options=options,
        forms=[FormTimings(form, single[form.name], best[form.name]) for form in info.forms],
        budgets=budget.checks(
            info.served,
            single[info.served].latency,
            best[info.served].latency,
            max_p99_ms=options.max_p99_ms,
            min_images_per_s=options.min_images_per_s,
        ),
        machine={**fingerprint(threads=options.threads, device=options.device), "load_before": load_before},
    )


def _measure(
    bundle: Bundle, predictors: dict[str, Predictor], options: BenchOptions, clock: Clock
) -> tuple[dict[str, Timed], dict[str, Timed]]:
    spec = bundle.info.contract.input
    noise_NHWC = np.random.default_rng(SEED).integers(
        0, 256, (IMAGES, spec.height_px, spec.width_px, spec.channels), dtype=np.uint8
    )
    limits = {part: share * options.seconds for part, share in SHARES.items()}
    single = measure_interleaved(
        predictors,
        noise_NHWC,
        batches=dict.fromkeys(predictors, 1),
        queries=QUERIES,
        max_seconds=limits["singly"],
        clock=clock,
    )
    log.info("looking for the best batch, up to %d", options.max_batch)
    batches = best_batches(
        predictors, noise_NHWC, max_batch=options.max_batch, max_seconds=limits["search"], clock=clock
    )
    best = measure_interleaved(
        predictors, noise_NHWC, batches=batches, queries=QUERIES, max_seconds=limits["best"], clock=clock
    )
    return single, best


def _cells(latency: Latency) -> list[str]:
    return [
        f"{latency.n:,}",
        *("-" if ms is None else _number(ms) for ms in (latency.p50_ms, latency.p90_ms, latency.p99_ms)),
        _number(latency.images_per_s),
    ]


def _number(value: float) -> str:
    """Write a positive number with three digits, or all that stand before the point."""
    digits = max(0, 2 - int(np.floor(np.log10(value)))) if value > 0 else 0
    return f"{value:,.{digits}f}"


def _obstacle(path: Path) -> str | None:
    """Say why a file cannot be replaced; whether its folder takes files, nothing but a file can tell."""
    if path.exists() and not path.is_file():  # to replace /dev/null would be found out much later
        return "a folder" if path.is_dir() else "a device or a pipe"
    folder = path.resolve().parent
    try:
        with TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"{folder}: {error.strerror}"

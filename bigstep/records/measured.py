"""Clock readings, which lie beside a verdict and never in it: they hold for a machine, the verdict for bytes."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Self

from bigstep.numerics import instructions
from bigstep.records.sealed import Value, write_json

FILE = "measured.json"  # outside of every digest, wherever it lies in a record


class Latency(Value):
    """What one query of `batch` images takes; a value is None where `n` queries are too few for it.

    Percentiles are in milliseconds, by nearest rank; `images_per_s` is all images over the summed time of the queries.
    `low` and `high` are one-sided bounds, each holding with a confidence of 99 % if the queries are independent.
    """

    batch: int
    n: int
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    p99_low_ms: float | None
    p99_high_ms: float | None
    images_per_s: float
    images_per_s_low: float | None
    images_per_s_high: float | None


class Measured(Value):
    """What one machine measured of the files that were judged; readings alone, for whoever judges them later.

    Attributes:
        queries: queries of each file that were asked for, at batch 1 and again at its best batch.
        seconds: the time that they were given at batch 1, half of it at the best batch; slow files got fewer queries.
        latency: readings at batch 1, by form.
        throughput: readings at the best batch of each form.
        fingerprint: the machine, with its load averages before and after.
    """

    queries: int
    seconds: float
    latency: dict[str, Latency]
    throughput: dict[str, Latency]
    fingerprint: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        return cls.model_validate_json(path.read_bytes())

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, self.model_dump(mode="json"))


NOTHING = Measured(queries=0, seconds=0.0, latency={}, throughput={}, fingerprint={})


def note_instructions(folder: Path) -> None:
    """Add the instructions of this processor to those by which what lies in a folder was computed."""
    write_json(folder / FILE, {"instructions": sorted({*noted_instructions(folder), instructions()})})


def noted_instructions(folder: Path) -> list[str]:
    """Return what `note_instructions` left in a folder; nothing where it cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return [str(name) for name in json.loads((folder / FILE).read_bytes())["instructions"]]
    return []

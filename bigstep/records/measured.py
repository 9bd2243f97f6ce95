"""Clock readings, which lie beside a verdict and never in it: they hold for a machine, the verdict for bytes."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Self

from bigstep.numerics import instructions
from bigstep.records.sealed import Value, write_json
from bigstep.records.verdict import Check

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
    """What one machine measured of the files that were judged.

    Attributes:
        latency: readings at batch 1, by form.
        throughput: readings at the best batch of each form.
        budgets: the checks of the served file's speed; none where no budget is set.
        fingerprint: the machine.
    """

    latency: dict[str, Latency]
    throughput: dict[str, Latency]
    budgets: list[Check]
    fingerprint: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` left in the folder of a verdict or of a bundle."""
        return cls.model_validate_json((folder / FILE).read_bytes())

    def write(self, folder: Path) -> None:
        """Write `measured.json` into a folder."""
        write_json(folder / FILE, self.model_dump(mode="json"))


def note_instructions(folder: Path) -> None:
    """Add the instructions of this processor to those by which what lies in a folder was computed."""
    write_json(folder / FILE, {"instructions": sorted({*noted_instructions(folder), instructions()})})


def noted_instructions(folder: Path) -> list[str]:
    """Return what `note_instructions` left in a folder; nothing where it cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return [str(name) for name in json.loads((folder / FILE).read_bytes())["instructions"]]
    return []

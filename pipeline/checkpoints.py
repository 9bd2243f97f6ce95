"""The checkpoints of a user's own training, found by the names of files or from a table: one rate and seed each."""

import csv
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from bigstep.errors import ConfigError
from bigstep.records.rate_map import Checkpoint

SUFFIX = ".safetensors"
COLUMNS = ("rate", "seed", "path")
_NAME = re.compile(r"(?P<rate>.+?)(?:-s(?P<seed>\d+))?")
NAMES = f"names like 0.1{SUFFIX} or 0.1-s0{SUFFIX}"


def find(given: Sequence[Path]) -> list[Checkpoint]:
    """Return the checkpoints that folders, files and tables name, sorted by rate and seed.

    Args:
        given: folders of files, files whose names give rate and seed, and CSV tables with the columns rate, seed and
            path; their paths are relative to the table.

    Raises:
        ConfigError: a file is missing, a name or a row gives no rate, or a rate and seed are named twice.
    """
    found = sorted((c for path in given for c in _of(path)), key=lambda c: (c.rate, c.seed))
    seen: dict[tuple[float, int], Path] = {}
    for checkpoint in found:
        if not checkpoint.path.is_file():
            raise ConfigError("a checkpoint is missing", got=checkpoint.path, do="mend --checkpoints, or the table")
        place = (checkpoint.rate, checkpoint.seed)
        if place in seen:
            raise ConfigError(
                f"rate {place[0]:g} and seed {place[1]} are named twice",
                got=f"{seen[place]} and {checkpoint.path}",
                do="remove one",
            )
        seen[place] = checkpoint.path
    return found


def _of(path: Path) -> Iterable[Checkpoint]:
    if path.is_dir():
        files = sorted(path.glob(f"*{SUFFIX}"))
        if not files:
            raise ConfigError(f"{path} holds no checkpoints", expected=NAMES)
        return [_named(file) for file in files]
    if path.suffix.lower() == ".csv":
        return _listed(path)
    if path.suffix != SUFFIX:
        raise ConfigError("no checkpoint, folder or table", got=path, expected=f"{NAMES}, or a .csv file")
    return [_named(path)]


def _named(path: Path) -> Checkpoint:
    match = _NAME.fullmatch(path.name.removesuffix(SUFFIX))
    assert match is not None
    return Checkpoint(_rate(match["rate"], path, NAMES), int(match["seed"] or 0), path)


def _listed(path: Path) -> list[Checkpoint]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
            if missing:
                raise ConfigError(
                    f"{path} has no column {' and no column '.join(missing)}",
                    got=", ".join(table.fieldnames or ()) or "an empty file",
                    expected=", ".join(COLUMNS),
                )
            rows = list(table)
    except FileNotFoundError:
        raise ConfigError("the table of checkpoints is missing", got=path) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8", got=error) from None
    if not rows:
        raise ConfigError(f"{path} names no checkpoint", expected="a row for each rate and seed")
    return [_row(path, number, row) for number, row in enumerate(rows, start=2)]


def _row(table: Path, line: int, row: dict[str, str | None]) -> Checkpoint:
    where = f"{table}, line {line}"
    rate, seed, path = (row[name] or "" for name in COLUMNS)
    if not seed.strip().isdecimal():
        raise ConfigError(f"{where}: the seed is not a whole number", got=repr(seed))
    return Checkpoint(_rate(rate, where, "a number"), int(seed), table.parent / path)


def _rate(text: str, where: object, expected: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not (math.isfinite(rate) and rate > 0):
        raise ConfigError(f"{where}: no learning rate above 0", got=repr(text), expected=expected)
    return rate

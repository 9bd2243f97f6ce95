"""Find what a run folder no longer needs, and remove it: `bigstep gc`.

Needed is the bundle that last passed and what it was made from, what the last configuration (`config.toml`) would use
again with the code that is installed now, the folder in which that run would go on, the bundle that the report in the
run folder tells of, and every bundle that a server has open. Everything else is a leftover of other settings, of other
versions, or of a run that was killed.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigstep.config import Config
from bigstep.config_file import load
from bigstep.errors import ConfigError, RecordError
from bigstep.records.bundle import Bundle, is_held
from bigstep.records.exported import Exported
from bigstep.records.sealed import read_manifest, sha256
from bigstep.terminal import Terminal
from pipeline.bundle import BUNDLES
from pipeline.ci import REPORTS
from pipeline.dry_run import dry_run
from pipeline.stages import MAP, STAGES, VERIFY
from pipeline.store import SHORT, Store
from verify.report.run_outcome import POINTER

DEVICES = ("cpu", "cuda")  # with `auto`, the next run may be on either: a login node has no GPU, and its cluster has


@dataclass(frozen=True)
class Leftover:
    """A file or folder that nothing needs, how many bytes go with it, and why."""

    path: Path
    bytes: int
    why: str


@dataclass(frozen=True)
class Sweep:
    """What `bigstep gc` found, and whether it is gone."""

    leftovers: list[Leftover]
    deleted: bool

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "deleted": self.deleted,
            "bytes": self.bytes,
            "leftovers": [{"path": str(x.path), "bytes": x.bytes, "why": x.why} for x in self.leftovers],
        }

    def show(self) -> None:
        """Print one line for each leftover, the sum, and what to do next."""
        terminal = Terminal()
        for leftover in self.leftovers:
            terminal.print(f"{leftover.bytes:>13,}  {leftover.path}  ({leftover.why})", markup=False, soft_wrap=True)
        done = "removed" if self.deleted else "would be removed; to remove them: bigstep gc --delete"
        terminal.print(
            f"{len(self.leftovers)} files and folders, {self.bytes:,} bytes, {done}"
            if self.leftovers
            else "nothing to remove",
            soft_wrap=True,
        )

    @property
    def bytes(self) -> int:
        """Return the size of all leftovers."""
        return sum(leftover.bytes for leftover in self.leftovers)


def find(folder: Path) -> list[Leftover]:
    """Return what a run folder no longer needs, sorted by path; nothing is changed.

    Raises:
        ConfigError: see `check`.
        RecordError: the bundle is damaged, so that nobody knows what it was made from.
    """
    config = check(folder)
    devices = DEVICES if config.device == "auto" else (config.device,)
    steps = [
        step
        for device in devices
        for end in (VERIFY.name, MAP.name)
        for step in dry_run(config, folder, end, device).steps
    ]
    records = {step.record for step in steps if step.record} | _made_from(folder / POINTER)
    goes_on = {f"{step.stage}-{step.work_key[:SHORT]}" for step in steps if step.action == "resume"}
    leftovers = [*_unused(folder, records), *_unfinished(folder, goes_on), *_other_bundles(folder)]
    return sorted(leftovers, key=lambda leftover: leftover.path)


def check(folder: Path) -> Config:
    """Return the last configuration of a run folder.

    Raises:
        ConfigError: it is not a run folder, or its configuration cannot be read.
    """
    if missing := [name for name in ("lock", "config.toml") if not (folder / name).is_file()]:
        raise ConfigError(
            f"{folder} is not a run folder",
            got=f"no {' and no '.join(missing)} in it" if folder.is_dir() else "no such folder",
            do="name one, like runs/digits",
        )
    return load(str(folder / "config.toml"))


def remove(folder: Path) -> list[Leftover]:
    """Remove what a run folder no longer needs, and return it. Links are removed, never followed.

    Raises:
        ConfigError, RecordError: see `find`; or a run is under way in the folder, or something cannot be removed.
    """
    check(folder)  # before the lock is taken, which makes the folder
    with Store(folder).locked():
        leftovers = find(folder)
        for leftover in leftovers:
            _remove(leftover.path)
    return leftovers


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be removed", got=error.strerror, do="give yourself the right to, or ask its owner"
        ) from None


def _made_from(bundle: Path) -> set[str]:
    """Return the names of the records that a bundle was made from; none if there is no bundle."""
    if not bundle.exists():
        return set()
    try:
        made_from = Bundle.open(bundle).info.made_from
    except RecordError as error:
        raise RecordError(
            f"{bundle} does not say what it was made from",
            got=error.what,
            do="run again with its configuration, or remove the bundle if nothing of it is needed",
        ) from None
    kinds = {stage.name: stage.makes.kind for stage in STAGES}
    return {f"{kinds[name]}-{digest[:SHORT]}" for name, digest in made_from.items() if name in kinds}


def _unused(folder: Path, records: set[str]) -> Iterator[Leftover]:
    for path in _entries(folder / "records"):
        if path.name.startswith("."):
            yield _leftover(path, "left over when a record was replaced")
        elif path.name not in records:
            yield _leftover(path, "made from other settings or by other code")
    for path in _entries(folder / "keys"):
        if path.suffix != ".json":
            yield _leftover(path, "left over from a run that was killed")
        elif _leads_to(path) not in records:
            yield _leftover(path, "leads to a record that is not used")
    for path in _entries(folder / "measured"):
        if f"{Exported.kind}-{path.name.partition('-')[0]}" not in records:
            yield _leftover(path, "the speed of files that are not used")


def _unfinished(folder: Path, goes_on: set[str]) -> Iterator[Leftover]:
    unfinished = [path for path in _entries(folder / "partial") if path.name not in goes_on]
    yield from (_leftover(path, "the unfinished work of another run") for path in unfinished)
    replaced = [path for path in _entries(folder) if path.name in (f".{POINTER}.old", f".{POINTER}.tmp")]
    yield from (_leftover(path, "left over when the bundle was replaced") for path in replaced)


def _other_bundles(folder: Path) -> Iterator[Leftover]:
    last_good, report = (folder / POINTER).resolve(), folder / REPORTS[0]
    told = sha256(report) if report.is_file() else None
    for path in _entries(folder / BUNDLES):
        if path.name.startswith("."):
            yield _leftover(path, "left over when a bundle was replaced")
        elif path.resolve() != last_good and not _in_use(path, told):
            yield _leftover(path, "neither the last that passed, nor that of the report, nor served")


def _in_use(bundle: Path, told: str | None) -> bool:
    """Tell whether a bundle is served, or the report in the run folder is a copy of its own."""
    try:
        return read_manifest(bundle).files[REPORTS[0]].sha256 == told or is_held(bundle)
    except (RecordError, KeyError):
        return False


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _leads_to(key: Path) -> str:
    try:
        return str(json.loads(key.read_bytes())["record"])
    except (ValueError, KeyError, TypeError):
        return ""


def _leftover(path: Path, why: str) -> Leftover:
    inside = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    return Leftover(path, sum(os.lstat(p).st_size for p in inside if not p.is_dir() or p.is_symlink()), why)

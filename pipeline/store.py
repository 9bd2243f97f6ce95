"""The run folder: finished records by content, the keys that led to them, and one lock.

runs/<name>/records/<kind>-<digest>/   finished records, never changed
            keys/<key>.json            which record a stage made from which inputs, settings, code and versions
            partial/<stage>-<key>/     what an interrupted stage goes on from
            measured/                  how fast exported files are, by machine
            bundles/<digest>-<key>/    what may be shipped, or not; report.html tells of the last
            bundle -> bundles/...      the last that passed
"""

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bigstep import lock
from bigstep.errors import BigstepError, ConfigError, RecordError
from bigstep.pool import SHARED_MEMORY
from bigstep.records.sealed import Record, forget_checks, move_folder, write_json

log = logging.getLogger("bigstep")
R = TypeVar("R", bound=Record[Any])
FULL_BYTES = 1_000_000  # a disk with less is taken to be full: a write that failed leaves what still went in
SHORT = 16  # characters of a hash in a folder name; the full one is in the manifest and is checked


class Store:
    """One run folder, to read and to write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run folder for this process.

        Raises:
            ConfigError: another process holds it, or it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / lock.NAME).open("a+", encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"{self.folder} cannot be the run folder", got=error.strerror, do="give another --run-dir"
            ) from None
        with file, ExitStack() as held:
            try:
                with self.telling_a_full_disk():
                    held.enter_context(lock.taken(file))
            except BlockingIOError as error:
                raise ConfigError(
                    f"{self.folder} is in use", got=str(error), do="wait, or give another --run-dir"
                ) from None
            yield

    @contextmanager
    def telling_a_full_disk(self) -> Iterator[None]:
        """Say that a disk is full, whatever numpy, onnx or safetensors make of it.

        Raises:
            ConfigError: something failed, and the disk of the run folder, of scratch files or of shared memory is full.
        """
        try:
            yield
        except BigstepError:
            raise
        except Exception as error:
            for place, remedy in _disks(self.folder):
                if shutil.disk_usage(place).free < FULL_BYTES:
                    raise ConfigError(
                        f"{place}: the disk is full", got=error, do=f"{remedy}; the same command then goes on from here"
                    ) from error
            raise

    def find(self, kind: type[R], key: str) -> R | None:
        """Return the record made under a key, or None if there is none, or it is damaged or another one."""
        digest = self.noted(key)
        if digest is None:
            return None
        try:
            record = kind.open(self.folder / "records" / _name(kind, digest))
            if record.digest != digest:
                raise RecordError(f"{record.folder} was replaced", got=record.digest, expected=digest)
            return record
        except RecordError as error:
            log.warning("%s\n  it is made again", error)
            return None

    def forget_checks(self) -> None:
        """Let every byte of every record be checked when it is opened next (see `bigstep.records.sealed`)."""
        for folder in (self.folder / "records").glob("*"):
            forget_checks(folder)

    def noted(self, key: str) -> str | None:
        """Return the digest of the record that was made under a key, be it damaged now or not."""
        path = self.folder / "keys" / f"{key}.json"
        try:
            return str(json.loads(path.read_bytes())["digest"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            log.warning("%s cannot be read\n  the record is made again", path)
            return None

    def partial(self, stage: str, key: str) -> Path:
        """Return the folder in which a stage works; what an interrupted run left there stays."""
        folder = self.folder / "partial" / f"{stage}-{key[:SHORT]}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def publish(self, record: R, key: str) -> R:
        """Move a sealed record to its place at once, then note its key."""
        name = _name(type(record), record.digest)
        place = self.folder / "records" / name
        place.parent.mkdir(exist_ok=True)
        replace_folder(record.folder, place)
        keys = self.folder / "keys"
        keys.mkdir(exist_ok=True)
        write_json(keys / f"{key}.json", {"record": name, "digest": record.digest})
        return type(record)(place, record.digest, record.info)


def _disks(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield every folder on whose disk a run writes, and what helps where that is full."""
    yield folder, "make room"
    try:
        yield Path(tempfile.gettempdir()), "make room, or set TMPDIR to a folder with room"
    except FileNotFoundError as error:
        raise ConfigError(
            "there is no folder for scratch files", got=error.strerror, do="set TMPDIR to a folder with room"
        ) from None
    if SHARED_MEMORY.is_dir():
        yield SHARED_MEMORY, "give it more room (docker run --shm-size 1g)"


def _name(kind: type[Record[Any]], digest: str) -> str:
    return f"{kind.kind}-{digest[:SHORT]}"


def replace_folder(source: Path, place: Path) -> None:
    """Rename a folder to its place; an older folder there is moved aside first and then removed."""
    aside = place.with_name(f".{place.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if place.exists():
        move_folder(place, aside)
    move_folder(source, place)
    shutil.rmtree(aside, ignore_errors=True)

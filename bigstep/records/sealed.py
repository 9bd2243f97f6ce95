"""Folders of plain files that a manifest seals: written once, checked whenever they are read, never unpickled.

A folder becomes a record when `seal` has written its `record.json` (what it says of itself) and, last of all,
`manifest.json` (the SHA-256 of every file). Opening a record checks every hash. A file of LARGE_BYTES or more whose
bytes were checked once is checked by its `stamp` from then on, as git's index does, until `forget_checks`.

Clock readings, facts of the machine, what is drawn for people, and how and when a record was made (`UNDIGESTED` files
and folders) are hashed against damage but left out of the digest, so that the same inputs give the same digest on every
run.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from bigstep.errors import RecordError

FORMAT = 2
WORK = "work"  # scratch folder of an unfinished record: what a killed run goes on from
CHECKED = ".checked.json"  # in a record's folder, but not a part of it: when the bytes of large files were last checked
LARGE_BYTES = 2**30
LOST = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a flush says when content is lost
EVENTS = "tensorboard"  # folder of event files, which hold clock readings
UNDIGESTED = frozenset(
    {"measured.json", "report.md", "report.html", "contact_sheet.png", "provenance.json", "config.toml", EVENTS}
)
REPAIR = "copy it again from where it came, or make it again with bigstep run CONFIG"


class Value(BaseModel):
    """An immutable value that refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class FileEntry(Value):
    """The content of a file, by its hash and size."""

    sha256: str
    bytes: int


class Manifest(Value):
    """What a sealed folder holds. `digest` names the content of every file but the undigested ones."""

    format: int
    kind: str
    digest: str
    files: dict[str, FileEntry]


Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class Hashed:
    """The SHA-256 of a file, in hexadecimal, and the `stamp` that it had."""

    sha256: str
    stamp: Stamp


T = TypeVar("T")
I = TypeVar("I", bound=Value)  # noqa: E741 - the usual one-letter name of a type parameter


@dataclass(frozen=True)
class Record(Generic[I]):
    """One sealed folder, to be read."""

    folder: Path
    digest: str
    info: I

    kind: ClassVar[str]
    Info: ClassVar[type[Any]]

    @classmethod
    def seal(cls, folder: Path, info: I, hashed: Mapping[str, Hashed] | None = None) -> Self:
        """Turn a folder of finished files into a record: drop scratch, write `record.json`, then the manifest.

        Args:
            hashed: hashes that whoever wrote a file took on the way, by its name; of use if it was not changed since.
        """
        shutil.rmtree(folder / WORK, ignore_errors=True)
        write_json(folder / "record.json", info.model_dump(mode="json"))
        paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        names = [name for name in paths if name not in ("manifest.json", CHECKED)]
        stamps = {
            name: stamp((folder / name).stat()) for name in names
        }  # before the bytes are read: who writes, changes them
        known = {folder / name: one.sha256 for name, one in (hashed or {}).items() if one.stamp == stamps.get(name)}
        with ThreadPoolExecutor(1) as disk:  # which writes while the hashes are computed
            flushed = disk.submit(flush, folder)
            files = dict(zip(names, _on_files(lambda path: _entry(path, known), folder, names), strict=True))
            flushed.result()
        manifest = Manifest(format=FORMAT, kind=cls.kind, digest=digest_of(cls.kind, files), files=files)
        write_json(folder / "manifest.json", manifest.model_dump(mode="json"))
        _note_checks(folder, {name: _note(entry, stamps[name]) for name, entry in _large(files)})
        return cls(folder, manifest.digest, info)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a record and check it against its manifest; see LARGE_BYTES for large files.

        Raises:
            RecordError: there is no record, its format is unknown, or a file is missing, altered or truncated.
        """
        manifest = read_manifest(folder)
        if manifest.kind != cls.kind:
            raise RecordError(f"{folder} holds another kind of record", got=manifest.kind, expected=cls.kind)
        if "record.json" not in manifest.files:
            raise RecordError(f"{folder / 'manifest.json'} does not list record.json", do=REPAIR)
        _check_files(folder, manifest.files)
        try:
            info = cls.Info.model_validate_json((folder / "record.json").read_bytes())
        except ValidationError as error:
            raise RecordError(f"{folder / 'record.json'} cannot be read", got=error, do=REPAIR) from error
        return cls(folder, manifest.digest, info)

    def array(self, name: str) -> NDArray[Any]:
        """Map one `.npy` file of the record into memory, read-only."""
        array: NDArray[Any] = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        return array


def to_json(value: object) -> str:
    """Write a value as JSON, in the one way in which every file of ours has it.

    Keys keep their order, which may say something: columns of attributes, layers of a network.
    """
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def write_json(path: Path, value: object) -> None:
    """Write JSON to a file; see `replace_file`."""
    replace_file(path, to_json(value).encode())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file at once: whoever reads finds a whole one, the old or the new, also when the disk is full."""
    written = path.with_name(f".{path.name}.tmp")
    try:
        with written.open("wb") as file:
            file.write(content)
            file.flush()
            flush_file(file.fileno())
        written.replace(path)
    except BaseException:  # an interrupt too
        with suppress(OSError):
            written.unlink()
        raise


def flush(folder: Path) -> None:
    """Flush every file of a folder to the disk, so that a rename cannot outlive the content after a loss of power."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            flush_file(handle)
        finally:
            os.close(handle)


def flush_file(handle: int) -> None:
    """Flush an open file or folder to the disk, where the file system can: SMB, vboxsf and some FUSE mounts cannot.

    Raises:
        OSError: what was written is lost.
    """
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in LOST:
            raise


def move_folder(source: Path, place: Path) -> None:
    """Rename a folder to a place that is free; copy it first where it cannot be renamed.

    A folder of a lower layer of an overlay (an image with a warmed cache, mounted into a container) cannot.
    """
    try:
        source.rename(place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copied = place.with_name(f".{place.name}.copy")
        shutil.rmtree(copied, ignore_errors=True)
        shutil.copytree(source, copied)
        flush(copied)
        copied.rename(place)
        shutil.rmtree(source)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(found: os.stat_result) -> Stamp:
    """Return what tells without reading that a file is the one of before: size, mtime, ctime (both in ns) and inode.

    Whoever copies a file over another can keep its size and mtime (`cp -p`, rsync, tar, `touch -r`); the kernel alone
    sets the ctime, and gives another file another inode.
    """
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a record, without checking the files.

    Raises:
        RecordError: it is missing, unreadable, altered, or of a format this version does not know.
    """
    path = folder / "manifest.json"
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        if content.get("format") != FORMAT:
            raise RecordError(
                f"{path} has an unknown format",
                got=content.get("format"),
                expected=FORMAT,
                do=f"use the version of bigstep that made it, or {REPAIR}",
            )
        manifest = Manifest.model_validate(content)
    except (FileNotFoundError, NotADirectoryError):
        raise RecordError(
            f"{folder} is not a record", got="no manifest.json" if folder.is_dir() else "no such folder", do=REPAIR
        ) from None
    except (ValueError, AttributeError) as error:
        raise RecordError(f"{path} cannot be read", got=error, do=REPAIR) from error
    found = digest_of(manifest.kind, manifest.files)
    if text != to_json(manifest.model_dump(mode="json")):
        raise RecordError(f"{path} was altered", got="other bytes than were written", do=REPAIR)
    if found != manifest.digest:
        raise RecordError(f"{path} was altered", got=found, expected=manifest.digest, do=REPAIR)
    return manifest


def digest_of(kind: str, files: Mapping[str, FileEntry]) -> str:
    """Return the name of a record by its kind and the content of every file but the undigested ones."""
    digested = [name for name in sorted(files) if not UNDIGESTED & {*PurePosixPath(name).parts}]
    lines = [f"{FORMAT} {kind}"] + [f"{files[n].sha256} {n}" for n in digested]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_file(path: Path, entry: FileEntry) -> None:
    """Compare a file with its manifest entry.

    Raises:
        RecordError: it is missing, or its bytes are others; the message names the file and both hashes.
    """
    if not path.is_file():
        raise RecordError(f"{path} is missing", expected=f"sha256 {entry.sha256}", do=REPAIR)
    found = _entry(path)
    if found != entry:
        raise RecordError(
            f"{path} was altered",
            got=f"sha256 {found.sha256}, {found.bytes} bytes",
            expected=f"sha256 {entry.sha256}, {entry.bytes} bytes",
            do=REPAIR,
        )


def forget_checks(folder: Path) -> None:
    """Let every byte of a record be checked when it is opened next, of large files too."""
    (folder / CHECKED).unlink(missing_ok=True)


def _check_files(folder: Path, files: Mapping[str, FileEntry]) -> None:
    noted = _noted_checks(folder)
    large = [(name, entry) for name, entry in _large(files) if (folder / name).is_file()]
    stamps = {name: _note(entry, stamp((folder / name).stat())) for name, entry in large}  # before the bytes are read
    unsure = [name for name in files if name not in stamps or noted.get(name) != stamps[name]]
    _on_files(lambda path: check_file(path, files[path.relative_to(folder).as_posix()]), folder, unsure)
    if stamps != noted:
        _note_checks(folder, stamps)


def _large(files: Mapping[str, FileEntry]) -> list[tuple[str, FileEntry]]:
    return [(name, entry) for name, entry in files.items() if entry.bytes >= LARGE_BYTES]


def _note(entry: FileEntry, stamp: Stamp) -> list[str | int]:
    return [entry.sha256, *stamp]


def _on_files(work: Callable[[Path], T], folder: Path, names: Sequence[str]) -> list[T]:
    """Work on several files at once; on large ones one by one and in this thread, where Ctrl-C ends it."""
    paths = [folder / name for name in names]
    small = [path for path in paths if not path.is_file() or path.stat().st_size < LARGE_BYTES]
    with ThreadPoolExecutor() as pool:
        found = dict(zip(small, pool.map(work, small), strict=True))
    return [found[path] if path in found else work(path) for path in paths]


def _noted_checks(folder: Path) -> dict[str, list[str | int]]:
    try:
        noted: dict[str, list[str | int]] = dict(json.loads((folder / CHECKED).read_bytes()))
        return noted
    except (OSError, ValueError, TypeError):
        return {}


def _note_checks(folder: Path, stamps: Mapping[str, list[str | int]]) -> None:
    if stamps:
        with suppress(OSError):  # somebody else's folder: then the bytes are checked every time
            write_json(folder / CHECKED, stamps)


def _entry(path: Path, known: Mapping[Path, str] | None = None) -> FileEntry:
    return FileEntry(sha256=(known or {}).get(path) or sha256(path), bytes=path.stat().st_size)

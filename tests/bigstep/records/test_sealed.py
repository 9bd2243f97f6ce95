"""Records: every changed byte is found, and named."""

import errno
import json
import os
import shutil
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from bigstep.errors import RecordError
from bigstep.records import sealed
from bigstep.records.bundle import Bundle
from bigstep.records.compact import Compact
from bigstep.records.exported import Exported
from bigstep.records.images import Images
from bigstep.records.sealed import (
    CHECKED,
    UNDIGESTED,
    FileEntry,
    Record,
    Value,
    digest_of,
    flush,
    forget_checks,
    move_folder,
    read_manifest,
    replace_file,
    sha256,
    to_json,
)
from bigstep.records.trained import Trained
from bigstep.records.verdict import Verdict

KINDS = {
    "data": Images,
    "train": Trained,
    "compress": Compact,
    "export": Exported,
    "verify": Verdict,
    "bundle": Bundle,
}


class NoteInfo(Value):
    """A line of text."""

    text: str


@dataclass(frozen=True)
class Note(Record[NoteInfo]):
    """A few files."""

    kind: ClassVar[str] = "note"
    Info: ClassVar[type[Any]] = NoteInfo


def write_note(folder, text="hello", clock="1.0"):
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "b.txt").write_text("bee")
    np.save(folder / "a.npy", np.arange(3))
    (folder / "measured.json").write_text(clock)
    return Note.seal(folder, NoteInfo(text=text))


def flip(path, at=None):
    """Change one bit of a file, in the middle unless told where."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1
    path.write_bytes(content)


def edit_manifest(folder, **values):
    path = folder / "manifest.json"
    path.write_text(to_json(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("stage", KINDS)
def test_every_file_of_every_record_is_checked(small_run, tmp_path, stage):
    kind = KINDS[stage]
    folder = shutil.copytree(small_run.records[stage].folder, tmp_path / stage)
    names = ["manifest.json", *read_manifest(folder).files]
    assert len(names) > 2
    for name in names:
        path = folder / name
        content = path.read_bytes()
        damaged = {"flipped": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], "truncated": content[:-1]}
        if name == "manifest.json":
            damaged["truncated"] = content[: len(content) // 2]
            at = content.index(b'"digest": "') + 20
            damaged["flipped"] = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        for what, changed in damaged.items():
            path.write_bytes(changed)
            with pytest.raises(RecordError) as caught:
                kind.open(folder)
            assert str(path) in caught.value.what, what
        path.unlink()
        with pytest.raises(RecordError) as caught:
            kind.open(folder)
        assert str(path) in caught.value.what or "no manifest.json" in str(caught.value)
        path.write_bytes(content)
    assert kind.open(folder).digest == small_run.records[stage].digest


def test_a_damaged_file_is_told_with_both_hashes_and_what_to_do(tmp_path):
    write_note(tmp_path / "n")
    path = tmp_path / "n" / "a.npy"
    before = sha256(path)
    flip(path)
    with pytest.raises(RecordError) as caught:
        Note.open(tmp_path / "n")
    assert before in caught.value.expected and sha256(path) in caught.value.got
    assert "bigstep run" in caught.value.do


def test_any_change_of_the_manifest_is_found(tmp_path):
    """Flip a bit of every byte, white space too."""
    write_note(tmp_path / "n")
    path = tmp_path / "n" / "manifest.json"
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        with pytest.raises(RecordError, match=r"manifest\.json|altered|missing"):
            Note.open(tmp_path / "n")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"format": 99}, r"unknown format\n  got:      99\n  expected: 2\n  to do:    use the version of bigstep that"),
        ({"format": "1"}, "unknown format"),
        ({"digest": "0" * 64}, "was altered"),
        ({"kind": "images"}, "was altered"),
        ({"files": {}}, "was altered"),
        ({"surprise": 1}, "cannot be read"),
    ],
)
def test_an_edited_manifest_is_refused(tmp_path, values, says):
    write_note(tmp_path / "n")
    edit_manifest(tmp_path / "n", **values)
    with pytest.raises(RecordError, match=says) as caught:
        Note.open(tmp_path / "n")
    assert "manifest.json" in caught.value.what


@pytest.mark.parametrize("content", [b"", b"{", b"not JSON", b"[]", b"3", b"null", b'{"format": 1}', b"\xff\xfe"])
def test_a_manifest_that_is_none_is_refused(tmp_path, content):
    write_note(tmp_path / "n")
    (tmp_path / "n" / "manifest.json").write_bytes(content)
    with pytest.raises(RecordError, match=r"manifest.json"):
        Note.open(tmp_path / "n")


def test_a_folder_that_is_no_record(tmp_path):
    with pytest.raises(RecordError, match="no such folder"):
        Note.open(tmp_path / "nowhere")
    with pytest.raises(RecordError, match=r"no manifest\.json"):
        Note.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="no such folder"):
        Note.open(tmp_path / "file")


def test_another_kind_is_refused(small_run):
    with pytest.raises(RecordError, match="another kind") as caught:
        Trained.open(small_run.records["data"].folder)
    assert (caught.value.got, caught.value.expected) == ("images", "trained")


def test_a_manifest_without_record_json_is_refused(tmp_path):
    """Somebody else's manifest may be consistent and still say nothing."""
    folder = tmp_path / "n"
    write_note(folder)
    (folder / "record.json").rename(folder / "other.json")
    names = ["a.npy", "deep/b.txt", "other.json"]
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size} for name in names}
    digest = digest_of("note", {name: FileEntry(**entry) for name, entry in files.items()})
    (folder / "manifest.json").write_text(to_json(manifest | {"files": files, "digest": digest}))
    with pytest.raises(RecordError, match=r"does not list record\.json"):
        Note.open(folder)


def test_a_record_json_of_another_version_is_refused(tmp_path):
    folder = tmp_path / "n"
    write_note(folder)

    class NewerInfo(Value):
        """Another field."""

        title: str

    @dataclass(frozen=True)
    class Newer(Note):
        """The same kind with other fields."""

        Info: ClassVar[type[Any]] = NewerInfo

    with pytest.raises(RecordError, match=r"record\.json cannot be read"):
        Newer.open(folder)


def test_the_digest_names_the_content_and_not_the_clock(tmp_path):
    first, again = write_note(tmp_path / "1"), write_note(tmp_path / "2")
    slower, other = write_note(tmp_path / "3", clock="2.0"), write_note(tmp_path / "4", text="bye")
    assert first.digest == again.digest == slower.digest != other.digest
    assert "measured.json" in UNDIGESTED
    events = tmp_path / "2" / "trials" / "one" / "tensorboard"
    events.mkdir(parents=True)
    (events / "events.out").write_text("12:00")
    (events.parent / "measured.json").write_text('{"instructions": []}')
    (tmp_path / "2" / "manifest.json").unlink()
    watched = Note.seal(tmp_path / "2", NoteInfo(text="hello"))
    assert watched.digest == first.digest and "trials/one/tensorboard/events.out" in read_manifest(tmp_path / "2").files
    assert Note.open(tmp_path / "3").info == NoteInfo(text="hello")
    flip(tmp_path / "3" / "measured.json")
    with pytest.raises(RecordError, match=r"measured\.json was altered"):
        Note.open(tmp_path / "3")


def test_a_renamed_file_changes_the_digest(tmp_path):
    first = write_note(tmp_path / "1")
    (tmp_path / "2").mkdir()
    for name in ("a.npy", "measured.json"):
        shutil.copy(tmp_path / "1" / name, tmp_path / "2" / name)
    (tmp_path / "2" / "c.txt").write_text("bee")
    assert Note.seal(tmp_path / "2", NoteInfo(text="hello")).digest != first.digest


def test_seal_removes_scratch_and_lists_every_file(tmp_path):
    (tmp_path / "n" / "work" / "half").mkdir(parents=True)
    (tmp_path / "n" / "work" / "half" / "checkpoint").write_text("x")
    note = write_note(tmp_path / "n")
    assert not (tmp_path / "n" / "work").exists()
    assert set(read_manifest(note.folder).files) == {"a.npy", "deep/b.txt", "measured.json", "record.json"}


def test_sealing_again_gives_the_same_digest(tmp_path):
    """A run that was killed between sealing and publishing seals the same folder a second time."""
    note = write_note(tmp_path / "n")
    assert Note.seal(note.folder, note.info).digest == note.digest


def test_arrays_are_read_only_and_never_unpickled(tmp_path):
    note = write_note(tmp_path / "n")
    with pytest.raises(ValueError, match="read-only"):
        note.array("a.npy")[0] = 1
    np.save(tmp_path / "n" / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        note.array("a.npy")


def test_numbers_that_json_cannot_hold_are_refused(tmp_path):
    from bigstep.records.sealed import write_json

    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})


# ---- Large files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def hashed(monkeypatch):
    """Let files of 10 bytes or more be large, and return the names of the files that are hashed from here on."""
    monkeypatch.setattr(sealed, "LARGE_BYTES", 10)
    names, real = [], sealed.sha256

    def counted(path):
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(sealed, "sha256", counted)
    return names


def flip_and_backdate(path):
    """Change one bit of a file and put its time back, as a copying tool can."""
    found = path.stat()
    flip(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def decay(path):
    """Change one bit of a file as a bad disk does, of which the file system knows nothing."""
    flip(path)
    note = path.with_name(CHECKED)
    noted = json.loads(note.read_bytes())
    noted[path.name][1:] = sealed.stamp(path.stat())
    note.write_text(json.dumps(noted))


def test_large_files_are_read_once_and_small_ones_always(tmp_path, hashed):
    note = write_note(tmp_path / "note")
    assert sorted(hashed) == ["a.npy", "b.txt", "measured.json", "record.json"]
    hashed.clear()
    assert Note.open(note.folder) == note
    assert sorted(hashed) == ["b.txt", "measured.json"], "the others were hashed when they were sealed"
    assert CHECKED not in read_manifest(note.folder).files
    assert Note.seal(note.folder, note.info).digest == note.digest, "the note is no part of the record"


def test_a_large_file_with_another_time_is_read_again_once(tmp_path, hashed):
    note = write_note(tmp_path / "note")
    os.utime(note.folder / "a.npy", ns=(0, 0))
    hashed.clear()
    Note.open(note.folder)
    Note.open(note.folder)
    assert hashed.count("a.npy") == 1
    flip(note.folder / "a.npy")
    os.utime(note.folder / "a.npy", ns=(0, 1))
    with pytest.raises(RecordError, match=r"a\.npy was altered"):
        Note.open(note.folder)


def test_a_large_file_is_read_again_when_somebody_wrote_and_put_its_time_back(tmp_path, hashed):
    note = write_note(tmp_path / "note")
    flip_and_backdate(note.folder / "a.npy")
    with pytest.raises(RecordError, match=r"a\.npy was altered"):
        Note.open(note.folder)


def test_every_byte_is_checked_on_request_and_in_a_copy(tmp_path, hashed):
    note = write_note(tmp_path / "note")
    decay(note.folder / "a.npy")
    assert Note.open(note.folder) == note, "which no stamp can tell"
    copy = shutil.copytree(note.folder, tmp_path / "copy")
    with pytest.raises(RecordError, match=r"a\.npy was altered"):
        Note.open(copy)
    forget_checks(note.folder)
    with pytest.raises(RecordError, match=r"a\.npy was altered"):
        Note.open(note.folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", "[1]", '{"a.npy": 3}', "\0"])
def test_a_damaged_note_means_that_every_byte_is_checked(tmp_path, hashed, content):
    note = write_note(tmp_path / "note")
    (note.folder / CHECKED).write_text(content)
    flip_and_backdate(note.folder / "a.npy")
    with pytest.raises(RecordError, match=r"a\.npy was altered"):
        Note.open(note.folder)


def test_a_large_file_that_is_gone_is_missed(tmp_path, hashed):
    note = write_note(tmp_path / "note")
    (note.folder / "a.npy").unlink()
    with pytest.raises(RecordError, match=r"a\.npy is missing"):
        Note.open(note.folder)


def test_no_note_is_written_where_no_file_is_large(tmp_path):
    note = write_note(tmp_path / "note")
    Note.open(note.folder)
    assert not (note.folder / CHECKED).exists()


def test_large_files_are_read_where_an_interrupt_ends_it(tmp_path, monkeypatch):
    note = write_note(tmp_path / "note")
    threads, real = {}, sealed.sha256

    def noted(path):
        threads[path.name] = threading.current_thread()
        return real(path)

    monkeypatch.setattr(sealed, "sha256", noted)
    monkeypatch.setattr(sealed, "LARGE_BYTES", 10)
    Note.open(note.folder)
    assert threads["a.npy"] is threading.main_thread() is not threads["b.txt"]


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    """An empty config.toml is a valid one: after a full disk, `bigstep gc` would take every record for another's."""

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    path = tmp_path / "config.toml"
    replace_file(path, b"old")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            replace_file(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    replace_file(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def in_order(value):
    """Return a value with its mappings as lists of pairs, which compare by order too."""
    if isinstance(value, dict):
        return [(key, in_order(inner)) for key, inner in value.items()]
    return [in_order(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", ["data", "train", "compress", "export", "verify", "bundle"])
def test_a_reopened_record_keeps_every_order(small_run, kind):
    """Attributes are in column order, and widths in the order of the layers: another order is another network."""
    sealed_info = small_run.records[kind].info
    opened = KINDS[kind].open(small_run.records[kind].folder).info
    assert in_order(opened.model_dump(mode="json")) == in_order(sealed_info.model_dump(mode="json"))


class TableInfo(Value):
    """Named numbers whose order says something."""

    columns: dict[str, int]


@dataclass(frozen=True)
class Table(Record[TableInfo]):
    """Nothing but its description."""

    kind: ClassVar[str] = "table"
    Info: ClassVar[type[Any]] = TableInfo


@pytest.mark.parametrize("names", [["young", "male"], [f"hidden{k}" for k in range(1, 13)], ["b", "a", "B", ""]])
def test_names_come_back_in_the_order_they_were_given_in(tmp_path, names):
    Table.seal(tmp_path, TableInfo(columns={name: k for k, name in enumerate(names)}))
    assert list(Table.open(tmp_path).info.columns) == names
    read_manifest(tmp_path)


@pytest.mark.parametrize(
    "number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.EPERM]
)
@pytest.mark.parametrize("only", [stat.S_ISDIR, bool], ids=["folders", "all"])
def test_a_file_system_that_cannot_flush_holds_records_too(tmp_path, monkeypatch, number, only):
    real = os.fsync

    def fsync(handle):
        if only(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    made = write_note(tmp_path / "note")
    assert Note.open(made.folder).digest == made.digest


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_flush_that_lost_content_is_told(tmp_path, monkeypatch, number):
    def lost(_handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", lost)
    with pytest.raises(OSError, match=os.strerror(number)):
        flush(tmp_path)
    with pytest.raises(OSError, match=os.strerror(number)):
        replace_file(tmp_path / "a.json", b"{}")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def lower_layer(tmp_path, monkeypatch):
    """Let no folder that exists now be renamed, as in a lower layer of an overlay."""
    real = Path.rename

    def rename(self, target):
        if self.is_dir() and self.name in ("old", "new"):
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(self))
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)


def test_a_folder_that_cannot_be_renamed_is_copied(tmp_path, lower_layer):
    made = write_note(tmp_path / "new")
    (tmp_path / ".place.copy").mkdir()
    (tmp_path / ".place.copy" / "left.txt").write_text("by a killed run")
    move_folder(made.folder, tmp_path / "place")
    assert Note.open(tmp_path / "place").digest == made.digest
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_other_errors_of_a_rename_stay_what_they_are(tmp_path):
    (tmp_path / "new").mkdir()
    with pytest.raises(FileNotFoundError):
        move_folder(tmp_path / "new", tmp_path / "nowhere" / "place")
    assert (tmp_path / "new").is_dir()

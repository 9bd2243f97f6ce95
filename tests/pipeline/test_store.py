"""The run folder: publishing at once, one process at a time, keys, and disks that fail."""

import errno
import fcntl
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from bigstep.errors import ConfigError, TrainError
from bigstep.records.sealed import Record, Value
from pipeline import store as store_module
from pipeline.store import Store, replace_folder


class NoteInfo(Value):
    """Hold a line of text."""

    text: str


@dataclass(frozen=True)
class Note(Record[NoteInfo]):
    """Hold one line."""

    kind: ClassVar[str] = "note"
    Info: ClassVar[type[Any]] = NoteInfo


class Crash(BaseException):
    """Stand for the end of the process: no `except Exception` catches it."""


def make(store, text="hello", key="k1"):
    """Do what the pipeline does for a stage: find the record, or make and publish it."""
    with store.locked():
        found = store.find(Note, key)
        if found:
            return found
        out = store.partial("note", key)
        shutil.rmtree(out)
        out.mkdir()
        (out / "text").write_text(text)
        return store.publish(Note.seal(out, NoteInfo(text=text)), key)


def crash_at(monkeypatch, number):
    """Crash at the n-th call that changes a folder; return the list of the calls made."""
    calls = []

    def counted(name, works):
        def call(*arguments, **options):
            calls.append(name)
            if len(calls) == number:
                raise Crash(name)
            return works(*arguments, **options)

        return call

    for owner, names in {Path: ("rename", "replace", "mkdir"), os: ("fsync",), shutil: ("rmtree",)}.items():
        for name in names:
            monkeypatch.setattr(owner, name, counted(name, getattr(owner, name)))
    return calls


def listing(folder):
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*")}


@pytest.mark.parametrize("before", ["nothing", "a damaged record", "the same record under another key"])
def test_a_crash_between_any_two_steps_leaves_nothing_half_published(tmp_path, monkeypatch, before):
    reference = make(Store(tmp_path / "reference"))
    for number in range(1, 40):
        store = Store(tmp_path / f"run{number}")
        if before == "a damaged record":
            (make(store).folder / "text").write_text("damaged")
        elif before != "nothing":
            make(store, key="k0")
        with monkeypatch.context() as patch:
            calls = crash_at(patch, number)
            try:
                make(store)
            except Crash:
                pass
            else:
                break
        found = store.find(Note, "k1")
        assert found is None or found.digest == reference.digest
        again = make(store)
        assert again.digest == reference.digest
        assert (again.folder / "text").read_text() == "hello"
        visible = [p.name for p in (store.folder / "records").iterdir() if not p.name.startswith(".")]
        assert visible == [again.folder.name]
    assert number > 6, "the crashes were really made"
    assert {"rename", "replace"} <= set(calls)


def test_a_published_record_is_found_and_not_touched(tmp_path):
    store = Store(tmp_path)
    made = make(store)
    before = listing(tmp_path / "records")
    assert make(store) == made
    assert listing(tmp_path / "records") == before
    assert store.find(Note, "another") is None


@pytest.mark.parametrize("how", ["flip", "remove", "no manifest", "replace", "bad key", "key without digest"])
def test_a_damaged_record_is_told_and_made_again(tmp_path, caplog, how):
    store = Store(tmp_path)
    made = make(store)
    key = tmp_path / "keys" / "k1.json"
    if how == "flip":
        (made.folder / "text").write_text("Hello")
    elif how == "remove":
        (made.folder / "text").unlink()
    elif how == "no manifest":
        shutil.rmtree(made.folder)
    elif how == "replace":  # sealed, but not what the key stands for
        shutil.rmtree(made.folder)
        made.folder.mkdir()
        Note.seal(made.folder, NoteInfo(text="another"))
    elif how == "bad key":
        key.write_text("{")
    else:
        key.write_text("[]")
    with caplog.at_level(logging.WARNING, "bigstep"):
        again = make(store)
    assert again.digest == made.digest and (again.folder / "text").read_text() == "hello"
    assert "made again" in caplog.text
    named = {"flip": "text was altered", "remove": "text is missing", "replace": "was replaced"}
    assert named.get(how, "") in caplog.text
    caplog.clear()
    assert make(store) == again and not caplog.text


def test_one_process_at_a_time(tmp_path, bigstep):
    script = "import sys; from pathlib import Path; from pipeline.store import Store\n"
    script += "with Store(Path(sys.argv[1])).locked(): print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        before = listing(tmp_path)
        ended = bigstep("data", "tiny", "--run-dir", tmp_path)
        assert ended.code == 2 and "in use" in ended.err
        assert re.search(rf"process {holder.pid} on \S+, for \d+:\d\d:\d\d \(h:mm:ss\)\n", ended.err)
        assert listing(tmp_path) == before, "who has no lock writes nothing"
    finally:
        holder.communicate(input="")
    with Store(tmp_path).locked():
        held = json.loads((tmp_path / "lock").read_text())
        assert (held["pid"], held["host"]) == (os.getpid(), socket.gethostname())


@pytest.mark.parametrize(
    ("lock", "says"),
    [
        ({"pid": 7, "host": "ci-3", "since_s": 100_000.0}, "process 7 on ci-3, for 1 day, 0:00:05"),
        ({"pid": 7, "host": "ci-3", "since_s": 999_999.0}, "process 7 on ci-3, for 0:00:00"),  # the clock was set back
        ({"pid": 7, "host": "ci-3", "since_s": None}, "another process"),
        ({"pid": 7}, "another process"),
        (7, "another process"),
    ],
)
def test_a_lock_says_whose_it_is_and_how_old(tmp_path, monkeypatch, lock, says):
    monkeypatch.setattr(time, "time", lambda: 186_405.0)
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(lock))
        file.flush()
        with pytest.raises(ConfigError, match=r"is in use") as caught, Store(tmp_path).locked():
            pass
    assert says in caught.value.got
    assert json.loads((tmp_path / "lock").read_text()) == lock, "a lock is not overwritten by who has to wait"


def test_two_records_whose_folders_share_a_name_do_not_pass_for_each_other(tmp_path, monkeypatch, caplog):
    """Sixteen characters of a digest name a folder; with one they soon collide, and the whole digest decides."""
    monkeypatch.setattr(store_module, "SHORT", 1)
    store = Store(tmp_path)
    texts = [f"text {n}" for n in range(40)]  # more than the sixteen names there are
    made = {text: make(store, text, key=f"k{text}").digest for text in texts}
    assert len(set(made.values())) == 40 and len(list((tmp_path / "records").iterdir())) <= 16
    for text in texts:
        again = make(store, text, key=f"k{text}")
        assert again.digest == made[text] and (again.folder / "text").read_text() == text
    assert "was replaced" in caplog.text


def test_the_lock_is_free_again_after_an_error(tmp_path):
    with pytest.raises(TrainError, match="diverged"), Store(tmp_path).locked():
        raise TrainError("diverged")
    with Store(tmp_path).locked():
        assert (tmp_path / "lock").exists()


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_run_folder_that_cannot_be_made(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="cannot be the run folder"), Store(tmp_path / "file" / below).locked():
        pass
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "error",
    [
        OSError("2534400 requested and 2236288 written"),  # numpy's, without an errno
        RuntimeError("I/O error: No space left on device (os error 28)"),  # like safetensors'
    ],
)
def test_a_full_disk_is_told_whatever_the_library_raises(tmp_path, monkeypatch, error):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4096))
    with pytest.raises(ConfigError, match="the disk is full") as caught, Store(tmp_path).telling_a_full_disk():
        raise error
    assert caught.value.got is error and "goes on from here" in caught.value.do


def test_a_full_disk_of_scratch_files_is_named(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    full = lambda place: SimpleNamespace(free=0 if Path(place) == scratch else 10**12)  # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", full)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with pytest.raises(ConfigError, match="scratch: the disk is full") as caught, Store(tmp_path).telling_a_full_disk():
        raise RuntimeError("cannot write")
    assert "TMPDIR" in caught.value.details["to do"]


def test_no_folder_for_scratch_files_is_told(tmp_path, monkeypatch):
    def nowhere():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with pytest.raises(ConfigError, match="no folder for scratch files"), Store(tmp_path).telling_a_full_disk():
        tempfile.mkdtemp()


def test_other_errors_stay_what_they_are(tmp_path, monkeypatch):
    with pytest.raises(ZeroDivisionError), Store(tmp_path).telling_a_full_disk():
        raise ZeroDivisionError
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(TrainError, match="diverged"), Store(tmp_path).telling_a_full_disk():
        raise TrainError("diverged")


def test_replace_folder_moves_the_older_one_out_of_the_way(tmp_path):
    for name in ("new", "old", ".old.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "is").write_text(name)
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old" / "is").read_text() == "new"


def test_the_key_file_says_which_record_it_led_to(tmp_path):
    made = make(Store(tmp_path))
    noted = json.loads((tmp_path / "keys" / "k1.json").read_text())
    assert noted == {"record": made.folder.name, "digest": made.digest}
    assert Store(tmp_path).noted("k1") == made.digest and Store(tmp_path).noted("k2") is None

"""Runs that are killed and interrupted: nobody is left behind, and the next run goes on to the same digests."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bigstep.records.sealed import WORK
from pipeline.run import run

SCRIPT = Path(sys.executable).with_name("bigstep")
WAIT_S = 60
CORES = os.sched_getaffinity(0)


def start(*arguments, cores=None):
    """Start a command as a terminal does: the leader of a group of its own, which Ctrl-C reaches as a whole."""
    return subprocess.Popen(
        [SCRIPT, *map(str, arguments)],
        preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture
def command():
    """Return `start`; whatever still runs after the test is ended by its id."""
    started = []

    def begin(*arguments, **options):
        started.append(start(*arguments, **options))
        return started[-1]

    yield begin
    for child in started:
        if child.poll() is None:
            child.kill()
        child.communicate()


def until(child, condition, what):
    """Wait for something on the disk while the command runs."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert child.poll() is None, f"the command ended before {what}: {child.communicate()}"
        assert time.monotonic() < end, f"never saw {what}"
        time.sleep(0.005)


def alive(group):
    """Return the processes of a group that are more than an entry waiting to be read by their parent."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _, process_group = rest.split()[:3]
        if int(process_group) == group and state != "Z":
            found.append(name)
    return found


def nobody_left(group):
    end = time.monotonic() + 5
    while left := alive(group):
        if time.monotonic() > end:
            return left
        time.sleep(0.05)
    return []


def files_of_trials(record):
    """Return the files of the trials that are over, not of short ones that may go on."""
    over = [p.parent for p in record.glob("trials/*/trial.json") if json.loads(p.read_bytes())["status"] != "stopped"]
    return {p.relative_to(record).as_posix(): p.stat().st_mtime_ns for trial in over for p in trial.iterdir()}


def a_trial(folder):
    return lambda: any(files_of_trials(record) for record in folder.glob("partial/train-*"))


@pytest.fixture
def one_core(monkeypatch):
    """Let the run that finishes train here, one trial after the other: the digest must not show it."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})


def test_ctrl_c_ends_with_one_line_and_the_next_run_goes_on(
    command, small_config, small_toml, small_run, tmp_path, one_core
):
    folder = tmp_path / "run"
    child = command("train", small_toml, "--run-dir", folder)
    until(child, a_trial(folder), "a finished trial")
    os.killpg(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=WAIT_S)
    assert (child.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "interrupted; the same command goes on from here"
    assert nobody_left(child.pid) == []
    assert len(list((folder / "keys").iterdir())) == 1, "only the data were finished"
    done = files_of_trials(next(folder.glob("partial/train-*")))
    records = run(small_config, folder, until="train")
    assert records.train.digest == small_run.records["train"].digest
    again = files_of_trials(next(folder.glob("records/trained-*")))
    assert 0 < len(done) < len(again)
    assert done.items() <= again.items(), "finished trials are not trained a second time"


def test_sigterm_ends_a_run_as_ctrl_c_does(command, small_toml, tmp_path):
    """CI systems and containers send it, to the first process alone."""
    folder = tmp_path / "run"
    child = command("train", small_toml, "--run-dir", folder)
    until(child, a_trial(folder), "a finished trial")
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=WAIT_S)
    assert (child.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted; the same command goes on from here"
    assert (folder / "summary.md").read_text().startswith("## ✘ Interrupted in train")
    assert nobody_left(child.pid) == []


def test_kill_9_in_training_and_in_compression(command, small_config, small_toml, small_run, tmp_path, one_core):
    """The second command trains on one core, the first on all there are: neither shows in the digests."""
    folder = tmp_path / "run"
    child = command("compress", small_toml, "--run-dir", folder)
    until(child, a_trial(folder), "a finished trial")
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert nobody_left(child.pid) == [], "workers end when their parent is gone"
    assert len(list((folder / "keys").iterdir())) == 1

    child = command("compress", small_toml, "--run-dir", folder, cores={min(CORES)})
    until(child, lambda: any(folder.glob(f"partial/compress-*/{WORK}/candidate*")), "a candidate")
    child.kill()
    child.communicate()
    assert nobody_left(child.pid) == []
    assert len(list((folder / "keys").iterdir())) == 2, "training was finished, compression was not"

    records = run(small_config, folder, until="compress")
    assert records.compress.digest == small_run.records["compress"].digest
    names = {p.name for p in (folder / "records").iterdir()}
    assert names == {small_run.records[stage].folder.name for stage in ("data", "train", "compress")}

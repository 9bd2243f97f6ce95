"""`bigstep follow`: what it shows of trainings under way, ended, moved, torn and missing."""

import fcntl
import json
import math
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigstep.config_file import PRESETS, to_toml
from bigstep.errors import ConfigError
from bigstep.lock import held
from bigstep.records.trained import Moment, Recipe, Trial
from bigstep.terminal import Terminal
from pipeline.follow import place
from pipeline.follow.view import Screen, number, trend
from pipeline.store import Store

ALARM = "step 126: the L2 norm of the weights grew from 10 at step 0 to 23.4; try a rate below 0.25"


def measurement(epoch, alarms=None, **changes):
    values = {"train_loss": 2.3 / 2**epoch, "biased_loss": 1.0, "validation_loss": 2.5, "bias_following": 0.76}
    values |= {"gradient": 0.5, "l1": 5000.0, "l2": 17.06, "spread": 1.0, "dead": 0.05} | changes
    return Moment(step=63 * epoch, epoch=epoch, numbers=values, alarms=alarms or {})


def write_log(folder, *measurements, torn=""):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(m.model_dump_json() + "\n" for m in measurements) + torn)


def write_trial(folder, status="fitted", steps=189):
    recipe = Recipe(optimizer="sgd", rate=0.1)
    trial = Trial(name=folder.name, recipe=recipe, seed=0, status=status, steps=steps, train_loss=0.25)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trial.json").write_text(trial.model_dump_json())


@pytest.fixture
def run(tmp_path):
    """Return a run folder in which one watched trial goes on, one diverged with an alarm, and one was not watched."""
    training = tmp_path / "run" / "partial" / "train-0123"
    write_log(training / "work" / "sgd-0.2236-m0.9-s0~1a2b3c4d", *map(measurement, range(4)), torn='{"step":')
    alarmed = [measurement(0), measurement(1, stability=1.33), measurement(2, l2=23.4, alarms={"norm": ALARM})]
    write_log(training / "trials" / "sgd-0.5-s0", *alarmed)
    write_trial(training / "trials" / "sgd-0.5-s0", "diverged")
    write_trial(training / "trials" / "sgd-0.1-s0")
    (tmp_path / "run" / "lock").touch()
    return tmp_path / "run"


def test_the_present_state_fits_eighty_columns(bigstep, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    ended = bigstep("follow", run, "--once")
    assert ended.code == 0
    heading, *rows = (line.rstrip() for line in ended.out.splitlines()[:4])
    assert max(map(len, [heading, *rows])) <= 80
    assert heading.split() == ["trial", "step", "train", "trend", "valid", "trend", "bias", "S*eta/2", "norm"]
    assert rows[0].split() == ["sgd-0.1-s0", "fit", "189", "0.250"]
    assert rows[1].split()[:5] == ["sgd-0.2236-m0.9-s0", "runs", "189", "0.287", "█▆▃▁"]
    assert rows[1].split()[5:] == ["2.500", "▁▁▁▁", "76%", "-", "17.06"]
    assert rows[2].split() == ["sgd-0.5-s0", "div.!", "189", "0.575", "█▅▁", "2.500", "▁▁▁", "76%", "1.330", "23.40"]
    assert f"! sgd-0.5-s0, {ALARM}" in ended.out


def test_json_has_one_line_for_each_measurement(bigstep, run):
    lines = [json.loads(line) for line in bigstep("follow", run, "--json").out.splitlines()]
    assert [(line["trial"], line["step"]) for line in lines] == [
        *(("sgd-0.2236-m0.9-s0", 63 * k) for k in range(4)),
        *(("sgd-0.5-s0", 63 * k) for k in range(3)),
    ]
    assert lines[0]["train_loss"] == 2.3 and lines[-1]["alarms"] == {"norm": ALARM}


def test_a_trial_that_goes_on_after_it_had_stopped_is_at_work(bigstep, run):
    training = run / "partial/train-0123"
    write_trial(training / "trials" / "sgd-0.1-s0", "stopped")
    assert "stop" in bigstep("follow", run, "--once").out
    again = shutil.copytree(training / "trials" / "sgd-0.1-s0", training / "work" / "sgd-0.1-s0~1a2b3c4d")
    shutil.copytree(again, training / "work" / ".rehearsal")
    write_log(again, *map(measurement, range(5)))
    rows = [line.split() for line in bigstep("follow", run, "--once").out.splitlines() if "sgd-0.1-s0" in line]
    assert [row[:3] for row in rows] == [["sgd-0.1-s0", "runs", "252"]]


def test_attempts_that_were_left_behind_are_not_shown(bigstep, run):
    training = run / "partial/train-0123"
    for attempt, epochs in (("1", 2), ("2", 6), ("3", 3)):
        write_log(training / "work" / f"sgd-0.2-s0~{attempt}", *map(measurement, range(epochs)))
        write_log(training / "work" / f"sgd-0.5-s0~{attempt}", *map(measurement, range(epochs)))
    rows = [line.split() for line in bigstep("follow", run, "--once").out.splitlines()]
    assert [row[:3] for row in rows if "sgd-0.2-s0" in row] == [["sgd-0.2-s0", "runs", "315"]]
    assert [row[1] for row in rows if "sgd-0.5-s0" in row][:1] == ["div.!"]


@pytest.mark.parametrize("name", ["log.jsonl", "."])
def test_one_trial_can_be_named(bigstep, run, name):
    ended = bigstep("follow", run / "partial/train-0123/trials/sgd-0.5-s0" / name, "--once")
    assert "sgd-0.5-s0" in ended.out and "sgd-0.1" not in ended.out


def test_a_log_can_be_named_from_its_own_folder(bigstep, run, monkeypatch):
    monkeypatch.chdir(run / "partial/train-0123/trials/sgd-0.5-s0")
    assert {json.loads(line)["trial"] for line in bigstep("follow", "log.jsonl", "--json").out.splitlines()} == {
        "sgd-0.5-s0"
    }


def test_a_trial_without_a_lock_above_it_can_be_named(bigstep, run, tmp_path):
    copied = shutil.copytree(run / "partial/train-0123", tmp_path / "copied")
    assert "sgd-0.2236" in bigstep("follow", copied, "--json").out
    assert "sgd-0.2236" not in bigstep("follow", copied / "trials/sgd-0.5-s0/log.jsonl", "--json").out


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("missing", "no such file or folder"),
        ("empty", "no training in it"),
        ("file.txt", "no training in it"),
        ("http://127.0.0.1:8000/", "curl http://127.0.0.1:8000/metrics"),
    ],
)
def test_what_cannot_be_followed_is_an_error_of_the_user(bigstep, tmp_path, monkeypatch, source, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    ended = bigstep("follow", source)
    assert ended.code == 2 and words in ended.err
    with pytest.raises(ConfigError):
        place.find(source)


def test_before_training_begins_and_without_logs_it_says_so(bigstep, run):
    shutil.rmtree(run / "partial")
    assert "Nothing has been trained here yet" in bigstep("follow", run).out
    write_trial(run / "partial/train-1/trials/sgd-0.1-s0")
    assert "--set train.observe_steps=" in bigstep("follow", run).out


def test_the_training_that_was_last_at_work_is_shown(run):
    stale = run / "partial" / "train-4567"
    write_log(stale / "work" / "old", measurement(0))
    log = run / "partial/train-0123/work/sgd-0.2236-m0.9-s0~1a2b3c4d/log.jsonl"
    time.sleep(0.02)
    with log.open("a") as file:
        file.write("\n")
    assert place.find(str(run)).folder().name == "train-0123"
    time.sleep(0.02)
    (run / "records").mkdir()
    (stale).rename(run / "records" / "trained-89ab")
    write_trial(run / "records" / "trained-89ab" / "trials" / "old")
    assert place.find(str(run)).folder().name == "trained-89ab"


def test_it_follows_a_run_to_its_end(bigstep, run, monkeypatch):
    """While a run goes on, a trial grows, ends and moves, and the training is published; then the run ends."""
    monkeypatch.setattr("pipeline.follow.follow.POLL_SECONDS", 0.05)
    training, begun = run / "partial/train-0123", threading.Event()

    def work():
        with Store(run).locked():
            begun.set()
            time.sleep(0.2)
            write_log(training / "work" / "sgd-0.2236-m0.9-s0~1a2b3c4d", *map(measurement, range(6)))
            time.sleep(0.2)
            write_trial(training / "work" / "sgd-0.2236-m0.9-s0~1a2b3c4d", steps=315)
            (training / "work" / "sgd-0.2236-m0.9-s0~1a2b3c4d").rename(training / "trials" / "sgd-0.2236-m0.9-s0")
            (run / "records").mkdir()
            training.rename(run / "records" / "trained-89ab")
            time.sleep(0.2)

    worker = threading.Thread(target=work)
    worker.start()
    assert begun.wait(10)
    ended = bigstep("follow", run)
    worker.join()
    assert ended.code == 0 and not held(run)
    lines = ended.out.splitlines()
    steps = [line.split()[2] for line in lines if line.startswith("sgd-0.2236-m0.9-s0 step")]
    assert steps == ["0,", "63,", "126,", "189,", "252,", "315,"]
    assert f"! sgd-0.5-s0, {ALARM}" in lines
    assert any(line.split()[:3] == ["sgd-0.2236-m0.9-s0", "fit", "315"] for line in lines)


def test_ctrl_c_ends_it_with_130(run):
    with (run / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert held(run)
        command = [sys.executable, "-m", "bigstep", "follow", str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert "step 0" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
    assert process.returncode == 130 and "Traceback" not in err


def test_a_look_at_the_lock_does_not_stop_a_run_from_beginning(run):
    stop = threading.Event()

    def look():
        while not stop.wait(0.001):
            held(run)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(20):
            with Store(run).locked():
                assert held(run)
    finally:
        stop.set()
        looker.join()
    assert not held(run) and not held(run / "missing")


def test_a_terminal_gets_as_many_trials_as_it_is_high(run, monkeypatch):
    for k in range(40):
        write_trial(run / "partial/train-0123/trials" / f"sgd-0.1-s{k}")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    terminal = Terminal()
    with terminal.capture() as capture, Screen(terminal) as screen:
        screen.show(place.find(str(run)).look())
    lines = capture.get().splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[1:4]] == ["sgd-0.2236-m0.9-s0", "sgd-0.5-s0", "sgd-0.1-s0"]
    shown = sum(line.startswith("sgd-") for line in lines)
    assert f"and {42 - shown} more" in capture.get() and "try a rate below 0.25" in capture.get()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0.000"),
        (0.0044, "0.004"),
        (12.34, "12.34"),
        (123.4, "123.4"),
        (1234.5, "1234"),
        (-2.0, "-2.000"),
    ],
)
def test_numbers_are_short(value, text):
    assert number(value) == text


@given(st.floats(0, 1e90).filter(lambda x: x == 0 or x > 1e-90))
def test_every_number_fits_its_column(value):
    assert len(number(value)) <= 5
    assert math.isclose(float(number(value)), value, rel_tol=0.6, abs_tol=6e-4)


LOSSES = st.lists(st.none() | st.floats(0, 1e6), max_size=50)


@given(LOSSES)
def test_a_trend_keeps_the_order_of_what_it_draws(values):
    drawn = trend(values)
    assert len(drawn) == min(len(values), 7)
    assert (drawn[-1:] == " ") == (values[-1:] == [None])
    assert trend(sorted(v for v in values if v is not None)) == "".join(
        sorted(trend(sorted(v for v in values if v is not None)))
    )


def test_a_trend_without_unicode_is_drawn_in_ascii():
    assert trend([1, 10, 100], "_.-") == "_.-" and trend([5.0, 5.0]) == "▁▁" and trend([]) == ""


def test_watching_is_a_setting_of_every_configuration():
    assert "observe_steps = 0" in to_toml(PRESETS["digits"]())

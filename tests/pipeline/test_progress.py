"""Progress: bars on a terminal, plain lines elsewhere, and nothing left behind."""

import io
import logging
import sys

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from pipeline import progress

LOG = logging.getLogger("bigstep")


@pytest.fixture
def stage_log():
    return logging.getLogger("bigstep.train")


def test_lines_say_the_stage_and_how_far_it_is(capsys, stage_log):
    with progress.shown():
        LOG.info("train: running")
        stage_log.info("sgd-0.1-s0 [fitted]", extra={"done": 1, "total": 5})
        stage_log.info("chosen %s", "sgd-0.1-s0")
        stage_log.debug("not for people")
    out, err = capsys.readouterr()
    assert err == "train: running\ntrain [1/5]: sgd-0.1-s0 [fitted]\ntrain: chosen sgd-0.1-s0\n"
    assert out == ""


def test_long_lines_are_not_broken(capsys, stage_log):
    with progress.shown():
        stage_log.info("word " * 100)
    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_is_left_behind(capsys, monkeypatch, stage_log):
    monkeypatch.setattr(LOG, "propagate", True)
    before = (list(LOG.handlers), LOG.propagate)
    with pytest.raises(ZeroDivisionError), progress.shown():
        raise ZeroDivisionError
    assert (list(LOG.handlers), LOG.propagate) == before
    stage_log.info("nobody listens")
    assert capsys.readouterr().err == ""


def test_bars_have_one_task_per_stage(stage_log):
    console = Console(file=io.StringIO(), width=80)
    bars = Progress(TextColumn("{task.description} {task.fields[last]}"), console=console)
    handler = progress.Bars(bars)
    other = logging.getLogger("bigstep.export")
    for log in (stage_log, other):
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    try:
        for done in (1, 2):
            stage_log.info("trial %d", done, extra={"done": done, "total": 2})
        other.info("compact", extra={"done": 1, "total": 8})
        stage_log.info("[why] this rate")
    finally:
        for log in (stage_log, other):
            log.removeHandler(handler)
    tasks = {task.description: (task.completed, task.total, task.fields["last"]) for task in bars.tasks}
    assert tasks == {"train": (2, 2, ""), "export": (1, 8, "compact")}, "a finished bar says no more"
    assert console.file.getvalue() == "[why] this rate\n", "messages are no markup"


class Screen(io.StringIO):
    """Claim to be a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize("name", ["TERM=dumb", "TTY_COMPATIBLE=0", "TTY_INTERACTIVE=0"])
def test_a_terminal_on_which_nothing_can_be_drawn_gets_lines(monkeypatch, stage_log, name):
    stream = Screen()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv(*name.split("="))
    with progress.shown():
        stage_log.info("one", extra={"done": 1, "total": 5})
    assert stream.getvalue() == "train [1/5]: one\n"


def test_a_terminal_gets_bars(monkeypatch, stage_log):
    stream = Screen()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    with progress.shown():
        stage_log.info("a very long name of a trial " * 5, extra={"done": 1, "total": 5})
        stage_log.info("done", extra={"done": 5, "total": 5})
    written = stream.getvalue()
    assert "\x1b[" in written and "5/5" in written and "train" in written

"""Many files are read: in order whatever is ready first, with few messages, and no more at once than a window."""

import logging
import time
from pathlib import Path

import pytest

from data.files import parallel


def test_order_is_kept_when_a_late_file_is_ready_first(monkeypatch):
    monkeypatch.setattr(parallel, "usable_cores", lambda: 4)

    def read(file):
        time.sleep(0.02 if file.name in ("0", "5") else 0)
        return file.name

    names = [str(number) for number in range(200)]
    assert list(parallel.read_all(read, [Path(name) for name in names], "train")) == names


def test_no_more_than_a_window_of_files_is_read_ahead(monkeypatch):
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    begun: list[int] = []
    results = parallel.in_order(begun.append, range(500))
    next(results)
    time.sleep(0.05)
    assert len(begun) == 2 * parallel.WINDOW
    assert sum(1 for _ in results) == 499


def test_whoever_stops_early_waits_for_what_is_begun_and_for_no_more(monkeypatch):
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    begun, ended = [], []

    def work(number):
        begun.append(number)
        time.sleep(0.02)
        ended.append(number)

    results = parallel.in_order(work, range(500))
    next(results)
    results.close()
    time.sleep(0.05)
    assert sorted(begun) == sorted(ended) and len(begun) < 2 * parallel.WINDOW


def test_no_files_give_nothing():
    assert list(parallel.read_all(str, [], "train")) == []


def test_progress_is_logged_in_few_messages(caplog):
    with caplog.at_level(logging.INFO, logger="bigstep.data"):
        assert len(list(parallel.read_all(str, [Path("x")] * 2500, "validation"))) == 2500
    assert [(record.name, record.done, record.total) for record in caplog.records] == [
        ("bigstep.data.validation", done, 2500) for done in (1024, 2048, 2500)
    ]


def test_a_small_set_logs_nothing(caplog):
    with caplog.at_level(logging.INFO, logger="bigstep.data"):
        assert len(list(parallel.read_all(str, [Path("x")] * 20, "train"))) == 20
    assert not caplog.records


def test_the_first_error_in_the_order_of_the_files_ends_it():
    with pytest.raises(ValueError, match="x3"):
        list(parallel.read_all(int, ["1", "2", "x3", "x4"], "train"))

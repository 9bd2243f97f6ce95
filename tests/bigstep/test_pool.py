"""Work side by side: in this process where one is enough, in others where not, and what ends them."""

import operator
import os

import pytest

from bigstep import pool
from bigstep.errors import BigstepError


def describe(setup, job):
    return job, setup["base"] + job, os.getpid()


def fail(setup, job):
    raise NotADirectoryError(setup)


def die(setup, job):
    os._exit(9)


@pytest.fixture
def cores(monkeypatch):
    return lambda n: monkeypatch.setattr(pool.os, "sched_getaffinity", lambda _: set(range(n)))


@pytest.mark.parametrize("n", [1, 2])
def test_every_job_is_done_once_whatever_the_number_of_processes(cores, n):
    cores(n)
    done = sorted(pool.run({"base": 10}, [1, 2, 3], describe))
    assert [found[:2] for found in done] == [(1, 11), (2, 12), (3, 13)]
    assert ({found[2] for found in done} == {os.getpid()}) is (n == 1)


def test_one_job_needs_no_process(cores):
    cores(4)
    assert list(pool.run({"base": 1}, [1], describe)) == [(1, 2, os.getpid())]
    assert list(pool.run({"base": 1}, [], describe)) == []


def test_the_number_of_processes_can_be_bounded(cores):
    cores(4)
    assert {found[2] for found in pool.run({"base": 1}, [1, 2], describe, most=1)} == {os.getpid()}


def test_an_error_in_a_worker_reaches_the_caller(cores):
    cores(2)
    with pytest.raises(NotADirectoryError, match="given"):
        list(pool.run("given", [1, 2], fail))


def test_a_worker_that_the_system_ends_is_told(cores):
    cores(2)
    with pytest.raises(BigstepError, match="a worker process was killed") as caught:
        list(pool.run(None, [1, 2], die))
    assert "more memory" in caught.value.do


def test_without_shared_memory_one_process_does_the_work(monkeypatch, caplog):
    def refuse(*_arguments, **_options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(pool, "usable_cores", lambda: 2)
    monkeypatch.setattr(pool, "ProcessPoolExecutor", refuse)
    assert sorted(pool.run(10, [1, 2, 3], operator.add)) == [11, 12, 13]
    assert "/dev/shm" in caplog.text and "Read-only" in caplog.text

"""Workers: one job stays in this process, an error in a worker reaches the caller."""

import dataclasses
import logging

import pytest
import torch

from bigstep import pool
from bigstep.config import TrainConfig
from bigstep.records.trained import Recipe
from train import prepare, workers
from train.setup import Job, Setup
from train.trial import run_trial


@pytest.fixture
def setup(rows, tmp_path):
    return Setup(rows, prepare.architecture_of(TrainConfig(widths=(4,)), rows), 16, 0.2, "cpu", tmp_path)


def job(seed: int) -> Job:
    return Job(f"sgd-0.1-s{seed}", Recipe(optimizer="sgd", rate=0.1), seed, 30)


def test_a_single_job_runs_here_on_one_thread_and_gives_the_threads_back(setup, monkeypatch):
    seen = []
    run_trial = workers.run_trial

    def watched(*args):
        seen.append(torch.get_num_threads())
        return run_trial(*args)

    monkeypatch.setattr(workers, "run_trial", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        [found] = workers.run_trials(setup, [job(0)])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1] and found.name == "sgd-0.1-s0"


def test_no_jobs_are_no_work(setup):
    assert list(workers.run_trials(setup, [])) == []


def test_an_error_in_a_worker_reaches_the_caller(setup, tmp_path, monkeypatch):
    monkeypatch.setattr(pool.os, "sched_getaffinity", lambda _: {0, 1})
    (tmp_path / "file").write_text("in the way")
    broken = dataclasses.replace(setup, out=tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        list(workers.run_trials(broken, [job(0), job(1)]))


def test_a_damaged_checkpoint_only_costs_the_time_it_held(setup, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bigstep"), "propagate", True)
    undisturbed = run_trial(setup, job(0))
    work = setup.out / "work" / job(1).name
    work.mkdir(parents=True)
    (work / "checkpoint.safetensors").write_bytes(b"torn")
    found = run_trial(setup, dataclasses.replace(job(0), name=job(1).name))
    assert "it starts again" in caplog.text
    assert found.model_copy(update={"name": undisturbed.name}) == undisturbed

"""One training run: it goes on, is killed, and ends with the same files."""

import logging
from pathlib import Path
from shutil import copytree

import pytest

from bigstep import pool
from bigstep.records.measured import noted_instructions
from bigstep.records.trained import Recipe
from train import prepare, trial, workers
from train.setup import Job


def test_a_short_trial_goes_on_to_the_bits_of_an_undisturbed_one(rows, tmp_path, cores, stage_config):
    recipe = Recipe(optimizer="sgd", rate=0.002, momentum=0.5)
    for out, lengths in (("whole", [60]), ("parts", [12, 30, 60])):
        setup = prepare.make_setup(stage_config, rows, "cpu", tmp_path / out)
        found = [trial.run_trial(setup, Job("t", recipe, 0, n, final=n == 60)) for n in lengths]
        assert [t.steps for t in found] == lengths and found[-1].status == "unfitted"
        assert all(t.status == "stopped" and not t.stored and not t.numbers for t in found[:-1])
    whole, parts = (tmp_path / out / "trials" / "t" for out in ("whole", "parts"))
    assert {p.name: p.read_bytes() for p in whole.iterdir()} == {p.name: p.read_bytes() for p in parts.iterdir()}


class Cut(BaseException):
    """Stand for a signal that ends the process."""


def cut(*_, **__):
    raise Cut


def cut_at(folder):
    """Return a way to rename that ends the process after a folder was moved, or before another gets its place."""
    rename = Path.rename

    def renamed(path, target):
        if path == folder:
            rename(path, target)
        elif folder.is_dir():
            return rename(path, target)  # which fails: the place is taken
        raise Cut

    return renamed


@pytest.mark.parametrize("observe_steps", [0, 20])
@pytest.mark.parametrize("lengths", [[6, 60], [12, 60], [60]], ids=["an epoch", "two epochs", "at once"])
@pytest.mark.parametrize("place", ["flush", "rename"])
def test_a_trial_killed_while_it_is_published_ends_with_the_same_files(
    rows, tmp_path, cores, monkeypatch, lengths, place, observe_steps, stage_config
):
    recipe = Recipe(optimizer="sgd", rate=0.002)
    config = stage_config.model_copy(update={"observe_steps": observe_steps})
    jobs = [Job("t", recipe, 0, n, final=n == 60) for n in lengths]
    whole, killed = (prepare.make_setup(config, rows, "cpu", tmp_path / name) for name in ("whole", "killed"))
    for job in jobs:
        expected = trial.run_trial(whole, job)
    for job in jobs:
        with monkeypatch.context() as patch:
            if place == "flush":
                patch.setattr(trial, "flush", cut)
            else:  # where there is a shorter trial, when it was moved out of the way
                patch.setattr(trial.Path, "rename", cut_at(killed.folder("t")))
            with pytest.raises(Cut):
                trial.run_trial(killed, job)
        assert trial.run_trial(killed, job).steps == job.max_steps
    assert trial.run_trial(killed, jobs[-1]) == expected

    def files(setup):
        folder = setup.out / "trials" / "t"
        paths = [p for p in folder.rglob("*") if p.is_file() and "tensorboard" not in p.parts]
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}

    assert files(killed) == files(whole)


def test_a_short_trial_whose_checkpoint_is_lost_starts_again(rows, tmp_path, cores, stage_config):
    setup = prepare.make_setup(stage_config, rows, "cpu", tmp_path)
    recipe = Recipe(optimizer="sgd", rate=0.002)
    trial.run_trial(setup, Job("t", recipe, 0, 12, final=False))
    (tmp_path / "trials" / "t" / "checkpoint.safetensors").write_bytes(b"cut")
    assert trial.run_trial(setup, Job("t", recipe, 0, 60)).steps == 60


def test_a_damaged_checkpoint_only_costs_the_time_it_held(rows, tmp_path, caplog, monkeypatch, stage_config):
    monkeypatch.setattr(logging.getLogger("bigstep"), "propagate", True)
    setup = prepare.make_setup(stage_config, rows, "cpu", tmp_path)
    recipe = Recipe(optimizer="sgd", rate=0.1)
    undisturbed = trial.run_trial(setup, Job("one", recipe, 0, 30))
    (setup.out / "work" / "two~1").mkdir(parents=True)
    (setup.out / "work" / "two~1" / "checkpoint.safetensors").write_bytes(b"torn")
    found = trial.run_trial(setup, Job("two", recipe, 0, 30))
    assert "it starts again" in caplog.text
    assert found.model_copy(update={"name": "one"}) == undisturbed


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_two_attempts_at_one_trial_at_once_come_to_one_result(rows, tmp_path, stage_config, monkeypatch):
    job = Job("t", Recipe(optimizer="sgd", rate=0.002), 0, 600)
    alone, twice = (prepare.make_setup(stage_config, rows, "cpu", tmp_path / name) for name in ("alone", "twice"))
    expected = trial.run_trial(alone, job)
    monkeypatch.setattr(pool.os, "sched_getaffinity", lambda _: {0, 1})
    assert list(workers.run_trials(twice, [job] * 4)) == [expected] * 4
    assert files(twice.folder("t")) == files(alone.folder("t"))
    assert not any((twice.out / "work").iterdir())


@pytest.mark.parametrize("shorter", [False, True])
def test_the_first_attempt_to_finish_counts(rows, tmp_path, cores, stage_config, shorter):
    """Two attempts, the second of which trains while the first is published; both may have a shorter one to replace."""
    setup = prepare.make_setup(stage_config, rows, "cpu", tmp_path)
    recipe = Recipe(optimizer="sgd", rate=0.002)
    if shorter:
        trial.run_trial(setup, Job("t", recipe, 0, 12, final=False))
    job = Job("t", recipe, 0, 60)
    first, second = trial.make_trial(setup, job), trial.make_trial(setup, job)
    waiting = [trial.go_on(making) for making in (first, second)]
    found = []
    for making, fitting in zip((first, second), waiting, strict=True):
        trial.fit(fitting)
        found.append(trial.to_its_end(making))
        (setup.folder("t") / "mark").write_text("of the first")
    assert found[0] == found[1] and found[0].steps == 60
    assert (setup.folder("t") / "mark").is_file() and not any((setup.out / "work").iterdir())


def test_an_attempt_goes_on_from_the_newest_that_was_left(rows, tmp_path, cores, stage_config, monkeypatch):
    setup = prepare.make_setup(stage_config, rows, "cpu", tmp_path)
    recipe = Recipe(optimizer="sgd", rate=0.002)
    for steps in (12, 30, 18):
        trial.run_trial(setup, Job("t", recipe, 0, steps, final=False))
        copytree(setup.folder("t"), setup.out / "work" / f"t~{steps}", dirs_exist_ok=True)
    newest = setup.out / "work" / "t~30" / trial.CHECKPOINT
    newest.touch()
    trial.sweep(setup.out)
    assert [path.name for path in (setup.out / "work").iterdir()] == ["t~30"]
    begun = []
    load = trial.step.load_checkpoint
    monkeypatch.setattr(trial.step, "load_checkpoint", lambda run, path: (load(run, path), begun.append(run.steps)))
    assert trial.run_trial(setup, Job("t", recipe, 0, 60)).steps == 60 and begun == [30]


def test_the_instructions_of_every_processor_are_noted(rows, tmp_path, cores, stage_config, monkeypatch):
    setup = prepare.make_setup(stage_config, rows, "cpu", tmp_path)
    for steps, name in ((12, "A AVX2"), (60, "B AVX-512")):
        monkeypatch.setattr("bigstep.records.measured.instructions", lambda name=name: name)
        trial.run_trial(setup, Job("t", Recipe(optimizer="sgd", rate=0.002), 0, steps, final=steps == 60))
    assert noted_instructions(setup.folder("t")) == ["A AVX2", "B AVX-512"]

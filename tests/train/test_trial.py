"""One training run: it goes on, is killed, and ends with the same files."""

import logging
from shutil import rmtree as remove

import pytest

from bigstep.records.trained import Recipe
from train import prepare, trial
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
            else:  # after the older folder is gone
                patch.setattr(trial.shutil, "rmtree", lambda path, **_: (remove(path, ignore_errors=True), cut()))
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
    (setup.out / "work" / "two").mkdir(parents=True)
    (setup.out / "work" / "two" / "checkpoint.safetensors").write_bytes(b"torn")
    found = trial.run_trial(setup, Job("two", recipe, 0, 30))
    assert "it starts again" in caplog.text
    assert found.model_copy(update={"name": "one"}) == undisturbed

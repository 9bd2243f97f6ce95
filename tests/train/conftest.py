"""Trials written by hand, and a whole stage on small images."""

import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest

from bigstep import pool
from bigstep.config import TrainConfig
from bigstep.records.trained import Recipe, Trial
from train import stage
from train.step import Plan


@pytest.fixture(scope="session")
def make_trial() -> Callable[..., Trial]:
    """Return a builder of trials with a rate, a seed, and whatever else a test wants to say."""

    def make(rate: float, seed: int = 0, status: str = "fitted", **values: float) -> Trial:
        numbers = {"unbiased": 0.5, "aligned": 0.9, "conflicting": 0.5, "prunability": 0.5}
        numbers |= {"biased_accuracy": 0.9, "biased_loss": 0.3}
        if status == "diverged":
            numbers = {}
        recipe = Recipe(optimizer="sgd", rate=rate)
        name = f"sgd-{rate:g}-s{seed}"
        about = {"name": name, "recipe": recipe, "seed": seed, "status": status, "steps": 9, "train_loss": None}
        return Trial(**about, numbers=numbers | values)

    return make


@pytest.fixture(scope="session")
def make_plan() -> Callable[..., Plan]:
    """Return a builder of plans: twenty steps of plain SGD, but for what a test wants to say."""

    def make(**values: object) -> Plan:
        usual = {"batch_size": 16, "stop_loss": 1e-9, "max_steps": 20, "seed": 0}
        return Plan(**{"recipe": Recipe(optimizer="sgd", rate=0.1), **usual, **values})

    return make


@pytest.fixture(scope="session")
def stage_config() -> TrainConfig:
    """Return settings of a stage that takes seconds."""
    return TrainConfig(
        widths=(8,),
        min_rate=0.1,
        max_rate=1000,
        num_rates=3,
        num_seeds=2,
        stop_loss=0.15,
        max_steps=96,
        baseline_max_steps=400,
    )


@pytest.fixture
def cores(monkeypatch):
    """Return a function that sets how many cores the stage believes in; one at first."""

    def set_cores(n: int) -> None:
        monkeypatch.setattr(pool.os, "sched_getaffinity", lambda _: set(range(n)))

    set_cores(1)
    return set_cores


@pytest.fixture(scope="session")
def trained(rows, tmp_path_factory, stage_config):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool.os, "sched_getaffinity", lambda _: {0})
        return stage.run(stage_config, rows, device="cpu", out=tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def blind(rows, tmp_path_factory, stage_config):
    """Return what is chosen where every split but those of the training distribution is gone."""
    folder = tmp_path_factory.mktemp("rows")
    for path in rows.folder.iterdir():
        if not path.name.startswith(("validation.", "test.")):
            shutil.copyfile(path, folder / path.name)
    left = replace(rows, folder=folder)
    config = stage_config.model_copy(update={"bias_labels": False, "baselines": False})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool.os, "sched_getaffinity", lambda _: {0})
        with pytest.raises(FileNotFoundError):
            left.split("validation")
        seeing, unseeing = (
            stage.run(config, r, device="cpu", out=tmp_path_factory.mktemp("out")) for r in (rows, left)
        )
    return seeing, unseeing

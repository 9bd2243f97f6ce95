"""Trials written by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bigstep.records.trained import Recipe, Trial
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

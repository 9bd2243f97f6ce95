"""Settings of a map that takes seconds, and a network to start from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bigstep import pool
from bigstep.config import TrainConfig
from bigstep.records.images import Images
from train import prepare
from train.networks.build import save_weights
from train.rate_map import tasks
from train.setup import Setup


@pytest.fixture(scope="session")
def map_config() -> TrainConfig:
    """Return settings of a map that takes seconds."""
    return TrainConfig(
        widths=(8,),
        min_rate=0.05,
        max_rate=500,
        num_rates=4,
        num_seeds=2,
        stop_loss=0.3,
        max_steps=120,
        baseline_max_steps=120,
    )


@pytest.fixture(scope="package", autouse=True)
def one_core() -> Iterator[None]:
    """Work in this process, where what a test changes is seen, and follow flows for a few steps alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool.os, "sched_getaffinity", lambda _: {0})
        patch.setattr(tasks, "FLOW_STEPS", 10)
        yield


@pytest.fixture
def place(map_config: TrainConfig, rows: Images, tmp_path: Path) -> Setup:
    """Return what the tasks of a map share."""
    return prepare.make_setup(map_config, rows, "cpu", tmp_path)


@pytest.fixture
def weights(place: Setup) -> Path:
    """Return the file of the weights at which seed 1 starts."""
    path = place.out / "w.safetensors"
    save_weights(place.network(1), path)
    return path

"""Records that several parts of the suite read: built once per session, small enough to wait for."""

import logging
import os
import signal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import bigstep.telemetry  # noqa: F401 - tests import onnxruntime themselves
from bigstep.config import Config, DataConfig
from bigstep.records.architecture import Architecture, InputSpec
from bigstep.records.images import Images, ImagesInfo
from bigstep.records.sealed import Record
from pipeline.run import run

# While it exports, PyTorch logs thousands of empty records here, whatever the level; pytest would keep them all.
logging.getLogger("torch.__trace").propagate = False

# A shell that starts the suite in the background has it ignore Ctrl-C, and every process that a test starts as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def small_config() -> Config:
    """Return a configuration whose whole run takes seconds: two rates, one seed, two narrow layers, one share."""
    return Config.model_validate(
        {
            "name": "small",
            "device": "cpu",
            "train": {
                "widths": (24, 24),
                "min_rate": 0.05,
                "max_rate": 0.2,
                "num_rates": 2,
                "num_seeds": 1,
                "stop_loss": 0.3,
                "max_steps": 250,
                "baseline_max_steps": 250,
            },
            "compress": {"keep_fractions": (0.5,), "fine_tune_steps": 100, "calibration_images": 64},
        }
    )


class SmallRun(NamedTuple):
    """Name the run folder of `small_config` and the records in it. Read-only: copy it before changing anything."""

    folder: Path
    records: dict[str, Record[Any]]


@pytest.fixture(name="small_config", scope="session")
def small_config_fixture() -> Config:
    return small_config()


@pytest.fixture(scope="session")
def small_run(small_config: Config, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    folder = tmp_path_factory.mktemp("small") / "run"
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # with one core training needs no processes, which take seconds to start
    try:
        run(small_config, folder, until="train")
    finally:
        os.sched_setaffinity(0, cores)
    return SmallRun(folder, run(small_config, folder).made())  # the speed is that of a machine with all cores


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    from data import stage  # takes a second that most tests need not wait for

    return stage.run(DataConfig(), out=tmp_path_factory.mktemp("images"))


ROWS = {"train": 96, "validation_biased": 24, "validation": 48}


def make_rows(folder: Path) -> Images:
    """Seal 4x4 RGB noise whose brightness pattern is the label; there is no test split at all."""
    rng = np.random.default_rng(0)
    for name, n in ROWS.items():
        labels = np.arange(n) % 3
        pixels = rng.integers(0, 60, size=(n, 4, 4, 3), dtype=np.uint8)
        pixels[np.arange(n), labels] += 150  # the row of the label is bright
        bias = labels if name.endswith("biased") or name == "train" else np.arange(n) // 3 % 3
        arrays = {
            "images": pixels,
            "labels": labels,
            "bias": bias[:, None],
            "ids": np.arange(n),
            "sources": np.arange(n),
        }
        for field, array in arrays.items():
            np.save(folder / f"{name}.{field}.npy", array)
    info = ImagesInfo(
        name="rows",
        labels=["top", "second", "third"],
        attributes={"shade": ["a", "b", "c"]},
        aligned={"shade": np.eye(3, dtype=bool).tolist()},
        input=InputSpec(height_px=4, width_px=4),
        counts=ROWS,
        findings=[],
    )
    return Images.seal(folder, info)


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_rows(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="session")
def mlp() -> Architecture:
    return Architecture(
        family="mlp",
        widths={"hidden1": 6, "hidden2": 5},
        classes=3,
        input=InputSpec(height_px=4, width_px=4),
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.25, 0.2),
    )


@pytest.fixture(scope="session")
def cnn(mlp: Architecture) -> Architecture:
    return mlp.model_copy(update={"family": "cnn", "widths": {"conv1": 4, "conv2": 6}})

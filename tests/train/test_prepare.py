"""From configuration and images to what the trials share."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from train import prepare


def test_without_a_conflicting_image_in_validation_the_rate_is_chosen_without_bias_labels(
    rows, tmp_path, caplog, stage_config
):
    for path in rows.folder.iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    np.save(tmp_path / "validation.bias.npy", np.array(rows.split("validation").labels)[:, None])
    setup = prepare.make_setup(stage_config, replace(rows, folder=tmp_path), "cpu", tmp_path / "out")
    assert not setup.bias_labels and "no conflicting image" in caplog.text
    assert prepare.make_setup(stage_config, rows, "cpu", tmp_path / "out").bias_labels


def test_the_architecture_describes_the_training_pixels(trained, rows):
    pixels = rows.split("train").images.reshape(-1, 3) / 255
    assert trained.info.architecture.mean == pytest.approx(tuple(pixels.mean(axis=0)), abs=1e-6)
    assert trained.info.architecture.std == pytest.approx(tuple(pixels.std(axis=0)), abs=1e-6)
    assert trained.info.architecture.widths == {"hidden1": 8} and trained.info.architecture.classes == 3


def test_a_convolutional_network_is_described_by_channels(rows, stage_config):
    architecture = prepare.architecture_of(stage_config.model_copy(update={"network": "cnn", "widths": (4, 8)}), rows)
    assert architecture.family == "cnn" and architecture.widths == {"conv1": 4, "conv2": 8}

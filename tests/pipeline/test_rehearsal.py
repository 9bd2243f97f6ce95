"""A user's network on the whole road before it is trained: what a later stage would meet is told, with the cause."""

import importlib

import numpy as np
import pytest

from bigstep.errors import TrainError
from pipeline import rehearsal
from pipeline.rehearsal import rehearse
from pipeline.run import run

NET = """
import torch
from torch import nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.body, self.more = nn.Conv2d(channels, 12, 3, padding=1), nn.Conv2d(12, 12, 1)
        self.head = nn.Linear(12, classes)

    def forward(self, x):
        x = F.relu(self.body(x))
        x = F.relu(self.more(x))
        WHAT
        return self.head(x.mean((2, 3)))

def make(classes, channels, height, width):
    return Net(classes, channels)
"""


def enter(stage, config, inputs, out):
    """Go through the door of a stage on the CPU."""
    extra = {"device": "cpu"} if stage.on_device else {}
    extra |= {"demands": stage.demands(config)} if stage.heeds else {}
    return importlib.import_module(stage.door).run(stage.section(config), *inputs, **extra, out=out)


@pytest.fixture
def configured(small_config, tmp_path):
    """Return a function that gives the configuration of a network with some more lines."""

    def configure(lines, **compress):
        path = tmp_path / "net.py"
        path.write_text(NET.replace("WHAT", lines))
        train = small_config.train.model_copy(update={"network": f"{path}:make", "widths": None})
        settings = small_config.compress.model_copy(update=compress)
        return small_config.model_copy(update={"train": train, "compress": settings})

    return configure


def test_a_network_that_can_go_the_whole_road_leaves_nothing_behind(configured, rows, tmp_path, caplog):
    place = tmp_path / "rehearsal"
    assert rehearse(configured("pass"), rows, enter, place) is None
    assert not place.exists() and not [r for r in caplog.records if r.name.startswith("bigstep")]


FAILING = {
    "a gradient that cannot be taken": ("x = x.sigmoid(); y = x * 1; x += 1; x = x + y", "train", "inplace operation"),
    "what ONNX does not have": ("x = x + torch.linalg.eigvalsh(x @ x.transpose(2, 3))[..., None]", "compress", "ONNX"),
    "a number of channels written down": (
        "x = x if x.shape[1] in (12, 6) else x[:, :0]",
        "compress",
        "RuntimeError: ",
    ),
}


@pytest.mark.parametrize(("lines", "stage", "says"), FAILING.values(), ids=FAILING)
def test_what_fails_later_fails_here_with_the_stage_and_the_cause(configured, rows, tmp_path, lines, stage, says):
    config = configured(lines, keep_fractions=(0.5, 0.3))
    with pytest.raises(TrainError, match=says) as caught:
        rehearse(config, rows, enter, tmp_path / "rehearsal")
    assert f"net.py:make fails in the stage {stage}" in str(caught.value) and caught.value.exit_code == 2
    assert not (tmp_path / "rehearsal").exists()


def test_a_file_that_answers_otherwise_than_the_network_is_found(configured, rows, tmp_path):
    config = configured("pass")
    config = config.model_copy(update={"export": config.export.model_copy(update={"fp32_tolerance": 1e-30})})
    with pytest.raises(TrainError, match=r"compact: logits of PyTorch, ONNX float32 are up to .* apart"):
        rehearse(config, rows, enter, tmp_path / "rehearsal")


def test_it_comes_before_the_training(configured, tmp_path):
    with pytest.raises(TrainError, match="fails in the stage train"):
        run(configured(FAILING["a gradient that cannot be taken"][0]), tmp_path / "run", "train")
    assert not [*(tmp_path / "run").glob("partial/train-*/trials/*")]


def test_a_full_disk_is_no_fault_of_the_network(configured, rows, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        rehearse(configured("pass"), rows, full, tmp_path / "rehearsal")


def test_images_of_every_label_and_group_are_taken_first(rows):
    split = rows.split("validation")
    chosen = rehearsal.spread(split)
    assert len(chosen) == rehearsal.IMAGES and (np.diff(chosen) > 0).all()
    cells, counts = np.unique(2 * split.labels[chosen] + split.aligned[chosen], return_counts=True)
    assert len(cells) == 6 and counts.min() >= 4

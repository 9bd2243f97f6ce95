"""Fitted networks and the ONNX files that PyTorch's exporter makes of them: seconds each, so once per session."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from bigstep.records.architecture import Architecture
from bigstep.records.compact import Quantisation
from bigstep.records.exported import Contract
from bigstep.records.images import Images
from bigstep.records.trained import Recipe
from export import graph
from train import step
from train.networks.build import build, normalise


class Written(NamedTuple):
    """Hold a network and its files."""

    model: nn.Sequential
    architecture: Architecture
    contract: Contract
    float32: Path
    int8: Path
    quantisation: Quantisation


@pytest.fixture(scope="session", params=["mlp", "cnn"])
def written(request: pytest.FixtureRequest, rows: Images, tmp_path_factory: pytest.TempPathFactory) -> Written:
    architecture: Architecture = request.getfixturevalue(request.param)
    split = rows.split("train")
    recipe = Recipe(optimizer="adam", rate=0.03)
    run = step.start(build(architecture), recipe)
    x_NCHW = normalise(split.images, architecture)
    step.fit(run, x_NCHW, torch.from_numpy(np.array(split.labels)), step.Plan(recipe, 16, 0.05, 240, 0))
    contract = Contract(input=rows.info.input, labels=rows.info.labels)
    folder = tmp_path_factory.mktemp(request.param)
    float32, int8 = folder / "float32.onnx", folder / "int8.onnx"
    model = run.model.eval()
    graph.write_float32(model, architecture, contract, float32)
    ranges = graph.calibrate(float32, contract, np.array(split.images))
    quantisation = Quantisation(ranges=ranges, float_nodes=[], reduce_range=True)
    graph.write_int8(float32, quantisation, int8)
    return Written(model, architecture, contract, float32, int8, quantisation)

"""A trained record on a tiny data set, and a writer of ONNX files that takes a millisecond instead of a second."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from bigstep import pool
from bigstep.config import ExportConfig, TrainConfig, VerifyConfig
from bigstep.records.architecture import Architecture
from bigstep.records.exported import Contract
from bigstep.records.images import Images
from bigstep.records.trained import Trained
from bigstep.rules import Demands
from train import stage

CONFIG = TrainConfig(
    widths=(160, 80), min_rate=0.1, max_rate=0.2, num_rates=2, num_seeds=1, stop_loss=0.1, max_steps=240
)


def write_plain(network: nn.Sequential, architecture: Architecture, contract: Contract, path: Path) -> None:
    """Write a fully connected network as ONNX node by node: what the search does with a file needs no exporter."""
    mean, std = np.array(architecture.mean), np.array(architecture.std)
    constants = {"scale": 1 / (255 * std), "shift": -mean / std}
    nodes = [
        helper.make_node("Cast", [contract.input_name], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["shifted"]),
        helper.make_node("Transpose", ["shifted"], ["x_NCHW"], perm=[0, 3, 1, 2]),
        helper.make_node("Flatten", ["x_NCHW"], ["flat"]),
    ]
    last = "flat"
    for name, layer in network.named_children():
        if isinstance(layer, nn.Linear):
            constants[f"{name}.w"], constants[f"{name}.b"] = (p.detach().numpy() for p in (layer.weight, layer.bias))
            output = contract.output_name if name == "head" else name
            nodes.append(helper.make_node("Gemm", [last, f"{name}.w", f"{name}.b"], [output], name=name, transB=1))
            last = output
        elif isinstance(layer, nn.ReLU):
            nodes.append(helper.make_node("Relu", [last], [name], name=name))
            last = name
    spec, n = architecture.input, len(contract.labels)
    pixels = ["N", spec.height_px, spec.width_px, spec.channels]
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info(contract.input_name, TensorProto.UINT8, pixels)],
        [helper.make_tensor_value_info(contract.output_name, TensorProto.FLOAT, ["N", n])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


@pytest.fixture(name="write_plain", scope="session")
def write_plain_fixture() -> Callable[..., None]:
    return write_plain


@pytest.fixture(scope="session")
def contract(rows: Images) -> Contract:
    return Contract(input=rows.info.input, labels=rows.info.labels)


@pytest.fixture(scope="session")
def trained(rows: Images, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool.os, "sched_getaffinity", lambda _: {0})  # in this process
        return stage.run(CONFIG, rows, device="cpu", out=tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def demands() -> Demands:
    """Return what a lenient gate asks: 16 aligned validation images are few, so are the equal predictions of 48."""
    return Demands(VerifyConfig(margin=1.0, min_group=10), ExportConfig(int8_agreement=0.8))

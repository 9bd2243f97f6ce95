"""The ONNX files: equal numbers, equal bytes, standard operators, and nothing of the machine that wrote them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bigstep.errors import ExportError
from bigstep.records.architecture import InputSpec
from bigstep.records.compact import Quantisation
from bigstep.records.exported import Contract
from bigstep.records.sealed import sha256
from export import graph
from serve.predictor import Predictor
from train.networks.build import build, normalise, save_weights
from train.networks.predict import one_thread, predict


def pixels(n: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, size=(n, 4, 4, channels), dtype=np.uint8)


def torch_logits(written, images):
    with one_thread():
        return predict(written.model, normalise(images, written.architecture)).numpy()


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_float32_agrees_with_pytorch_at_every_batch_size(written, batch):
    images = pixels(batch)
    found = Predictor.open(written.float32, written.contract).predict(images)
    assert found.shape == (batch, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found, torch_logits(written, images), atol=2e-5, rtol=1e-5)


def test_normalisation_is_inside_and_grey_images_work(mlp, tmp_path):
    spec = InputSpec(height_px=4, width_px=4, channels=1)
    architecture = mlp.model_copy(update={"input": spec, "mean": (0.25,), "std": (0.5,), "widths": {}})
    contract = Contract(input=spec, labels=["a", "b", "c"])
    model = build(architecture)
    with torch.no_grad():
        model.head.weight.fill_(0.0)
        model.head.weight[1, 0] = 1.0
        model.head.bias.zero_()
    graph.write_float32(model, architecture, contract, tmp_path / "grey.onnx")
    found = Predictor.open(tmp_path / "grey.onnx", contract).predict(np.full((2, 4, 4, 1), 255, np.uint8))
    np.testing.assert_allclose(found, [[0.0, (1 - 0.25) / 0.5, 0.0]] * 2, atol=1e-6)


def test_int8_predicts_as_float32_does(written, rows):
    images = np.array(rows.split("validation").images)
    float32, int8 = (Predictor.open(p, written.contract).predict_all(images) for p in (written.float32, written.int8))
    assert np.isfinite(int8).all()
    assert (float32.argmax(axis=1) == int8.argmax(axis=1)).mean() >= 0.97
    assert not np.array_equal(float32, int8)


def quantised_weights(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the int8 weight matrices of a file with their scales."""
    arrays = {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
    names = [n for n, a in arrays.items() if a.dtype == np.int8 and a.ndim > 1]
    return {n: (arrays[n], arrays[n.replace("_quantized", "_scale")]) for n in names}


@pytest.mark.parametrize(("reduce_range", "largest"), [(True, 64), (False, 127)])
def test_weights_are_int8_with_one_scale_per_output(written, tmp_path, reduce_range, largest):
    quantisation = written.quantisation.model_copy(update={"reduce_range": reduce_range})
    graph.write_int8(written.float32, quantisation, tmp_path / "q.onnx")
    found = quantised_weights(tmp_path / "q.onnx")
    assert len(found) == len(written.architecture.widths) + 1
    original = {n: p.detach().numpy() for n, p in written.model.named_parameters()}
    for name, (weights, scales) in found.items():
        assert scales.shape == weights.shape[:1]
        per_output = np.abs(weights.astype(int)).reshape(len(weights), -1).max(axis=1)
        assert per_output.max() <= largest and (per_output >= largest - 1).all()  # the whole range is used
        restored = weights * scales.reshape(-1, *[1] * (weights.ndim - 1))
        expected = original[name.removeprefix("network.").removesuffix("_quantized")]
        assert np.abs(restored - expected).max() <= 0.5001 * scales.max()


def test_activations_are_unsigned_and_pairs_are_standard(written):
    model = onnx.load(written.int8)
    points = {i.name: i.data_type for i in model.graph.initializer}
    activations = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert len(activations) >= 3
    assert {points[n.input[2]] for n in activations} == {TensorProto.UINT8}


def test_logits_leave_in_float_and_the_head_keeps_its_int8_weights(written):
    """Of 256 steps for all logits two classes often share the highest: the lower index, not the image, then decides."""
    model = onnx.load(written.int8)
    [head] = [node for node in model.graph.node if "logits" in node.output]
    assert head.op_type == "Gemm"
    dequantised = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    kinds = {i.name: i.data_type for i in model.graph.initializer}
    assert kinds[dequantised[head.input[1]]] == TensorProto.INT8 and head.input[0] in dequantised
    names = {name for node in model.graph.node for name in (*node.input, *node.output)}
    assert {i.name for i in model.graph.initializer} <= names  # no scale is left over
    logits_NK = Predictor.open(written.int8, written.contract).predict_all(pixels(600))
    assert len(np.unique(logits_NK)) > 600
    highest_N2 = np.sort(logits_NK, axis=1)[:, -2:]
    assert (highest_N2[:, 0] < highest_N2[:, 1]).all()


class Ending(torch.nn.Module):
    """A network of two convolutions whose logits come about in one of several ways."""

    def __init__(self, ending: str) -> None:
        super().__init__()
        self.ending = ending
        self.first, self.last = torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.Conv2d(6, 3, 1)
        self.linear = torch.nn.Linear(6 * 16, 3)

    def forward(self, x_NCHW):
        x = torch.relu(self.first(x_NCHW))
        if self.ending == "linear":
            return self.linear(x.flatten(1))
        if self.ending == "sum of two":
            return self.linear(x.flatten(1)) + self.last(x).mean((2, 3))
        if self.ending == "softplus":
            return torch.nn.functional.softplus(self.linear(x.flatten(1)))
        x = self.last(x)
        return torch.relu(x).mean((2, 3)) if self.ending == "relu, mean" else torch.relu(x.mean((2, 3)))


@pytest.mark.parametrize("ending", ["linear", "sum of two", "softplus", "relu, mean", "mean, relu"])
def test_nothing_behind_the_last_layers_is_quantised_or_lost(ending, mlp, rows, tmp_path):
    torch.manual_seed(0)
    model = Ending(ending).eval()
    contract = Contract(input=rows.info.input, labels=rows.info.labels)
    graph.write_float32(model, mlp, contract, tmp_path / "a.onnx")
    ranges = graph.calibrate(tmp_path / "a.onnx", contract, pixels(200))
    graph.write_int8(
        tmp_path / "a.onnx", Quantisation(ranges=ranges, float_nodes=[], reduce_range=True), tmp_path / "b.onnx"
    )
    float32, int8 = (Predictor.open(tmp_path / f"{x}.onnx", contract).predict_all(pixels(300)) for x in "ab")
    assert np.abs(float32 - int8).max() < 0.05 * np.ptp(float32)
    if "relu" in ending:
        assert (int8 >= 0).all()
    if ending != "mean, relu":  # of which many are zero
        assert len(np.unique(int8)) > 300
    nodes = onnx.load(tmp_path / "b.onnx").graph.node
    last = max(k for k, node in enumerate(nodes) if node.op_type in ("Conv", "Gemm", "MatMul"))
    assert not [node for node in nodes[last:] if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(quantised_weights(tmp_path / "b.onnx")) >= 2


def test_a_node_left_in_float_keeps_its_float_weights(written, tmp_path):
    head = next(n for n in reversed(onnx.load(written.float32).graph.node) if n.op_type == "Gemm")
    quantisation = written.quantisation.model_copy(update={"float_nodes": [head.name]})
    graph.write_int8(written.float32, quantisation, tmp_path / "q.onnx")
    kept = {i.name for i in onnx.load(tmp_path / "q.onnx").graph.initializer if i.data_type == TensorProto.FLOAT}
    assert head.input[1] in kept
    assert len(quantised_weights(tmp_path / "q.onnx")) == len(written.architecture.widths)


def test_int8_is_made_again_from_numbers_that_went_through_json(written, tmp_path):
    numbers = Quantisation.model_validate_json(written.quantisation.model_dump_json())
    assert numbers == written.quantisation
    graph.write_int8(written.float32, numbers, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == written.int8.read_bytes()


def test_the_ranges_are_those_of_the_tensors(written, rows):
    images = np.array(rows.split("train").images)
    low, high = written.quantisation.ranges["logits"]
    logits = Predictor.open(written.float32, written.contract).predict_all(images)
    assert (low, high) == pytest.approx((logits.min(), logits.max()), abs=1e-5)
    relus = {n.output[0] for n in onnx.load(written.float32).graph.node if n.op_type == "Relu"}
    assert relus and all(written.quantisation.ranges[name][0] >= 0 for name in relus)


def test_calibration_does_not_depend_on_how_images_are_batched(written, rows, monkeypatch):
    monkeypatch.setattr(graph, "CALIBRATION_BATCH", 7)
    ranges = graph.calibrate(written.float32, written.contract, np.array(rows.split("train").images))
    assert ranges.keys() == written.quantisation.ranges.keys()
    for name, (low, high) in ranges.items():
        assert (low, high) == pytest.approx(written.quantisation.ranges[name], abs=1e-5)


WRITE_AGAIN = """
import sys
from pathlib import Path
from bigstep.records.architecture import Architecture
from bigstep.records.compact import Quantisation
from bigstep.records.exported import Contract
from bigstep.records.sealed import sha256
from export import graph
from train.networks import build as networks
folder = Path(sys.argv[1])
architecture = Architecture.model_validate_json((folder / "architecture.json").read_bytes())
contract = Contract.model_validate_json((folder / "contract.json").read_bytes())
quantisation = Quantisation.model_validate_json((folder / "quantisation.json").read_bytes())
model = networks.load_weights(architecture, folder / "w.safetensors")
graph.write_float32(model, architecture, contract, folder / "a.onnx")
graph.write_int8(folder / "a.onnx", quantisation, folder / "b.onnx")
print(sha256(folder / "a.onnx"), sha256(folder / "b.onnx"))
"""


@pytest.mark.parametrize("written", ["cnn"], indirect=True)  # the other family: every run that is taken up again
def test_another_process_in_another_place_writes_the_same_bytes(written, tmp_path):
    save_weights(written.model, tmp_path / "w.safetensors")
    for name in ("architecture", "contract", "quantisation"):
        (tmp_path / f"{name}.json").write_text(getattr(written, name).model_dump_json())
    done = subprocess.run(
        [sys.executable, "-c", WRITE_AGAIN, str(tmp_path)],
        env={**os.environ, "PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == [sha256(written.float32), sha256(written.int8)], done.stderr


@pytest.fixture(params=["float32", "int8"])
def file(request, written) -> Path:
    return getattr(written, request.param)


def test_nothing_of_the_build_machine_is_left(file):
    content = file.read_bytes()
    for trace in (str(Path.cwd()), os.environ.get("HOME", "/root"), "site-packages", ".py", "pkg.torch", "Traceback"):
        assert trace.encode() not in content, trace
    model = onnx.load(file)
    proto = model.graph
    assert model.producer_version == "" and not model.doc_string and not proto.doc_string
    parts = (model, proto, *proto.node, *proto.input, *proto.output, *proto.value_info, *proto.initializer)
    assert not any(len(part.metadata_props) or part.doc_string for part in parts if hasattr(part, "metadata_props"))


def test_files_are_standard_self_contained_and_of_any_batch_size(file, written):
    model = onnx.load(file, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert model.ir_version <= 10 and not model.functions
    assert all(node.domain == "" for node in model.graph.node)
    assert all(i.data_location == TensorProto.DEFAULT for i in model.graph.initializer)
    [images], [logits] = model.graph.input, model.graph.output
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (images, logits)]
    assert shapes == [["batch", 4, 4, 3], ["batch", 3]]
    assert (images.name, logits.name) == (written.contract.input_name, written.contract.output_name)
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"images": pixels(5)})[0].shape == (5, 3)


def identity(*, batch, domain: str = "", opset: int = 20) -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 2]) for name in ("images", "logits")]
    node = helper.make_node("Identity" if not domain else "Gelu", ["images"], ["logits"], domain=domain)
    proto = helper.make_graph([node], "g", value[:1], value[1:])
    imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid(domain, 1)] * bool(domain)
    return helper.make_model(proto, opset_imports=imports, ir_version=10)


@pytest.mark.parametrize(
    ("proto", "says"),
    [
        (identity(batch=2), "batch size of images was fixed"),
        (identity(batch="batch", opset=19), "does not keep to standard operators"),
        (identity(batch="batch", domain="com.microsoft"), "does not keep to standard operators"),
    ],
)
def test_a_file_outside_the_standard_is_refused(proto, says, tmp_path):
    with pytest.raises(ExportError, match=says):
        graph.write_standard(proto, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_a_standard_file_is_written(tmp_path):
    proto = identity(batch="batch")
    graph.write_standard(proto, tmp_path / "x.onnx")
    assert onnx.load(tmp_path / "x.onnx") == proto and proto.opset_import[0].version == graph.OPSET


class Branching(torch.nn.Module):
    """Take a path that depends on the pixels, which no graph can hold."""

    def forward(self, x_NCHW):
        return x_NCHW.flatten(1)[:, :3] * (1 if float(x_NCHW.sum()) > 0 else -1)


def test_a_network_that_cannot_be_written_is_a_user_error(mlp, rows, tmp_path):
    contract = Contract(input=rows.info.input, labels=rows.info.labels)
    with pytest.raises(ExportError, match="PyTorch cannot write this network"):
        graph.write_float32(Branching(), mlp, contract, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()

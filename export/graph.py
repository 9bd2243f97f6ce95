"""From an architecture and its weights to an ONNX file, in float32 and in INT8.

Every file takes raw uint8 pixels (N, H, W, C) with a dynamic N and returns float32 logits (N, K); scaling and
normalisation are inside. The same numbers give the same bytes: nothing of the build machine is left in a file.
"""

import bigstep.telemetry  # noqa: F401 - before onnxruntime

# isort: split
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import torch
from numpy.typing import NDArray
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import TensorData, TensorsData, create_calibrator, save_tensors_data
from torch import Tensor, nn

from bigstep.errors import ExportError
from bigstep.records.architecture import Architecture
from bigstep.records.compact import Quantisation
from bigstep.records.exported import Contract

OPSET = 20
WEIGHTED_OPS = ("Conv", "Gemm", "MatMul")
QUANTISED_OPS = (*WEIGHTED_OPS, "Relu")
CALIBRATION_BATCH = 64


class Deployable(nn.Module):
    """A network of raw pixels around one of normalised images."""

    def __init__(self, network: nn.Module, architecture: Architecture) -> None:
        super().__init__()
        std = torch.tensor(architecture.std).view(1, -1, 1, 1)
        mean = torch.tensor(architecture.mean).view(1, -1, 1, 1)
        self.network = network
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", 1.0 / (255.0 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, images_NHWC: Tensor) -> Tensor:
        """Return the logits (N, K) of uint8 pixels (N, H, W, C)."""
        x_NCHW = images_NHWC.permute(0, 3, 1, 2).to(torch.float32)
        logits_NK: Tensor = self.network(x_NCHW * self.scale + self.shift)
        return logits_NK


def write_float32(network: nn.Module, architecture: Architecture, contract: Contract, path: Path) -> None:
    """Write a network as a float32 ONNX file.

    Raises:
        ExportError: PyTorch's exporter failed, or wrote a file that does not keep the contract.
    """
    spec = architecture.input
    example = torch.zeros((2, spec.height_px, spec.width_px, spec.channels), dtype=torch.uint8)
    with _quiet():
        try:
            program = torch.onnx.export(
                Deployable(network, architecture).eval(),
                (example,),
                input_names=[contract.input_name],
                output_names=[contract.output_name],
                dynamic_shapes=({0: "batch"},),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            do = "use operations that ONNX has in the network's forward method"
            raise ExportError(f"{path}: PyTorch cannot write this network", got=str(error).strip(), do=do) from error
    assert program is not None
    model = program.model
    ClearMetadataAndDocStringPass()(model)  # every node carries a stack trace with paths of the build machine
    model.metadata_props.clear()
    model.producer_version = None
    model.graph.name = "bigstep"
    proto = onnx_ir.to_proto(model)
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info, *proto.graph.initializer):
        del value.metadata_props[:]  # PyTorch's names for them: the pass leaves these, a tenth of a small file
    write_standard(proto, path)


def calibrate(float32_file: Path, contract: Contract, images_NHWC: NDArray[np.uint8]) -> dict[str, tuple[float, float]]:
    """Return the smallest and largest value that each tensor of a float32 file takes over some images."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        calibrator = create_calibrator(
            float32_file,
            list(QUANTISED_OPS),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
            providers=["CPUExecutionProvider"],
        )
        calibrator.collect_data(_Batches(contract.input_name, images_NHWC))
        found = calibrator.compute_data()
    return {name: (float(np.min(d.lowest)), float(np.max(d.highest))) for name, d in sorted(found.items())}


def write_int8(float32_file: Path, quantisation: Quantisation, path: Path) -> None:
    """Write a float32 file as INT8 for CPUs: uint8 activations, int8 weights per output channel, Q/DQ pairs.

    What the last layers put out stays in float: nothing multiplies it by weights any more, and of 256 steps for all
    logits two classes often share the highest, so that their order decided (47 of 3,600 digits). The weights and the
    input of these layers are INT8 like all others.

    Args:
        float32_file: what `write_float32` wrote.
        quantisation: the ranges of its tensors, the nodes left in float, and 7-bit or 8-bit weights.
        path: the file to write.

    Source: ONNX Runtime, "Quantize ONNX models", choice of parameters for x86 (U8S8; reduce_range without VNNI).
    """
    data = {
        name: TensorData(lowest=np.array(low, dtype=np.float32), highest=np.array(high, dtype=np.float32))
        for name, (low, high) in quantisation.ranges.items()
    }
    # A Relu behind the last layers is left alone: quantised, it would be no more than the lower end of a range.
    after = [node.name for node in _after_last(onnx.load(float32_file).graph)]
    with tempfile.TemporaryDirectory() as folder, _quiet():
        ranges = Path(folder) / "ranges.json"
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, data), ranges)
        written = Path(folder) / "int8.onnx"
        quantize_static(
            float32_file,
            written,
            None,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED_OPS),
            per_channel=True,
            reduce_range=quantisation.reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*quantisation.float_nodes, *after],
            calibrate_method=CalibrationMethod.MinMax,
            calibration_cache_path=ranges,
        )
        proto = onnx.load(written)
    _leave_in_float(proto.graph)
    proto.producer_version = ""
    del proto.metadata_props[:]
    write_standard(proto, path)


def _after_last(proto: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes of which no weighted layer reads anything, directly or by way of others."""
    read: set[str] = set()
    found = []
    for node in reversed(proto.node):  # a graph lists who reads after who is read
        if node.op_type in WEIGHTED_OPS or read & set(node.output):
            read.update(node.input)
        if not read & set(node.output) and node.op_type not in WEIGHTED_OPS:
            found.append(node)
    return found


def _leave_in_float(proto: onnx.GraphProto) -> None:
    """Take out the Q/DQ pairs of which no weighted layer reads anything."""
    after = _after_last(proto)
    restored = {node.input[0]: node.output[0] for node in after if node.op_type == "DequantizeLinear"}
    pairs = [node for node in after if node.op_type == "QuantizeLinear" and node.output[0] in restored]
    names = {node.input[0]: restored[node.output[0]] for node in pairs}
    gone = {name for node in pairs for name in node.output}
    kept = [node for node in proto.node if not gone & {*node.input, *node.output}]
    for node in kept:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    used = {name for node in kept for name in node.input}
    constants = [constant for constant in proto.initializer if constant.name in used]
    shapes = [value for value in proto.value_info if value.name not in {*names, *names.values(), *gone}]
    for field, left in ((proto.node, kept), (proto.initializer, constants), (proto.value_info, shapes)):
        del field[:]
        field.extend(left)


def write_standard(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model that keeps to what any runtime relies on: a valid graph, one operator set, a named batch axis.

    Raises:
        ExportError: it does not.
    """
    onnx.checker.check_model(proto, full_check=True)
    domains = {o.domain: o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")}
    used = {node.domain for node in proto.graph.node}
    if set(domains.values()) != {OPSET} or not used <= {"", "ai.onnx"}:
        got = f"versions {domains}, domains used {sorted(used)}"
        raise ExportError(f"{path} does not keep to standard operators", got=got, expected=f"opset {OPSET} alone")
    for value in (*proto.graph.input, *proto.graph.output):
        if not value.type.tensor_type.shape.dim[0].dim_param:
            raise ExportError(f"{path}: the batch size of {value.name} was fixed", got=value.type, expected="dynamic")
    path.write_bytes(proto.SerializeToString(deterministic=True))


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Images for ONNX Runtime's calibration, a batch at a time."""

    def __init__(self, input_name: str, images_NHWC: NDArray[np.uint8]) -> None:
        starts = range(0, len(images_NHWC), CALIBRATION_BATCH)
        self.batches = iter({input_name: np.array(images_NHWC[i : i + CALIBRATION_BATCH])} for i in starts)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self.batches, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what exporter and quantiser say about themselves; what they get wrong is checked afterwards."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)

"""What the processes of the probes answer: with what is installed, and with small stand-ins for it on PYTHONPATH."""

import pytest
from onnx import TensorProto, helper

from pipeline.doctor import attempt, probes
from pipeline.doctor.probes import CPU, CUDA

FAKE = """
import os, signal, sys, numpy
__version__ = "9.9"
SIGNAL, MISSES, WRONG = {signal}, {misses!r}, {wrong}
if SIGNAL:
    os.kill(os.getpid(), SIGNAL)
def get_available_providers(): return ["CUDAExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider"]
def preload_dlls(): print("a line that is no answer")
class SessionOptions: pass
class InferenceSession:
    def __init__(self, model, options, providers, enable_fallback):
        assert enable_fallback == 0
        self.providers = providers[1:] if MISSES and providers[1:] else providers
        if MISSES: print("Failed to load library with error:", MISSES, file=sys.stderr)
    def get_providers(self): return self.providers
    def run(self, names, feed):
        sums = feed["x"].astype("int64").sum(axis=1, keepdims=True)
        saturated = 32 * 32767 * numpy.ones_like(sums)  # pairs of products in 16 bits
        return [sums * 0.5, sums * 63 + WRONG, saturated]
"""


def probe(name, *arguments):
    return attempt.read(attempt.start(name, *arguments, limit_s=30.0).end())


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Return a function that installs a module of a name for the probes alone."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda name, code: (tmp_path / f"{name}.py").write_text(code)


@pytest.fixture
def fake_onnxruntime(fake):
    return lambda signal=0, misses="", wrong=0: fake(
        "onnxruntime", FAKE.format(signal=signal, misses=misses, wrong=wrong)
    )


def test_the_model_is_what_onnx_writes():
    def weights(name, kind, value):
        constant = helper.make_tensor("v", kind, [1], [value])
        return helper.make_node("ConstantOfShape", ["shape"], [name], value=constant)

    nodes = [
        weights("w", TensorProto.FLOAT, 0.5),
        helper.make_node("Cast", ["x"], ["x_float"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x_float", "w"], ["float"]),
        weights("w7", TensorProto.INT8, 63),
        helper.make_node("MatMulInteger", ["x", "w7"], ["int7"]),
        weights("w8", TensorProto.INT8, 127),
        helper.make_node("MatMulInteger", ["x", "w8"], ["int8"]),
    ]
    kinds = {"float": TensorProto.FLOAT, "int7": TensorProto.INT32, "int8": TensorProto.INT32}
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [4, 64])],
        [helper.make_tensor_value_info(name, kind, [4, 16]) for name, kind in kinds.items()],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [64, 16])],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8, producer_name="bigstep")
    assert model.SerializeToString() == probes.MODEL


def test_what_serving_needs_works_here():
    found = probe("onnxruntime")
    assert found.works and found.version and CPU in found.providers and "AzureExecutionProvider" not in found.providers
    cpu = probe("provider", CPU)
    assert cpu.works and cpu.why is None and isinstance(cpu.exact_8_bit, bool)


def test_a_provider_that_is_not_compiled_in_does_not_work():
    found = probe("provider", "FrobnicateExecutionProvider")
    assert not found.works and not found.installed and found.why == "not compiled into this onnxruntime"


def test_a_silent_fallback_is_found_and_explained(fake_onnxruntime):
    fake_onnxruntime(misses="libcublasLt.so.12: cannot open shared object file")
    found = probe("provider", CUDA)
    assert not found.works and found.why == "libcublasLt.so.12: cannot open shared object file"
    assert probe("onnxruntime").providers == (CUDA, CPU)


def test_a_fallback_without_a_word_is_found(fake_onnxruntime):
    fake_onnxruntime(misses=" ")
    assert probe("provider", CUDA).why == f"the session runs on {CPU}"


def test_a_processor_that_overflows_with_8_bits_still_works(fake_onnxruntime):
    fake_onnxruntime()
    assert probe("provider", CUDA).works
    found = probe("provider", CPU)
    assert found.works and found.exact_8_bit is False


def test_wrong_numbers_are_found(fake_onnxruntime):
    fake_onnxruntime(wrong=1)
    found = probe("provider", CPU)
    assert not found.works and found.why.startswith(
        "it calculates wrongly: 8160 and 1028161, expected 8160 and 1028160"
    )


def test_an_import_that_kills_the_process_is_a_finding(fake_onnxruntime):
    fake_onnxruntime(signal=11)
    assert probe("onnxruntime").why == "was ended by SIGSEGV"


def test_pytorch_is_asked_for_its_devices(fake):
    fake("torch", "import types\n__version__ = '9'\nversion = types.SimpleNamespace(cuda='13.0')\n"
         "cuda = types.SimpleNamespace(is_available=lambda: True, device_count=lambda: 2)\n")  # fmt: skip
    found = probe("torch")
    assert found.works and (found.version, found.cuda, found.devices) == ("9", "13.0", 2)


def test_pytorch_says_why_it_sees_no_gpu(fake):
    fake("torch", "import types, warnings\n__version__ = '9'\nversion = types.SimpleNamespace(cuda='13.0')\n"
         "def no(): warnings.warn('the driver is too old'); return False\n"
         "cuda = types.SimpleNamespace(is_available=no)\n")  # fmt: skip
    found = probe("torch")
    assert found.works and (found.devices, found.why) == (0, "the driver is too old")


def test_a_broken_import_is_told_from_a_missing_package(fake, tmp_path):
    fake("tensorrt", "raise OSError('libnvinfer.so.10: cannot open shared object file\\nmore')")
    found = probe("tensorrt")
    assert found.installed and found.why == "OSError: libnvinfer.so.10: cannot open shared object file"
    fake("tensorrt", "import frobnicate")
    found = probe("tensorrt")
    assert found.installed and found.why == "frobnicate is not installed"


def test_the_working_directory_stands_in_for_nothing(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert probe("onnxruntime").works

"""The predictor: exactly these bytes, exactly this contract."""

import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from bigstep.errors import ConfigError, RecordError
from bigstep.records.architecture import InputSpec
from bigstep.records.exported import Contract
from serve.predictor import Predictor


def test_logits_do_not_depend_on_the_batch(predictor, random_images):
    images = random_images(20)
    logits = predictor.predict(images)
    assert logits.shape == (20, 3) and logits.dtype == np.float32
    one_by_one = np.concatenate([predictor.predict(images[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(one_by_one, logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(predictor.predict_all(images, batch=7), logits, rtol=1e-5, atol=1e-6)


def test_it_states_the_bytes_it_runs(predictor, model):
    assert predictor.sha256 == hashlib.sha256(model).hexdigest() and predictor.bytes == len(model)


def test_other_bytes_are_refused(bundle):
    with pytest.raises(RecordError, match=r"model\.onnx was altered"):
        Predictor.open(bundle.folder / "model.onnx", bundle.info.contract, sha256="0" * 64)


@pytest.mark.parametrize("content", [None, b"", b"no model"])
def test_a_file_that_is_no_model(tmp_path, bundle, content):
    path = tmp_path / "x.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordError, match=r"x\.onnx"):
        Predictor.open(path, bundle.info.contract)


@pytest.mark.parametrize(
    ("change", "side"),
    [
        ({"labels": ["cat", "dog"]}, "output"),
        ({"input": InputSpec(height_px=4, width_px=6, channels=3)}, "input"),
        ({"input_name": "pixels"}, "input"),
        ({"output_name": "scores"}, "output"),
    ],
)
def test_a_broken_contract_is_refused(bundle, change, side):
    contract = Contract(**dict(bundle.info.contract) | change)
    with pytest.raises(RecordError, match=f"{side} contract"):
        Predictor.open(bundle.folder / "model.onnx", contract)


# ---- the device ------------------------------------------------------------------------------------------------------

HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
HAS_GPU = HAS_CUDA and Path("/proc/driver/nvidia/version").exists()


@pytest.mark.skipif(HAS_CUDA, reason="needs an onnxruntime without CUDA")
def test_a_build_without_cuda_is_refused(bundle):
    with pytest.raises(ConfigError, match=r"onnxruntime with .*CPUExecutionProvider") as caught:
        Predictor.open(bundle.folder / "model.onnx", bundle.info.contract, device="cuda")
    for way in ("bigstep doctor", "pip install '.[gpu]'", "--device cpu"):
        assert way in caught.value.do


@pytest.mark.skipif(HAS_CUDA, reason="needs an onnxruntime without CUDA")
@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider':UserWarning")
def test_a_session_that_fell_back_to_the_cpu_is_refused(bundle, monkeypatch):
    """onnxruntime-gpu without its libraries says that it has CUDA, and makes a session on the CPU."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(ConfigError, match="a session on CPUExecutionProvider"):
        Predictor.open(bundle.folder / "model.onnx", bundle.info.contract, device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device and onnxruntime-gpu")
def test_the_gpu_gives_the_logits_of_the_cpu(bundle, predictor, random_images):
    on_gpu = Predictor.open(bundle.folder / "model.onnx", bundle.info.contract, device="cuda")
    assert on_gpu.session.get_providers()[0] == "CUDAExecutionProvider"
    images = random_images(20)
    np.testing.assert_allclose(on_gpu.predict(images), predictor.predict(images), rtol=1e-4, atol=1e-5)

"""What a probe runs, in a process of its own: `python -P probes.py NAME [ARGUMENT]` prints one JSON object.

`pipeline.doctor.attempt` starts it by its path. It is made of the standard library alone, so that it answers where
nothing else works, and no module of the working directory or of this folder can stand in for what it imports.
"""

import base64
import ctypes
import importlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as bigstep.telemetry does
CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
# x: 4 x 64 uint8. float = x @ 0.5; int7 = x @ 63 and int8 = x @ 127 in integers, as 7-bit and 8-bit weights would have
# it. A processor that adds pairs of products in 16 bits (AVX2, AVX-512 without VNNI) gives too little for int8 alone:
# 255 * 63 * 2 fits, 255 * 127 * 2 does not. tests/pipeline/doctor/test_probes.py builds the same bytes with onnx.
MODEL = base64.b64decode(
    "CAgSB2JpZ3N0ZXA6kgMKNgoFc2hhcGUSAXciD0NvbnN0YW50T2ZTaGFwZSoZCgV2YWx1ZSoNCAEQASIEAAAAP0IBdqABBAodCgF4Egd4X2Zsb2F0"
    "IgRDYXN0KgkKAnRvGAGgAQIKGwoHeF9mbG9hdAoBdxIFZmxvYXQiBk1hdE11bAo0CgVzaGFwZRICdzciD0NvbnN0YW50T2ZTaGFwZSoWCgV2YWx1"
    "ZSoKCAEQAyoBP0IBdqABBAocCgF4CgJ3NxIEaW50NyINTWF0TXVsSW50ZWdlcgo0CgVzaGFwZRICdzgiD0NvbnN0YW50T2ZTaGFwZSoWCgV2YWx1"
    "ZSoKCAEQAyoBf0IBdqABBAocCgF4CgJ3OBIEaW50OCINTWF0TXVsSW50ZWdlchIFcHJvYmUqDwgCEAc6AkAQQgVzaGFwZVoTCgF4Eg4KDAgCEggK"
    "AggECgIIQGIXCgVmbG9hdBIOCgwIARIICgIIBAoCCBBiFgoEaW50NxIOCgwIBhIICgIIBAoCCBBiFgoEaW50OBIOCgwIBhIICgIIBAoCCBBCBAoA"
    "EBE="
)
FLOAT, INT7, INT8 = 64 * 255 * 0.5, 64 * 255 * 63, 64 * 255 * 127


def _driver() -> dict[str, Any]:
    """Ask the CUDA driver itself, which PyTorch and onnxruntime both need."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"works": False, "why": str(error), "installed": "cannot open shared object" not in str(error)}
    code, version, devices = cuda.cuInit(0), ctypes.c_int(), ctypes.c_int()
    if code:
        name = ctypes.c_char_p()
        cuda.cuGetErrorName(code, ctypes.byref(name))
        return {"works": False, "why": f"cuInit: {(name.value or b'error').decode()} ({code})"}
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda.cuDeviceGetCount(ctypes.byref(devices))
    return {"works": True, "cuda": f"{version.value // 1000}.{version.value % 1000 // 10}", "devices": devices.value}


def _torch() -> dict[str, Any]:
    torch = importlib.import_module("torch")
    with warnings.catch_warnings(record=True) as caught:  # PyTorch says in a warning why it sees no GPU
        warnings.simplefilter("always")
        devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    why = str(caught[0].message) if caught and not devices else None
    return {"works": True, "version": torch.__version__, "cuda": torch.version.cuda, "devices": devices, "why": why}


def _tensorrt() -> dict[str, Any]:
    return {"works": True, "version": importlib.import_module("tensorrt").__version__}


def _onnxruntime() -> dict[str, Any]:
    onnxruntime = importlib.import_module("onnxruntime")
    # Not asked: Azure, compiled into every build, sends the input to a service on the network.
    return {
        "works": True,
        "version": onnxruntime.__version__,
        "providers": [name for name in onnxruntime.get_available_providers() if name != "AzureExecutionProvider"],
    }


def _provider(name: str) -> dict[str, Any]:
    """Run the tiny model; onnxruntime falls back to the CPU in silence, so ask the session where it went."""
    onnxruntime, numpy = importlib.import_module("onnxruntime"), importlib.import_module("numpy")
    if name not in onnxruntime.get_available_providers():
        return {"works": False, "why": "not compiled into this onnxruntime", "installed": False}
    if name in (CUDA, TENSORRT):
        if name == TENSORRT:
            with suppress(ImportError):
                importlib.import_module("tensorrt")  # loads the libraries that pip put where no loader looks
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        MODEL, options, providers=[name] if name == CPU else [name, CPU], enable_fallback=0
    )
    if session.get_providers()[0] != name:
        return {"works": False, "why": f"the session runs on {session.get_providers()[0]}"}
    as_float, int7, int8 = session.run(["float", "int7", "int8"], {"x": numpy.full((4, 64), 255, numpy.uint8)})
    if not ((as_float == FLOAT).all() and (int7 == INT7).all()):
        got = f"{as_float[0, 0]:g} and {int7[0, 0]}"
        return {"works": False, "why": f"it calculates wrongly: {got}, expected {FLOAT:g} and {INT7}"}
    return {"works": True, "exact_8_bit": bool((int8 == INT8).all())}


def _server() -> dict[str, Any]:
    importlib.import_module("serve.app")
    return {"works": True}


PROBES: dict[str, Callable[..., dict[str, Any]]] = {
    "driver": _driver,
    "torch": _torch,
    "tensorrt": _tensorrt,
    "onnxruntime": _onnxruntime,
    "provider": _provider,
    "server": _server,
}


def _main() -> None:
    name, *arguments = sys.argv[1:]
    answer = os.dup(1)
    os.dup2(2, 1)  # libraries print; only the answer goes to standard output
    try:
        found = PROBES[name](*arguments)
    except ModuleNotFoundError as error:
        found = {"works": False, "why": f"{error.name} is not installed", "installed": error.name != name}
    except Exception as error:  # whatever a broken installation raises is the finding
        first = (str(error).strip().splitlines() or [""])[0]
        found = {"works": False, "why": f"{type(error).__name__}: {first}"}
    with os.fdopen(answer, "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    _main()

"""Where the stages compute."""

import ctypes
import importlib

from bigstep.errors import ConfigError


def resolve_device(device: str) -> str:
    """Return `cpu` or `cuda`; `auto` takes a GPU that PyTorch can use.

    Raises:
        ConfigError: `cuda` was asked for and there is none.
    """
    if device == "cpu":
        return "cpu"
    usable = False
    try:
        ctypes.CDLL("libcuda.so.1")  # importing torch takes seconds, and without a driver the answer is known
        usable = bool(importlib.import_module("torch").cuda.is_available())
    except OSError:
        pass
    if device == "cuda" and not usable:
        raise ConfigError("device = cuda, but PyTorch finds no GPU here", do="--set device=cpu, or install a driver")
    return "cuda" if usable else "cpu"

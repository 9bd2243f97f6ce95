"""Where the stages compute."""

import pytest

from bigstep.errors import ConfigError
from pipeline import device
from pipeline.device import resolve_device


def test_a_gpu_that_is_not_there(monkeypatch):
    def no_driver(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(device.ctypes, "CDLL", no_driver)
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    with pytest.raises(ConfigError, match="no GPU") as caught:
        resolve_device("cuda")
    assert "--set device=cpu" in caught.value.do

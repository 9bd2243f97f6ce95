"""What every published figure says of the machine and the packages that it was measured with."""

import os
import platform
from importlib.metadata import version

from serve.bench import fingerprint

ALWAYS = ("torch", "onnxruntime", "numpy")


def machine(*packages: str, device: str = "cpu") -> dict[str, str]:
    """Return the processor, its cores and load, the kernel, and the versions of Python and of packages."""
    found = {**fingerprint(device=device), **{package: version(package) for package in (*ALWAYS, *packages)}}
    return {**found, "python": platform.python_version(), "cores": str(len(os.sched_getaffinity(0)))}

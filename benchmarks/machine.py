"""What every published figure says of the machine and the packages that it was measured with."""

import os
import platform
from importlib.metadata import version

from bigstep.own_packages import ROOT
from pipeline.provenance import commit
from serve.bench import fingerprint

ALWAYS = ("torch", "onnxruntime", "numpy")


def machine(*packages: str, device: str = "cpu") -> dict[str, str]:
    """Return the processor, its cores and load, the kernel, the versions of Python and packages, and our commit."""
    found = {**fingerprint(device=device), **{package: version(package) for package in (*ALWAYS, *packages)}}
    found |= {"python": platform.python_version(), "cores": str(len(os.sched_getaffinity(0)))}
    return {**found, "commit": commit(ROOT) or "unknown"}

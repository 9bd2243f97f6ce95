"""Which instructions of the processor compute: what the libraries choose by themselves, or those of every x86-64-v3.

PyTorch, MKL, oneDNN, OpenBLAS and NumPy each take the widest instructions of the processor they run on. These add in
another order and round otherwise, so that a training ends with other weights on another kind of processor.
"""

import os
import platform
import sys
from pathlib import Path
from typing import Literal

from bigstep.errors import ConfigError

Numerics = Literal["native", "portable"]
LIBRARIES = ("numpy", "torch", "onnxruntime")  # they read their environment when they are loaded
X86 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    # By their names in NumPy 2.4 and before; those that it does not know, or the processor has not, change nothing.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL",
}
WIDEST = (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("sve", "SVE"), ("asimd", "NEON"))
ARM = {"ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "ARMV8"}


def choose(numerics: Numerics) -> None:
    """Set what the libraries of this process, and of those that it starts, read when they are loaded.

    Raises:
        ConfigError: portable instructions are asked for when a library is loaded already, or the processor lacks them.
    """
    if numerics == "native" or _is_portable():
        return
    if not _is_arm() and "avx2" not in _flags():
        do = "set numerics = native, or run on a processor with AVX2"
        raise ConfigError("numerics = portable needs AVX2", got=instructions(), do=do)
    loaded = [name for name in LIBRARIES if name in sys.modules]
    if loaded:
        raise ConfigError(
            "numerics = portable comes too late",
            got=f"{', '.join(loaded)} loaded already",
            expected=" ".join(f"{name}='{value}'" for name, value in _portable().items()),
            do="set these in the environment before Python starts, or use the command line",
        )
    os.environ.update(_portable())


def instructions(root: Path = Path("/")) -> str:
    """Name what decides how results are rounded here: `portable`, or maker and widest instructions of the processor.

    Args:
        root: the folder that stands for `/`, where `proc` lies.
    """
    if _is_portable():
        return "portable"
    flags, kind = _flags(root), platform.machine()
    widest = [name for flag, name in WIDEST if flag in flags][:1] or [kind]
    exact = ["VNNI"] if flags & {"avx512_vnni", "avx_vnni"} else []
    limits = [f"{name}={os.environ[name]}" for name in X86 if name in os.environ]
    return " ".join([_field("vendor_id", root) or kind, *widest, *exact, *limits])


def _portable() -> dict[str, str]:
    return ARM if _is_arm() else X86


def _is_portable() -> bool:
    return all(os.environ.get(name) == value for name, value in _portable().items())


def _is_arm() -> bool:
    return platform.machine() in ("aarch64", "arm64")


def _flags(root: Path = Path("/")) -> set[str]:
    return set((_field("flags", root) or _field("Features", root)).split())


def _field(name: str, root: Path) -> str:
    """Return what the first core says of itself; nothing where this system does not say."""
    # Not by bigstep.machine: its records load NumPy, which is to find the environment that is set here.
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")

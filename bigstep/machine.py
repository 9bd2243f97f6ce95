"""What this machine is, read from the files in which Linux says so. A file that is missing is a fact that is unknown.

Every function that reads files takes the folder that stands for `/`, so that a test can describe a machine that it does
not have.
"""

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from bigstep.records.sealed import Value

ROOT = Path("/")
# What decides how fast, and on x86 how exactly, a processor multiplies 8-bit numbers.
X86_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
ARM_FEATURES = ("asimddp", "i8mm")
NVIDIA, DISPLAY = "0x10de", "0x03"  # PCI vendor; class of display controllers, of which GPUs without a screen are one


class Machine(Value):
    """The facts of a machine; None where this system does not say.

    Attributes:
        board: a single-board computer or a Jetson, by its own name.
        l4t: release of NVIDIA's Linux for Jetson, like 36.4.3.
        cpu_features: those of X86_FEATURES or ARM_FEATURES that every core has.
        cores: cores in the machine.
        quota: cores' worth of time that the control group allows.
        usable_cores: see `usable_cores`.
        memory_limit_bytes: what the control group allows, if that is less than there is.
        load: processes that wanted to run, mean of one minute.
        nvidia_boards: NVIDIA GPUs on the PCI bus, with a driver or without.
    """

    system: str
    board: str | None
    l4t: str | None
    cpu: str
    cpu_features: list[str]
    cores: int
    quota: float | None
    usable_cores: int
    memory_bytes: int | None
    memory_available_bytes: int | None
    memory_limit_bytes: int | None
    disk_free_bytes: int | None
    load: float | None
    nvidia_boards: int

    @property
    def is_arm(self) -> bool:
        """Tell a 64-bit ARM processor from others."""
        return self.system.endswith(("aarch64", "arm64"))


def describe(root: Path = ROOT) -> Machine:
    """Collect what the machine says of itself; raises nothing on a machine that says little."""
    memory = _memory(root)
    total, limit = memory.get("MemTotal"), _memory_limit(root)
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        board=_read(root / "proc/device-tree/model") or None,
        l4t=_l4t(root),
        cpu=_cpu(root),
        cpu_features=_cpu_features(root),
        cores=os.cpu_count() or 1,
        quota=_quota(root),
        usable_cores=usable_cores(root),
        memory_bytes=total,
        memory_available_bytes=memory.get("MemAvailable"),
        memory_limit_bytes=limit if limit and (total is None or limit < total) else None,
        disk_free_bytes=_disk_free(),
        load=_load(root),
        nvidia_boards=_nvidia_boards(root),
    )


def usable_cores(root: Path = ROOT) -> int:
    """Return how many cores this process may keep busy, at least 1: affinity and control groups limit them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(root)
    return cores if quota is None else max(1, min(cores, int(quota)))


def installed_version(distribution: str) -> str | None:
    """Return the version of a Python distribution; None where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def smt_siblings(root: Path = ROOT) -> str:
    """Say which of the usable CPUs share a core, as ranges; `unknown` where the system hides it."""
    return _distinct(cpu / "topology/thread_siblings_list" for cpu in _usable(root))


def governor(root: Path = ROOT) -> str:
    """Name the policy that sets the clock rate; `unknown` where the system hides it, as virtual machines do."""
    return _distinct(cpu / "cpufreq/scaling_governor" for cpu in _usable(root))


def nvidia(root: Path = ROOT) -> str:
    """Name the GPUs and the version of their driver, as the driver does."""
    models = sorted(
        value
        for path in root.glob("proc/driver/nvidia/gpus/*/information")
        for name, value in _fields(_read(path))
        if name == "Model"
    )
    version = re.search(r"Kernel Module\D*([\d.]+)", _read(root / "proc/driver/nvidia/version"))
    return f"{', '.join(models) or 'unknown model'}, driver {version[1] if version else 'unknown'}"


def _usable(root: Path) -> Iterator[Path]:
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    yield from (root / f"sys/devices/system/cpu/cpu{number}" for number in sorted(usable))


def _distinct(paths: Iterable[Path]) -> str:
    return "; ".join(sorted({text for path in paths if (text := _read(path))})) or "unknown"


def _read(path: Path) -> str:
    """Return a small file as text, empty if it cannot be read; device trees end their strings with a zero byte."""
    try:
        return path.read_bytes().decode("utf-8", errors="replace").strip("\0\n ")
    except (OSError, ValueError):
        return ""


def _fields(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip(), value.strip()


def _cpu(root: Path) -> str:
    fields = list(_fields(_read(root / "proc/cpuinfo")))
    wanted = ("model name", "Model", "Hardware")  # x86; ARM boards
    found = next((value for key in wanted for name, value in fields if name == key and value), None)
    return found or platform.processor() or platform.machine() or "unknown"


def _cpu_features(root: Path) -> list[str]:
    cores = [set(v.split()) for name, v in _fields(_read(root / "proc/cpuinfo")) if name in ("flags", "Features")]
    everywhere = set.intersection(*cores) if cores else set()  # the small cores of a processor may lack some
    return [feature for feature in (*X86_FEATURES, *ARM_FEATURES) if feature in everywhere]


def _l4t(root: Path) -> str | None:
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _read(root / "etc/nv_tegra_release"))
    return f"{found[1]}.{found[2]}" if found else None


def _memory(root: Path) -> dict[str, int]:
    found = {}
    for name, value in _fields(_read(root / "proc/meminfo")):
        amount, _, unit = value.partition(" ")
        if amount.isdecimal() and unit == "kB":  # which the kernel means as 1024 bytes
            found[name] = 1024 * int(amount)
    return found


def _disk_free() -> int | None:
    try:
        return shutil.disk_usage(".").free
    except OSError:  # the working directory was removed, or may not be read
        return None


def _load(root: Path) -> float | None:
    with suppress(ValueError, IndexError):
        return float(_read(root / "proc/loadavg").split()[0])
    return None


def _nvidia_boards(root: Path) -> int:
    try:
        found = sorted((root / "sys/bus/pci/devices").iterdir())
    except OSError:
        return 0
    return sum(_read(d / "vendor") == NVIDIA and _read(d / "class").startswith(DISPLAY) for d in found)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control group and of all above it, version 2 (unified) and version 1."""
    mounts = root / "sys/fs/cgroup"
    for line in ["0::/", f"1:{controller}:/", *_read(root / "proc/self/cgroup").splitlines()]:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        base = mounts / controllers
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            yield base.joinpath(*parts[:depth])


def _quota(root: Path) -> float | None:
    quotas = []
    for group in _groups(root, "cpu"):
        text = _read(group / "cpu.max") or f"{_read(group / 'cpu.cfs_quota_us')} {_read(group / 'cpu.cfs_period_us')}"
        with suppress(ValueError, ZeroDivisionError):  # no such file, "max", or -1 for no limit
            quota, period = (int(number) for number in text.split())
            quotas += [quota / period] if quota > 0 else []
    return min(quotas, default=None)


def _memory_limit(root: Path) -> int | None:
    limits = []
    for group in _groups(root, "memory"):
        with suppress(ValueError):
            limits.append(int(_read(group / "memory.max") or _read(group / "memory.limit_in_bytes")))
    return min(limits, default=None)

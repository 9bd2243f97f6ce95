"""The facts about a machine in words, those that matter on it."""

from pipeline.doctor.attempt import Finding
from pipeline.doctor.facts import Facts
from pipeline.doctor.gpus import Gpu
from pipeline.doctor.probes import CUDA, TENSORRT

GIB = 1024**3


def lines(facts: Facts) -> list[tuple[str, str]]:
    """Return what `bigstep doctor` shows of the facts: a name, empty where the last one goes on, and text."""
    here = facts.machine
    found = [
        ("bigstep", f"{facts.bigstep}, Python {facts.python}"),
        ("machine", here.system),
        ("board", ", ".join(part for part in (here.board, here.l4t and f"Jetson Linux {here.l4t}") if part)),
        ("CPU", here.cpu),
        ("", " ".join(here.cpu_features)),
        ("cores", _cores(facts)),
        ("memory", _memory(facts)),
        ("disk", f"{_size(here.disk_free_bytes)} free in this folder" if here.disk_free_bytes is not None else ""),
        *(("GPU", _gpu(gpu)) for gpu in facts.gpus),
        ("GPU", _without_gpus(facts)),
        ("CUDA", _driver(facts.driver) if facts.has_gpu or facts.driver.installed else ""),
        ("onnxruntime", facts.onnxruntime.in_words()),
        *(("", _provider(facts, name)) for name in facts.providers if facts.onnxruntime.works),
        ("PyTorch", _torch(facts)),
        ("TensorRT", facts.tensorrt.in_words() if facts.has_gpu or facts.tensorrt.installed else ""),
    ]
    return [(name, says) for name, says in found if says]


def _cores(facts: Facts) -> str:
    here = facts.machine
    quota = f"; a quota of {here.quota:g} cores" if here.quota is not None else ""
    return f"{here.usable_cores} usable of {here.cores}{quota}"


def _memory(facts: Facts) -> str:
    here = facts.machine
    if here.memory_bytes is None:
        return ""
    parts = [
        _size(here.memory_bytes),
        f"{_size(here.memory_available_bytes)} available" if here.memory_available_bytes is not None else "",
        f"limited to {_size(here.memory_limit_bytes)}" if here.memory_limit_bytes is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def _gpu(gpu: Gpu) -> str:
    parts = [
        gpu.name,
        _size(gpu.memory_bytes) if gpu.memory_bytes is not None else "",
        f"compute capability {gpu.compute_capability}" if gpu.compute_capability else "",
        f"driver {gpu.driver}" if gpu.driver else "",
    ]
    return ", ".join(part for part in parts if part)


def _without_gpus(facts: Facts) -> str:
    """Say why nvidia-smi lists none, where it should."""
    if facts.nvidia_smi:
        return f"nvidia-smi: {facts.nvidia_smi}"
    if facts.gpus:
        return ""
    found = facts.driver.devices or facts.machine.nvidia_boards
    if found:
        return f"{found} from NVIDIA; there is no nvidia-smi to name them"
    return "that of the board" if facts.machine.l4t else "none from NVIDIA"


def _driver(finding: Finding) -> str:
    if not finding.works:
        return f"the driver does not work: {finding.why}"
    return f"the driver speaks CUDA {finding.cuda} and sees {_devices(finding.devices)}"


def _torch(facts: Facts) -> str:
    finding = facts.torch
    if not finding.works:
        return finding.in_words()
    built = f", built for CUDA {finding.cuda}" if finding.cuda else ""
    sees = f", sees {_devices(finding.devices)}" if facts.has_gpu or finding.devices else ""
    why = f" ({finding.why})" if finding.why and facts.has_gpu else ""
    return f"{finding.version}{built}{sees}{why}"


def _provider(facts: Facts, name: str) -> str:
    finding = facts.providers[name]
    if name in (CUDA, TENSORRT) and not finding.works and not facts.has_gpu:
        return f"{name}: compiled in, but there is no GPU"  # the library that it misses first is of no interest
    return f"{name}: {finding.in_words()}"


def _devices(count: int) -> str:
    return {0: "no GPU", 1: "1 GPU"}.get(count, f"{count} GPUs")


def _size(size_bytes: int | None) -> str:
    return f"{(size_bytes or 0) / GIB:.1f} GiB"

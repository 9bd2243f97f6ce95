"""The GPUs that nvidia-smi lists, or why it cannot."""

import shutil

from bigstep.records.sealed import Value
from bigstep.text import printable
from pipeline.doctor.attempt import Ended, Running, how_it_ended

FIELDS = ("name", "driver_version", "memory.total", "compute_cap")
MIB = 1024 * 1024


class Gpu(Value):
    """One line of nvidia-smi; None where the GPU does not say, like the memory that a Jetson shares."""

    name: str
    driver: str | None
    memory_bytes: int | None
    compute_capability: str | None


def start(limit_s: float) -> Running | None:
    """Start nvidia-smi; None where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    return Running([program, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"], limit_s)


def read(ended: Ended) -> tuple[list[Gpu], str | None]:
    """Return the GPUs, and what nvidia-smi says is wrong (a driver that does not match, no device), or None."""
    rows = [[cell.strip() for cell in line.split(",")] for line in ended.out.splitlines() if line.strip()]
    if ended.code == 0 and rows and all(len(row) == len(FIELDS) for row in rows):
        return [_gpu(*row) for row in rows], None
    said = " ".join(f"{ended.out} {ended.err}".split())
    return [], printable(said or how_it_ended(ended), 200)


def _gpu(name: str, driver: str, memory_mib: str, capability: str) -> Gpu:
    return Gpu(
        name=printable(name, 80),
        driver=_given(driver),
        memory_bytes=int(memory_mib) * MIB if memory_mib.isdecimal() else None,
        compute_capability=_given(capability),
    )


def _given(cell: str) -> str | None:
    return None if cell.startswith("[") or not cell else printable(cell, 40)  # [N/A], [Not Supported]

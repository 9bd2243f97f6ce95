"""What nvidia-smi says, asked through small programs of that name."""

import pytest

from pipeline.doctor import gpus
from pipeline.doctor.attempt import Ended

H200 = "NVIDIA H200, 570.86.15, 143771, 9.0"
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.230"


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Return a function that puts a shell script named nvidia-smi on an otherwise empty PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(script):
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return put


def test_without_nvidia_smi_nothing_is_started(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.start(1.0) is None


def test_every_gpu_is_a_line(nvidia_smi):
    nvidia_smi(f"echo '{H200}'; echo 'Orin (nvgpu), [N/A], [N/A], 8.7'")
    found, wrong = gpus.read(gpus.start(10.0).end())
    assert wrong is None and [gpu.name for gpu in found] == ["NVIDIA H200", "Orin (nvgpu)"]
    assert (found[0].driver, found[0].memory_bytes, found[0].compute_capability) == ("570.86.15", 143771 * 2**20, "9.0")
    assert (found[1].driver, found[1].memory_bytes, found[1].compute_capability) == (None, None, "8.7")


def test_what_it_complains_of_is_shown(nvidia_smi):
    nvidia_smi(f"echo '{MISMATCH}'; exit 18")
    assert gpus.read(gpus.start(10.0).end()) == ([], MISMATCH.replace("\n", " "))


def test_one_that_hangs_is_ended(nvidia_smi):
    nvidia_smi("while :; do :; done")
    assert gpus.read(gpus.start(0.2).end()) == ([], "did not end within 0.2 s")


@pytest.mark.parametrize(
    ("ended", "wrong"),
    [
        (Ended(0, "No devices were found\n", ""), "No devices were found"),
        (Ended(0, "", ""), "ended with code 0 and no answer"),
        (Ended(-11, "", ""), "was ended by SIGSEGV"),
        (Ended(2, "", 'Field "compute_cap" is not a valid field\n'), 'Field "compute_cap" is not a valid field'),
        (Ended(9, H200, ""), H200),
        (Ended(0, "\x1b[2J\n", ""), r"\x1b[2J"),
    ],
)
def test_anything_else_is_no_gpu(ended, wrong):
    assert gpus.read(ended) == ([], wrong)

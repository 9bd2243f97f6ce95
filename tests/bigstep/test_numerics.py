"""Instructions of the processor: named, and held to what every machine has before any library is loaded."""

import json
import os
import subprocess
import sys

import pytest

from bigstep import numerics
from bigstep.errors import ConfigError
from bigstep.records.measured import note_instructions, noted_instructions

INTEL = "vendor_id\t: GenuineIntel\nflags\t\t: fpu sse2 avx2 avx512f avx512_vnni\n"
AMD = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu sse2 avx2\n"


@pytest.fixture
def native(monkeypatch):
    for name in {**numerics.X86, **numerics.ARM}:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def machine(tmp_path):
    def make(cpuinfo):
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc" / "cpuinfo").write_text(cpuinfo)
        return tmp_path

    return make


def test_maker_and_widest_instructions_are_named(native, machine):
    assert numerics.instructions(machine(INTEL)) == "GenuineIntel AVX-512 VNNI"
    assert numerics.instructions(machine(AMD)) == "AuthenticAMD AVX2"


def test_what_limits_them_is_named_and_portable_is_the_same_everywhere(native, machine, monkeypatch):
    monkeypatch.setattr(numerics.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert numerics.instructions(machine(INTEL)) == "GenuineIntel AVX-512 VNNI ATEN_CPU_CAPABILITY=avx2"
    for name, value in numerics.X86.items():
        monkeypatch.setenv(name, value)
    assert {numerics.instructions(machine(text)) for text in (INTEL, AMD)} == {"portable"}


def test_a_system_that_says_nothing_still_has_a_name(native, tmp_path):
    assert numerics.instructions(tmp_path)


def test_it_is_refused_once_a_library_is_loaded(native):
    numerics.choose("native")
    with pytest.raises(ConfigError, match="comes too late") as caught:
        numerics.choose("portable")
    assert "numpy" in str(caught.value) and "use the command line" in str(caught.value)


def test_notes_are_added_up_and_lost_ones_are_none(tmp_path, monkeypatch):
    assert noted_instructions(tmp_path) == []
    for name in ("B", "A", "B"):
        monkeypatch.setattr("bigstep.records.measured.instructions", lambda name=name: name)
        note_instructions(tmp_path)
    assert noted_instructions(tmp_path) == ["A", "B"]
    for damaged in ("[]", "{}", "{", json.dumps({"instructions": 3})):
        (tmp_path / "measured.json").write_text(damaged)
        assert noted_instructions(tmp_path) == []


WEIGHTS = """
import sys
from bigstep import numerics
numerics.choose(sys.argv[1])
import hashlib, numpy, torch
from torch import nn
torch.set_num_threads(1)
torch.manual_seed(0)
x, y = torch.randn(64, 3, 12, 12), torch.randint(0, 4, (64,))
model = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(576, 64),
    nn.ReLU(), nn.Linear(64, 4),
)
for _ in range(20):
    model.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    for p in model.parameters():
        p.data -= 0.05 * p.grad
found = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters()))
a = numpy.random.default_rng(0).normal(size=(200, 200))
for value in (numpy.exp(a), numpy.log(abs(a)), a @ a, numpy.cbrt(a), a.sum(0)):
    found.update(value.tobytes())
print(found.hexdigest())
"""
LIMITS = [
    {},
    {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    {"ATEN_CPU_CAPABILITY": "default"},
]


def weights(kind, limits, native_environment):
    command = [sys.executable, "-c", WEIGHTS, kind]
    done = subprocess.run(command, env={**native_environment, **limits}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(numerics.platform.machine() != "x86_64", reason="needs an x86-64 processor")
def test_portable_gives_the_same_bits_where_native_does_not(native, monkeypatch):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MKL_")}
    own, portable = ({weights(kind, limits, environment) for limits in LIMITS} for kind in ("native", "portable"))
    assert len(portable) == 1
    assert len(own) > 1, "these limits do not move the processor at all"

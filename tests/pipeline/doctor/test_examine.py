"""The whole examination, with small stand-ins for what takes long or is not here."""

import io
import json
import os
import sys

import pytest
from rich.console import Console

from pipeline.doctor import examine as doctor
from pipeline.doctor.advice import advice, choices, target_cpu
from pipeline.doctor.attempt import Finding
from pipeline.doctor.examine import Diagnosis
from pipeline.doctor.gpus import Gpu
from pipeline.doctor.probes import CPU, CUDA

MISSING: dict[str, list[str]] = {stage: [] for stage in ("data", "train", "compress", "export", "verify")}
TORCH = """import types
__version__ = "9.8.7"
version = types.SimpleNamespace(cuda=None)
cuda = types.SimpleNamespace(is_available=lambda: False)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that puts modules before those that are installed, for the probes alone."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    return lambda **modules: put(tmp_path, **modules)


def put(folder, **modules):
    for name, code in {"torch": TORCH, **modules}.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
    return folder


@pytest.fixture(scope="module")
def diagnosis(tmp_path_factory):
    folder = put(tmp_path_factory.mktemp("modules"), serve__app="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("PATH", str(folder))
        return doctor.examine(MISSING, folder)


def drawn(diagnosis, capsys):
    diagnosis.show()
    return capsys.readouterr().out


def with_facts(diagnosis, **update):
    facts = diagnosis.facts.model_copy(update=update)
    return Diagnosis(facts=facts, stages=choices(facts), target_cpu=target_cpu(facts), advice=advice(facts))


def test_this_machine_is_healthy_and_says_what_it_uses(bigstep, installed):
    folder = installed()
    (folder / "nvidia-smi").write_text("#!/bin/sh\necho 'NVML: Driver/library version mismatch'; exit 18\n")
    (folder / "nvidia-smi").chmod(0o755)
    ended = bigstep("doctor", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["healthy"] and found["facts"]["providers"][CPU]["works"]
    assert found["facts"]["torch"]["version"] == "9.8.7"
    assert found["facts"]["nvidia_smi"] == "NVML: Driver/library version mismatch"
    assert found["facts"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {stage["name"]: bool(stage["uses"]) for stage in found["stages"]}["serve"]
    assert not any(value and value in ended.out for value in (os.environ["PATH"], os.environ.get("HOME")))


def test_a_runtime_that_crashes_is_told_and_ends_with_2(bigstep, installed):
    installed(serve__app="", onnxruntime="import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    ended = bigstep("doctor")
    assert ended.code == 2
    assert "onnxruntime  does not work: was ended by SIGSEGV" in ended.out
    assert "bigstep serve does not work here." in ended.out
    assert "\n  pip install --force-reinstall --no-deps onnxruntime\n" in ended.out


def test_a_probe_that_hangs_is_told_and_is_gone_afterwards(installed):
    note = "import os, pathlib, time; pathlib.Path(__file__).with_name('pid').write_text(str(os.getpid())); "
    folder = installed(serve__app="", torch=f"{note} time.sleep(60)")
    found = doctor.examine(MISSING, folder, limit_s=0.5)
    assert found.facts.torch.why == "did not end within 0.5 s"
    assert next(stage for stage in found.stages if stage.name == "train").uses is None
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)


def test_the_text_is_drawn_from_the_facts(diagnosis, capsys):
    machine = diagnosis.facts.machine.model_copy(
        update={"cores": 64, "usable_cores": 3, "quota": 3.5, "memory_bytes": 2**33, "memory_limit_bytes": 2**31}
    )
    out = drawn(with_facts(diagnosis, machine=machine), capsys)
    assert "3 usable of 64; a quota of 3.5 cores" in out
    assert "8.0 GiB, limited to 2.0 GiB" in out
    assert "CPU, up to 3 processes" in out
    assert "PyTorch      9.8.7" in out and f"{CPU}: works" in out
    assert "none from NVIDIA" in out and "TensorRT" not in out and "CUDA" not in out


def test_a_gpu_build_on_a_machine_without_a_gpu_is_no_alarm(diagnosis, capsys):
    providers = {**diagnosis.facts.providers, CUDA: Finding(works=False, why="libcudnn.so.9: no such file")}
    out = drawn(with_facts(diagnosis, providers=providers), capsys)
    assert f"{CUDA}: compiled in, but there is no GPU" in out and "libcudnn" not in out


def test_a_gpu_is_described_by_what_is_known_of_it(diagnosis, capsys):
    driver = Finding(works=True, cuda="13.1", devices=2)
    assert "2 from NVIDIA; there is no nvidia-smi" in drawn(with_facts(diagnosis, driver=driver), capsys)
    gpu = Gpu(name="Orin", driver=None, memory_bytes=None, compute_capability="8.7")
    out = drawn(with_facts(diagnosis, driver=driver, gpus=[gpu, gpu]), capsys)
    assert out.count("GPU          Orin, compute capability 8.7") == 2
    assert "the driver speaks CUDA 13.1 and sees 2 GPUs" in out and "9.8.7, sees no GPU" in out
    broken = Finding(works=False, why="cuInit: CUDA_ERROR_UNKNOWN (999)")
    out = drawn(with_facts(diagnosis, driver=broken, nvidia_smi="NVML: mismatch"), capsys)
    assert "the driver does not work: cuInit: CUDA_ERROR_UNKNOWN (999)" in out and "nvidia-smi: NVML: mismatch" in out


def test_advice_is_a_line_to_be_copied(diagnosis, capsys):
    gpu = Gpu(name="A100", driver="1", memory_bytes=2**30, compute_capability="8.0")
    shown = with_facts(diagnosis, driver=Finding(works=True, cuda="13.1", devices=1), gpus=[gpu])
    out = drawn(shown, capsys)
    assert len(shown.advice) == 2
    for item in shown.advice:
        assert f"\n\n{item.gain[0].upper()}{item.gain[1:]}:\n  {item.do}\n" in out
    assert f"compress.target_cpu = {shown.target_cpu.uses}, {shown.target_cpu.why}" in " ".join(out.split())


def test_eighty_columns_are_enough(diagnosis, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    broken = Finding(works=False, why="x" * 200)
    out = drawn(with_facts(diagnosis, torch=broken, server=broken), capsys)
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "x" * 40 in out


def test_names_of_any_letters_can_be_printed_anywhere(diagnosis, monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(doctor, "Terminal", lambda: Console(file=narrow, width=80))
    machine = diagnosis.facts.machine.model_copy(update={"cpu": "Prozessor \u00fc [red]\u4e2d"})
    with_facts(diagnosis, machine=machine).show()
    narrow.flush()
    assert rb"Prozessor \xfc [red]\u4e2d" in narrow.buffer.getvalue()

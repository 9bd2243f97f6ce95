"""What each stage will use and what to install: rules over facts, for machines that this one is not."""

import pytest

from bigstep.machine import Machine
from pipeline.doctor.advice import advice, choices, target_cpu
from pipeline.doctor.attempt import Finding
from pipeline.doctor.facts import Facts
from pipeline.doctor.gpus import Gpu
from pipeline.doctor.probes import CPU, CUDA

WORKS = Finding(works=True, version="1.0")
ABSENT = Finding(works=False, installed=False, why="not installed")
BROKEN = Finding(works=False, why="was ended by SIGSEGV")
H200 = Gpu(name="NVIDIA H200", driver="570", memory_bytes=2**37, compute_capability="9.0")
DRIVER = Finding(works=True, cuda="13.0", devices=1)
TORCH_CPU, TORCH_CUDA = WORKS, Finding(works=True, version="2.9", cuda="13.0", devices=1)
ON_CPU = {CPU: Finding(works=True, exact_8_bit=True)}
MACHINE = Machine(
    system="Linux 6.1 x86_64",
    board=None,
    l4t=None,
    cpu="a CPU",
    cpu_features=["avx2", "avx512f", "avx512_vnni"],
    cores=4,
    quota=None,
    usable_cores=4,
    memory_bytes=None,
    memory_available_bytes=None,
    memory_limit_bytes=None,
    disk_free_bytes=None,
    load=0.5,
    nvidia_boards=0,
)
HEALTHY = Facts(
    bigstep="0.1.0",
    python="3.11.2",
    machine=MACHINE,
    gpus=[],
    nvidia_smi=None,
    driver=ABSENT,
    torch=TORCH_CPU,
    tensorrt=ABSENT,
    onnxruntime=Finding(works=True, version="1.31", providers=(CPU,)),
    providers=ON_CPU,
    server=WORKS,
    missing={"train": [], "verify": []},
    both_runtimes=False,
)
WITH_GPU = HEALTHY.model_copy(update={"gpus": [H200], "driver": DRIVER})


def changed(facts=HEALTHY, machine=None, **update):
    machine = facts.machine.model_copy(update=machine or {})
    return facts.model_copy(update={"machine": machine, **update})


def choice(facts, name):
    return next(c for c in choices(facts) if c.name == name)


def blocked(facts):
    return {c.name for c in choices(facts) if c.uses is None}


def test_a_healthy_cpu_machine_gets_no_advice():
    assert blocked(HEALTHY) == set() and advice(HEALTHY) == []
    assert choice(HEALTHY, "train").uses == "CPU, up to 4 processes"
    assert choice(HEALTHY, "train").why.startswith("no NVIDIA GPU")
    assert choice(HEALTHY, "serve").uses == CPU
    assert choice(changed(machine={"usable_cores": 1}), "train").uses == "CPU, 1 process"


def test_every_stage_is_named():
    names = [c.name for c in choices(HEALTHY)]
    assert names == ["data", "train", "compress", "export", "verify", "serve", "bench"]


def test_a_gpu_that_pytorch_sees_is_used():
    facts = changed(WITH_GPU, torch=TORCH_CUDA, providers={**ON_CPU, CUDA: WORKS})
    assert choice(facts, "train").uses == "cuda" and "NVIDIA H200" in choice(facts, "train").why
    assert "--device cuda works" in choice(facts, "serve").why
    assert advice(facts) == []


@pytest.mark.parametrize(
    ("facts", "why", "do"),
    [
        (changed(machine={"nvidia_boards": 1}), "no CUDA driver", "docker run --gpus all"),
        (changed(WITH_GPU), "built without CUDA", "--index-url https://pypi.org/simple torch"),
        (
            changed(WITH_GPU, torch=Finding(works=True, cuda="13.0", why="the driver is too old")),
            "PyTorch cannot use the GPU (the driver is too old)",
            "update NVIDIA's driver",
        ),
        (
            changed(WITH_GPU, driver=Finding(works=False, why="cuInit: CUDA_ERROR_UNKNOWN (999)"), torch=BROKEN),
            "PyTorch does not work: was ended by SIGSEGV",
            "mend or update NVIDIA's driver",
        ),
    ],
)
def test_a_gpu_that_is_not_used_has_a_reason_and_a_remedy(facts, why, do):
    assert why in choice(facts, "train").why
    assert any(do in item.do for item in advice(facts))


def test_serving_on_a_gpu_is_installed_apart_from_training():
    (item,) = [i for i in advice(changed(WITH_GPU, torch=TORCH_CUDA)) if "serve" in i.gain]
    assert item.do.startswith("python3 -m venv .venv-serve && .venv-serve/bin/pip install ") and "[gpu]" in item.do
    gpu_build = Finding(works=True, providers=(CUDA, CPU))
    apart = changed(WITH_GPU, torch=ABSENT, onnxruntime=gpu_build, missing={"train": ["torch"]})
    assert any(i.do.startswith("python3 -m venv .venv-train && ") for i in advice(apart))


def test_a_cuda_provider_that_does_not_load_says_why():
    facts = changed(WITH_GPU, torch=TORCH_CUDA, providers={**ON_CPU, CUDA: Finding(works=False, why="libcudnn.so.9")})
    assert "libcudnn.so.9" in choice(facts, "serve").why and choice(facts, "serve").uses == CPU
    assert any("libcudnn.so.9" in item.gain for item in advice(facts))
    without_gpu = changed(facts, gpus=[], driver=ABSENT)
    assert advice(without_gpu) == [] and choice(without_gpu, "serve").why == "the default"


@pytest.mark.parametrize(
    ("update", "stages", "do"),
    [
        ({"torch": BROKEN}, {"train", "compress", "export"}, "pip install --force-reinstall torch torchvision"),
        ({"missing": {"verify": ["Jinja2"]}}, {"verify"}, "pip install '.[cpu,train,report]'"),
        ({"server": BROKEN}, {"serve"}, "pip install '.[cpu]'"),
        (
            {"onnxruntime": BROKEN, "providers": {CPU: BROKEN}},
            {"compress", "export", "verify", "serve", "bench"},
            "pip install --force-reinstall --no-deps onnxruntime",
        ),
        (
            {"onnxruntime": ABSENT, "providers": {CPU: ABSENT}},
            {"compress", "export", "verify", "serve", "bench"},
            "pip install '.[cpu]'",
        ),
    ],
)
def test_what_does_not_load_blocks_the_stages_that_need_it(update, stages, do):
    facts = changed(**update)
    assert blocked(facts) == stages
    assert [item.do for item in advice(facts)] == [do]


def test_two_runtimes_in_one_environment_are_told():
    (item,) = advice(changed(both_runtimes=True))
    assert item.do == "pip uninstall --yes onnxruntime onnxruntime-gpu && pip install '.[cpu]'"
    working = {**ON_CPU, CUDA: WORKS}
    (item, _) = advice(changed(WITH_GPU, both_runtimes=True, providers=working))  # the other is to train on the GPU
    assert item.do.endswith("pip install '.[cpu]'"), "the gate needs it where PyTorch is"
    (item,) = advice(changed(WITH_GPU, both_runtimes=True, providers=working, torch=ABSENT))
    assert item.do.endswith("'.[gpu]'")


def test_a_busy_machine_is_told_before_it_is_timed():
    assert "busy: a load of 2.1 on 4" in choice(changed(machine={"load": 2.1}), "bench").why
    assert "busy" not in choice(changed(machine={"load": None}), "bench").why


@pytest.mark.parametrize(
    ("features", "system", "exact", "uses"),
    [
        (["avx2", "avx512_vnni"], "Linux 6 x86_64", True, "vnni"),
        (["avx2", "avx512_vnni"], "Linux 6 x86_64", False, "generic"),  # what was tried counts for more
        (["avx2", "avx512_vnni"], "Linux 6 x86_64", None, "generic"),
        (["avx2", "avx512f"], "Linux 6 x86_64", True, "generic"),
        ([], "Linux 6 aarch64", True, "vnni"),
        (["asimddp"], "Linux 6 aarch64", True, "vnni"),
    ],
)
def test_eight_bit_weights_need_the_feature_and_the_right_sum(features, system, exact, uses):
    cpu = {CPU: Finding(works=exact is not None, exact_8_bit=exact)}
    found = target_cpu(changed(machine={"cpu_features": features, "system": system}, providers=cpu))
    assert found.uses == uses and found.why

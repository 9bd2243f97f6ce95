"""What every stage will use on this machine and why, and what to install for more: tables of rules over findings.

Nothing is probed here. Of the rules of one kind the first that applies speaks; what stands in braces are facts.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from bigstep.records.sealed import Value
from pipeline.doctor.attempt import Finding
from pipeline.doctor.facts import Facts
from pipeline.doctor.probes import CPU

EXACT = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}  # they add 8-bit products in 32 bits
SERVER_CPU, PIPELINE = "pip install '.[cpu]'", "pip install '.[cpu,train,report]'"
SERVER_GPU = "pip install '.[gpu]'"
SERVE_APART = f"python3 -m venv .venv-serve && .venv-serve/bin/{SERVER_GPU}"
TRAIN_APART = f"python3 -m venv .venv-train && .venv-train/bin/{PIPELINE}"
ONE_RUNTIME = "pip uninstall --yes onnxruntime onnxruntime-gpu && "
TWO_RUNTIMES = "to have one onnxruntime: the two overwrite each other's files"
TORCH_FOR_GPU = "pip install --force-reinstall --index-url https://pypi.org/simple torch torchvision"
NEWER_DRIVER = "update NVIDIA's driver, or install a PyTorch for its CUDA: https://pytorch.org/get-started/locally"
PIPELINE_GAIN = "to train, compress, export and verify"


class Choice(Value):
    """What is used for something and why; `uses` is None where it cannot run."""

    name: str
    uses: str | None
    why: str


class Advice(Value):
    """What would be gained, and what to do for it: a command, wherever one will do."""

    gain: str
    do: str


class Rule(NamedTuple):
    """A row of a table: its kind, when it applies, and the two things that it says then."""

    kind: str
    when: Callable[[Facts], object]
    says: tuple[str, str]


class Need(NamedTuple):
    """A row of a table: the stages that need something to work, what it is called, and what was found of it."""

    stages: Sequence[str]
    name: str
    found: Callable[[Facts], Finding]


def _always(_: Facts) -> bool:
    return True


def _serve_is_blocked(facts: Facts) -> bool:
    return _blocked("serve", facts) is not None


def _lacks_cuda(facts: Facts) -> bool:
    driver_works = facts.has_gpu and facts.driver.installed and facts.driver.works
    return driver_works and (facts.cuda_provider is None or not facts.cuda_provider.works)


CHOICES = (
    Rule("data", _always, ("CPU", "the images are arrays in memory")),
    Rule("train", lambda f: f.trains_on_gpu, ("cuda", "device = auto: PyTorch sees {gpu}; one run after the other")),
    Rule(
        "train", lambda f: f.machine.usable_cores == 1, ("CPU, 1 process", "{no_gpu}; one thread on each usable core")
    ),
    Rule("train", _always, ("CPU, up to {cores} processes", "{no_gpu}; one thread on each usable core")),
    Rule(
        "compress",
        lambda f: f.trains_on_gpu,
        ("cuda and CPU", "fine-tunes where training runs; the CPU judges every file"),
    ),
    Rule("compress", _always, ("CPU", "fine-tunes where training runs; the CPU judges every file")),
    Rule("export", _always, ("CPU", "PyTorch and onnxruntime are compared there")),
    Rule("verify", _always, (CPU, "the gate judges what the CPU answers")),
    Rule(
        "serve",
        lambda f: f.cuda_provider and f.cuda_provider.works,
        (CPU, "the default; --device cuda works here as well"),
    ),
    Rule("serve", lambda f: f.cuda_provider and f.has_gpu, (CPU, "--device cuda does not work: {cuda_why}")),
    Rule("serve", lambda f: f.has_gpu, (CPU, "this onnxruntime is built without CUDA")),
    Rule("serve", _always, (CPU, "the default")),
    Rule(
        "bench",
        lambda f: f.machine.load is not None and f.machine.load > f.machine.usable_cores / 2,
        (CPU, "busy: a load of {load:.1f} on {cores} usable cores makes latencies doubtful"),
    ),
    Rule("bench", _always, (CPU, "the server's own")),
)
NO_GPU = (
    Rule("train", lambda f: not f.has_gpu, ("", "no NVIDIA GPU")),
    Rule("train", lambda f: not f.driver.installed, ("", "no CUDA driver for the GPU")),
    Rule("train", lambda f: f.torch.cuda is None, ("", "this PyTorch is built without CUDA")),
    Rule("train", lambda f: f.torch.why or f.driver.why, ("", "PyTorch cannot use the GPU ({torch_why})")),
    Rule("train", _always, ("", "PyTorch cannot use the GPU (it does not say why)")),
)
NEEDS = (  # where a stage cannot run, the first of these says why
    Need(("train", "compress", "export"), "PyTorch", lambda f: f.torch),
    Need(("compress", "export", "verify", "serve", "bench"), "onnxruntime", lambda f: f.onnxruntime),
    Need(("compress", "export", "verify", "serve", "bench"), CPU, lambda f: f.providers[CPU]),
    Need(("serve",), "the server", lambda f: f.server),
)
ADVICE = (  # by what it is good for, most needed first
    Rule(
        "serve", lambda f: f.both_runtimes and f.has_gpu and not f.torch.installed, ("{one}", ONE_RUNTIME + SERVER_GPU)
    ),
    Rule("serve", lambda f: f.both_runtimes, ("{one}", ONE_RUNTIME + SERVER_CPU)),
    Rule(
        "serve",
        lambda f: (
            _serve_is_blocked(f) and f.onnxruntime.installed and not (f.onnxruntime.works and f.providers[CPU].works)
        ),
        ("to serve", "pip install --force-reinstall --no-deps onnxruntime"),
    ),
    Rule("serve", _serve_is_blocked, ("to serve", SERVER_CPU)),
    Rule(
        "pipeline",
        lambda f: f.torch.installed and not f.torch.works,
        (PIPELINE_GAIN, "pip install --force-reinstall torch torchvision"),
    ),
    # A GPU build of onnxruntime must not be overwritten by the one that the pipeline wants.
    Rule("pipeline", lambda f: any(f.missing.values()) and f.has_gpu_runtime, (PIPELINE_GAIN, TRAIN_APART)),
    Rule("pipeline", lambda f: any(f.missing.values()), (PIPELINE_GAIN, PIPELINE)),
    Rule(
        "GPU",
        lambda f: f.has_gpu and not f.driver.installed,
        ("to use the GPU", "install NVIDIA's driver, and in a container: docker run --gpus all"),
    ),
    Rule(
        "GPU",
        lambda f: f.has_gpu and not f.driver.works,
        ("to use the GPU ({driver_why})", "mend or update NVIDIA's driver, start again, and try nvidia-smi"),
    ),
    Rule(
        "GPU",
        lambda f: f.has_gpu and f.torch.works and not f.trains_on_gpu and f.torch.cuda,
        ("to train on the GPU", NEWER_DRIVER),
    ),
    Rule("GPU", lambda f: f.has_gpu and f.torch.works and not f.trains_on_gpu, ("to train on the GPU", TORCH_FOR_GPU)),
    Rule("GPU server", lambda f: _lacks_cuda(f) and f.cuda_provider is None, ("to serve on the GPU", SERVE_APART)),
    # Where training is installed, the gate judges with the other build of onnxruntime.
    Rule(
        "GPU server", lambda f: _lacks_cuda(f) and f.torch.installed, ("to serve on the GPU ({cuda_why})", SERVE_APART)
    ),
    Rule("GPU server", _lacks_cuda, ("to serve on the GPU ({cuda_why})", SERVER_GPU)),
)


def choices(facts: Facts) -> list[Choice]:
    """Say for every stage what it will use, or why it cannot run."""
    chosen = _first_of_each(CHOICES, facts)
    blocked = {stage: _blocked(stage, facts) for stage in chosen}
    return [
        Choice(name=stage, uses=None if blocked[stage] else uses, why=blocked[stage] or why)
        for stage, (uses, why) in chosen.items()
    ]


def advice(facts: Facts) -> list[Advice]:
    """Say what to install for more, most needed first; nothing that this machine has no use for."""
    return [Advice(gain=gain, do=do) for gain, do in _first_of_each(ADVICE, facts).values()]


def target_cpu(facts: Facts) -> Choice:
    """Say which `compress.target_cpu` suits this processor, from its features and from what it calculated."""
    exact, features = facts.providers[CPU].exact_8_bit, facts.machine.cpu_features
    able = [f for f in features if f in EXACT] or (["64-bit ARM"] if facts.machine.is_arm else [])
    uses, why = "generic", "7-bit weights: this CPU adds products in 16 bits, which 8-bit weights overflow (tried)"
    if exact is None:
        why = "7-bit weights: onnxruntime could not be tried"
    elif exact and able:
        uses, why = "vnni", f"8-bit weights: {able[0]} adds their products without overflow (tried)"
    elif exact:
        why = "7-bit weights: this CPU has no instructions of its own for 8-bit products"
    return Choice(name="target_cpu", uses=uses, why=why)


def _first_of_each(rules: Sequence[Rule], facts: Facts) -> dict[str, tuple[str, str]]:
    """Return what the first rule of each kind that applies says, with the facts filled in."""
    found: dict[str, tuple[str, str]] = {}
    for rule in rules:
        if rule.kind not in found and rule.when(facts):
            first, second = (text.format(**_words(rules, facts)) for text in rule.says)
            found[rule.kind] = first, second
    return found


def _words(rules: Sequence[Rule], facts: Facts) -> dict[str, object]:
    """Return the facts that rules speak of."""
    return {
        "gpu": facts.gpus[0].name if facts.gpus else "the GPU",
        "cores": facts.machine.usable_cores,
        "load": facts.machine.load or 0.0,
        "cuda_why": facts.cuda_provider.why if facts.cuda_provider else None,
        "driver_why": facts.driver.why,
        "torch_why": facts.torch.why or facts.driver.why,
        "no_gpu": "" if rules is NO_GPU else _first_of_each(NO_GPU, facts)["train"][1],
        "one": "to serve" if _serve_is_blocked(facts) else TWO_RUNTIMES,
    }


def _blocked(stage: str, facts: Facts) -> str | None:
    """Return why a stage cannot run, or None."""
    if facts.missing.get(stage):
        return f"not installed: {', '.join(facts.missing[stage])}"
    broken = ((need.name, need.found(facts)) for need in NEEDS if stage in need.stages)
    return next((f"{name} {finding.in_words()}" for name, finding in broken if not finding.works), None)

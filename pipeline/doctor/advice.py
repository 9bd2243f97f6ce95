"""What every stage will use on this machine and why, and what to install for more: rules over findings, no probing."""

from __future__ import annotations

from bigstep.records.sealed import Value
from pipeline.doctor.facts import Facts
from pipeline.doctor.probes import CPU, CUDA

STAGES_ON_TORCH = ("train", "compress", "export")
EXACT = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}  # they add 8-bit products in 32 bits
PIPELINE, SERVER_CPU = "pip install '.[cpu,train,report]'", "pip install '.[cpu]'"
SERVER_GPU = "pip install --extra-index-url https://pypi.nvidia.com '.[gpu]'"


class Choice(Value):
    """Say what is used for something and why; `uses` is None where it cannot run."""

    name: str
    uses: str | None
    why: str


class Advice(Value):
    """Say what would be gained, and what to do for it: a command, wherever one will do."""

    gain: str
    do: str


def choices(facts: Facts) -> list[Choice]:
    """Say for every stage what it will use, or why it cannot run."""
    found = [
        Choice(name="data", uses="CPU", why="the images are arrays in memory"),
        _train(facts),
        _compress(facts),
        Choice(name="export", uses="CPU", why="PyTorch and onnxruntime are compared there"),
        Choice(name="verify", uses=CPU, why="the gate judges what the CPU answers"),
        _serve(facts),
        _bench(facts),
    ]
    blocked = {choice.name: _blocked(choice.name, facts) for choice in found}
    return [Choice(name=c.name, uses=None, why=blocked[c.name] or "") if blocked[c.name] else c for c in found]


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


def advice(facts: Facts) -> list[Advice]:
    """Say what to install for more, most needed first; nothing that this machine has no use for."""
    found = _advice_on_serving(facts)
    gain = "to train, compress, export and verify"
    if facts.torch.installed and not facts.torch.works:
        found.append(Advice(gain=gain, do="pip install --force-reinstall torch torchvision"))
    elif any(facts.missing.values()):
        found.append(Advice(gain=gain, do=_pipeline(facts)))
    return found + (_advice_on_gpu(facts) if facts.has_gpu else [])


def _train(facts: Facts) -> Choice:
    if facts.trains_on_gpu:
        gpu = facts.gpus[0].name if facts.gpus else "the GPU"
        return Choice(name="train", uses="cuda", why=f"device = auto: PyTorch sees {gpu}; one run after the other")
    cores = facts.machine.usable_cores
    uses = "CPU, 1 process" if cores == 1 else f"CPU, up to {cores} processes"
    return Choice(name="train", uses=uses, why=f"{_no_gpu(facts)}; one thread on each usable core")


def _no_gpu(facts: Facts) -> str:
    if not facts.has_gpu:
        return "no NVIDIA GPU"
    if not facts.driver.installed:
        return "no CUDA driver for the GPU"
    if facts.torch.cuda is None:
        return "this PyTorch is built without CUDA"
    return f"PyTorch cannot use the GPU ({facts.torch.why or facts.driver.why or 'it does not say why'})"


def _compress(facts: Facts) -> Choice:
    uses = "cuda and CPU" if facts.trains_on_gpu else "CPU"
    return Choice(name="compress", uses=uses, why="fine-tunes where training runs; the CPU judges every file")


def _serve(facts: Facts) -> Choice:
    why = "the default"
    if CUDA in facts.providers and facts.providers[CUDA].works:
        why = "the default; --device cuda works here as well"
    elif CUDA in facts.providers and facts.has_gpu:
        why = f"--device cuda does not work: {facts.providers[CUDA].why}"
    elif facts.has_gpu:
        why = "this onnxruntime is built without CUDA"
    return Choice(name="serve", uses=CPU, why=why)


def _bench(facts: Facts) -> Choice:
    load, cores = facts.machine.load, facts.machine.usable_cores
    busy = load is not None and load > cores / 2
    why = f"busy: a load of {load:.1f} on {cores} usable cores makes latencies doubtful" if busy else "the server's own"
    return Choice(name="bench", uses=CPU, why=why)


def _blocked(stage: str, facts: Facts) -> str | None:
    """Return why a stage cannot run, or None."""
    if facts.missing.get(stage):
        return f"not installed: {', '.join(facts.missing[stage])}"
    if stage in STAGES_ON_TORCH and not facts.torch.works:
        return f"PyTorch {facts.torch.in_words()}"
    if stage not in ("data", "train"):
        if not facts.onnxruntime.works:
            return f"onnxruntime {facts.onnxruntime.in_words()}"
        if not facts.providers[CPU].works:
            return f"{CPU} {facts.providers[CPU].in_words()}"
    if stage == "serve" and not facts.server.works:
        return f"the server {facts.server.in_words()}"
    return None


def _pipeline(facts: Facts) -> str:
    """Return the command that installs every stage, beside a GPU build of onnxruntime that it must not overwrite."""
    if facts.onnxruntime.installed and CUDA in facts.onnxruntime.providers:
        return _apart(".venv-train", PIPELINE)
    return PIPELINE


def _apart(folder: str, command: str) -> str:
    return f"python3 -m venv {folder} && {folder}/bin/{command}"


def _advice_on_serving(facts: Facts) -> list[Advice]:
    gain = "to serve" if _blocked("serve", facts) else "to have one onnxruntime: the two overwrite each other's files"
    if facts.both_runtimes:
        which = SERVER_GPU if facts.has_gpu and not facts.torch.installed else SERVER_CPU
        return [Advice(gain=gain, do=f"pip uninstall --yes onnxruntime onnxruntime-gpu && {which}")]
    if not _blocked("serve", facts):
        return []
    broken = facts.onnxruntime.installed and not (facts.onnxruntime.works and facts.providers[CPU].works)
    return [Advice(gain=gain, do="pip install --force-reinstall --no-deps onnxruntime" if broken else SERVER_CPU)]


def _advice_on_gpu(facts: Facts) -> list[Advice]:
    if not facts.driver.installed:
        do = "install NVIDIA's driver, and in a container: docker run --gpus all"
        return [Advice(gain="to use the GPU", do=do)]
    if not facts.driver.works:
        do = "mend or update NVIDIA's driver, start again, and try nvidia-smi"
        return [Advice(gain=f"to use the GPU ({facts.driver.why})", do=do)]
    found = []
    if facts.torch.works and not facts.trains_on_gpu:
        command = "pip install --force-reinstall --index-url https://pypi.org/simple torch torchvision"
        if facts.torch.cuda:
            command = (
                "update NVIDIA's driver, or install a PyTorch for its CUDA: https://pytorch.org/get-started/locally"
            )
        found.append(Advice(gain="to train on the GPU", do=command))
    cuda = facts.providers.get(CUDA)
    if cuda is None or not cuda.works:
        # Where training is installed, the gate judges with the other build of onnxruntime.
        apart = cuda is None or facts.torch.installed
        gain = f"to serve on the GPU ({cuda.why})" if cuda else "to serve on the GPU"
        found.append(Advice(gain=gain, do=_apart(".venv-serve", SERVER_GPU) if apart else SERVER_GPU))
    return found

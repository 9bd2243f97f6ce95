"""All that was found about a machine, and what follows from it at once."""

from bigstep.machine import Machine
from bigstep.records.sealed import Value
from pipeline.doctor.attempt import Finding
from pipeline.doctor.gpus import Gpu
from pipeline.doctor.probes import CUDA


class Facts(Value):
    """All that was found.

    Attributes:
        gpus: what nvidia-smi lists.
        nvidia_smi: what it says is wrong; None where nothing is, and where there is no nvidia-smi.
        providers: what each provider compiled into onnxruntime did with a tiny model; the CPU's is always asked.
        missing: by stage, the packages that the pipeline wants for it and that are not installed.
        both_runtimes: onnxruntime and onnxruntime-gpu are installed side by side.
    """

    bigstep: str
    python: str
    machine: Machine
    gpus: list[Gpu]
    nvidia_smi: str | None
    driver: Finding
    torch: Finding
    tensorrt: Finding
    onnxruntime: Finding
    providers: dict[str, Finding]
    server: Finding
    missing: dict[str, list[str]]
    both_runtimes: bool

    @property
    def has_gpu(self) -> bool:
        """Tell whether there is an NVIDIA GPU, with a driver or without; a driver alone is not a GPU."""
        return bool(self.gpus or self.driver.devices or self.machine.nvidia_boards or self.machine.l4t)

    @property
    def trains_on_gpu(self) -> bool:
        """Tell what `pipeline.device` makes of `auto`: a driver to load, and a GPU that PyTorch can use."""
        return self.driver.installed and self.torch.works and self.torch.devices > 0

    @property
    def cuda_provider(self) -> Finding | None:
        """Return what CUDA's provider did; None where onnxruntime was built without it."""
        return self.providers.get(CUDA)

    @property
    def has_gpu_runtime(self) -> bool:
        """Tell whether the onnxruntime that is installed is built for a GPU."""
        return self.onnxruntime.installed and CUDA in self.onnxruntime.providers

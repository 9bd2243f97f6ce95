"""Networks built from an `Architecture`, and their weights as safetensors.

Shapes: N images, C channels, H height, W width, K classes.
"""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bigstep.errors import TrainError
from bigstep.records.architecture import Architecture
from train.networks import channels, families, own

HEAD = "head"
SMALL_PARAMETERS = 1_000_000  # not measured on a GPU; 12 such networks are 50 MB to read and write at a step


def build(architecture: Architecture, seed: int = 0) -> nn.Module:
    """Build a network of normalised float32 images (N, C, H, W) with logits (N, K), initialised from `seed`.

    Hidden layers carry the names of `architecture.widths`. The initialisation is that of PyTorch, of torchvision or of
    the user's own file; a network with fewer channels than its family has is made whole and then cut.

    Raises:
        ConfigError: the file of a user's network cannot be read.
        TrainError: it was changed, or fails.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture.family == "mlp":
            return _mlp(architecture)
        if architecture.family == "cnn":
            return _cnn(architecture)
        model = own.make(architecture) if architecture.family == "own" else families.make(architecture)
        return channels.resize(model, architecture).train()


def describe(architecture: Architecture) -> Architecture:
    """Complete an architecture without widths by those of a network that is built from it.

    Raises:
        ConfigError: the file of a user's network cannot be read.
        TrainError: it fails, or is not a network that can be trained and stored.
    """
    if architecture.family == "own":
        own.check(architecture)
    model = build(architecture)
    return architecture.model_copy(update={"widths": channels.prunable(model, architecture)})


def place(model: nn.Module, device: str) -> nn.Module:
    """Move a network to a device; on a GPU its kernels lie channels last, which suits convolutions there.

    Images may lie as they do: a convolution takes the layout of its kernel for what it returns.
    """
    return channels_last(model).to(device) if device == "cuda" else model.to(device)


def is_small(model: nn.Module) -> bool:
    """Tell whether launching a network's kernels takes a GPU longer than running them, by its number of parameters."""
    return sum(p.numel() for p in model.parameters()) <= SMALL_PARAMETERS


def normalise(images_NHWC: NDArray[np.uint8] | Tensor, architecture: Architecture) -> Tensor:
    """Turn uint8 pixels into the float32 (N, C, H, W) that a network takes, on their device: (x / 255 - mean) / std."""
    pixels = images_NHWC if isinstance(images_NHWC, Tensor) else torch.from_numpy(np.array(images_NHWC))
    x_NCHW = pixels.permute(0, 3, 1, 2).float().div_(255.0)
    mean = torch.tensor(architecture.mean, device=pixels.device).view(1, -1, 1, 1)
    std = torch.tensor(architecture.std, device=pixels.device).view(1, -1, 1, 1)
    return x_NCHW.sub_(mean).div_(std).contiguous()


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a network's parameters and buffers as safetensors."""
    save_file({name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}, path)


def load_weights(architecture: Architecture, path: Path) -> nn.Module:
    """Build a network and load its weights strictly, on the CPU.

    Raises:
        TrainError: the file is unreadable, does not fit the architecture, or holds a weight that is not finite.
    """
    model = build(architecture)
    try:
        model.load_state_dict(load_file(path), strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise TrainError(f"{path} does not hold the weights of this network", got=error) from error
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise TrainError(
                f"{path}: weights are not finite",
                got=f"{bad} of {tensor.numel()} values of {name} are NaN or infinite",
                do="train again at a smaller learning rate, or take another checkpoint",
            )
    return model.eval()


def channels_last(model: nn.Module) -> nn.Module:
    """Lay the kernels of a network channels last, in place."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def _mlp(architecture: Architecture) -> nn.Sequential:
    spec = architecture.input
    fan_in = spec.height_px * spec.width_px * spec.channels
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for name, width in architecture.widths.items():
        layers[name] = nn.Linear(fan_in, width)
        layers[f"{name}_relu"] = nn.ReLU()
        fan_in = width
    layers[HEAD] = nn.Linear(fan_in, architecture.classes)
    return nn.Sequential(layers)


def _cnn(architecture: Architecture) -> nn.Sequential:
    fan_in = int(architecture.input.channels)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for position, (name, width) in enumerate(architecture.widths.items()):
        if position:
            layers[f"{name}_pool"] = nn.MaxPool2d(2)
        layers[name] = nn.Conv2d(fan_in, width, kernel_size=3, padding=1)
        layers[f"{name}_relu"] = nn.ReLU()
        fan_in = width
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers[HEAD] = nn.Linear(fan_in, architecture.classes)
    return nn.Sequential(layers)

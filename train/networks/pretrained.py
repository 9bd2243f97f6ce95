"""Pretrained weights to start from: a local file, read without running any code that it may hold."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bigstep.errors import ConfigError

SHOWN = 4  # tensors that an error names


def start_from(model: nn.Module, path: Path) -> list[str]:
    """Set a network to pretrained weights, and leave its last layer as it is if the classes are others.

    Args:
        model: a network with the names of the file; it is changed in place.
        path: a .safetensors file, or a .pt or .pth file of a state dict, also one under `state_dict` or `model`.

    Returns:
        The tensors of the last layer that were not taken over; none if the number of classes is the same.

    Raises:
        ConfigError: the file cannot be read, or its tensors are not those of this network; they are named.
    """
    found, wanted = read(path), model.state_dict()
    # Files older than PyTorch 0.4.1 do not count the batches that a normalisation has seen.
    missing = [n for n in wanted if n not in found and not n.endswith(".num_batches_tracked")]
    strange = [n for n in found if n not in wanted]
    unlike = [n for n in wanted if n in found and found[n].shape != wanted[n].shape]
    dropped = unlike if _is_head(unlike, found, wanted) else []
    complaints = [f"{n} is missing" for n in missing] + [f"{n} is not one of its tensors" for n in strange]
    complaints += [f"{n} is {tuple(found[n].shape)}, not {tuple(wanted[n].shape)}" for n in unlike if n not in dropped]
    complaints += [f"{n} has values that are not finite" for n, t in found.items() if not torch.isfinite(t).all()]
    if complaints:
        more = f", and {len(complaints) - SHOWN} more" if len(complaints) > SHOWN else ""
        raise ConfigError(
            f"{path} does not hold weights of this network",
            got="; ".join(complaints[:SHOWN]) + more,
            do="mend train.weights or train.network; images of up to 64 pixels have a stem of their own, "
            "which files for larger images do not fit: set data.size_px",
        )
    model.load_state_dict({n: wanted[n] for n in wanted} | {n: t for n, t in found.items() if n not in dropped})
    return dropped


def read(path: Path) -> dict[str, Tensor]:
    """Read a file of weights; PyTorch's own format is read as tensors only.

    Raises:
        ConfigError: it is missing, damaged, or holds anything but tensors by name.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # there is no end to the ways in which a file of the two formats can be damaged
        raise ConfigError(f"the weights {path} cannot be read", got=error, expected="tensors by name") from error
    for key in ("state_dict", "model"):
        held = held[key] if isinstance(held, dict) and isinstance(held.get(key), dict) else held
    if not isinstance(held, dict) or not held or not all(isinstance(t, Tensor) for t in held.values()):
        raise ConfigError(f"the weights {path} cannot be read", got=type(held), expected="tensors by name")
    return dict(held)


def _is_head(unlike: list[str], found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    """Say whether these tensors are weight and bias of one layer that differ in the number of outputs alone."""
    layers = {name.rpartition(".")[0] for name in unlike}
    return len(layers) == 1 and all(found[n].shape[1:] == wanted[n].shape[1:] for n in unlike)

"""A user's own network: a function of a Python file, found by its path and bound to the file's SHA-256."""

import hashlib
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from bigstep.errors import ConfigError, TrainError
from bigstep.records.architecture import Architecture, UserNetwork
from train.networks.user_files import file_sha256

SIGNATURE = "def {}(classes: int, channels: int, height: int, width: int) -> torch.nn.Module"


def find(network: str) -> UserNetwork:
    """Return what `path/to/net.py:function` names; the file is hashed, not run.

    Raises:
        ConfigError: there is no such file.
    """
    path, _, function = network.rpartition(":")
    return UserNetwork(path=path, function=function, sha256=file_sha256(path, "train.network"))


def make(architecture: Architecture) -> nn.Module:
    """Run the user's file and call its function; nothing is added to `sys.path`.

    Raises:
        ConfigError: the file is gone, or has no such function.
        TrainError: the file is not the one that the architecture was made from, or it fails.
    """
    own, spec = architecture.own, architecture.input
    assert own is not None
    source = _read(own.path)
    found = hashlib.sha256(source).hexdigest()
    if found != own.sha256:
        raise TrainError(
            f"{own.path} was changed after this network was made from it",
            got=f"sha256 {found}",
            expected=f"sha256 {own.sha256}",
            do="put the old file back, or train again",
        )
    module = _run(own, source)
    function = getattr(module, own.function, None)
    if not callable(function):
        expected = SIGNATURE.format(own.function)
        raise ConfigError(f"{own.path} has no function {own.function}", expected=expected, do="mend train.network")
    try:
        model = function(architecture.classes, spec.channels, spec.height_px, spec.width_px)
    except Exception as error:  # whatever the user's code raises is theirs to mend
        raise _failed(own, f"{own.function}({architecture.classes}, {spec.channels}, ...)", error) from error
    if not isinstance(model, nn.Module):
        raise TrainError(
            f"{own.path}:{own.function} returned no network", got=type(model), expected="a torch.nn.Module"
        )
    return model


def check(model: nn.Module, architecture: Architecture) -> None:
    """Refuse a network that could not be trained, stored or exported, before hours are spent on it.

    Raises:
        TrainError: it has no weights, shares some between names, fails on one image or two, returns anything but
            logits (N, K), or does what PyTorch cannot export.
    """
    own, spec = architecture.own, architecture.input
    assert own is not None
    _check_weights(model, own)
    x_NCHW = torch.zeros((2, spec.channels, spec.height_px, spec.width_px))
    model.eval()
    for n in (1, 2):
        try:
            with torch.no_grad():
                logits_NK = model(x_NCHW[:n])
        except Exception as error:
            raise _failed(own, f"the network on images ({n}, {spec.channels}, ...)", error) from error
        shape = (n, architecture.classes)
        if not isinstance(logits_NK, Tensor) or tuple(logits_NK.shape) != shape or logits_NK.dtype != torch.float32:
            got = f"{tuple(logits_NK.shape)} {logits_NK.dtype}" if isinstance(logits_NK, Tensor) else type(logits_NK)
            raise TrainError(f"{own.path}:{own.function} returns no logits", got=got, expected=f"{shape} torch.float32")
    try:
        torch.export.export(model, (x_NCHW,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    except Exception as error:  # PyTorch's list of these is long and changes
        raise _failed(own, "exporting the network", error) from error


def _check_weights(model: nn.Module, own: UserNetwork) -> None:
    name = f"{own.path}:{own.function}"
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
        raise TrainError(f"{name} has lazy layers", do="give every layer its sizes: they are stored with the weights")
    if not any(p.requires_grad for p in model.parameters()):
        raise TrainError(f"{name} has no weights to train", do="return a network with parameters")
    seen: dict[int, str] = {}
    for tensor_name, tensor in model.state_dict().items():
        other = seen.setdefault(tensor.data_ptr(), tensor_name) if tensor.numel() else tensor_name
        if other != tensor_name:
            raise TrainError(f"{name} shares weights", got=f"{other} is {tensor_name}", do="give each its own")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        do = "paths are relative to the folder that bigstep runs in"
        raise ConfigError("the file of the network cannot be read", got=f"{path}: {error.strerror}", do=do) from error


def _run(own: UserNetwork, source: bytes) -> ModuleType:
    """Run the bytes that were hashed: an import would read a cached compilation instead, which may be older."""
    module = ModuleType(f"bigstep_own_{own.sha256[:12]}")
    module.__file__ = own.path
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        exec(compile(source, own.path, "exec"), module.__dict__)  # noqa: S102 - it is the user's own file
    except Exception as error:
        raise _failed(own, "the file", error) from error
    return module


def _failed(own: UserNetwork, what: str, error: Exception) -> TrainError:
    return TrainError(
        f"{own.path}: {what} fails",
        got=f"{type(error).__name__}: {error}",
        do=f"mend it; what is wanted is {SIGNATURE.format(own.function)}",
    )

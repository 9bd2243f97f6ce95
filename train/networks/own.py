"""A user's own network: a function of a Python file, found by its path and bound to the file's SHA-256."""

import hashlib
import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from bigstep.errors import ConfigError, TrainError
from bigstep.records.architecture import Architecture, UserNetwork
from train.networks.user_files import file_sha256

BATCH = 4  # images on which a network is tried
SHOWN = 4  # tensors that an error names
ROUNDING = 1e-4  # difference of logits, as a part of the largest, that batches of other sizes may make
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


def check(architecture: Architecture) -> None:
    """Refuse a network that could not be trained, stored or exported, before hours are spent on it.

    Raises:
        ConfigError: its file cannot be read.
        TrainError: it has no weights, shares some between names, fails on one image or two, returns anything but
            logits (N, K), answers the same image in several ways, is more than its seed and its weights say, or does
            what PyTorch cannot export.
    """
    own, spec = architecture.own, architecture.input
    assert own is not None
    model, again, other = (_seeded(architecture, seed) for seed in (0, 0, 1))
    _check_weights(model, own)
    generator = torch.Generator().manual_seed(0)
    x_NCHW = torch.randn((BATCH, spec.channels, spec.height_px, spec.width_px), generator=generator)
    for training, n in ((False, 1), (False, 2), (True, 2)):
        _forward(other.train(training), own, architecture.classes, x_NCHW[:n])
    _unsettle(other.eval())
    _check_answers(other, own, x_NCHW)
    _check_seeds(model, again, other, own, x_NCHW)
    try:
        torch.export.export(model.eval(), (x_NCHW[:2],), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    except Exception as error:  # PyTorch's list of these is long and changes
        raise _failed(own, "exporting the network", error) from error


def _seeded(architecture: Architecture, seed: int) -> nn.Module:
    """Make a network from a seed, in training mode, as `build` does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(architecture).train()


def _forward(model: nn.Module, own: UserNetwork, classes: int, x_NCHW: Tensor) -> None:
    n, channels = x_NCHW.shape[:2]
    mode = "in training mode " if model.training else ""
    try:
        with torch.no_grad():
            logits_NK = model(x_NCHW)
    except Exception as error:
        raise _failed(own, f"the network {mode}on images ({n}, {channels}, ...)", error) from error
    shape = (n, classes)
    if not isinstance(logits_NK, Tensor) or tuple(logits_NK.shape) != shape or logits_NK.dtype != torch.float32:
        got = f"{tuple(logits_NK.shape)} {logits_NK.dtype}" if isinstance(logits_NK, Tensor) else type(logits_NK)
        raise TrainError(
            f"{own.path}:{own.function} {mode}returns no logits", got=got, expected=f"{shape} torch.float32"
        )
    if not torch.isfinite(logits_NK).all():
        raise TrainError(f"{own.path}:{own.function} {mode}returns logits that are not finite, at its initial weights")


def _unsettle(model: nn.Module) -> None:
    """Move weights that begin at one value, as training will: behind zeros nothing of a network could be seen."""
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        if p.numel() and p.min() == p.max():
            p.data += torch.randn(p.shape, generator=generator) * 0.1 / max(1, p[0].numel()) ** 0.5 if p.ndim else 0.1


def _check_answers(model: nn.Module, own: UserNetwork, x_NCHW: Tensor) -> None:
    """Refuse a network whose evaluation depends on chance, or on the other images of a batch."""
    before = _chance()
    with torch.no_grad():
        first_NK, second_NK = model(x_NCHW), model(x_NCHW)
        drew = _chance() != before
        alone_NK = torch.cat([model(x_NCHW[i : i + 1]) for i in range(len(x_NCHW))])
    if drew or _differ(first_NK, second_NK):
        raise TrainError(
            f"{own.path}:{own.function} draws random numbers in evaluation mode",
            got=f"two answers to the same images that differ by up to {_largest(first_NK, second_NK):.2g}",
            expected="the same logits at every call: the judged file is to answer as the network does",
            do="draw while self.training alone, such as F.dropout(x, p, training=self.training)",
        )
    if _differ(alone_NK, first_NK):
        raise TrainError(
            f"{own.path}:{own.function} answers an image by the images beside it",
            got=f"logits that differ by up to {_largest(alone_NK, first_NK):.2g} from those of the image alone",
            do="let nothing go across a batch in evaluation mode, such as BatchNorm without track_running_stats",
        )


def _check_seeds(model: nn.Module, again: nn.Module, other: nn.Module, own: UserNetwork, x_NCHW: Tensor) -> None:
    """Refuse a network that a seed does not determine, or that its stored tensors do not make again."""
    found = again.state_dict()
    strange = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, found[name])]
    if strange:
        raise TrainError(
            f"{own.path}:{own.function} makes other weights at every call",
            got=", ".join(strange[:SHOWN]),
            do="draw with PyTorch, whose generator is seeded; not with numpy or random",
        )
    again.load_state_dict(other.state_dict())
    with torch.no_grad():
        stored_NK, own_NK = again.eval()(x_NCHW), other(x_NCHW)
    if _differ(stored_NK, own_NK):
        raise TrainError(
            f"{own.path}:{own.function} draws numbers that are not stored with its weights",
            got=f"logits that differ by up to {_largest(stored_NK, own_NK):.2g} once its weights are loaded",
            do="keep them by self.register_buffer(name, tensor), or draw them from a generator of a fixed seed",
        )


def _largest(first_NK: Tensor, second_NK: Tensor) -> float:
    return float((first_NK - second_NK).abs().max())


def _differ(first_NK: Tensor, second_NK: Tensor) -> bool:
    """Say whether logits differ by more than rounding."""
    return _largest(first_NK, second_NK) > ROUNDING * max(1.0, float(second_NK.abs().max()))


def _chance() -> tuple[object, ...]:
    """Return the states of the generators that a network may draw from."""
    legacy = str(np.random.get_state())  # noqa: NPY002 - it is what others use
    return bytes(torch.get_rng_state().numpy()), random.getstate(), legacy


def _check_weights(model: nn.Module, own: UserNetwork) -> None:
    name = f"{own.path}:{own.function}"
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
        raise TrainError(f"{name} has lazy layers", do="give every layer its sizes: they are stored with the weights")
    if not any(p.requires_grad for p in model.parameters()):
        raise TrainError(f"{name} has no weights to train", do="return a network with parameters")
    seen: dict[int, str] = {}
    for tensor_name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            do = "give it no get_extra_state: what is stored are tensors by name"
            raise TrainError(f"{name} has a state that is not a tensor", got=tensor_name, do=do)
        other = seen.setdefault(tensor.untyped_storage().data_ptr(), tensor_name) if tensor.numel() else tensor_name
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
    do = f"mend it; what is wanted is {SIGNATURE.format(own.function)}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        module = error.name.partition(".")[0]
        beside = Path(own.path).parent / module
        if beside.is_dir() or beside.with_suffix(".py").is_file():
            do = (
                f"the file stands by itself, for its SHA-256 alone tells the network: move what it needs of {module} "
                f"into it, or install {module} as a package"
            )
    return TrainError(f"{own.path}: {what} fails", got=f"{type(error).__name__}: {error}", do=do)

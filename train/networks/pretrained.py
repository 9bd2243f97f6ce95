"""Pretrained weights to start from: a local file, read without running any code that it may hold.

Other trainers wrap what they save: in a dictionary with the optimiser beside it, or under names that begin with
`module.`, `_orig_mod.`, `model.`. What holds every tensor of the network under one beginning of its names is taken.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from safetensors.torch import load_file
from torch import Tensor, nn

from bigstep.errors import ConfigError

SHOWN = 4  # tensors that an error names
DEPTH = 3  # dictionaries inside one another that are looked through
WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # parts of names that PyTorch adds
COUNTERS = {"n_averaged"}  # what PyTorch's averaging and EMA keep beside the weights
SAVE = "torch.save(model.state_dict(), 'weights.pt'), or safetensors.torch.save_file"
OTHERS = {  # beginnings of files that are not weights, in words, with what to do
    b"version https://git-lfs": ("a pointer of Git LFS, not the file itself", "git lfs pull"),
    b"{": ("JSON, perhaps the index of weights in several parts", f"merge the parts into one file: {SAVE}"),
    b"<": ("a web page, perhaps that of a download", "download the file itself"),
    b"\x89HDF": ("HDF5, as Keras writes it", f"convert it to tensors by name: {SAVE}"),
    b"\x08": ("ONNX", f"take the weights of the network that it was written from: {SAVE}"),
}


def start_from(model: nn.Module, path: Path) -> list[str]:
    """Set a network to pretrained weights, and leave its last layer as it is if the classes are others.

    Args:
        model: a network with the names of the file; it is changed in place.
        path: a safetensors file, or one of PyTorch with a state dict, by itself or within a trainer's checkpoint.

    Returns:
        The tensors of the last layer that were not taken over; none if the number of classes is the same.

    Raises:
        ConfigError: the file cannot be read, or its tensors are not those of this network; they are named.
    """
    wanted = model.state_dict()
    found = _choose(read(path), wanted)
    # Files older than PyTorch 0.4.1 do not count the batches that a normalisation has seen.
    missing = [n for n in wanted if n not in found and not n.endswith(".num_batches_tracked")]
    strange = [n for n in found if n not in wanted]
    unlike = [n for n in wanted if n in found and found[n].shape != wanted[n].shape]
    dropped = unlike if _is_head(unlike, found, wanted) else []
    complaints = [f"{n} is missing" for n in missing] + [f"{n} is not one of its tensors" for n in strange]
    complaints += [f"{n} is {tuple(found[n].shape)}, not {tuple(wanted[n].shape)}" for n in unlike if n not in dropped]
    if complaints:
        raise _refused(
            path,
            complaints,
            "mend train.weights or train.network; images of up to 64 pixels have a stem of their own, "
            "which files for larger images do not fit: set data.size_px",
        )
    taken = {n: t for n, t in found.items() if n not in dropped}
    kinds = [f"{n} is {said}" for n, t in taken.items() if (said := _unusable(t, wanted[n]))]
    if kinds:
        raise _refused(path, kinds, f"save the weights as real numbers, dense and on the CPU: {SAVE}")
    cast = {n: t.to(wanted[n].dtype) for n, t in taken.items()}
    endless = [f"{n} has values that are not finite" for n, t in cast.items() if not torch.isfinite(t).all()]
    if endless:
        raise _refused(path, endless, "take an earlier checkpoint: the training that made this one has diverged")
    model.load_state_dict({n: wanted[n] for n in wanted} | cast)
    return dropped


def read(path: Path) -> list[dict[str, Tensor]]:
    """Read a file of weights, whatever its suffix; PyTorch's own format is read as tensors and plain values only.

    Returns:
        Every mapping of names to tensors in it, the averages of weights after the weights themselves.

    Raises:
        ConfigError: it is missing, damaged, holds code, or no tensors by name; what to do is said.
    """
    try:
        with path.open("rb") as file:
            head = file.read(32)
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
            return [dict(load_file(path))]
        for beginning, (what, do) in OTHERS.items():
            if head.lstrip().startswith(beginning):
                raise _unread(path, what, do)
        if not head:
            raise _unread(path, "an empty file", "copy it again from where it came")
        with torch.serialization.safe_globals(_arrays()), path.open("rb") as file:  # by a path, the suffix would count
            held = torch.load(file, map_location="cpu", weights_only=True)
    except ConfigError:
        raise
    except Exception as error:  # there is no end to the ways in which a file of the two formats can be damaged
        raise _unread(path, *_why(str(error))) from error
    found = sorted(_mappings(held, ""), key=lambda item: "ema" in item[0].lower())
    if not found:
        names = f" of {', '.join(map(str, list(held)[:SHOWN]))}" if isinstance(held, dict) and held else ""
        raise _unread(path, f"a {type(held).__name__}{names}", f"save the tensors by name: {SAVE}")
    return [tensors for _, tensors in found]


def _mappings(held: object, name: str, depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield every mapping of names to tensors within plain values, with the names that lead to it."""
    if not isinstance(held, Mapping) or depth > DEPTH:
        return
    tensors = {k: v for k, v in held.items() if isinstance(k, str) and isinstance(v, Tensor | np.ndarray)}
    if tensors:
        yield name, {k: v if isinstance(v, Tensor) else torch.from_numpy(np.array(v)) for k, v in tensors.items()}
    for key, value in held.items():
        yield from _mappings(value, f"{name}.{key}", depth + 1)


def _choose(found: list[dict[str, Tensor]], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mapping that has most names of a network, called as the network calls them."""
    return max((_renamed(tensors, wanted) for tensors in found), key=lambda t: len(t.keys() & wanted.keys()))


def _renamed(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take from all names what PyTorch's wrappers add, and the beginning under which the network's own names stand."""
    bare = {".".join(part for part in n.split(".") if part not in WRAPPERS): t for n, t in tensors.items()}
    named = {n: t for n, t in bare.items() if n not in COUNTERS or n in wanted}
    beginnings = Counter(
        n[:start] for n in named for start in (0, *(m.end() for m in re.finditer(r"\.", n))) if n[start:] in wanted
    )
    best = max(beginnings, key=lambda b: (beginnings[b], -len(b)), default="")
    return {n.removeprefix(best): t for n, t in named.items()}


def _unusable(found: Tensor, wanted: Tensor) -> str:
    """Say what kind of tensor cannot become a weight; nothing if it can."""
    if found.is_quantized or found.is_sparse or found.is_meta or found.is_complex():
        return f"{found.dtype}, {found.layout}, on {found.device}"
    return str(found.dtype) if wanted.is_floating_point() and not found.is_floating_point() else ""


def _arrays() -> list[Any]:
    """Return what NumPy's arrays and scalars are made of, none of which runs code of a file."""
    kinds = [type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"]
    made = [
        (f, f"numpy.{old}.multiarray.{f.__name__}")
        for f in (multiarray._reconstruct, multiarray.scalar)
        for old in ("core", "_core")
    ]
    return [np.ndarray, np.dtype, *kinds, *made]


def _why(error: str) -> tuple[str, str]:
    """Return what PyTorch complains of in few words, and what to do."""
    code = re.search(r"GLOBAL ([\w.]+)", error) or re.search(
        r"(?:Trying to (?:call|instantiate)\D*?|type )([\w.]+\.[\w.]+)", error
    )
    if code:
        got = f"objects of Python beside the tensors, {code[1]} first, which only running code could read"
        return got, f"where the file was made, save the tensors alone: {SAVE}"
    if "TorchScript" in error:
        return "TorchScript, which holds code", f"where it was made, save the tensors alone: {SAVE}"
    first = error.partition("\n")[0]
    # What PyTorch advises here is to run what the file holds.
    got = "a damaged file, or one of another format" + ("" if "weights_only" in first else f" ({first[:200]})")
    return got, f"copy it again from where it came, or save it anew: {SAVE}"


def _unread(path: Path, got: str, do: str) -> ConfigError:
    return ConfigError(f"the weights {path} cannot be read", got=got, expected="tensors by name", do=do)


def _refused(path: Path, complaints: list[str], do: str) -> ConfigError:
    more = f", and {len(complaints) - SHOWN} more" if len(complaints) > SHOWN else ""
    got = "; ".join(complaints[:SHOWN]) + more
    return ConfigError(f"{path} does not hold weights of this network", got=got, do=do)


def _is_head(unlike: list[str], found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    """Say whether these tensors are weight and bias of one layer that differ in the number of outputs alone."""
    layers = {name.rpartition(".")[0] for name in unlike}
    return len(layers) == 1 and all(found[n].shape[1:] == wanted[n].shape[1:] for n in unlike)

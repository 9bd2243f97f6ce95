"""Which channels of a network leave together, and a network with fewer of them.

Layers joined by a shortcut, a depthwise convolution or a gate must lose the same channels. torch-pruning finds these
groups from the network's own computation; each is named by its first layer.

Source: Fang et al. 2023, arXiv:2301.12900, section 3 (dependency groups).
"""

import copy
import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch_pruning as tp
from torch import nn

from bigstep.records.architecture import Architecture

log = logging.getLogger("bigstep.train")
# Operations after which torch-pruning loses track of channels; on windowed attention it fills the memory instead.
ENTANGLING = ("bmm", "einsum", "expand", "index", "permute", "roll", "select", "slice", "stack", "transpose", "unfold")
RESIZABLE = (nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)  # and convolutions, see `_can_shrink`


class Channels:
    """The groups of channels that can leave one network, which is changed in place and left in evaluation mode."""

    def __init__(self, model: nn.Module, architecture: Architecture) -> None:
        self.layers = dict(model.named_modules())
        if architecture.family == "swin_t":
            # Tracing the windows of its attention takes minutes, and each MLP can be traced as a network by itself.
            parts = [module for name, module in self.layers.items() if name.endswith(".mlp")]
            traced = {part: _trace(part, torch.zeros((2, part[0].in_features))) for part in parts}
        else:
            spec = architecture.input
            traced = {model: _trace(model, torch.zeros((2, spec.channels, spec.height_px, spec.width_px)))}
        self.graphs = {layer: graph for part, graph in traced.items() for layer in part.modules()}

    def width(self, name: str) -> int:
        """Return the present number of units or channels of a layer."""
        return int(self.layers[name].weight.shape[0])

    def group(self, name: str, indices: Sequence[int]) -> Any:
        """Return everything that leaves with some channels of a layer; its method `prune` removes it."""
        layer = self.layers[name]
        graph = self.graphs[layer]
        remove = graph.get_pruner_of_module(layer).prune_out_channels
        return graph.get_pruning_group(layer, remove, idxs=list(indices))

    def weakest(self, name: str, count: int) -> list[int]:
        """Return the channels of a layer that have the smallest norm, in rising order.

        A channel's norm is the L2 norm of all weights that leave with it: its own, and those of the layers that read it
        or are joined to it by a shortcut.
        """
        norms = tp.importance.GroupMagnitudeImportance(p=2)(self.group(name, range(self.width(name))))
        return sorted(torch.argsort(norms, stable=True)[:count].tolist())

    def widths(self) -> dict[str, int]:
        """Return the width of every group that can shrink, by the name of its first layer, in the network's order.

        A group that no layer reads is the logits. One with a member that mixes channels, such as a group or layer
        normalisation, is left alone.
        """
        names = {layer: name for name, layer in self.layers.items()}
        place = {name: position for position, name in enumerate(self.layers)}
        found: dict[str, int] = {}
        for graph in dict.fromkeys(self.graphs.values()):
            for group in graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]):
                members = [(d.target.module, places, graph.is_out_channel_pruning_fn(d.handler)) for d, places in group]
                read = any(not writes for _, _, writes in members)
                if read and all(_can_shrink(*member) for member in members):
                    roots = [module for module, _, writes in members if writes and _is_root(module)]
                    first = min((names[module] for module in roots), key=place.__getitem__)
                    found[first] = self.width(first)
        return dict(sorted(found.items(), key=lambda item: place[item[0]]))


def resize(model: nn.Module, architecture: Architecture) -> nn.Module:
    """Remove the last channels of every group until it has the width that the architecture says, in place."""
    layers = dict(model.named_modules())
    widths = architecture.widths
    if any(len(layers[name].weight) != width for name, width in widths.items()):
        frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        channels = Channels(model, architecture)
        for name, width in widths.items():
            surplus = range(width, channels.width(name))
            if surplus:
                channels.group(name, surplus).prune()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in frozen)
    return model


def prunable(model: nn.Module, architecture: Architecture) -> dict[str, int]:
    """Return the widths of a network that can be made smaller; none, and a line in the log, if a user's has none.

    A user's network that moves channels to other axes, as attention does, is left alone. What is found in another is
    tried on a copy, as pruning will do it: removing the weaker half of the channels, to which no layer listens any
    more, must leave the logits as they are.
    """
    if architecture.family != "own":
        return Channels(copy.deepcopy(model), architecture).widths()
    spec, why = architecture.input, ""
    x_NCHW = torch.randn((2, spec.channels, spec.height_px, spec.width_px), generator=torch.Generator().manual_seed(0))
    try:
        trial = copy.deepcopy(model).eval()
        why = ", ".join(sorted(_operations(trial(x_NCHW)) & set(ENTANGLING)))
        found = {} if why else _tried(trial, architecture, x_NCHW)
    except Exception as error:  # a user's network may do what no tracing follows
        found, why = {}, str(error).partition("\n")[0]
    if not found:
        log.warning("no layer of this network can be made narrower (%s); it is only quantised", why or "it has none")
    return found


def _tried(model: nn.Module, architecture: Architecture, x_NCHW: torch.Tensor) -> dict[str, int]:
    """Return the widths of a network in which half of every group can leave; raises whatever it meets where not."""
    channels = Channels(model, architecture)
    widths = channels.widths()
    leaving = {name: channels.weakest(name, width // 2) for name, width in widths.items()}
    for name, indices in leaving.items():
        for dep, places in channels.group(name, indices):
            if dep.handler in (tp.prune_linear_in_channels, tp.prune_conv_in_channels):
                dep.target.module.weight.data[:, places] = 0.0  # nobody listens to them any more
    before_NK = model(x_NCHW).detach()
    for name, indices in leaving.items():
        if indices:
            channels.group(name, indices).prune()
    after_NK = model(x_NCHW).detach()
    torch.testing.assert_close(after_NK, before_NK, rtol=1e-3, atol=1e-4 * float(before_NK.abs().max()))
    return widths


def _trace(model: nn.Module, example: torch.Tensor) -> Any:
    frozen = [p for p in model.parameters() if not p.requires_grad]
    for parameter in frozen:  # what is traced is the gradient's way back
        parameter.requires_grad_(True)
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=example, verbose=False)
    for parameter in frozen:
        parameter.requires_grad_(False)
    return graph


def _operations(output: torch.Tensor) -> set[str]:
    """Return the names of the operations that led to a tensor, in lower case: `relu` for ReluBackward0."""
    waiting, seen = [output.grad_fn], set()
    while waiting:
        function = waiting.pop()
        if function is not None and function not in seen:
            seen.add(function)
            waiting += [source for source, _ in function.next_functions]
    return {function.name().partition("Backward")[0].lower() for function in seen}


def _is_root(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)


def _can_shrink(module: nn.Module, places: Sequence[int], writes: bool) -> bool:
    """Say whether a member of a group can lose any of its channels, each of which stands at a place of its own.

    One channel that multiplies many, as in spatial attention, is tied to the first of them alone; where the larger of
    two channels is taken, both stand at one place.
    """
    if len(set(places)) < len(places):
        return False
    if writes and isinstance(module, nn.Conv2d | nn.Linear) and _is_root(module) and len(places) < len(module.weight):
        return False
    if isinstance(module, nn.Conv2d):
        return module.groups in (1, module.in_channels)
    return isinstance(module, RESIZABLE) or type(module).__module__.startswith("torch_pruning.")

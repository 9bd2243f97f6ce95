"""Structured pruning: hidden units and channels really removed, the result described by a new `Architecture`."""

from __future__ import annotations

import copy
import math

import torch
import torch_pruning as tp
from torch import nn

from bigstep.records import Architecture
from train.networks import build, hidden_layers


def prune(model: nn.Module, architecture: Architecture, widths: dict[str, int]) -> tuple[nn.Sequential, Architecture]:
    """Remove the units of smallest norm until every hidden layer has its target width.

    A unit's norm is the L2 norm of all weights that leave with it: its own, and those of the layers that read it.

    Args:
        model: a network built from `architecture`; it is not changed.
        architecture: what `model` was built from.
        widths: the target width of each hidden layer, at most its present one.

    Returns:
        A smaller network that `build` can make again, and its description.

    Source: Fang et al. 2023, arXiv:2301.12900, section 3 (dependency groups; torch-pruning).
    """
    pruned = copy.deepcopy(model).cpu().train()
    spec = architecture.input
    example = torch.zeros((2, spec.channels, spec.height_px, spec.width_px))
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    graph = tp.DependencyGraph().build_dependency(pruned, example_inputs=example)
    for name, layer in hidden_layers(pruned, architecture).items():
        linear = isinstance(layer, nn.Linear)
        remove_outputs = tp.prune_linear_out_channels if linear else tp.prune_conv_out_channels
        present = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
        norms = importance(graph.get_pruning_group(layer, remove_outputs, idxs=list(range(present))))
        weakest = torch.argsort(norms, stable=True)[: present - widths[name]]
        if len(weakest):
            graph.get_pruning_group(layer, remove_outputs, idxs=sorted(weakest.tolist())).prune()
    smaller = architecture.model_copy(update={"widths": dict(widths)})
    rebuilt = build(smaller)
    rebuilt.load_state_dict(pruned.state_dict(), strict=True)
    return rebuilt, smaller


def scaled_widths(architecture: Architecture, fraction: float) -> dict[str, int]:
    """Return a share of every hidden width, at least one unit, rounded up."""
    return {name: max(1, math.ceil(width * fraction)) for name, width in architecture.widths.items()}

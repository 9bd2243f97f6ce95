"""How large the parameters of a network are."""

from collections.abc import Iterable

import torch
from torch import nn


def parameter_norms(model: nn.Module) -> dict[str, float]:
    """Return the norms of a network's trainable parameters, taken as one vector, summed in float64.

    `l1` and `l2` are those of all of them, `weights_l1` and `weights_l2` of those with more than one dimension.

    Source: Matveev et al. 2025, arXiv:2505.21423 (the l1 norm of the parameters grows with the learning rate).
    """
    trainable = [p.detach() for p in model.parameters() if p.requires_grad]
    weights = [p for p in trainable if p.ndim > 1]
    return {"l1": _l1(trainable), "l2": _l2(trainable), "weights_l1": _l1(weights), "weights_l2": _l2(weights)}


def layer_norms(model: nn.Module) -> dict[str, float]:
    """Return the Frobenius norm of each trainable weight tensor of more than one dimension, by parameter name."""
    return {name: _l2([p.detach()]) for name, p in model.named_parameters() if p.requires_grad and p.ndim > 1}


def _l1(tensors: Iterable[torch.Tensor]) -> float:
    return sum(float(t.abs().sum(dtype=torch.float64)) for t in tensors)


def _l2(tensors: Iterable[torch.Tensor]) -> float:
    return float(sum(float(t.double().square().sum()) for t in tensors) ** 0.5)

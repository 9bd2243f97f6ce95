"""How large the parameters of a network are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Norms:
    """The l1 and l2 norms of all trainable parameters, and of those with more than one dimension (`weights_`)."""

    l1: float
    l2: float
    weights_l1: float
    weights_l2: float


def parameter_norms(model: nn.Module) -> Norms:
    """Return the norms of a network's trainable parameters, each taken as one vector, summed in float64.

    Source: Matveev et al. 2025, arXiv:2505.21423 (the l1 norm of the parameters grows with the learning rate).
    """
    trainable = [p.detach() for p in model.parameters() if p.requires_grad]
    weights = [p for p in trainable if p.ndim > 1]
    return Norms(_l1(trainable), _l2(trainable), _l1(weights), _l2(weights))


def layer_norms(model: nn.Module) -> dict[str, float]:
    """Return the Frobenius norm of each trainable weight tensor of more than one dimension, by parameter name."""
    return {name: _l2([p.detach()]) for name, p in model.named_parameters() if p.requires_grad and p.ndim > 1}


def _l1(tensors: Iterable[torch.Tensor]) -> float:
    return sum(float(t.abs().sum(dtype=torch.float64)) for t in tensors)


def _l2(tensors: Iterable[torch.Tensor]) -> float:
    return float(sum(float(t.double().square().sum()) for t in tensors) ** 0.5)

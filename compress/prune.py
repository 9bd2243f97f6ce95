"""Structured pruning: hidden units and channels really removed, the result described by a new `Architecture`."""

import copy
import math

from torch import nn

from bigstep.records.architecture import Architecture
from train.networks.build import build
from train.networks.channels import Channels


def prune(model: nn.Module, architecture: Architecture, widths: dict[str, int]) -> tuple[nn.Module, Architecture]:
    """Remove the units of smallest norm until every hidden layer has its target width.

    Norms are those of `Channels.weakest`, taken when the layers before have lost theirs.

    Args:
        model: a network built from `architecture`; it is not changed.
        architecture: what `model` was built from.
        widths: the target width of each hidden layer, at most its present one.

    Returns:
        A smaller network that `build` can make again, and its description.

    Source: Fang et al. 2023, arXiv:2301.12900, section 3 (dependency groups; torch-pruning).
    """
    pruned = copy.deepcopy(model).cpu()
    channels = Channels(pruned, architecture)
    for name, width in widths.items():
        weakest = channels.weakest(name, channels.width(name) - width)
        if weakest:
            channels.group(name, weakest).prune()
    smaller = architecture.model_copy(update={"widths": dict(widths)})
    rebuilt = build(smaller)
    rebuilt.load_state_dict(pruned.state_dict(), strict=True)
    return rebuilt, smaller


def scaled_widths(architecture: Architecture, fraction: float) -> dict[str, int]:
    """Return a share of every hidden width, at least one unit, rounded up."""
    return {name: max(1, math.ceil(width * fraction)) for name, width in architecture.widths.items()}

"""What a network computes on the way to its logits, read without changing the network.

Shapes: N images, C channels, H height, W width, D hidden units, K classes.
"""

import torch
from torch import Tensor, nn

from bigstep.errors import TrainError
from train.networks.feed import Inputs
from train.networks.predict import evaluating


def outputs(model: nn.Module, x_NCHW: Inputs, batch: int = 256) -> tuple[Tensor, Tensor]:
    """Return logits (N, K) and what feeds the head (N, D), from one pass in evaluation mode.

    Raises:
        TrainError: the network has no linear layer.
    """
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise TrainError(
            "the activations before the head cannot be read",
            got="a network without a linear layer",
            expected="a classifier head of the type torch.nn.Linear",
            do="end the network with torch.nn.Linear",
        )
    fed: list[Tensor] = []
    logits, hidden = [], []
    hooks = [layer.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0])) for layer in linear]
    try:
        with evaluating(model), torch.inference_mode():
            for i in range(0, len(x_NCHW), batch):
                logits.append(model(x_NCHW[i : i + batch]))
                hidden.append(fed[-1].flatten(1))
                fed.clear()
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(logits), torch.cat(hidden)

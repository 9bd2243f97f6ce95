"""What a network answers, without changing it.

Shapes: N images, C channels, H height, W width, K classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from train.networks.feed import Inputs


def predict(model: nn.Module, x_NCHW: Inputs, batch: int = 1024) -> Tensor:
    """Return the logits (N, K) of normalised images in evaluation mode."""
    with evaluating(model), torch.inference_mode():
        return torch.cat([model(x_NCHW[i : i + batch]) for i in range(0, len(x_NCHW), batch)])


def mean_loss(model: nn.Module, x_NCHW: Inputs, y_N: Tensor) -> float:
    """Return the mean cross entropy in nats over all images."""
    return float(cross_entropy(predict(model, x_NCHW), y_N))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and afterwards back into its own: some may have been frozen."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one CPU thread, so that sums are added in the same order on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

"""What a network answers, without changing it.

Shapes: N images, C channels, H height, W width, K classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bigstep.records.architecture import Architecture
from train.networks.build import normalise
from train.networks.feed import Inputs


def predict(model: nn.Module, x_NCHW: Inputs, batch: int = 1024) -> Tensor:
    """Return the logits (N, K) of normalised images in evaluation mode."""
    with evaluating(model), torch.inference_mode():
        return torch.cat([model(x_NCHW[i : i + batch]) for i in range(0, len(x_NCHW), batch)])


def predict_pixels(model: nn.Module, architecture: Architecture, images_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits (N, K) of uint8 pixels (N, H, W, C), as a network on the CPU gives them."""
    logits_NK: NDArray[np.float32] = predict(model, normalise(images_NHWC, architecture)).numpy()
    return logits_NK


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

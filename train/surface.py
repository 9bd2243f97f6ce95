"""The training loss as a function of a network's parameters: value, gradient, products with the Hessian.

Parameters travel as one flat vector, so that an optimiser, a flow or an eigenvalue solver needs to know nothing of
layers, and the network itself never changes. BatchNorm and dropout work in evaluation mode.

Shapes: N images, n images of a batch, C channels, H height, W width, P trainable parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from train.feed import Inputs

BATCH = 1000  # images whose graph is held at once

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Surface:
    """Hold a network and the images on which its loss is measured; only trainable parameters are coordinates.

    `x` is (N, C, H, W) and taken by slices, `y` lies on the network's device; `loss(outputs, targets)` is the mean over
    a batch.
    """

    model: nn.Module
    x: Inputs
    y: Tensor
    loss: Loss = cross_entropy

    def point(self) -> Tensor:
        """Return a copy of the network's present trainable parameters, shape (P,)."""
        return parameters_to_vector(p.detach() for _, p in _trainable(self.model)).clone()

    def place(self, w_P: Tensor) -> dict[str, Tensor]:
        """Return a flat vector as views named and shaped like the trainable parameters."""
        named = _trainable(self.model)
        parts = w_P.split([p.numel() for _, p in named])
        return {name: part.view_as(p) for (name, p), part in zip(named, parts, strict=True)}

    def gradient(self, w_P: Tensor) -> tuple[float, Tensor]:
        """Return the mean loss over all images at `w_P` and its gradient, shape (P,)."""
        w_P = w_P.detach().requires_grad_()
        total, gradient_P = torch.zeros((), dtype=w_P.dtype, device=w_P.device), torch.zeros_like(w_P)
        for part in self._parts(w_P):
            total += part.detach()
            gradient_P += torch.autograd.grad(part, w_P)[0]
        return float(total), gradient_P.detach()

    def hessian_product(self, w_P: Tensor, v_P: Tensor) -> Tensor:
        """Return H v, with H the Hessian of the mean loss over all images at `w_P`, by double backpropagation.

        Source: Pearlmutter 1994, Neural Computation 6(1).
        """
        w_P = w_P.detach().requires_grad_()
        product_P = torch.zeros_like(w_P)
        for part in self._parts(w_P):
            gradient_P = torch.autograd.grad(part, w_P, create_graph=True)[0]
            if gradient_P.requires_grad:  # a loss linear in w has no second derivative
                product_P += torch.autograd.grad(gradient_P, w_P, v_P)[0]
        return product_P.detach()

    def _parts(self, w_P: Tensor) -> Iterator[Tensor]:
        """Yield terms that sum to the mean loss, one for each batch."""
        with evaluating(self.model), exactly():
            for i in range(0, len(self.x), BATCH):
                x_nCHW, y_n = self.x[i : i + BATCH].to(w_P.device), self.y[i : i + BATCH]
                outputs = functional_call(self.model, self.place(w_P), (x_nCHW,))
                yield self.loss(outputs, y_n) * (len(y_n) / len(self.x))


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
def exactly() -> Iterator[None]:
    """Compute in full float32 and with kernels of attention that can be differentiated twice."""
    cudnn = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    with cudnn, sdpa_kernel(SDPBackend.MATH):
        yield


def _trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]

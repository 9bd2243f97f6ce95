"""The training loss as a function of a network's parameters: value, gradient, products with the Hessian.

Parameters travel as one flat vector, so that an optimiser, a flow or an eigenvalue solver needs to know nothing of
layers, and the network itself never changes. BatchNorm and dropout work in evaluation mode.

Shapes: N images, n images of a batch, C channels, H height, W width, P trainable parameters.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from bigstep.errors import TrainError
from train.networks.feed import Inputs
from train.networks.predict import evaluating

BATCH = 1000  # images whose graph is held at once

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Surface:
    """A network and the images on which its loss is measured; only trainable parameters are coordinates.

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
        with evaluating(self.model), exactly():
            for term in self._terms(w_P):
                total += term.detach()
                gradient_P += torch.autograd.grad(term, w_P)[0]
        return float(total), gradient_P.detach()

    def hessian(self, w_P: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the map from v to H v, with H the Hessian of the mean loss over all images at `w_P`.

        By double backpropagation. The graph of the gradient is kept between products if the images are one batch (a
        product then takes two thirds of the time), and built again batch by batch at each product if they are more.

        Raises:
            TrainError: by the product, if PyTorch has no second derivative of a layer.

        Source: Pearlmutter 1994, Neural Computation 6(1).
        """
        w_P = w_P.detach().requires_grad_()
        kept: list[Tensor] = []
        if len(self.x) <= BATCH:
            with evaluating(self.model), exactly():
                kept = list(self._gradients(w_P))

        def product(v_P: Tensor) -> Tensor:
            product_P = torch.zeros_like(v_P)
            with evaluating(self.model), exactly():
                for gradient_P in kept or self._gradients(w_P):
                    if gradient_P.requires_grad:  # a loss linear in w has no second derivative
                        product_P += _differentiate(gradient_P, w_P, v_P, keep=bool(kept))
            return product_P

        return product

    def _gradients(self, w_P: Tensor) -> Iterator[Tensor]:
        """Yield gradients that can be differentiated again and sum to that of the mean loss, one for each batch."""
        for term in self._terms(w_P):
            yield torch.autograd.grad(term, w_P, create_graph=True)[0]

    def _terms(self, w_P: Tensor) -> Iterator[Tensor]:
        """Yield terms that sum to the mean loss, one for each batch."""
        for i in range(0, len(self.x), BATCH):
            x_nCHW, y_n = self.x[i : i + BATCH].to(w_P.device), self.y[i : i + BATCH]
            outputs = functional_call(self.model, self.place(w_P), (x_nCHW,))
            yield self.loss(outputs, y_n) * (len(y_n) / len(self.x))


@contextmanager
def exactly() -> Iterator[None]:
    """Compute in full float32 and with kernels of attention that can be differentiated twice."""
    cudnn = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    with cudnn, sdpa_kernel(SDPBackend.MATH):
        yield


def _differentiate(gradient_P: Tensor, w_P: Tensor, v_P: Tensor, *, keep: bool) -> Tensor:
    try:
        return torch.autograd.grad(gradient_P, w_P, v_P, retain_graph=keep)[0]
    except RuntimeError as error:
        if "derivative for" not in str(error):
            raise
        raise TrainError(
            "the Hessian of this network cannot be computed",
            got=str(error).splitlines()[0],
            expected="layers that can be differentiated twice",
            do="replace that activation, such as Hardsigmoid by Sigmoid, or measure no sharpness",
        ) from error


def _trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]

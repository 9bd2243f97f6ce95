"""Sharpness: the largest eigenvalues of the Hessian of the training loss, raw and free of scale, with their residual.

Shapes: N images, C channels, H height, W width, P trainable parameters.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bigstep.errors import TrainError
from bigstep.records.trained import Recipe
from train.measure.surface import Loss, Surface
from train.networks.feed import Inputs

WARM_NOISE = 0.1  # share of noise in a warm start: an old eigenvector alone would hide a direction that overtook it

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Lanczos:
    """Which eigenvalues to find and how well.

    `ends` is the end that must converge: the eigenvalue largest in magnitude, the largest signed one, or both ends of
    the spectrum. It has converged when ||H v - lambda v|| <= tolerance * max |lambda|. The solver keeps one vector of P
    numbers per iteration.
    """

    ends: Literal["magnitude", "largest", "both"] = "magnitude"
    tolerance: float = 1e-3
    max_iterations: int = 100
    seed: int = 0


@dataclass(frozen=True)
class Sharpness:
    """The ends of a Hessian's spectrum.

    `lambda_max` and `lambda_min` are signed, `abs_max` is the larger magnitude. An end that was not asked for is a
    bound from inside the spectrum. `residual` is ||H v - lambda v|| / |lambda|, measured with a product of its own, of
    the eigenpair that was asked for (of both ends the worse one), `vector` its unit eigenvector (of both ends the one
    of `abs_max`). `iterations` counts products with the Hessian.
    """

    lambda_max: float
    lambda_min: float
    abs_max: float
    residual: float
    iterations: int
    vector: Tensor


def plain_rate(recipe: Recipe) -> float:
    """Return the rate of plain descent with the same bound on stable curvature: eta / (1 + momentum).

    Gradient descent with momentum beta is stable up to the sharpness 2 (1 + beta) / eta.

    Source: Cohen et al. 2021, arXiv:2103.00065, section 2 (Polyak's momentum).
    """
    return recipe.rate / (1 + recipe.momentum)


def sharpness(
    model: nn.Module,
    x_NCHW: Inputs,
    y_N: Tensor,
    how: Lanczos = Lanczos(),
    start_P: Tensor | None = None,
    loss: Loss = cross_entropy,
) -> Sharpness:
    """Return the ends of the spectrum of H, the Hessian of the mean loss in all trainable parameters.

    Args:
        model: any network; BatchNorm and dropout in evaluation mode, nothing is changed.
        x_NCHW: normalised float32 images, taken by slices.
        y_N: targets on the network's device.
        how: which end, how well, and the seed of the start.
        start_P: unit vector to start near, such as the `vector` of an earlier measurement.
        loss: mean loss of a batch.

    Raises:
        TrainError: the Hessian is not finite.

    Source: Cohen et al. 2021, arXiv:2103.00065, section 2 (sharpness); Lanczos 1950 (the solver).
    """
    surface = Surface(model, x_NCHW, y_N, loss)
    return sharpness_at(surface, surface.point(), how, start_P)


def sharpness_at(surface: Surface, w_P: Tensor, how: Lanczos, start_P: Tensor | None = None) -> Sharpness:
    """Return `sharpness` at other parameters (P,) than those the network has."""
    return extremes(surface.hessian(w_P), near(w_P, how.seed, start_P), how)


def scale_free(
    model: nn.Module,
    x_NCHW: Inputs,
    y_N: Tensor,
    how: Lanczos = Lanczos(),
    start_P: Tensor | None = None,
    loss: Loss = cross_entropy,
) -> Sharpness:
    """Return the ends of the spectrum of D H D, D = diag(|w|): the curvature under relative changes of each weight.

    At a minimum, max over ||D^-1 e|| <= r of L(w + e) - L(w) is r^2 / 2 * lambda_max to second order. Multiplying the
    weights and bias that feed a ReLU unit by a and dividing those behind it by a changes nothing.

    Arguments and errors are those of `sharpness`; `vector` belongs to D H D.

    Source: Kwon et al. 2021, arXiv:2102.11600, section 3 (adaptive sharpness, elementwise, without their constant eta).
    """
    surface = Surface(model, x_NCHW, y_N, loss)
    w_P = surface.point()
    d_P, hessian = w_P.abs(), surface.hessian(w_P)
    return extremes(lambda v_P: d_P * hessian(d_P * v_P), near(w_P, how.seed, start_P), how)


def near(w_P: Tensor, seed: int, start_P: Tensor | None = None) -> Tensor:
    """Return a start for `extremes` like `w_P`: a random unit vector, or a given unit vector with some noise."""
    noise_P = torch.randn(len(w_P), generator=torch.Generator().manual_seed(seed), dtype=w_P.dtype).to(w_P.device)
    noise_P /= noise_P.norm()
    return noise_P if start_P is None else start_P + WARM_NOISE * noise_P


def extremes(product: Product, start_P: Tensor, how: Lanczos) -> Sharpness:
    """Return the ends of the spectrum of a symmetric operator by Lanczos with full re-orthogonalisation.

    Args:
        product: maps v (P,) to H v.
        start_P: any vector but zero.
        how: which end, how well.

    Raises:
        TrainError: a product is not finite.

    Source: Golub and Van Loan 2013, Matrix Computations, section 10.1 to 10.3.
    """
    basis = [start_P / start_P.norm()]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        next_P = product(basis[-1])
        diagonal.append(float(next_P @ basis[-1]))
        for q_P in basis * 2:  # once more for what rounding has left
            next_P = next_P - (next_P @ q_P) * q_P
        beta = float(next_P.norm())
        if not math.isfinite(diagonal[-1] + beta):
            do = "measure the weights of a run that has not diverged"
            raise TrainError("sharpness cannot be measured", got="a Hessian that is not finite", do=do)
        values, vectors = eigh_tridiagonal(diagonal, beside)
        asked = _asked(values, how)
        size = float(np.abs(values).max())
        converged = all(beta * abs(vectors[-1, i]) <= how.tolerance * size for i in asked)
        if converged or len(diagonal) == min(how.max_iterations, len(start_P)):
            return _result(product, basis, values, vectors, asked)
        basis.append(next_P / beta)
        beside.append(beta)


def _asked(values: NDArray[np.float64], how: Lanczos) -> list[int]:
    last = len(values) - 1
    if how.ends == "largest":
        return [last]
    ends = sorted({0, last}, key=lambda i: -abs(values[i]))
    return ends if how.ends == "both" else ends[:1]


def _result(
    product: Product, basis: list[Tensor], values: NDArray[np.float64], vectors: NDArray[np.float64], asked: list[int]
) -> Sharpness:
    """Measure the residual of the eigenpairs that were asked for; the first of them gives the vector."""
    found, residuals = [], []
    for i in asked:
        vector_P = torch.zeros_like(basis[0])
        for coefficient, q_P in zip(vectors[:, i], basis, strict=True):
            vector_P += float(coefficient) * q_P
        vector_P /= vector_P.norm()
        image_P = product(vector_P)
        values[i] = float(vector_P @ image_P)
        gap = float((image_P - values[i] * vector_P).norm())
        residuals.append(gap / abs(values[i]) if values[i] else gap and math.inf)
        found.append(vector_P)
    low, high = float(values.min()), float(values.max())
    return Sharpness(high, low, max(-low, high), max(residuals), len(basis) + len(asked), found[0])

"""The critical learning rate of full-batch gradient descent, from the sharpness along gradient flow.

Below it descent follows the flow; above it the flow passes regions where descent is unstable, and descent ends at
flatter weights with a larger norm.

Source: Matveev et al. 2025, arXiv:2505.21423 (critical rate); Cohen et al. 2021, arXiv:2103.00065 (flow by Runge-Kutta
with steps bound by the sharpness).
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from train.measure.sharpness import Lanczos, sharpness_at
from train.measure.surface import Loss, Surface
from train.networks.feed import Inputs

ROUNDING = 1e-5  # relative rise of the loss that is not an integration error; exact flow never rises


@dataclass(frozen=True)
class Flow:
    """How far to follow the flow and how closely.

    A step of time is min(alpha / sharpness, max_step), halved while the loss rises; the classical method is stable up
    to alpha = 2.78. Sharpness is measured anew every `measure_every` steps; `max_steps` counts rejected steps too.
    """

    stop_loss: float
    max_steps: int = 2000
    alpha: float = 1.0
    max_step: float = 10.0
    measure_every: int = 10
    lanczos: Lanczos = field(default_factory=Lanczos)


@dataclass(frozen=True)
class FlowPoint:
    """One measurement: time, mean loss, largest magnitude of a Hessian eigenvalue, l1 norm of all parameters."""

    time: float
    loss: float
    sharpness: float
    l1: float


@dataclass(frozen=True)
class CriticalRate:
    """eta_c = 2 / max sharpness along the flow, and the path that was measured.

    If the stop loss was not reached, the flow beyond may be sharper: then `rate` is an upper bound. It is None where
    the path has no curvature at all, like that of a network whose units are all dead: no rate is too large there.
    """

    rate: float | None
    max_sharpness: float
    reached: bool
    steps: int
    path: list[FlowPoint]


def critical_rate(
    model: nn.Module, x_NCHW: Inputs, y_N: Tensor, flow: Flow, loss: Loss = cross_entropy
) -> CriticalRate:
    """Follow gradient flow from the network's present weights and return the critical rate of gradient descent.

    dw/dt = -grad L(w) until L <= stop_loss,   eta_c = 2 / max_t S(w(t)),   S = max |eigenvalue of the Hessian|

    S is the maximum over the measured points of the path, so a narrow peak between two of them is missed.

    Args:
        model: any network at its initial weights; BatchNorm and dropout in evaluation mode, nothing is changed.
        x_NCHW: the whole batch of normalised float32 images, some thousands at most.
        y_N: targets on the network's device.
        flow: how far and how closely.
        loss: mean loss of a batch.

    Raises:
        TrainError: the loss at the start is not finite.
    """
    walk = _Walk(Surface(model, x_NCHW, y_N, loss), flow)
    steps = 0
    while walk.loss > flow.stop_loss and steps < flow.max_steps:
        accepted = walk.step()
        steps += 1
        if not accepted or steps % flow.measure_every == 0:
            walk.measure()
    if walk.time > walk.path[-1].time:
        walk.measure()
    highest = max(point.sharpness for point in walk.path)
    rate = 2 / highest if highest else None
    return CriticalRate(rate, highest, walk.loss <= flow.stop_loss, steps, walk.path)


class _Walk:
    """The present point of the flow, with the gradient there and the sharpness last measured."""

    def __init__(self, surface: Surface, flow: Flow) -> None:
        self.surface, self.flow = surface, flow
        self.time, self.caution = 0.0, 1.0
        self.w_P = surface.point()
        self.loss, self.gradient_P = surface.gradient(self.w_P)
        self.vector: Tensor | None = None
        self.path: list[FlowPoint] = []
        self.measure()

    def measure(self) -> None:
        """Measure the sharpness here, starting at the last eigenvector."""
        found = sharpness_at(self.surface, self.w_P, self.flow.lanczos, self.vector)
        self.vector = found.vector
        self.path.append(FlowPoint(self.time, self.loss, found.abs_max, float(self.w_P.abs().sum())))

    def step(self) -> bool:
        """Make one step of the classical Runge-Kutta method; stay, and be more careful, if the loss would rise."""
        sharpness = self.path[-1].sharpness
        h = self.caution * min(self.flow.alpha / sharpness if sharpness else math.inf, self.flow.max_step)
        k1 = self.gradient_P
        k2 = self.surface.gradient(self.w_P - h / 2 * k1)[1]
        k3 = self.surface.gradient(self.w_P - h / 2 * k2)[1]
        k4 = self.surface.gradient(self.w_P - h * k3)[1]
        w_P = self.w_P - h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        loss, gradient_P = self.surface.gradient(w_P)
        if not loss <= self.loss * (1 + ROUNDING) or not torch.isfinite(gradient_P).all():
            self.caution /= 2
            return False
        self.time, self.w_P, self.loss, self.gradient_P = self.time + h, w_P, loss, gradient_P
        self.caution = min(1.0, 2 * self.caution)
        return True

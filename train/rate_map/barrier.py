"""How two solutions lie to each other: error on the line between them, angle of their weights, equal predictions.

Shapes: N images, C channels, H height, W width, D weights.
"""

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn

from bigstep.errors import TrainError
from train import batch_norm, step
from train.networks.feed import Inputs
from train.networks.predict import predict

POINTS = 11  # on the line, the ends included


def barrier(first: nn.Module, second: nn.Module, x_NCHW: Inputs, y_N: Tensor) -> float:
    """Return the height of the linear error barrier between two networks of one architecture, a fraction.

    B = max_a [ E(w_a) - (1 - a) E(w_0) - a E(w_1) ],   w_a = (1 - a) w_0 + a w_1,   a = 0 to 1 in equal steps

    It is at least 0: both ends lie on the chord. BatchNorm statistics are measured anew at each a, the ends included.
    Neither network is changed.

    Args:
        first, second: networks with equal names and shapes of parameters.
        x_NCHW, y_N: train images, on which errors are counted and statistics measured, and their labels.

    Raises:
        TrainError: the parameters do not correspond.

    Source: Frankle et al. 2020, arXiv:1912.05671, section 2; Sadrtdinov et al. 2024, arXiv:2410.22113 (error, straight
    line, statistics anew).
    """
    errors = errors_between(first, second, x_NCHW, y_N)
    start, rise = errors[0][1], errors[-1][1] - errors[0][1]
    return max(0.0, *(e - (start + a * rise) for a, e in errors))


def errors_between(first: nn.Module, second: nn.Module, x_NCHW: Inputs, y_N: Tensor) -> list[tuple[float, float]]:
    """Return (a, error) at each of POINTS places between two networks; see `barrier`."""
    _check(first, second)
    between = copy.deepcopy(first)
    errors = []
    for a in np.linspace(0.0, 1.0, POINTS):
        _mix(between, first, second, float(a))
        wrong_N = _classes(batch_norm.renew(between, x_NCHW), x_NCHW) != y_N
        errors.append((float(a), float(wrong_N.double().mean())))
    return errors


def angle(first: nn.Module, second: nn.Module) -> float:
    """Return the angle between the weights of two networks in radians, in [0, pi]; NaN if all weights of one are 0.

    arccos(<w_0, w_1> / (|w_0| |w_1|)) over trainable tensors of more than one dimension, computed from chords because
    an arccos near 1 keeps half of the digits.

    Raises:
        TrainError: the parameters do not correspond.
    """
    _check(first, second)
    u_D, v_D = (_direction(network) for network in (first, second))
    return 2 * math.atan2(float((u_D - v_D).norm()), float((u_D + v_D).norm()))


def agreement(first: nn.Module, second: nn.Module, x_NCHW: Inputs) -> float:
    """Return the share of images that two networks put into the same class, in [0, 1]."""
    return float((_classes(first, x_NCHW) == _classes(second, x_NCHW)).double().mean())


def _check(first: nn.Module, second: nn.Module) -> None:
    shapes = [{name: tuple(p.shape) for name, p in network.named_parameters()} for network in (first, second)]
    if shapes[0] != shapes[1]:
        differing = sorted(name for name, _ in shapes[0].items() ^ shapes[1].items())
        raise TrainError(
            "there is no line between two networks whose parameters differ",
            got=f"differences in {', '.join(sorted(set(differing)))}",
            expected="equal names and shapes",
            do="compare networks of one architecture",
        )


def _mix(target: nn.Module, first: nn.Module, second: nn.Module, a: float) -> None:
    with torch.no_grad():
        for p, p_0, p_1 in zip(target.parameters(), first.parameters(), second.parameters(), strict=True):
            p.copy_(torch.lerp(p_0, p_1.to(p_0.device), a))


def _classes(model: nn.Module, x_NCHW: Inputs) -> Tensor:
    return predict(model, x_NCHW).argmax(dim=1)


def _direction(model: nn.Module) -> Tensor:
    w_D = torch.cat([p.detach().double().flatten() for p in step.weights(model)])
    direction_D: Tensor = w_D / w_D.norm()
    return direction_D

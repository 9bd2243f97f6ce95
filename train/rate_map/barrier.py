"""How two solutions lie to each other: error on the line between them, angle of their weights, equal predictions.

Shapes: N images, C channels, H height, W width, D weights.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bigstep.errors import TrainError
from train import batch_norm, step
from train.networks.feed import Inputs
from train.networks.predict import evaluating, predict


@dataclass(frozen=True)
class Barrier:
    """Hold the height of a barrier, where on the line it is, and (place, error) along it; all are fractions.

    `height` is at least 0: both ends lie on the chord.
    """

    height: float
    place: float
    errors: list[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """Name the images on which errors are counted, and those that set the statistics of BatchNorm (train images)."""

    x: Inputs
    y: Tensor
    train: Inputs


def barrier(first: nn.Module, second: nn.Module, scale: Scale, points: int = 11) -> Barrier:
    """Return the linear error barrier between two networks of one architecture.

    B = max_a [ E(w_a) - (1 - a) E(w_0) - a E(w_1) ],   w_a = (1 - a) w_0 + a w_1,   a = 0 to 1 in equal steps

    BatchNorm statistics are measured anew at each a, the ends included. Neither network is changed.

    Args:
        first, second: networks with equal names and shapes of parameters.
        scale: images and labels.
        points: number of places a, 2 or more.

    Raises:
        TrainError: the parameters do not correspond.

    Source: Frankle et al. 2020, arXiv:1912.05671, section 2; Sadrtdinov et al. 2024, arXiv:2410.22113 (error, straight
    line, statistics anew).
    """
    _check(first, second)
    between = copy.deepcopy(first)
    errors = []
    for a in np.linspace(0.0, 1.0, points):
        _mix(between, first, second, float(a))
        errors.append((float(a), _error(batch_norm.renew(between, scale.train), scale)))
    start, rise = errors[0][1], errors[-1][1] - errors[0][1]
    height, place = max((e - (start + a * rise), -a) for a, e in errors)
    return Barrier(max(0.0, height), -place, errors)


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


def _error(model: nn.Module, scale: Scale) -> float:
    return float((_classes(model, scale.x) != scale.y).double().mean())


def _classes(model: nn.Module, x_NCHW: Inputs) -> Tensor:
    with evaluating(model):
        classes_N: Tensor = predict(model, x_NCHW).argmax(dim=1)
    return classes_N


def _direction(model: nn.Module) -> Tensor:
    w_D = torch.cat([p.detach().double().flatten() for p in step.weights(model)])
    direction_D: Tensor = w_D / w_D.norm()
    return direction_D

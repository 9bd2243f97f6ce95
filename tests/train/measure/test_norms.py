"""Norms of parameters."""

import pytest
import torch
from torch import nn

from train.measure.norms import layer_norms, parameter_norms


def model():
    layers = nn.Sequential(nn.Linear(2, 1), nn.Conv2d(1, 1, 1), nn.Linear(1, 1))
    with torch.no_grad():
        layers[0].weight.copy_(torch.tensor([[3.0, -4.0]]))
        layers[0].bias.fill_(5.0)
        layers[1].weight.fill_(12.0)
        layers[1].bias.fill_(0.0)
    layers[2].weight.requires_grad_(False)
    layers[2].bias.requires_grad_(False)
    return layers


def test_norms_by_hand():
    norms = parameter_norms(model())
    assert (norms["l1"], norms["weights_l1"]) == (24.0, 19.0)
    assert norms["l2"] == pytest.approx((9 + 16 + 25 + 144) ** 0.5) and norms["weights_l2"] == pytest.approx(13.0)


def test_layers_by_hand():
    assert layer_norms(model()) == {"0.weight": 5.0, "1.weight": 12.0}


def test_many_small_numbers_add_up():
    layer = nn.Linear(500, 600, bias=False)
    nn.init.constant_(layer.weight, 0.1)
    assert parameter_norms(layer)["l1"] == pytest.approx(3e4, rel=1e-6)
    assert parameter_norms(layer)["l2"] == pytest.approx((3e5 * 0.01) ** 0.5, rel=1e-6)

"""What feeds the head, read without leaving a trace."""

import pytest
import torch
from torch import nn

from bigstep.errors import TrainError
from train.measure.activations import outputs
from train.networks.build import build


def state(model):
    return {name: t.clone() for name, t in model.state_dict().items()}, [m.training for m in model.modules()]


class OnlySlices:
    def __init__(self, x_NCHW):
        self.x_NCHW, self.asked = x_NCHW, []

    def __len__(self):
        return len(self.x_NCHW)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.x_NCHW[index]


def test_it_is_the_input_of_the_head(mlp, cnn):
    x_NCHW = torch.randn(7, 3, 4, 4)
    for architecture in (mlp, cnn):
        model = build(architecture)
        logits_NK, z_ND = outputs(model, x_NCHW, batch=3)
        expected_ND = model[:-1](x_NCHW)
        assert torch.allclose(z_ND, expected_ND, atol=1e-6) and (z_ND >= 0).all()
        assert torch.allclose(logits_NK, model(x_NCHW), atol=1e-6)


def test_by_hand():
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        model[1].bias.zero_()
    assert outputs(model, torch.tensor([[[[1.0, 3.0]]], [[[2.0, 1.0]]]]))[1].tolist() == [[4.0, 0.0], [3.0, 1.0]]


def test_the_layer_called_last_counts_not_the_one_made_last():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.body = nn.Linear(2, 3), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.body(x.flatten(1)))

    assert outputs(Backwards(), torch.ones(5, 1, 2, 2))[1].shape == (5, 2)


def test_images_are_asked_for_in_slices_and_only_once():
    x = OnlySlices(torch.randn(5, 1, 2, 2))
    outputs(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), x, batch=2)
    assert x.asked == [slice(0, 2), slice(2, 4), slice(4, 6)]


def test_modes_statistics_and_hooks_stay_as_they_were():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(8, 2))
    model.train()
    model[1].eval()
    tensors, flags = state(model)
    first = outputs(model, torch.randn(6, 1, 2, 2).add(3))[1]
    assert (first != 0).all()  # dropout was off
    after, flags_after = state(model)
    assert flags_after == flags and all(torch.equal(tensors[name], after[name]) for name in tensors)
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_modes_come_back_after_an_error():
    model = nn.Sequential(nn.Linear(1, 1))
    with pytest.raises(RuntimeError, match="shapes"):
        outputs(model, torch.ones(2, 3))
    assert model.training and not model[0]._forward_pre_hooks


def test_a_network_without_a_linear_layer_is_refused():
    with pytest.raises(TrainError, match="without a linear layer"):
        outputs(nn.Conv2d(1, 1, 1), torch.ones(1, 1, 2, 2))

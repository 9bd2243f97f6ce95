"""Attributions: w * x where the network is linear, complete where DeepLIFT can be, and honest about where it cannot."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from train.measure.attribution import clip_outliers, core_share, explainer
from train.networks.build import build


def linear(weights_KCHW):
    model = nn.Sequential(nn.Flatten(), nn.Linear(weights_KCHW[0].numel(), len(weights_KCHW)))
    with torch.no_grad():
        model[1].weight.copy_(weights_KCHW.flatten(1))
    return model


def differences(model, x_NCHW, labels_N):
    outputs_NK = model(x_NCHW) - model(torch.zeros_like(x_NCHW[:1]))
    return outputs_NK.gather(1, labels_N[:, None])[:, 0].detach()


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, 4, 4, generator=generator), torch.arange(6) % 3


def test_a_linear_model_is_attributed_weight_times_input(data):
    x_NCHW, labels_N = data
    weights_KCHW = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    found = explainer(linear(weights_KCHW), x_NCHW, labels_N)
    assert found.method == "deep_lift"
    assert torch.allclose(found.attribute(x_NCHW, labels_N), weights_KCHW[labels_N] * x_NCHW, atol=1e-5)


def test_the_share_of_a_linear_model_by_hand():
    """Weights 3 on the left pixel and -1 on the right one, inputs of one: three quarters lie on the left."""
    weights_KCHW = torch.tensor([[[[3.0, -1.0]]]])
    core_NHW = torch.tensor([[[True, False]]])
    share = core_share(linear(weights_KCHW), torch.ones(1, 1, 1, 2), torch.tensor([0]), core_NHW, ~core_NHW)
    assert share.core == pytest.approx(0.75, abs=1e-5) and share.spurious == pytest.approx(0.25, abs=1e-5)
    neither = core_share(linear(weights_KCHW), torch.ones(1, 1, 1, 2), torch.tensor([0]), core_NHW, core_NHW & False)
    assert neither.spurious == 0 and neither.core == share.core


def test_shares_are_averaged_over_images_and_do_not_depend_on_the_batch(data):
    x_NCHW, labels_N = data
    model = linear(torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(1)))
    core_NHW = torch.rand(6, 4, 4, generator=torch.Generator().manual_seed(2)) > 0.5
    whole = core_share(model, x_NCHW, labels_N, core_NHW, ~core_NHW)
    assert core_share(model, x_NCHW, labels_N, core_NHW, ~core_NHW, batch=4).core == pytest.approx(whole.core)
    assert whole.core + whole.spurious == pytest.approx(1)
    alone = [core_share(model, x_NCHW[i:][:1], labels_N[i:][:1], core_NHW[i:][:1], core_NHW[i:][:1]) for i in range(6)]
    assert whole.core == pytest.approx(sum(share.core for share in alone) / 6)


class ReusedReLU(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(48, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.third(self.relu(self.second(self.relu(self.first(x.flatten(1))))))


class FunctionalReLU(ReusedReLU):
    def forward(self, x):
        return self.third(functional.relu(self.second(functional.relu(self.first(x.flatten(1))))))


def dilated_pooling():
    pool = nn.MaxPool2d(3, stride=2, padding=1, dilation=2)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=2), nn.ReLU(), pool, nn.Flatten(), nn.Linear(16, 3))


@pytest.mark.parametrize(
    ("make", "method"),
    [
        (ReusedReLU, "deep_lift"),
        (FunctionalReLU, "integrated_gradients"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.GELU(), nn.Linear(8, 3)), "integrated_gradients"),
        (dilated_pooling, "integrated_gradients"),
    ],
)
def test_the_method_is_the_one_that_adds_up(make, method, data):
    x_NCHW, labels_N = data
    torch.manual_seed(0)
    model = make().eval()
    found = explainer(model, x_NCHW, labels_N)
    assert found.method == method
    total_N = found.attribute(x_NCHW, labels_N).flatten(1).sum(dim=1)
    expected_N = differences(model, x_NCHW, labels_N)
    tolerance = 1e-4 if method == "deep_lift" else 0.05  # a sum over 32 points of a path with kinks
    assert (total_N - expected_N).abs().mean() <= tolerance * expected_N.abs().mean()


def test_our_networks_are_explained_by_deep_lift(mlp, cnn, data):
    x_NCHW, labels_N = data
    for architecture in (mlp, cnn):
        model = build(architecture)
        found = explainer(model, x_NCHW, labels_N)
        total_N = found.attribute(x_NCHW, labels_N).flatten(1).sum(dim=1)
        assert found.method == "deep_lift"
        assert torch.allclose(total_N, differences(model, x_NCHW, labels_N), atol=1e-5)


def test_the_model_stays_as_it_was(data):
    x_NCHW, labels_N = data
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(32, 3))
    model[1].eval()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    images = x_NCHW.clone()
    core_NHW = torch.ones(6, 4, 4, dtype=torch.bool)
    assert core_share(model, x_NCHW, labels_N, core_NHW, ~core_NHW).core == pytest.approx(1)
    assert [m.training for m in model.modules()] == [True, True, False, True, True, True]
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert torch.equal(images, x_NCHW) and not x_NCHW.requires_grad
    assert model[2].inplace and all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())


def test_two_percent_of_the_mass_is_clipped():
    a_NHW = torch.cat([torch.ones(98), torch.tensor([2.0])]).view(1, 9, 11)  # 98 of 100 at the last 1
    assert clip_outliers(a_NHW).max() == 1
    even_NHW = torch.tensor([[[3.0, 1.0]]])
    assert torch.equal(clip_outliers(even_NHW), even_NHW)

"""Sharpness against dense Hessians and exact spectra, what changes under rescaling, and what stays untouched."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn.functional import cross_entropy

from bigstep.errors import TrainError
from bigstep.records.trained import Recipe
from train.measure import sharpness as measure
from train.measure import surface
from train.measure.sharpness import Lanczos, extremes, near, scale_free, sharpness

EXACT = Lanczos("both", tolerance=1e-9, max_iterations=200)


class Attention(nn.Module):
    """One head over the rows of an image."""

    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(3, 1, batch_first=True)
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        rows = x.flatten(2).transpose(1, 2)
        return self.head(self.attend(rows, rows, rows, need_weights=False)[0].mean(dim=1))


NETWORKS = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3)),
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ),
    "attention": Attention,
}


def network(name, dtype=torch.float64, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name]().to(dtype)


@pytest.fixture
def images():
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.normal(size=(40, 3, 2, 2))), torch.from_numpy(rng.integers(0, 3, 40))


def dense(model, x_NCHW, y_N):
    """Return the whole Hessian by torch.func, from the network's evaluation mode."""
    space = surface.Surface(model, x_NCHW, y_N)

    def loss(w_P):
        return cross_entropy(functional_call(model, space.place(w_P), (x_NCHW,)), y_N)

    model.eval()
    with surface.exactly():
        return jacrev(jacrev(loss))(space.point())


@pytest.mark.parametrize("name", NETWORKS)
def test_both_ends_are_those_of_the_dense_hessian(images, name):
    model = network(name)
    found = sharpness(model, *images, EXACT)
    exact = torch.linalg.eigvalsh(dense(model, *images))
    assert found.lambda_max == pytest.approx(float(exact[-1]), rel=1e-7)
    assert found.lambda_min == pytest.approx(float(exact[0]), rel=1e-7)
    assert found.abs_max == max(found.lambda_max, -found.lambda_min)
    assert found.residual < 1e-6


@pytest.mark.parametrize("name", NETWORKS)
def test_float32_keeps_to_its_tolerance_and_reports_the_residual(images, name):
    model, x_NCHW, y_N = network(name, torch.float32), images[0].float(), images[1]
    found = sharpness(model, x_NCHW, y_N, Lanczos(tolerance=1e-3))
    exact_PP = dense(model, x_NCHW, y_N)
    assert found.abs_max == pytest.approx(float(torch.linalg.eigvalsh(exact_PP).abs().max()), rel=1e-3)
    v_P = found.vector
    assert float(v_P.norm()) == pytest.approx(1.0, abs=1e-5)
    gap = float((exact_PP @ v_P - found.lambda_max * v_P).norm()) / found.abs_max
    assert found.residual == pytest.approx(gap, abs=2e-5) and found.residual < 2e-3


def test_batches_sum_to_the_whole(images, monkeypatch):
    space = surface.Surface(network("cnn"), *images)
    w_P = space.point()
    v_P = near(w_P, seed=3)
    whole = space.gradient(w_P), space.hessian(w_P)(v_P)
    torch.testing.assert_close(whole[1], dense(space.model, *images) @ v_P, rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(surface, "BATCH", 7)
    (value, gradient_P), product_P = space.gradient(w_P), space.hessian(w_P)(v_P)
    assert value == pytest.approx(whole[0][0], rel=1e-12)
    torch.testing.assert_close(gradient_P, whole[0][1], rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(product_P, whole[1], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("ends", ["magnitude", "largest", "both"])
def test_the_spectrum_of_a_quadratic(ends):
    spectrum = torch.tensor([-7.0, -1.0, 0.0, 0.5, 2.0, 5.0], dtype=torch.float64)
    turned = torch.linalg.qr(torch.from_numpy(np.random.default_rng(0).normal(size=(6, 6))))[0]
    matrix = turned @ torch.diag(spectrum) @ turned.T
    found = extremes(lambda v: matrix @ v, near(spectrum, seed=0), Lanczos(ends, tolerance=1e-12))
    assert found.iterations <= 6 + 2
    assert (found.lambda_max, found.lambda_min) == pytest.approx((5.0, -7.0), abs=1e-9)
    assert found.abs_max == -found.lambda_min
    expected = turned[:, -1] if ends == "largest" else turned[:, 0]
    assert abs(float(found.vector @ expected)) == pytest.approx(1.0, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=12), st.integers(0, 5))
def test_any_diagonal_has_its_ends(spectrum, seed):
    diagonal = torch.tensor(spectrum, dtype=torch.float64)
    found = extremes(lambda v: diagonal * v, near(diagonal, seed), Lanczos("both", tolerance=1e-10))
    size = max(map(abs, spectrum))
    assert found.lambda_max == pytest.approx(max(spectrum), abs=1e-6 * size)
    assert found.lambda_min == pytest.approx(min(spectrum), abs=1e-6 * size)


def test_too_few_iterations_show_in_the_residual():
    diagonal = torch.linspace(0, 1, 500, dtype=torch.float64)
    found = extremes(lambda v: diagonal * v, near(diagonal, 0), Lanczos(max_iterations=5))
    assert found.iterations == 6 and found.residual > 0.01
    assert 0.8 < found.lambda_max < 1.0  # from inside the spectrum
    assert math.isfinite(found.residual)


def test_no_curvature_at_all_is_zero():
    zero = torch.zeros(4)
    found = extremes(lambda v: 0 * v, near(zero, 0), Lanczos("both"))
    assert (found.lambda_max, found.lambda_min, found.residual) == (0.0, 0.0, 0.0)


def test_a_warm_start_is_faster_and_finds_what_overtook_it():
    diagonal = torch.linspace(0, 1, 400, dtype=torch.float64) ** 2
    cold = extremes(lambda v: diagonal * v, near(diagonal, 0), Lanczos())
    warm = extremes(lambda v: diagonal * v, near(diagonal, 1, cold.vector), Lanczos())
    assert warm.iterations < cold.iterations and warm.abs_max == pytest.approx(1.0, abs=1e-3)
    old = torch.zeros(400, dtype=torch.float64)
    old[100] = 1.0  # an exact eigenvector, of another eigenvalue
    assert extremes(lambda v: diagonal * v, near(diagonal, 0, old), Lanczos()).abs_max == pytest.approx(1.0, abs=1e-3)


def test_a_seed_gives_the_same_bits(images):
    model = network("mlp")
    first, again = (sharpness(model, *images, Lanczos(seed=4)) for _ in range(2))
    assert first.abs_max == again.abs_max and torch.equal(first.vector, again.vector)
    other = sharpness(model, *images, Lanczos(seed=5))
    assert other.abs_max == pytest.approx(first.abs_max, rel=1e-4) and not torch.equal(first.vector, other.vector)


def rescaled(factor):
    """Return a ReLU network with weights a * W1, a * b1, W2 / a: the same function for every a > 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    with torch.no_grad():
        model[1].weight.mul_(factor)
        model[1].bias.mul_(factor)
        model[3].weight.div_(factor)
    return model


@pytest.mark.parametrize("factor", [0.25, 3.0, 10.0])
def test_scale_free_sharpness_does_not_see_a_rescaling_and_raw_sharpness_does(images, factor):
    plain, other = rescaled(1.0), rescaled(factor)
    torch.testing.assert_close(plain(images[0]), other(images[0]))
    before, after = scale_free(plain, *images, EXACT), scale_free(other, *images, EXACT)
    assert after.lambda_max == pytest.approx(before.lambda_max, rel=1e-8)
    assert after.lambda_min == pytest.approx(before.lambda_min, rel=1e-8)
    raw = sharpness(other, *images, EXACT).lambda_max / sharpness(plain, *images, EXACT).lambda_max
    assert abs(math.log(raw)) > 0.5
    w_P = surface.Surface(other, *images).point()
    scaled_PP = w_P.abs()[:, None] * dense(other, *images) * w_P.abs()
    assert after.lambda_max == pytest.approx(float(torch.linalg.eigvalsh(scaled_PP)[-1]), rel=1e-8)


def test_the_network_is_left_as_it_was(images):
    model = network("cnn").train()
    model[1].eval()  # frozen on purpose
    model[0].weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = sharpness(model, *images)
    assert len(found.vector) == sum(p.numel() for p in model.parameters() if p.requires_grad) == 4 + 4 + 4 + 15
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [m.training for m in model] == [True, False, True, True, True, True]
    assert all(p.grad is None for p in model.parameters())


def test_another_loss_than_the_cross_entropy():
    model = nn.Linear(2, 1, bias=False).double()
    x_NC = torch.tensor([[3.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    found = sharpness(model, x_NC, torch.zeros(2, 1), EXACT, loss=lambda f, y: 0.5 * ((f - y) ** 2).mean())
    assert (found.lambda_max, found.lambda_min) == pytest.approx((4.5, 0.5))  # x^T x / 2


def test_a_loss_that_is_linear_has_no_curvature():
    model = nn.Linear(2, 1)
    found = sharpness(model, torch.ones(3, 2), torch.zeros(3), loss=lambda outputs, _: outputs.mean())
    assert (found.abs_max, found.residual) == (0.0, 0.0)


def test_a_measurement_that_fails_leaves_the_network_in_its_mode(images):
    model = network("cnn").train()

    def broken(outputs, targets):
        assert not any(m.training for m in model.modules())
        raise MemoryError

    with pytest.raises(MemoryError):
        sharpness(model, *images, loss=broken)
    assert model.training and all(m.training for m in model)


def test_a_diverged_network_has_no_sharpness(images):
    model = network("mlp")
    with torch.no_grad():
        model[1].weight[0, 0] = math.nan
    with pytest.raises(TrainError, match="not finite"):
        measure.sharpness(model, *images)


def test_a_layer_without_a_second_derivative_is_named():
    model = nn.Sequential(nn.Linear(2, 3), nn.Hardsigmoid(), nn.Linear(3, 2))
    with pytest.raises(TrainError, match=r"hardsigmoid_backward is not implemented\n.*twice"):
        sharpness(model, torch.ones(4, 2), torch.tensor([0, 1, 0, 1]))


def test_momentum_bears_more_curvature():
    heavy = Recipe(optimizer="sgd", rate=0.2, momentum=0.5)
    assert measure.plain_rate(heavy) == pytest.approx(0.2 / 1.5)
    assert measure.plain_rate(heavy.model_copy(update={"momentum": 0.0})) == 0.2

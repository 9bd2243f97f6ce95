"""Critical rates against flows that can be solved: a quadratic, a diagonal network with one sample, and xy = 1."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import nn

from train.measure.gradient_flow import Flow, critical_rate
from train.measure.sharpness import Lanczos, sharpness, sharpness_at
from train.measure.surface import Surface
from train.networks.build import build, normalise

EXACT = Lanczos("both", tolerance=1e-10)


def half_square(outputs, targets):
    return 0.5 * ((outputs - targets) ** 2).mean()


class Diagonal(nn.Module):
    """f(x) = sum theta_i^2 x_i."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, x_NC):
        return x_NC @ self.theta**2


class Pair(nn.Module):
    """f = a b, whatever the input."""

    def __init__(self, a, b):
        super().__init__()
        self.ab = nn.Parameter(torch.tensor([a, b], dtype=torch.float64))

    def forward(self, x_NC):
        return self.ab.prod().expand(len(x_NC))


def test_the_flow_of_a_quadratic_is_the_closed_form():
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(20, 3)) * [3.0, 2.0, 1.5], rng.normal(size=3)
    model = nn.Linear(3, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    data = torch.from_numpy(x), torch.from_numpy(x @ target)[:, None]
    found = critical_rate(model, *data, Flow(1e-4, alpha=0.2, measure_every=7, lanczos=EXACT), half_square)
    values, vectors = np.linalg.eigh(x.T @ x / 20)
    assert found.reached and found.rate == pytest.approx(2 / values[-1], rel=1e-9)
    assert len(found.path) == math.ceil(found.steps / 7) + 1 and found.path[-1].loss <= 1e-4
    for point in found.path:
        w = target - vectors @ (np.exp(-values * point.time) * (vectors.T @ target))
        assert point.loss == pytest.approx(0.5 * np.mean((x @ (w - target)) ** 2), rel=1e-3)
        assert point.l1 == pytest.approx(np.abs(w).sum(), rel=1e-4, abs=1e-12)
        assert point.sharpness == pytest.approx(values[-1], rel=1e-9)
    assert not model.weight.any()  # the network itself did not move


X, Y, INIT = np.array([1.0, 2.0, 4.0]), 1.0, np.array([0.1, 0.15, 0.05])
SAMPLE = torch.from_numpy(X)[None], torch.tensor([Y], dtype=torch.float64)


def diagonal_flow(tau):
    """Return theta_i(0) exp(2 x_i tau), tau the integral of y - f: the flow of the diagonal network on one sample."""
    return INIT * np.exp(2 * X * tau)


def diagonal_sharpness(theta):
    """Return the largest magnitude of an eigenvalue of g g^T + (f - y) diag(2 x), g = 2 theta x."""
    g, residual = 2 * theta * X, theta**2 @ X - Y
    return np.abs(np.linalg.eigvalsh(np.outer(g, g) + residual * np.diag(2 * X))).max()


def test_the_diagonal_network_flows_to_its_exact_end():
    settings = Flow(1e-9, alpha=0.2, measure_every=2, lanczos=EXACT)
    found = critical_rate(Diagonal(INIT), *SAMPLE, settings, half_square)
    tau = brentq(lambda t: diagonal_flow(t) ** 2 @ X - Y, 0, 5)
    end = diagonal_flow(tau)
    assert found.reached
    assert found.path[-1].l1 == pytest.approx(end.sum(), rel=1e-4)
    assert found.path[-1].sharpness == pytest.approx(4 * end**2 @ X**2, rel=1e-3)  # S = 4 sum w_i x_i^2 on L = 0
    highest = max(diagonal_sharpness(diagonal_flow(t)) for t in np.linspace(0, tau, 2000))
    assert found.max_sharpness == pytest.approx(highest, rel=1e-3)
    assert found.rate == 2 / found.max_sharpness


def descend(theta, rate, steps=4000):
    for _ in range(steps):
        theta = theta - rate * (theta**2 @ X - Y) * 2 * theta * X
    return theta


def test_descent_follows_the_flow_below_the_critical_rate_and_ends_flatter_above():
    found = critical_rate(Diagonal(INIT), *SAMPLE, Flow(1e-9, alpha=0.2, lanczos=EXACT), half_square)
    end = found.path[-1]
    below, above = descend(INIT, 0.5 * found.rate), descend(INIT, 1.5 * found.rate)
    assert 0.5 * (below**2 @ X - Y) ** 2 < 1e-12 and 0.5 * (above**2 @ X - Y) ** 2 < 1e-12
    assert diagonal_sharpness(below) == pytest.approx(end.sharpness, rel=0.1)
    assert diagonal_sharpness(above) <= 2 / (1.5 * found.rate) * (1 + 1e-6)
    assert np.abs(above).sum() > 1.05 * end.l1  # flatter and larger: the two biases are in conflict


def test_norm_and_sharpness_of_the_diagonal_network_are_in_exact_conflict():
    ends = {}
    for name, i in (("smallest norm", 2), ("smallest sharpness", 0)):
        theta = np.zeros(3)
        theta[i] = math.sqrt(Y / X[i])
        ends[name] = float(theta @ theta), sharpness(Diagonal(theta), *SAMPLE, EXACT, loss=half_square).abs_max
    assert ends["smallest norm"] == pytest.approx((Y / 4, 4 * Y * 4))
    assert ends["smallest sharpness"] == pytest.approx((Y / 1, 4 * Y * 1))
    assert all(norm2 * sharp == pytest.approx(4 * Y**2) for norm2, sharp in ends.values())


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (2.0, 0.5), (4.0, 0.25)])
def test_norm_and_sharpness_agree_where_there_is_no_conflict(a, b):
    found = sharpness(Pair(a, b), torch.zeros(1, 1), torch.ones(1), EXACT, loss=half_square)
    assert (found.lambda_max, found.lambda_min) == pytest.approx((a * a + b * b, 0.0), abs=1e-9)


def test_a_flow_cut_short_gives_a_bound():
    settings = Flow(1e-9, max_steps=3, lanczos=EXACT)
    found = critical_rate(Diagonal(INIT), *SAMPLE, settings, half_square)
    whole = critical_rate(Diagonal(INIT), *SAMPLE, Flow(1e-9, lanczos=EXACT), half_square)
    assert not found.reached and found.steps == 3 and whole.reached
    assert found.rate >= whole.rate


class Dead(nn.Module):
    """f = 0, whatever the input and the weights."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x_NC):
        return 0 * self.weight.expand(len(x_NC))


def test_a_dead_network_has_no_critical_rate():
    found = critical_rate(Dead(), *SAMPLE, Flow(1e-9, max_steps=3, lanczos=EXACT), half_square)
    assert found.rate is None and found.max_sharpness == 0 and not found.reached


def test_steps_that_would_raise_the_loss_are_made_again():
    careless = Flow(1e-9, alpha=50.0, measure_every=1000, max_step=100.0, lanczos=EXACT)
    found = critical_rate(Diagonal(INIT), *SAMPLE, careless, half_square)
    assert found.reached
    assert all(late.loss <= early.loss * 1.001 for early, late in zip(found.path, found.path[1:], strict=False))


def train(space, rate, stop_loss):
    """Return where full-batch gradient descent reaches a loss."""
    w_P = space.point()
    for _ in range(5000):
        value, gradient_P = space.gradient(w_P)
        if value <= stop_loss:
            return w_P
        w_P = w_P - rate * gradient_P
    raise AssertionError(f"loss {value}")


def test_a_tanh_network_follows_the_flow_below_the_predicted_rate_and_the_edge_above_it():
    rng = np.random.default_rng(0)
    x_NC = torch.from_numpy(rng.normal(size=(24, 6)))
    y_N1 = torch.sin(2 * x_NC[:, :1] + x_NC[:, 1:2])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 1)).double()
    space = Surface(model, x_NC, y_N1, half_square)
    stop_loss = 0.006
    found = critical_rate(model, x_NC, y_N1, Flow(stop_loss), half_square)
    assert found.reached and found.path[0].sharpness < found.max_sharpness
    below, above = 0.5 * found.rate, 1.5 * found.rate
    flow_like = sharpness_at(space, train(space, below, stop_loss), Lanczos())
    at_edge = sharpness_at(space, train(space, above, stop_loss), Lanczos())
    assert flow_like.abs_max == pytest.approx(found.path[-1].sharpness, rel=0.01)
    assert at_edge.abs_max * above / 2 == pytest.approx(1.0, abs=0.1)


def test_a_network_on_images_with_the_cross_entropy(rows, mlp):
    split = rows.split("train")
    x_NCHW, y_N = normalise(split.images, mlp), torch.from_numpy(np.array(split.labels))
    model = build(mlp)
    before = [p.clone() for p in model.parameters()]
    found = critical_rate(model, x_NCHW, y_N, Flow(stop_loss=0.1, measure_every=5))
    assert found.reached and found.path[0].loss == pytest.approx(math.log(3), rel=0.3)
    assert found.rate == pytest.approx(2 / max(p.sharpness for p in found.path))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))

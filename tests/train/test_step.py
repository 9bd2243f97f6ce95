"""Training steps by hand, the ways a run can end, and checkpoints that change nothing."""

import contextlib
import math

import numpy as np
import pytest
import torch
from torch import nn

from bigstep.records.trained import Recipe
from train import step
from train.networks.build import build, normalise
from train.networks.predict import mean_loss, one_thread, predict


@pytest.fixture
def points():
    """Sixty points of three separable classes."""
    rng = np.random.default_rng(0)
    y_N = np.arange(60) % 3
    x = np.eye(3)[y_N] * 3 + rng.normal(size=(60, 3)) * 0.3
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y_N)


def linear(seed: int = 0) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(3, 3)


def plan(recipe, *, batch_size=10, stop_loss=1e-9, max_steps=100, seed=0):
    return step.Plan(recipe, batch_size, stop_loss, max_steps, seed)


def gradient(weight, bias, x, y):
    """Return the gradient of the mean cross entropy of a linear model, (softmax - onehot) by hand."""
    logits = x @ weight.T + bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    error = (p - np.eye(3)[y]) / len(y)
    return error.T @ x, error.sum(axis=0)


def by_hand(model, x_NC, y_N, batches, update):
    weight, bias = (p.detach().numpy().astype(np.float64) for p in (model.weight, model.bias))
    states = [{}, {}]
    for batch in batches:
        gradients = gradient(weight, bias, x_NC.numpy()[batch].astype(np.float64), y_N.numpy()[batch])
        weight, bias = (update(w, g, state) for w, g, state in zip((weight, bias), gradients, states, strict=True))
    return weight, bias


def sgd(w, g, state):
    return w - 0.1 * g


def momentum(w, g, state):
    state["v"] = 0.9 * state.get("v", 0.0) + g
    return w - 0.1 * state["v"]


def adam(w, g, state):
    t = state["t"] = state.get("t", 0) + 1
    m = state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * g
    v = state["v"] = 0.999 * state.get("v", 0.0) + 0.001 * g * g
    return w - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def decayed(w, g, state):
    return w - 0.1 * (g + 0.3 * w + 0.05 * np.sign(w) if w.ndim > 1 else g)


def warmed_up(w, g, state):
    state["t"] = state.get("t", 0) + 1
    return w - 0.1 * min(1, state["t"] / 4) * g


RECIPES = {
    "sgd": (Recipe(optimizer="sgd", rate=0.1), sgd),
    "momentum": (Recipe(optimizer="sgd", rate=0.1, momentum=0.9), momentum),
    "adam": (Recipe(optimizer="adam", rate=0.1), adam),
    "decay": (Recipe(optimizer="sgd", rate=0.1, weight_decay=0.3, l1=0.05), decayed),
    "warm-up": (Recipe(optimizer="sgd", rate=0.1, warmup_steps=4), warmed_up),
}


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("name", RECIPES)
def test_steps_are_those_of_the_formula(points, name, steps):
    x_NC, y_N = points
    recipe, update = RECIPES[name]
    order = np.random.default_rng([7, 0]).permutation(60)
    expected = by_hand(linear(), x_NC, y_N, order.reshape(6, 10)[:steps], update)
    run = step.fit(step.start(linear(), recipe), x_NC, y_N, plan(recipe, max_steps=steps, seed=7))
    assert run.steps == steps
    np.testing.assert_allclose(run.model.weight.detach().numpy(), expected[0], atol=1e-6)
    np.testing.assert_allclose(run.model.bias.detach().numpy(), expected[1], atol=1e-6)


def test_a_run_stops_when_the_whole_training_set_is_fitted(points):
    recipe = Recipe(optimizer="sgd", rate=0.5)
    run = step.fit(step.start(linear(), recipe), *points, plan(recipe, stop_loss=0.1, max_steps=5000))
    assert run.status == "fitted" and run.steps < 200
    assert run.train_loss == pytest.approx(mean_loss(run.model, *points), abs=1e-7)
    assert run.train_loss <= 0.1
    assert [steps for steps, _ in run.curve] == [6 * (i + 1) for i in range(run.epoch)]


@pytest.mark.parametrize("budget", [1, 6, 7, 13])
def test_a_run_out_of_steps_is_unfitted_and_spends_them_all(points, budget):
    recipe = Recipe(optimizer="sgd", rate=0.01)
    run = step.fit(step.start(linear(), recipe), *points, plan(recipe, max_steps=budget))
    assert run.status == "unfitted" and run.steps == budget
    assert run.epoch == math.ceil(budget / 6) and run.train_loss > 0.1


@pytest.mark.parametrize("rate", [1e4, 1e30])
def test_a_huge_rate_diverges(rows, mlp, rate):
    split = rows.split("train")
    x_NCHW, y_N = normalise(split.images, mlp), torch.from_numpy(np.array(split.labels))
    recipe = Recipe(optimizer="sgd", rate=rate)
    run = step.fit(step.start(build(mlp), recipe), x_NCHW, y_N, plan(recipe, stop_loss=0.01, max_steps=600))
    assert run.status in ("diverged", "collapsed") and run.steps < 600
    linear_run = step.fit(step.start(linear(), recipe), torch.rand(60, 3), torch.arange(60) % 3, plan(recipe))
    assert linear_run.status == "diverged"


def dead_network() -> nn.Sequential:
    """Return a network whose hidden units are far below zero for every input."""
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].bias.fill_(-1000.0)
        model[2].bias.zero_()
    return model


@pytest.mark.parametrize(("multiple", "epoch", "status"), [(4.9, 3, None), (5.1, 3, "diverged"), (5.1, 2, None)])
def test_a_loss_of_five_times_chance_is_divergence_from_the_third_epoch_on(points, multiple, epoch, status):
    recipe = Recipe(optimizer="sgd", rate=0.1)
    run = step.start(linear(), recipe)
    run.epoch = epoch - 1
    step.end_epoch(run, multiple * math.log(3), *points, plan(recipe))
    assert run.status == status


@pytest.mark.parametrize(("multiple", "status"), [(0.979, None), (0.981, "collapsed")])
def test_five_epochs_hardly_below_chance_with_constant_outputs_are_a_collapse(points, multiple, status):
    recipe = Recipe(optimizer="sgd", rate=0.1)
    model = linear()
    nn.init.zeros_(model.weight)
    run = step.start(model, recipe)
    seen = []
    for _ in range(5):
        step.end_epoch(run, multiple * math.log(3), *points, plan(recipe))
        seen.append(run.status)
    assert seen == [None] * 4 + [status]


def test_a_network_whose_units_are_dead_has_collapsed(points):
    recipe = Recipe(optimizer="sgd", rate=0.01)
    run = step.fit(step.start(dead_network(), recipe), *points, plan(recipe, max_steps=6000))
    assert run.status == "collapsed" and run.epoch == step.COLLAPSE_EPOCHS


def test_a_slow_start_is_no_collapse(points):
    recipe = Recipe(optimizer="sgd", rate=1e-6)
    run = step.fit(step.start(linear(), recipe), *points, plan(recipe, max_steps=120))
    assert run.status == "unfitted" and run.epoch == 20
    assert all(loss > step.COLLAPSE_LOSS * math.log(3) for _, loss in run.curve)  # it never left chance


def test_batches_depend_on_seed_and_epoch_alone(points):
    seen = []

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = linear()

        def forward(self, x):
            if self.training:
                seen.append(x.clone())
            return self.inner(x)

    recipe = Recipe(optimizer="sgd", rate=0.0001)
    for seed, noise in [(0, 1), (0, 2), (1, 1)]:
        torch.manual_seed(noise)
        np.random.seed(noise)  # noqa: NPY002 - nobody may depend on it
        step.fit(step.start(Watching(), recipe), *points, plan(recipe, max_steps=12, seed=seed))
    first, again, other = (torch.stack(seen[i : i + 12]) for i in (0, 12, 24))
    assert torch.equal(first, again) and not torch.equal(first, other)
    epoch_1, epoch_2 = first[:6].reshape(60, 3), first[6:].reshape(60, 3)
    assert not torch.equal(epoch_1, epoch_2)
    assert torch.equal(epoch_1.sort(dim=0).values, epoch_2.sort(dim=0).values)  # every image once per epoch


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_resumed_run_ends_at_the_same_bits(points, tmp_path, name, stop_after):
    recipe, _ = RECIPES[name]
    settings = plan(recipe, max_steps=40)
    path = tmp_path / "checkpoint.safetensors"

    def save(run):
        if run.epoch == stop_after:
            step.save_checkpoint(run, path)

    undisturbed = step.fit(step.start(linear(), recipe), *points, settings, save)
    resumed = step.start(linear(seed=99), recipe)
    step.load_checkpoint(resumed, path)
    assert (resumed.epoch, resumed.steps) == (stop_after, 6 * stop_after)
    step.fit(resumed, *points, settings)
    for a, b in zip(undisturbed.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (resumed.curve, resumed.status, resumed.train_loss) == (
        undisturbed.curve,
        undisturbed.status,
        undisturbed.train_loss,
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.safetensors"]


def test_a_resumed_run_remembers_that_it_was_about_to_collapse(points, tmp_path):
    recipe = Recipe(optimizer="sgd", rate=0.01)
    run = step.Run(dead_network(), torch.optim.SGD(nn.Linear(1, 1).parameters()), epoch=4, steps=24, high_epochs=4)
    step.save_checkpoint(run, tmp_path / "c.safetensors")
    resumed = step.start(dead_network(), recipe)
    step.load_checkpoint(resumed, tmp_path / "c.safetensors")
    assert step.fit(resumed, *points, plan(recipe)).epoch == 5 and resumed.status == "collapsed"


def test_predictions_do_not_depend_on_the_batch_and_keep_the_mode(points):
    model = nn.Sequential(linear(), nn.Dropout(0.5)).train()
    whole, parts = predict(model, points[0]), predict(model, points[0], batch=7)
    torch.testing.assert_close(whole, parts)
    assert torch.equal(whole, predict(model, points[0])) and model.training


def test_one_thread_is_given_back_even_after_an_error():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with contextlib.suppress(KeyError), one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

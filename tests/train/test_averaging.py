"""The second phase: the average by hand, the rate that is used, statistics of BatchNorm, the same bits again."""

import numpy as np
import pytest
import torch
from torch import nn

from bigstep.records.trained import Recipe
from train import step
from train.averaging import average, fine_tune


@pytest.fixture
def points():
    """Sixty points of three classes."""
    rng = np.random.default_rng(0)
    y_N = np.arange(60) % 3
    x = np.eye(3)[y_N] * 3 + rng.normal(size=(60, 3)) * 0.3
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y_N)


def network(*, normalised=False):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        middle = [nn.BatchNorm1d(4)] if normalised else []
        return nn.Sequential(nn.Linear(3, 4), *middle, nn.ReLU(), nn.Linear(4, 3))


def same(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_average_is_that_of_the_first_weights_and_the_epochs_after(points, make_plan, count):
    model, plan = network(), make_plan(stop_loss=10.0, max_steps=1, recipe=Recipe(optimizer="sgd", rate=0.5))
    found = average(model, *points, plan, count)
    checkpoints = [network()]
    for epochs in range(1, count):
        whole_epochs = make_plan(recipe=plan.recipe, stop_loss=-1.0, max_steps=4 * epochs)  # 60 images by 16
        checkpoints.append(step.fit(step.start(network(), plan.recipe), *points, whole_epochs).model)
    for name, value in found.state_dict().items():
        expected = torch.stack([c.state_dict()[name] for c in checkpoints]).mean(dim=0)
        torch.testing.assert_close(value, expected)
    assert same(model, network())


def test_fine_tuning_is_training_at_the_small_rate_for_all_steps(points, make_plan):
    model = network()
    plan = make_plan(
        recipe=Recipe(optimizer="sgd", rate=5.0, momentum=0.9, warmup_steps=7), stop_loss=10.0, max_steps=9
    )
    run = fine_tune(model, *points, plan, rate=0.01)
    recipe = Recipe(optimizer="sgd", rate=0.01, momentum=0.9)
    expected = step.fit(step.start(network(), recipe), *points, make_plan(recipe=recipe, max_steps=9))
    assert run.steps == 9 and run.status == "unfitted"
    assert same(run.model, expected.model) and same(model, network())


def test_statistics_of_the_average_are_measured_on_the_train_images(points, make_plan):
    found = average(network(normalised=True), *points, make_plan(), 3)
    hidden_ND = found[0](points[0])
    torch.testing.assert_close(found[1].running_mean, hidden_ND.mean(dim=0))
    torch.testing.assert_close(found[1].running_var, hidden_ND.var(dim=0))


def test_again_gives_the_same_bits(points, make_plan):
    model, plan = network(normalised=True), make_plan()
    assert same(average(model, *points, plan, 4), average(model, *points, plan, 4))
    assert same(fine_tune(model, *points, plan, 0.01).model, fine_tune(model, *points, plan, 0.01).model)


def test_a_run_that_diverges_leaves_its_finite_checkpoints(points, make_plan):
    plan = make_plan(recipe=Recipe(optimizer="sgd", rate=1e25))
    found = average(network(), *points, plan, 5)
    assert same(found, network())

"""The second phase: what it trains with, what it averages, and that a killed one ends at the same bits."""

import numpy as np
import pytest
import torch
from torch import nn

from bigstep.config import TrainConfig
from bigstep.records.trained import Recipe
from train import prepare, step, trial
from train.finish import Finish
from train.networks.build import build, load_weights
from train.networks.predict import mean_loss
from train.setup import Job

SLOW = Recipe(optimizer="sgd", rate=0.002)


@pytest.fixture
def setup(rows, tmp_path):
    def make(name="out", **values):
        return prepare.make_setup(
            TrainConfig(**{"widths": (8,), "max_steps": 48, **values}), rows, "cpu", tmp_path / name
        )

    return make


def weights(setup, name):
    path = setup.out / "trials" / name / "weights.safetensors"
    return nn.utils.parameters_to_vector(load_weights(setup.architecture, path).parameters()).detach()


def test_without_a_finish_all_steps_are_made_at_the_rate():
    assert Finish().first_steps(100) == 100
    assert Finish("fine-tune", 0.1, 100).first_steps(100) == Finish("average", 0.1, 100).first_steps(100) == 75
    assert Finish("average", 0.1, 100).first_steps(60) == 60  # cut short, it is no nearer its second phase


@pytest.mark.parametrize("kind", ["fine-tune", "average"])
def test_the_last_quarter_is_the_second_phase(setup, rows, kind):
    place = setup(finish=kind, **({"finish_rate": 0.0005} if kind == "fine-tune" else {}))
    found = trial.run_trial(place, Job("t", SLOW, 3, 48))
    x_NCHW, y_N = place.tensors("train")
    plan = step.Plan(SLOW, 16, 1e-9, 36, 3)
    run = step.fit(step.start(build(place.architecture, 3), SLOW), x_NCHW, y_N, plan)
    second = SLOW if kind == "average" else SLOW.model_copy(update={"rate": 0.0005})
    seen = []
    after = step.start(run.model, second)
    after.epoch, after.steps = run.epoch, run.steps
    keep = lambda run: seen.append(nn.utils.parameters_to_vector(run.model.parameters()).detach().clone())  # noqa: E731
    step.fit(after, x_NCHW, y_N, step.Plan(second, 16, 1e-9, 48, 3), keep)
    keep(after)
    assert found.steps == 48 and found.status == "unfitted" and len(seen) == 2  # two epochs of six steps
    expected = seen[-1] if kind == "fine-tune" else torch.stack(seen).mean(dim=0)
    torch.testing.assert_close(weights(place, "t"), expected)
    model = load_weights(place.architecture, place.out / "trials" / "t" / "weights.safetensors")
    assert found.train_loss == pytest.approx(mean_loss(model, x_NCHW, y_N), abs=1e-6)


def test_a_run_that_fits_at_the_large_rate_has_no_second_phase(setup):
    job = Job("t", Recipe(optimizer="sgd", rate=0.1), 0, 600)
    plain, finished = setup("a", stop_loss=0.2), setup("b", stop_loss=0.2, finish="fine-tune", max_steps=600)
    found = trial.run_trial(finished, job)
    assert (found.finish, found.finish_rate) == ("fine-tune", 0.01)  # whoever trains it on has to know
    assert trial.run_trial(plain, job) == found.model_copy(update={"finish": "none", "finish_rate": None})
    assert torch.equal(weights(plain, "t"), weights(finished, "t"))


def test_a_run_that_fits_in_its_second_phase_stops_there(setup):
    recipe, finish = Recipe(optimizer="sgd", rate=0.4), {"finish": "fine-tune", "finish_rate": 0.1, "max_steps": 40}
    first = trial.run_trial(setup("a", stop_loss=1e-9), Job("t", recipe, 0, 30)).train_loss
    last = trial.run_trial(setup("b", stop_loss=1e-9, **finish), Job("t", recipe, 0, 40)).train_loss
    assert last < first
    found = trial.run_trial(setup("c", stop_loss=(first + last) / 2, **finish), Job("t", recipe, 0, 40))
    assert found.status == "fitted" and 30 < found.steps <= 40


def test_the_rate_never_rises_in_the_second_phase(setup):
    place = setup(finish="fine-tune", finish_rate=0.1)
    run = step.start(build(place.architecture, 0), SLOW)
    second = place.finish.begin(run, step.Plan(SLOW, 16, 1e-9, 36, 0), 48)
    assert second.plan.recipe.rate == second.run.optimizer.param_groups[0]["lr"] == SLOW.rate


def test_statistics_of_averaged_weights_are_measured_anew():
    x_NC, y_N = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)) + 1, torch.arange(64) % 3
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    recipe = Recipe(optimizer="sgd", rate=0.5)
    plan = step.Plan(recipe, 16, 1e-9, 8, 0)
    run = step.fit(step.start(model, recipe), x_NC, y_N, plan)
    second = Finish("average", 0.0, 16).begin(run, plan, 16)
    step.fit(second.run, x_NC, y_N, second.plan, second.after_epoch)
    found = second.finished(x_NC, lambda m: mean_loss(m, x_NC, y_N), 1e-9).model
    hidden_ND = found[0](x_NC).detach()
    torch.testing.assert_close(found[1].running_mean, hidden_ND.mean(dim=0))
    torch.testing.assert_close(found[1].running_var, hidden_ND.var(dim=0))


class Killed(BaseException):
    """Stand for a signal that ends the process."""


@pytest.mark.parametrize("kind", ["fine-tune", "average"])
def test_a_run_killed_in_its_second_phase_ends_at_the_same_bits(setup, kind):
    job = Job("t", SLOW, 0, 48)
    undisturbed = setup("a", finish=kind)
    trial.run_trial(undisturbed, job)
    place = setup("b", finish=kind)
    making = trial.make_trial(place, job)
    first = next(making)
    step.fit(first.run, first.x, first.y, first.plan, first.after_epoch)
    second = next(making)

    def die(run):
        raise Killed

    with pytest.raises(Killed):
        step.fit(second.run, second.x, second.y, second.plan, die)
    making.close()
    assert trial.run_trial(place, job).steps == 48
    assert torch.equal(weights(undisturbed, "t"), weights(place, "t"))
    assert not np.isnan(weights(place, "t").numpy()).any()

"""The second phase of one rate: equal rates give equal networks, a phase that diverges has no numbers."""

import pytest
import torch

from bigstep.records.trained import Recipe
from train import averaging, step
from train.networks.build import load_weights
from train.rate_map import second_phase as second
from train.rate_map.numbers import group_accuracies
from train.rate_map.second_phase import Start, second_phase

RECIPE = Recipe(optimizer="sgd", rate=0.1)


@pytest.fixture
def start(weights):
    """Return a second phase of a network with its initial weights."""
    return Start(RECIPE, 0, 2, weights, (0.05, 0.5), 24)


def plan_of(setup, start):
    return step.Plan(start.recipe, setup.batch_size, setup.stop_loss, start.max_steps, start.seed + 1)


def test_accuracies_are_those_of_the_tuned_and_the_averaged_networks(place, start):
    found = second_phase(place, start)
    model, data = load_weights(place.architecture, start.weights), place.tensors("train")
    tuned = [averaging.fine_tune(model, *data, plan_of(place, start), rate).model for rate in start.rates]
    averaged = averaging.average(model, *data, plan_of(place, start), second.CHECKPOINTS)
    expected = [group_accuracies(network, place) for network in (*tuned, averaged)]
    assert [found.small, found.large, found.averaged] == [numbers["unbiased"] for numbers in expected]
    conflicting = [found.small_conflicting, found.large_conflicting, found.averaged_conflicting]
    assert conflicting == [numbers["conflicting"] for numbers in expected]
    assert (found.rate, found.seed, found.regime, found.fault) == (0.1, 0, 2, None)
    assert 0 <= found.barrier <= 1 and 0 <= found.agreement <= 1 and found.angle > 0


def test_two_equal_rates_give_one_network(place, weights):
    found = second_phase(place, Start(RECIPE, 0, 1, weights, (0.1, 0.1), 24))
    assert found.small == found.large and found.small_conflicting == found.large_conflicting
    assert (found.barrier, found.agreement) == (0.0, 1.0) and found.angle == pytest.approx(0.0, abs=1e-6)


def test_a_phase_that_diverges_has_no_accuracy_and_no_barrier(place, weights):
    found = second_phase(place, Start(RECIPE, 0, 2, weights, (0.05, 1e30), 24))
    assert found.small is not None and found.averaged is not None
    assert found.large is None and found.large_conflicting is None
    assert (found.barrier, found.agreement, found.angle) == (None, None, None)


def test_another_seed_goes_through_the_images_in_another_order(place, weights):
    first, other = (second_phase(place, Start(RECIPE, seed, 2, weights, (0.05, 0.5), 24)) for seed in (0, 1))
    assert first.angle != other.angle and other.seed == 1


def test_it_goes_through_the_images_in_another_order_than_the_first_phase(place, start, monkeypatch):
    plans = []
    for name in ("fine_tune", "average"):
        phase = getattr(averaging, name)

        def watched(model, x_NCHW, y_N, plan, more, phase=phase):
            plans.append(plan)
            return phase(model, x_NCHW, y_N, plan, more)

        monkeypatch.setattr(averaging, name, watched)
    second_phase(place, start)
    n = len(place.tensors("train")[1])
    first = step.Plan(start.recipe, place.batch_size, place.stop_loss, start.max_steps, start.seed)
    assert len(plans) == 3
    for plan in plans:
        assert not any(
            torch.equal(step.batch_order(plan, epoch, n), step.batch_order(first, epoch, n)) for epoch in range(4)
        )


def test_the_weights_it_starts_from_stay_as_they_are(place, start):
    before = load_weights(place.architecture, start.weights).state_dict()
    second_phase(place, start)
    after = load_weights(place.architecture, start.weights).state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())

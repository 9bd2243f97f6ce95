"""The learning-rate map and what is chosen from it, from trials written by hand."""

from itertools import pairwise

import numpy as np
import pytest

from bigstep.config import TrainConfig
from bigstep.errors import TrainError
from train import choose

RULE = "{score:.3f}, of {conflicting:.3f} and {prunability:.3f}"


def chosen(trials, weight=0.5):
    score = choose.by_groups(weight)
    rates = sorted({t.recipe.rate for t in trials})
    return choose.choose(choose.rate_points(trials, score), trials, score, RULE, rates)


def test_the_grid_is_logarithmic_and_holds_both_ends():
    assert TrainConfig(min_rate=0.01, max_rate=1.0, num_rates=3).rates == [0.01, 0.1, 1.0]
    rates = TrainConfig().rates
    assert rates[0] == 0.01 and rates[-1] == 1.0 and len(rates) == 9 and rates == sorted(rates)
    ratios = [b / a for a, b in pairwise(rates)]
    assert max(ratios) / min(ratios) == pytest.approx(1.0, abs=1e-3)
    assert all(rate == float(f"{rate:.4g}") for rate in rates)


def test_a_grid_of_one_is_the_smallest_rate():
    assert TrainConfig(num_rates=1, min_rate=0.3).rates == [0.3]


def test_the_map_averages_over_seeds(make_trial):
    trials = [
        make_trial(0.2, 0, conflicting=0.6, prunability=0.9, unbiased=0.7, aligned=1.0),
        make_trial(0.2, 1, conflicting=0.8, prunability=0.7, unbiased=0.5, aligned=0.8),
        make_trial(0.1, 0, conflicting=0.2, prunability=0.4),
        make_trial(0.1, 1, conflicting=0.4, prunability=0.4),
    ]
    low, high = choose.rate_points(trials, choose.by_groups(0.75))
    assert (low.rate, high.rate) == (0.1, 0.2) and high.statuses == ["fitted", "fitted"]
    means = {"unbiased": 0.6, "aligned": 0.9, "conflicting": 0.7, "prunability": 0.8}
    assert {name: high.numbers[name] for name in means} == pytest.approx(means)
    assert high.score == pytest.approx(0.75 * 0.7 + 0.25 * 0.8)
    assert low.score == pytest.approx(0.75 * 0.3 + 0.25 * 0.4)


@pytest.mark.parametrize(("weight", "rate"), [(1.0, 0.4), (0.0, 0.1), (0.5, 0.2)])
def test_the_weight_decides_between_robust_and_prunable(make_trial, weight, rate):
    trials = [
        make_trial(0.1, conflicting=0.1, prunability=0.9),
        make_trial(0.2, conflicting=0.7, prunability=0.8),
        make_trial(0.4, conflicting=0.8, prunability=0.1),
    ]
    assert chosen(trials, weight).trial == f"sgd-{rate:g}-s0"


def test_of_the_chosen_rate_the_best_seed_is_taken(make_trial):
    trials = [
        make_trial(0.1, 0, conflicting=0.9),
        make_trial(0.1, 1, conflicting=0.1),
        make_trial(0.2, 0, conflicting=0.6),
        make_trial(0.2, 1, conflicting=0.7),
    ]
    assert chosen(trials).trial == "sgd-0.2-s1"


def test_ties_go_to_the_smaller_rate_and_the_first_seed(make_trial):
    trials = [make_trial(rate, seed) for rate in (0.4, 0.1, 0.2) for seed in (0, 1)]
    assert chosen(trials).trial == "sgd-0.1-s0"


@pytest.mark.parametrize("status", ["unfitted", "diverged", "collapsed"])
def test_one_seed_that_did_not_fit_excludes_its_rate(make_trial, status):
    trials = [
        make_trial(0.1, 0, conflicting=0.3),
        make_trial(0.1, 1, conflicting=0.3),
        make_trial(0.2, 0, conflicting=0.9),
        make_trial(0.2, 1, status, conflicting=0.9),
        make_trial(0.05, 0, conflicting=0.1),
        make_trial(0.05, 1, conflicting=0.1),
    ]
    points = choose.rate_points(trials, choose.by_groups(0.5))
    assert points[2].score is None and not points[2].numbers and points[2].statuses == ["fitted", status]
    choice = chosen(trials)
    assert choice.trial == "sgd-0.1-s0" and not choice.at_edge
    assert "of 2 rates that fitted with 2 seeds each" in choice.why
    assert "At 0.2 not every seed fits" in choice.why


@pytest.mark.parametrize(("best", "at_edge"), [(0.1, True), (0.2, False), (0.4, True)])
def test_a_choice_at_the_edge_of_the_grid_is_marked(make_trial, best, at_edge):
    trials = [make_trial(rate, conflicting=0.9 if rate == best else 0.5) for rate in (0.1, 0.2, 0.4)]
    choice = chosen(trials)
    assert choice.at_edge is at_edge
    assert f"Rate {best:g} has the highest score, 0.700, of 0.900 and 0.500, of 3 rates" in choice.why


def test_the_edge_is_that_of_the_grid_not_of_what_was_tried(make_trial):
    trials = [make_trial(rate, conflicting=rate) for rate in (0.1, 0.2)]
    score = choose.by_groups(0.5)
    choice = choose.choose(choose.rate_points(trials, score), trials, score, RULE, [0.05, 0.1, 0.2, 0.4])
    assert choice.trial == "sgd-0.2-s0" and not choice.at_edge


def test_a_single_rate_has_no_edge(make_trial):
    assert not chosen([make_trial(0.1)]).at_edge


@pytest.mark.parametrize(
    ("statuses", "advice"),
    [
        (("diverged", "diverged"), "lower train.min_rate: every rate diverges or collapses"),
        (("diverged", "collapsed"), "lower train.min_rate"),
        (("unfitted", "diverged"), "raise train.max_steps"),
        (("unfitted", "unfitted"), "raise train.max_steps"),
    ],
)
def test_without_a_usable_rate_the_error_says_what_to_change(make_trial, statuses, advice):
    trials = [make_trial(rate, 0, status) for rate, status in zip((0.1, 0.2), statuses, strict=True)]
    with pytest.raises(TrainError, match=advice) as caught:
        chosen(trials)
    assert f"rate 0.1: {statuses[0]}; rate 0.2: {statuses[1]}" in str(caught.value)


def test_the_biased_baseline_looks_at_biased_accuracy_alone(make_trial):
    trials = [
        make_trial(0.1, biased_accuracy=0.99, conflicting=0.0),
        make_trial(0.2, biased_accuracy=0.90, conflicting=1.0),
        make_trial(0.4, 0, "unfitted", biased_accuracy=1.0),
    ]
    [baseline] = choose.baselines(trials, {})
    assert (baseline.name, baseline.trial) == ("biased-validation", "sgd-0.1-s0")


def test_ties_in_biased_accuracy_go_to_the_lower_cross_entropy(make_trial):
    trials = [make_trial(0.1, biased_loss=0.4), make_trial(0.2, biased_loss=0.2), make_trial(0.4, biased_loss=0.3)]
    assert choose.baselines(trials, {})[0].trial == "sgd-0.2-s0"


def test_conventional_recipes_take_their_best_fitted_seed(make_trial):
    grid = [make_trial(0.1)]
    conventional = {
        "adam": [make_trial(1, 0, biased_accuracy=0.7), make_trial(1, 1, "unfitted", biased_accuracy=0.9)],
        "momentum": [make_trial(2, 0, "unfitted"), make_trial(2, 1, "diverged")],
    }
    _, adam, momentum = choose.baselines(grid, conventional)
    assert (adam.name, adam.trial) == ("adam", "sgd-1-s0")
    assert momentum.trial is None and momentum.why.endswith("no seed fitted")


def test_a_grid_without_a_fitted_trial_has_no_biased_baseline(make_trial):
    [baseline] = choose.baselines([make_trial(0.1, 0, "unfitted"), make_trial(0.2, 0, "diverged")], {})
    assert baseline.trial is None and "no seed fitted" in baseline.why


def test_a_rate_with_fewer_seeds_is_no_finalist(make_trial):
    trials = [
        make_trial(0.1, 0, conflicting=0.5),
        make_trial(0.1, 1, conflicting=0.5),
        make_trial(0.2, 0, conflicting=0.9),  # the search has given it up, or could not afford more
    ]
    assert chosen(trials).trial == "sgd-0.1-s0"


def signalled(make_trial, rate, seed=0, **values):
    usual = dict.fromkeys(("prunability", "train_sparsity", "train_separation", "train_loss_gini"), 0.5)
    return make_trial(rate, seed, **usual | values, conflicting=None, unbiased=None, aligned=None)


def test_without_bias_labels_signals_decide_by_the_formula(make_trial):
    trials = [
        signalled(make_trial, 0.1, train_loss_gini=0.9, train_separation=0.3, prunability=0.8, train_sparsity=0.4)
    ]
    score = choose.label_free(0.8, lambda _: pytest.fail("one seed agrees with nobody"))
    assert score(trials) == pytest.approx(0.8 * 0.6 + 0.2 * 0.6)
    pair = [
        *trials,
        signalled(make_trial, 0.1, 1, train_loss_gini=0.7, train_separation=0.5, prunability=0.6, train_sparsity=0.2),
    ]
    logits = {"sgd-0.1-s0": np.eye(3)[[0, 1, 2, 2]], "sgd-0.1-s1": np.eye(3)[[0, 1, 1, 1]]}  # half of them agree
    expected = 0.8 * (0.8 + 0.4 + 0.5) / 3 + 0.2 * (0.7 + 0.3) / 2
    assert choose.label_free(0.8, logits.__getitem__)(pair) == pytest.approx(expected)


@pytest.mark.parametrize(("weight", "rate"), [(0.8, 0.2), (0.2, 0.1)])
def test_the_weight_decides_without_bias_labels_too(make_trial, weight, rate):
    trials = [
        signalled(make_trial, 0.1, prunability=0.9, train_sparsity=0.8),
        signalled(make_trial, 0.2, train_separation=0.9),
    ]
    score = choose.label_free(weight, {}.__getitem__)
    choice = choose.choose(choose.rate_points(trials, score), trials, score, "{score:.3f}", [0.1, 0.2])
    assert choice.trial == f"sgd-{rate:g}-s0"


def test_a_trial_that_was_not_measured_has_no_score(make_trial):
    bare = make_trial(0.1, conflicting=None)
    assert choose.by_groups(0.5)([make_trial(0.1), bare]) is None
    assert choose.label_free(0.5, {}.__getitem__)([bare]) is None

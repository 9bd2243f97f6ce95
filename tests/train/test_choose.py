"""The learning-rate map and what is chosen from it, from trials written by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from bigstep.config import TrainConfig
from bigstep.errors import TrainError
from train import choose

RULE = "{score:.3f}, of {conflicting:.3f} and {prunability:.3f}"


def chosen(trials, weight=0.5):
    score = choose.by_groups(weight)
    rates = sorted({t.recipe.rate for t in trials})
    return choose.choose(trials, score, RULE, rates)


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


@pytest.mark.parametrize(("priority", "weight"), [("robust", 0.8), ("balanced", 0.5), ("small", 0.2)])
def test_a_priority_weighs_robustness_as_documented(make_trial, priority, weight):
    robust, small = make_trial(0.1, conflicting=1.0, prunability=0.0), make_trial(0.1, conflicting=0.0, prunability=1.0)
    score = choose.by_groups(TrainConfig(priority=priority).robust_weight)
    assert (score([robust]), score([small])) == pytest.approx((weight, 1 - weight))


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
    choice = choose.choose(trials, score, RULE, [0.05, 0.1, 0.2, 0.4])
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


def table(make_trial, **scores):
    """Return a trial for every score, listed by rate; conflicting accuracy and prunability are both the score."""
    return [
        make_trial(float(rate.removeprefix("r")), seed, conflicting=value, prunability=value)
        for rate, values in scores.items()
        for seed, value in enumerate(values)
    ]


def test_more_seeds_do_not_make_up_for_a_score_that_is_lower_beyond_the_noise(make_trial):
    """A budget that ends while a rate is confirmed leaves it with the most seeds, which once chose it by itself."""
    few, many = [0.809, 0.811, 0.813], [0.768, 0.771, 0.769, 0.772, 0.770]
    choice = chosen(table(make_trial, **{"r0.03": few, "r0.17": many}))
    assert choice.trial == "sgd-0.03-s2"
    assert choice.why.startswith("Rate 0.03 has the highest score, 0.811, of 0.811 and 0.811, of 2 rates")
    assert "that fitted with 3 to 5 seeds, itself with 3." in choice.why
    alone = chosen(table(make_trial, **{"r0.1": [0.5, 0.5], "r0.2": [0.7]}))
    assert alone.trial == "sgd-0.2-s0"  # without any spread a single seed is as good as two


def test_of_two_that_chance_may_tell_apart_the_one_with_more_seeds_is_chosen_and_said_so(make_trial):
    many = [0.70, 0.74, 0.72, 0.71, 0.73, 0.72, 0.72, 0.72]
    choice = chosen(table(make_trial, **{"r0.1": many, "r0.2": [0.725]}))
    assert choice.trial == "sgd-0.1-s1"
    assert "highest score" not in choice.why
    assert choice.why.startswith("Rate 0.1 has a score of 0.720, of 0.720 and 0.720, over 8 seeds, of 2 rates")
    assert "0.2 has 0.725, but over 1 seed, which may be chance: with 95% confidence" in choice.why
    s = math.sqrt(sum((value - 0.72) ** 2 for value in many) / 7)  # by hand, with t from a table
    low, bound = 0.725 - 1.8946 * s, 0.72 - 1.8946 * s / math.sqrt(8)
    assert f"at least {low:.3f}, and the chosen rate's at least {bound:.3f}" in choice.why


scores = st.lists(st.integers(0, 100).map(lambda percent: percent / 100), min_size=1, max_size=13)
tables = st.lists(scores, min_size=1, max_size=6)


@settings(deadline=None, max_examples=300)
@given(drawn=tables, weight=st.floats(0, 1))
def test_nothing_is_chosen_that_the_table_ranks_lower_beyond_its_noise(make_trial, drawn, weight):
    trials = table(make_trial, **{f"r{k + 1}": values for k, values in enumerate(drawn)})
    choice = chosen(trials, weight)
    best = drawn[int(next(t.recipe.rate for t in trials if t.name == choice.trial)) - 1]
    freedom = sum(len(values) - 1 for values in drawn)
    squares = sum(len(values) * float(np.var(values)) for values in drawn)
    noise = float(student.ppf(0.95, freedom)) * math.sqrt(squares / freedom) if freedom else 0.0
    lead = [float(np.mean(values) - np.mean(best)) for values in drawn]
    for values, ahead in zip(drawn, lead, strict=True):
        assert ahead <= noise * math.sqrt(1 / len(values) + 1 / len(best)) + 1e-9
        if len(values) >= len(best):  # no rate with as many seeds or more has a higher score
            assert ahead <= 1e-9
    said = "highest score" in choice.why
    assert max(lead) <= 1e-9 if said else max(lead) >= 1e-9


@settings(deadline=None, max_examples=100)
@given(drawn=tables, more=st.floats(0.001, 1.0))
def test_a_chosen_rate_stays_chosen_when_it_scores_higher(make_trial, drawn, more):
    trials = table(make_trial, **{f"r{k + 1}": values for k, values in enumerate(drawn)})
    rate = next(t.recipe.rate for t in trials if t.name == chosen(trials).trial)
    drawn[int(rate) - 1] = [value + more for value in drawn[int(rate) - 1]]
    again = table(make_trial, **{f"r{k + 1}": values for k, values in enumerate(drawn)})
    assert next(t.recipe.rate for t in again if t.name == chosen(again).trial) == rate


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


def test_where_one_rate_has_a_single_seed_agreement_counts_for_none(make_trial):
    """Seeds agree more often than they are sure: counted for some rates alone it would decide for those."""
    trials = [signalled(make_trial, 0.1, seed) for seed in (0, 1)]
    trials += [signalled(make_trial, 0.2, train_separation=0.6)]
    score = choose.label_free(0.5, lambda _: np.eye(3))  # all agree
    assert score(trials[:2]) > score(trials[2:])
    assert choose.comparable([trials[:2], trials[2:]], score) == pytest.approx([0.5, 0.525])
    choice = choose.choose(trials, score, "{score:.3f}", [0.1, 0.2])
    assert choice.trial == "sgd-0.2-s0"
    [only] = choose.comparable([trials[:2]], score)
    assert only == score(trials[:2])
    with_agreement = choose.choose(trials[:2], score, "{score:.3f}", [0.1, 0.2]).why
    assert f"{only:.3f}" in with_agreement and "Agreement" not in with_agreement
    fuller = choose.choose([*trials[:2], signalled(make_trial, 0.2, train_separation=0.1)], score, "{score:.3f}", [0.1])
    assert "Agreement between seeds is left out of these scores" in fuller.why


@pytest.mark.parametrize(("weight", "rate"), [(0.8, 0.2), (0.2, 0.1)])
def test_the_weight_decides_without_bias_labels_too(make_trial, weight, rate):
    trials = [
        signalled(make_trial, 0.1, prunability=0.9, train_sparsity=0.8),
        signalled(make_trial, 0.2, train_separation=0.9),
    ]
    score = choose.label_free(weight, {}.__getitem__)
    choice = choose.choose(trials, score, "{score:.3f}", [0.1, 0.2])
    assert choice.trial == f"sgd-{rate:g}-s0"


def test_a_trial_that_was_not_measured_has_no_score(make_trial):
    bare = make_trial(0.1, conflicting=None)
    assert choose.by_groups(0.5)([make_trial(0.1), bare]) is None
    assert choose.label_free(0.5, {}.__getitem__)([bare]) is None

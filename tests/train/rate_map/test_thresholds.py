"""Where the thresholds lie, by endings written by hand."""

import pytest

from bigstep.records.rate_map import FlowResult, MapTrial, SecondPhase
from train.rate_map import thresholds
from train.rate_map.thresholds import Ending

MARKS = {"f": "fitted", "u": "unfitted", "d": "diverged", "c": "collapsed"}


def endings(*seeds):
    """Return endings at rates 1, 2, 3, ... from one word per seed."""
    return [Ending(rate, s, MARKS[mark]) for s, word in enumerate(seeds) for rate, mark in enumerate(word, start=1)]


@pytest.mark.parametrize(
    ("words", "convergence", "divergence"),
    [
        (["ffud"], (2, 3), (3, 4)),
        (["ufud"], (2, 3), (3, 4)),  # too slow at first
        (["ffff"], (4, None), (4, None)),
        (["uuuu"], (None, 1), (4, None)),
        (["dddd"], (None, 1), (None, 1)),
        (["fuff"], (1, 2), (4, None)),  # a gap ends it
        (["ffuc", "fudd"], (1, 3), (2, 4)),  # over seeds
        (["ffff", "ffud"], (2, None), (3, None)),
        (["uuuu", "ffud"], (None, 3), (3, None)),
    ],
)
def test_brackets(words, convergence, divergence):
    found = endings(*words)
    for threshold, expected in (
        (thresholds.convergence(found, 100), convergence),
        (thresholds.divergence(found, 100), divergence),
    ):
        assert (threshold.low, threshold.high) == expected and threshold.steps == 100
        assert "at most 100 steps" in threshold.says


def flow(seed, rate, reached=True):
    return FlowResult(seed=seed, rate=rate, max_sharpness=2 / rate, reached=reached, steps=7, loss=0.25)


def test_the_critical_rate_is_an_interval_or_a_bound():
    found = thresholds.critical([flow(0, 0.1), flow(1, 0.2)])
    assert (found.low, found.high) == (0.1, 0.2) and "0.1 to 0.2 (2 seeds)" in found.says
    flat = flow(2, 1.0).model_copy(update={"rate": None, "max_sharpness": 0.0, "reached": False})
    unknown = thresholds.critical([flat])
    assert (unknown.low, unknown.high) == (None, None) and "no gradient flow met any curvature" in unknown.says
    assert "unknown: no gradient flow was followed" in thresholds.critical([]).says
    bound = thresholds.critical([flow(0, 0.1), flow(1, 0.2, reached=False)])
    assert (bound.low, bound.high) == (None, 0.2) and "at most 0.2" in bound.says and "0.25" in bound.says


def second(rate, regime, small=0.9, large=0.9, averaged=0.9, barrier=0.0, fault=None):
    found = dict.fromkeys(("small_conflicting", "large_conflicting", "averaged_conflicting"), small)
    return SecondPhase(
        rate=rate,
        seed=0,
        regime=regime,
        small=small,
        large=large,
        averaged=averaged,
        barrier=barrier,
        agreement=1.0,
        angle=0.0,
        fault=fault,
        **found,
    )


def test_the_split_of_regime_2():
    rows = [second(1, 1, 0.95), second(2, 2, 0.8, 0.85), second(3, 2, 0.79, 0.85), second(4, 2)]
    threshold, band = thresholds.split(rows, 0.8, 100)
    assert band == [2] and (threshold.low, threshold.high) == (2, 3)
    assert "0.7900 below 0.8000" in threshold.says
    for known, best in ((rows[:1], 0.8), (rows, None)):
        none, band = thresholds.split(known, best, 100)
        assert band == [] and none.low is none.high is None and "no band 2A" in none.says
    barred, band = thresholds.split([rows[0], second(2, 2, barrier=0.5)], 0.8, 100)
    assert band == [] and (barred.low, barred.high) == (None, 2) and "barrier" in barred.says
    lost, band = thresholds.split([rows[0], second(2, 2, small=None)], 0.8, 100)
    assert band == [] and lost.high == 2
    whole, band = thresholds.split([rows[0], second(4, 2)], 0.8, 100)
    assert band == [4] and (whole.low, whole.high) == (4, None)


def trial(rate, seed, status="fitted", **numbers):
    name = f"{rate}-{seed}"
    about = {"steps": 1, "train_loss": 0.1, "moments": [], "missing": {}}
    return MapTrial(name=name, rate=rate, seed=seed, status=status, numbers=numbers, **about)


def test_the_answer_names_the_most_robust_rate_and_its_place():
    trials = [trial(r, s, conflicting=c + s / 100) for r, c in ((1, 0.5), (2, 0.7), (3, 0.71)) for s in (0, 1)]
    says = thresholds.answer(trials, [1, 2, 3], 2, [], "No band.")
    assert "most robust rate, 3 (conflicting accuracy 0.715" in says and "below the convergence threshold" in says
    inside = thresholds.answer(trials, [1, 2, 3], 2, [second(3, 2, small=0.8)], "A band.")
    assert "lies in band 2A" in inside and "After a second phase (one seed) the highest is 0.9" not in inside
    assert "0.800, from 3" in inside and "A band." in inside
    unfit = [t.model_copy(update={"status": "unfitted"}) for t in trials]
    assert "does not lie in band 2A (unfitted)" in thresholds.answer(unfit, [1, 2, 3], 2, [], "")
    assert "is open" in thresholds.answer([], [1], 2, [], "")


def test_a_break_in_the_sharpness_needs_rates():
    few = thresholds.sharpness_break([trial(1, 0, sharpness=1.0)], 100)
    assert few.low is None and "1 different rates" in few.says
    hinge = [trial(r, 0, sharpness=min(2.0, 0.2 / r)) for r in (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)]
    found = thresholds.sharpness_break(hinge, 100)
    assert found.low == pytest.approx(0.1, rel=0.01) == found.high and "breaks at 0.1" in found.says


def test_the_best_of_regime_1_is_that_of_one_seed_before_any_second_phase():
    trials = [trial(1, 0, unbiased=0.7), trial(2, 0, unbiased=0.8), trial(2, 1, unbiased=0.9)]
    trials += [trial(3, 0, "unfitted", unbiased=0.95), trial(4, 0)]
    assert thresholds.best_converged(trials, 0) == 0.8
    assert thresholds.best_converged(trials[3:4], 0) is None

"""Alarms: each with a history that raises it, one that just does not, and none raised twice."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigstep.records.trained import Moment
from train.alarms import Course, check

COURSE = Course(rate=0.4, max_steps=1000, chance_loss=math.log(10))
CALM = {
    "train_loss": 1.0,
    "biased_loss": 1.0,
    "validation_loss": 1.0,
    "bias_following": 0.5,
    "gradient": 1.0,
    "l1": 100.0,
    "l2": 10.0,
    "spread": 1.0,
    "dead": 0.0,
}


def history(*changes, every_steps=50):
    """Return measurements every 50 steps, one an epoch, each calm but for what is changed."""
    return [Moment(step=k * every_steps, epoch=k, numbers=CALM | change) for k, change in enumerate(changes)]


def stabilities(*values):
    return history(*({"stability": value} for value in values))


def norms(*values, every_steps=50):
    return history(*({"l2": value} for value in values), every_steps=every_steps)


COLLAPSED = {"train_loss": 0.99 * math.log(10), "spread": 9e-4}


@pytest.mark.parametrize(
    ("name", "raising", "words"),
    [
        ("unstable", stabilities(0.2, 1.2, 1.3, 1.6), "S*eta/2 was 1.20, 1.30, 1.60, above 1.1 3 times"),
        ("unstable", stabilities(1.2, None, 1.3, None, 1.6), "try a rate below 0.25"),
        ("norm", norms(10.0, 14.0, 20.0), "from 10 at step 0 to 20, within 10% of 1000 steps"),
        ("norm", norms(30.0, 5.0, 8.0, 10.0), "from 5 at step 50 to 10"),
        ("collapse", history({}, COLLAPSED), "chance is 2.3, and the outputs no longer depend on the image"),
        ("dead", history({}, {"dead": 0.51}), "51% of the units of the last hidden layer are zero"),
    ],
)
def test_an_alarm_says_what_it_saw_and_what_to_do(name, raising, words):
    raised = check(raising, COURSE)
    assert list(raised) == [name]
    assert raised[name].startswith(f"step {raising[-1].step}: ")
    assert words in raised[name] and "try a rate below" in raised[name]


@pytest.mark.parametrize(
    "quiet",
    [
        stabilities(1.2, 1.3),  # twice
        stabilities(1.2, 1.1, 1.3),  # not in a row
        stabilities(1.2, 1.3, 1.4, None),  # said when the third was measured
        norms(10.0, 14.0, 19.9),
        norms(10.0, 13.0, 16.0, 20.0),  # in 15 % of the steps
        norms(10.0, 40.0, every_steps=150),  # further apart than the window: nobody can tell
        norms(0.0, 1.0),  # nothing to double
        history(COLLAPSED),  # a fresh network may look like this
        history({}, COLLAPSED | {"spread": 1e-3}),
        history({}, COLLAPSED | {"train_loss": 0.97 * math.log(10)}),
        history({}, {}, {}, {}, {}, {}, COLLAPSED),  # not early
        history({"dead": 0.5}),
        [],
    ],
)
def test_what_is_within_the_limits_raises_nothing(quiet):
    assert check(quiet, COURSE) == {}


def test_an_alarm_is_raised_once():
    seen = history({}, {"dead": 0.9}, {"dead": 0.95})
    first = check(seen[:2], COURSE)
    seen[1] = seen[1].model_copy(update={"alarms": first})
    assert list(first) == ["dead"] and check(seen, COURSE) == {}


def test_collapse_is_measured_against_the_labels_that_there_are():
    """Where one of two classes has 95 % of the images, ignoring them costs 0.2 nats and not log 2."""
    rare = Course(0.1, 1000, chance_loss=-(0.95 * math.log(0.95) + 0.05 * math.log(0.05)))
    assert list(check(history({}, {"train_loss": 0.199, "spread": 0.0}), rare)) == ["collapse"]


@given(st.lists(st.fixed_dictionaries({}, optional={name: st.none() for name in CALM}), max_size=6))
def test_numbers_that_are_missing_raise_nothing(changes):
    assert check(history(*changes), COURSE) == {}

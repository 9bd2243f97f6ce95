"""The rules of a file at their limits, by hand: what they let pass, and where exactly they stop."""

import numpy as np
import pytest

from bigstep import rules
from bigstep.config import VerifyConfig
from bigstep.intervals import accuracy_interval
from bigstep.records.images import Split
from bigstep.records.verdict import worst
from bigstep.scores import Evidence, Outputs

N = 400
VALUES = {"label": ["cat", "dog"], "colour": ["red", "green"]}


def evidence(wrong: int, name: str = "test") -> Evidence:
    """Return the outputs of a dense file that is always right, and of another that errs on so many of 200 conflicting.

    Every image is a source of its own.
    """
    index = np.arange(N)
    labels, colours = index % 2, index // 2 % 2
    aligned = labels == colours
    split = Split(np.zeros((N, 1, 1, 1), np.uint8), labels, colours[:, None], index, index, aligned)
    astray = np.isin(index, np.flatnonzero(~aligned)[:wrong])
    logits = {"dense": np.eye(2)[labels], "file": np.eye(2)[np.where(astray, 1 - labels, labels)]}
    return Evidence(split, VALUES, {form: Outputs.of(array, labels) for form, array in logits.items()}, name)


def test_a_lower_bound_at_the_floor_is_not_above_it():
    found = evidence(20)
    conflicting = ~found.split.aligned
    bounds = accuracy_interval(found.forms["file"].correct[conflicting], found.split.sources[conflicting], 0.95)
    for floor, outcome in [
        (np.nextafter(bounds.low, 0.0), "passed"),
        (bounds.low, "undecided"),
        (np.nextafter(bounds.estimate, 0.0), "undecided"),
        (bounds.estimate, "failed"),
    ]:
        assert rules.floor(VerifyConfig(floor=floor), found, "file").outcome == outcome


def test_a_bound_of_the_drop_at_the_margin_is_within_it():
    found = evidence(4)
    check = rules.non_inferiority(VerifyConfig(), found, "conflicting", "dense", "file")
    for margin, outcome in [
        (check.bound, "passed"),
        (np.nextafter(check.bound, 0.0), "undecided"),
        (check.measured, "undecided"),
        (np.nextafter(check.measured, 0.0), "failed"),
    ]:
        config = VerifyConfig(margin=margin)
        assert rules.non_inferiority(config, found, "conflicting", "dense", "file").outcome == outcome


@pytest.mark.parametrize(("sources", "outcome"), [(200, "passed"), (201, "undecided")])
def test_a_group_of_exactly_as_many_sources_as_are_asked_is_present(sources, outcome):
    assert rules.present(VerifyConfig(min_group=sources), evidence(0), "conflicting").outcome == outcome


@pytest.mark.parametrize("wrong", [0, 1, 4, 30, 120])
def test_the_same_images_are_judged_alike_whatever_their_split_is_called(wrong):
    """Compression asks on validation what the gate asks on test: the sentence alone tells which it was."""
    config = VerifyConfig(groups=("aligned", "conflicting", "label=cat", "colour=mauve"))
    on_test, on_validation = (
        rules.on_groups(config, evidence(wrong, name), "dense", "file") for name in ("test", "validation")
    )
    strip = {"says"}
    assert [c.model_dump(exclude=strip) for c in on_test] == [c.model_dump(exclude=strip) for c in on_validation]
    assert [c.says.replace("test image", "validation image") for c in on_test] == [c.says for c in on_validation]
    assert worst(c.outcome for c in on_test if c.group == "colour=mauve") == "undecided"


@pytest.mark.parametrize(("margin", "needed"), [(0.02647, 100), (0.026215, None)])
def test_a_hundred_times_the_sources_are_the_most_that_is_advised(margin, needed):
    """Without a discordant pair the bound is z^2 / (n + z^2): these margins take 99.5 and 100.5 sources, of one."""
    right, source = np.ones(1, bool), np.zeros(1, np.int64)
    assert rules.sources_to_decide(right, right, source, VerifyConfig(margin=margin)) == needed

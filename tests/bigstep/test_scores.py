"""Accuracies per group against sums done by hand on 120 sources, each in three colours."""

import numpy as np
import pytest

from bigstep.config import VerifyConfig
from bigstep.records.images import Split
from bigstep.scores import Evidence, Outputs, flips, group_names, score

CONFIDENCE = 0.95
VALUES = {"label": ["cat", "dog", "emu"], "colour": ["red", "green", "blue"]}


@pytest.fixture
def evidence():
    """Return the outputs of a dense file that is always right, and of a served one that 12 sources lead astray."""
    sources, colours = np.repeat(np.arange(120), 3), np.tile(np.arange(3), 120)
    labels = sources % 3
    aligned = labels == colours
    split = Split(np.zeros((360, 1, 1, 1), np.uint8), labels, colours[:, None], np.arange(360), sources, aligned)
    predicted = {"dense": labels, "served": np.where((sources < 12) & ~aligned, colours, labels)}
    return Evidence(split, VALUES, {name: Outputs.of(np.eye(3)[found], labels) for name, found in predicted.items()})


@pytest.mark.parametrize(
    ("group", "n", "accuracy"),
    [
        ("unbiased", 360, 1 - 24 / 360),  # 12 sources, each wrong in its two conflicting colours
        ("aligned", 120, 1.0),
        ("conflicting", 240, 1 - 24 / 240),
        ("label=cat", 120, 1 - 8 / 120),
        ("label=cat,colour=red", 40, 1.0),
    ],
)
def test_accuracy_by_hand(evidence, group, n, accuracy):
    found = score(evidence, "served", group, CONFIDENCE)
    assert (found.n, found.accuracy) == (n, pytest.approx(accuracy))
    assert found.low <= found.accuracy <= found.high


def test_bounds_count_sources_not_images(evidence):
    found = score(evidence, "served", "conflicting", CONFIDENCE)
    z2 = 1.6448536**2
    # Both conflicting images of a source are right or wrong together: 240 images are worth 120 (times 119/120, capped).
    centre, n = (0.9 + z2 / 240) / (1 + z2 / 120), 120
    half = np.sqrt(z2) / (1 + z2 / n) * np.sqrt(0.9 * 0.1 / n + z2 / (4 * n * n))
    assert found.low == pytest.approx(centre - half, abs=1e-6)
    assert found.high == pytest.approx(centre + half, abs=1e-6)


def test_empty_group_has_no_accuracy(evidence):
    found = score(evidence, "served", "colour=mauve", CONFIDENCE)
    assert (found.n, found.accuracy, found.low, found.high) == (0, None, None, None)


@pytest.mark.parametrize("kept", [5, 0])
def test_uneven_and_empty_cells_leave_the_unbiased_bounds_out(evidence, kept):
    split = evidence.split
    keep = np.ones(360, bool)
    keep[np.flatnonzero((split.labels == 0) & (split.bias[:, 0] == 1))[kept:]] = False
    part = type(split)(**{k: v[keep] for k, v in vars(split).items()})
    forms = {name: Outputs.of(o.logits[keep], part.labels) for name, o in evidence.forms.items()}
    found = score(Evidence(part, evidence.values, forms), "served", "unbiased", CONFIDENCE)
    assert found.accuracy is not None
    assert (found.low, found.high) == (None, None)


@pytest.mark.parametrize(("fewest", "bounded"), [(40, True), (32, True), (31, False)])  # of cells of 40
def test_cells_are_even_up_to_a_quarter_more_in_the_largest(evidence, fewest, bounded):
    split = evidence.split
    keep = np.ones(360, bool)
    keep[np.flatnonzero((split.labels == 0) & (split.bias[:, 0] == 1))[fewest:]] = False
    part = type(split)(**{k: v[keep] for k, v in vars(split).items()})
    forms = {name: Outputs.of(o.logits[keep], part.labels) for name, o in evidence.forms.items()}
    found = score(Evidence(part, evidence.values, forms), "served", "unbiased", CONFIDENCE)
    assert (found.low is not None, found.high is not None) == (bounded, bounded)


def test_groups_are_every_label_and_what_the_gate_declares(evidence):
    declared = VerifyConfig(groups=("conflicting", "label=cat,colour=red")).groups
    assert group_names(evidence, declared) == [
        "unbiased",
        "aligned",
        "conflicting",
        "label=cat",
        "label=dog",
        "label=emu",
        "label=cat,colour=red",
    ]


def test_flips_in_both_directions(evidence):
    lost = flips(evidence, "dense", "served", "conflicting")
    won = flips(evidence, "served", "dense", "conflicting")
    assert (lost.n, lost.negative, lost.positive) == (240, 24, 0)
    assert (won.negative, won.positive) == (0, 24)
    assert flips(evidence, "dense", "served", "aligned").negative == 0


def test_nan_outputs_have_neither_accuracy_nor_flips(evidence):
    logits = np.full((360, 3), np.nan, np.float32)
    forms = {**evidence.forms, "served": Outputs.of(logits, evidence.split.labels)}
    broken = Evidence(evidence.split, evidence.values, forms)
    assert score(broken, "served", "label=cat", CONFIDENCE).accuracy is None
    assert flips(broken, "dense", "served", "aligned") is None

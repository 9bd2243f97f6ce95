"""Accuracies per group against sums done by hand on the small world."""

from __future__ import annotations

import numpy as np
import pytest

from bigstep.config import VerifyConfig
from bigstep.scores import Evidence, Outputs, flips, group_names, score
from serve.predictor import Predictor

CONFIDENCE = 0.95


@pytest.fixture
def evidence(world, model_weights):
    world.served = model_weights(1)
    images, _, exported = world.records()
    logits = {
        form.name: Predictor.open(exported.folder / form.file, exported.info.contract).predict_all(
            images.split("test").images
        )
        for form in exported.info.forms
    }
    return Evidence.of(images, logits)


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
    found = score(evidence, "compact.int8", group, CONFIDENCE)
    assert (found.n, found.accuracy) == (n, pytest.approx(accuracy))
    assert found.low <= found.accuracy <= found.high


def test_bounds_count_sources_not_images(evidence):
    found = score(evidence, "compact.int8", "conflicting", CONFIDENCE)
    z2 = 1.6448536**2
    # Both conflicting images of a source are right or wrong together: 240 images are worth 120 (times 119/120, capped).
    centre, n = (0.9 + z2 / 240) / (1 + z2 / 120), 120
    half = np.sqrt(z2) / (1 + z2 / n) * np.sqrt(0.9 * 0.1 / n + z2 / (4 * n * n))
    assert found.low == pytest.approx(centre - half, abs=1e-6)
    assert found.high == pytest.approx(centre + half, abs=1e-6)


def test_empty_group_has_no_accuracy(evidence):
    found = score(evidence, "compact.int8", "colour=mauve", CONFIDENCE)
    assert (found.n, found.accuracy, found.low, found.high) == (0, None, None, None)


def test_uneven_cells_leave_the_unbiased_bounds_out(evidence):
    split = evidence.split
    keep = np.ones(360, bool)
    keep[np.flatnonzero((split.labels == 0) & (split.bias[:, 0] == 1))[5:]] = False
    part = type(split)(**{k: v[keep] for k, v in vars(split).items()})
    forms = {name: Outputs.of(o.logits[keep], part.labels) for name, o in evidence.forms.items()}
    found = score(Evidence(part, evidence.values, forms), "compact.int8", "unbiased", CONFIDENCE)
    assert found.accuracy is not None
    assert (found.low, found.high) == (None, None)


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
    lost = flips(evidence, "dense.fp32", "compact.int8", "conflicting")
    won = flips(evidence, "compact.int8", "dense.fp32", "conflicting")
    assert (lost.n, lost.negative, lost.positive) == (240, 24, 0)
    assert (won.negative, won.positive) == (0, 24)
    assert flips(evidence, "dense.fp32", "compact.int8", "aligned").negative == 0


def test_nan_outputs_have_neither_accuracy_nor_flips(evidence):
    logits = np.full((360, 3), np.nan, np.float32)
    forms = {**evidence.forms, "compact.int8": Outputs.of(logits, evidence.split.labels)}
    broken = Evidence(evidence.split, evidence.values, forms)
    assert score(broken, "compact.int8", "label=cat", CONFIDENCE).accuracy is None
    assert flips(broken, "dense.fp32", "compact.int8", "aligned") is None

"""What a network makes of some images: which images, and what follows from the answers."""

import numpy as np
import pytest
import torch

from train.measure.readout import answers, features, fixed, fixed_rows, head, whole
from train.networks.build import build, normalise


def test_a_sample_is_fixed_and_never_larger_than_a_thousand():
    rows_N = fixed_rows(5000)
    assert len(rows_N) == 1000 == len(set(rows_N.tolist())) and rows_N.max() > 4900
    assert np.array_equal(rows_N, fixed_rows(5000)) and fixed_rows(30).tolist() == list(range(30))


def test_a_small_split_is_its_own_sample(rows, mlp):
    for found in (whole(rows, "validation", mlp, "cpu"), fixed(rows, "validation", mlp, "cpu")):
        assert torch.equal(found.x[:], normalise(rows.split("validation").images, mlp))
        assert found.y.tolist() == found.split.labels.tolist() == rows.split("validation").labels.tolist()
        assert len(found.tables) == 1 and found.tables[0].shape == (3, 3)


def test_the_head_of_a_sample_has_the_first_images(rows, mlp):
    found, few = whole(rows, "train", mlp, "cpu"), head(whole(rows, "train", mlp, "cpu"), 7)
    assert torch.equal(few.x[:], found.x[:7]) and few.y.tolist() == found.y[:7].tolist()
    assert few.split.aligned.tolist() == found.split.aligned[:7].tolist() and len(few.split.sources) == 7


def test_answers_are_those_of_the_network(rows, mlp):
    model, sample = build(mlp, seed=3), whole(rows, "validation", mlp, "cpu")
    found = answers(model, sample)
    assert found.hidden is None and torch.allclose(found.logits, model(sample.x[:]), atol=1e-6)
    predicted = model(sample.x[:]).argmax(dim=1).numpy()
    assert found.correct.tolist() == (predicted == sample.split.labels).tolist()
    assert found.accuracies().unbiased == pytest.approx(found.correct.mean(), abs=0.1)
    again = features(model, sample)
    assert torch.allclose(again.logits, found.logits, atol=1e-6) and again.features.shape == (48, 5)


def test_without_an_attribute_nobody_follows_a_bias(rows, mlp):
    sample = whole(rows, "validation", mlp, "cpu")
    assert 0 <= answers(build(mlp), sample).bias_following() <= 1
    plain = type(sample)(sample.x, sample.y, sample.split, [])
    assert answers(build(mlp), plain).bias_following() is None

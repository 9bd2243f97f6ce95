"""Every number of one network: parts fail on their own, and what training has measured is taken."""

import numpy as np
import pytest
import torch

from bigstep.errors import TrainError
from bigstep.records.trained import Recipe
from train.measure import prunability, surface
from train.measure.readout import answers
from train.networks.build import load_weights
from train.rate_map import numbers

RECIPE = Recipe(optimizer="sgd", rate=0.2, momentum=0.5)


def test_a_number_that_cannot_be_measured_is_missing_with_a_reason(place, weights, monkeypatch):
    def no_second_derivative(*_arguments, **_more):
        raise TrainError("the Hessian of this network cannot be computed", got="derivative for x")

    monkeypatch.setattr(surface.Surface, "hessian", no_second_derivative)
    measured = numbers.measure_network(place, numbers.Network("n", RECIPE, weights))
    assert measured.missing["sharpness"] == "the Hessian of this network cannot be computed: derivative for x"
    assert measured.missing.keys() == {"sharpness", "scale-free sharpness"} and "sharpness" not in measured.numbers
    assert measured.numbers["unbiased"] is not None and measured.numbers["l2"] > 0


def test_a_part_that_breaks_spoils_no_other(place, weights, monkeypatch):
    def broken(*_arguments):
        raise RuntimeError("out of memory\nfor this")

    monkeypatch.setattr(numbers, "measure", broken)
    measured = numbers.measure_network(place, numbers.Network("n", RECIPE, weights))
    assert measured.missing == {"activations, weights and errors": "RuntimeError: out of memory"}
    assert measured.numbers["sharpness"] > 0 and "l2" not in measured.numbers


def test_what_training_has_measured_is_not_measured_again(place, weights, monkeypatch):
    measured = numbers.measure_network(place, numbers.Network("n", RECIPE, weights)).numbers
    monkeypatch.setattr(prunability, "curve", lambda *_: pytest.fail("pruned again"))
    known = numbers.Network("n", RECIPE, weights, {"prunability": measured["prunability"]})
    assert numbers.measure_network(place, known).numbers == measured


def test_the_worst_group_is_the_worst_cell_that_is_not_tiny(place, weights, monkeypatch):
    model, sample = load_weights(place.architecture, weights), place.sample("validation")
    split, right_N = sample.split, answers(model, sample).correct
    cells = {
        (label, bias): right_N[(split.labels == label) & (split.bias[:, 0] == bias)]
        for label in np.unique(split.labels)
        for bias in np.unique(split.bias[:, 0])
    }
    smallest = min(len(cell) for cell in cells.values() if len(cell))
    monkeypatch.setattr(numbers, "SMALLEST_CELL", smallest)
    found = numbers.group_accuracies(model, place)
    assert found["worst_group"] == pytest.approx(min(cell.mean() for cell in cells.values() if len(cell)))
    monkeypatch.setattr(numbers, "SMALLEST_CELL", 1 + max(len(cell) for cell in cells.values()))
    assert numbers.group_accuracies(model, place) == {**found, "worst_group": None}


def test_curvature_is_measured_on_the_first_training_images(place, monkeypatch):
    monkeypatch.setattr(numbers, "CURVATURE_IMAGES", 7)
    x_NCHW, y_N = numbers.curvature_images(place)
    whole, labels_N = place.tensors("train")
    assert torch.equal(x_NCHW, whole[:7]) and y_N.tolist() == labels_N[:7].tolist()

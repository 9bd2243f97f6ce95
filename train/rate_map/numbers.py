"""Every number of the learning-rate map that one network gives, each part on its own: one that fails spoils no other.

Shapes: N images, K classes.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor, nn

from bigstep.errors import BigstepError
from bigstep.records.images import Images
from bigstep.records.numbers import Numbers, finite
from bigstep.records.sealed import Value
from bigstep.records.trained import Recipe
from train.measure import prunability, sharpness
from train.measure.measurements import measure
from train.measure.readout import ReadOut, answers
from train.networks.build import load_weights, place
from train.networks.feed import Inputs
from train.networks.predict import mean_loss
from train.setup import Setup

log = logging.getLogger("bigstep.lr-map")
CURVATURE_IMAGES = 5000  # training images on which the Hessian is measured, as in Cohen et al. 2021
SMALLEST_CELL = 10  # images of a label x bias cell; the accuracy of fewer is noise


@dataclass(frozen=True)
class Network:
    """Weights to measure, the recipe whose steps they took, and what is known."""

    name: str
    recipe: Recipe
    weights: Path
    known: Numbers = field(default_factory=dict)


class Measured(Value):
    """The numbers of one network, and why a part of them is missing."""

    name: str
    numbers: Numbers
    missing: dict[str, str]


def measure_network(setup: Setup, network: Network) -> Measured:
    """Measure one network; accuracies come from the split for reports."""
    model = place(load_weights(setup.architecture, network.weights), setup.device)
    parts: Mapping[str, Callable[[], Numbers]] = {
        "accuracies": lambda: group_accuracies(model, setup),
        "prunability": lambda: _prunability(model, setup, network.known),
        "activations, weights and errors": lambda: measure(model, setup.images, setup.architecture, setup.device),
        "sharpness": lambda: _sharpness(model, setup, network.recipe),
        "scale-free sharpness": lambda: _scale_free(model, setup),
    }
    numbers: Numbers = {}
    missing: dict[str, str] = {}
    for part, measure_part in parts.items():
        try:
            numbers |= measure_part()
        except BigstepError as error:
            missing[part] = f"{error.what}: {error.got}" if error.got else error.what
        except (RuntimeError, ValueError, ArithmeticError) as error:  # a map is not lost to one number
            log.warning("%s cannot be measured: %s", part, error)
            missing[part] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return Measured(name=network.name, numbers=finite(numbers), missing=missing)


def report_split(images: Images) -> Literal["test", "validation"]:
    """Return the split that accuracies are reported on: `test`, or `validation` where there is none."""
    return "test" if images.info.counts.get("test") else "validation"


def curvature_images(setup: Setup) -> tuple[Inputs, Tensor]:
    """Return the first training images, which lie in random order, with their labels."""
    x_NCHW, y_N = setup.tensors("train")
    return x_NCHW[:CURVATURE_IMAGES], y_N[:CURVATURE_IMAGES]


def group_accuracies(model: nn.Module, setup: Setup) -> Numbers:
    """Return unbiased, aligned, conflicting and worst-group accuracy on the split for reports.

    The worst group is the label x bias cell of at least SMALLEST_CELL images with the lowest accuracy.
    """
    found = answers(model, setup.sample(report_split(setup.images)))
    return finite({**vars(found.accuracies()), "worst_group": min(_cells(found), default=None)})


def _cells(found: ReadOut) -> list[float]:
    split = found.sample.split
    _, index_N = np.unique(np.column_stack([split.labels, split.bias]), axis=0, return_inverse=True)
    sizes, right = np.bincount(index_N.ravel()), np.bincount(index_N.ravel(), weights=found.correct)
    return [float(r / n) for r, n in zip(right, sizes, strict=True) if n >= SMALLEST_CELL]


def _prunability(model: nn.Module, setup: Setup, known: Numbers) -> Numbers:
    """Take what training measured, if it has."""
    if "prunability" in known:
        return {"prunability": known["prunability"]}
    sample = setup.sample("validation")
    curve = prunability.curve(model, lambda pruned: answers(pruned, sample).accuracies().unbiased)
    return {"prunability": prunability.area(curve)}


def _sharpness(model: nn.Module, setup: Setup, recipe: Recipe) -> Numbers:
    x_NCHW, y_N = curvature_images(setup)
    found = sharpness.sharpness(model, x_NCHW, y_N)
    return {
        "sharpness": found.abs_max,
        "sharpness_residual": found.residual,
        "sharpness_eta_half": found.abs_max * sharpness.plain_rate(recipe) / 2,
        "train_loss": mean_loss(model, *setup.tensors("train")),
    }


def _scale_free(model: nn.Module, setup: Setup) -> Numbers:
    found = sharpness.scale_free(model, *curvature_images(setup))
    return {"scale_free_sharpness": found.abs_max, "scale_free_residual": found.residual}

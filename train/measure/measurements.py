"""Everything that is measured on a trained network beside its accuracy, on a fixed sample of images.

Shapes: N images, C channels, H height, W width, D hidden units, K classes, A bias attributes.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bigstep.groups import accuracies
from bigstep.records.architecture import Architecture
from bigstep.records.images import SPLIT_FIELDS, Images, Split, SplitName
from bigstep.records.sealed import Value
from train.measure import attribution, label_free, loss_share, prunability, sparsity
from train.measure.activations import outputs
from train.measure.bands import band_accuracies
from train.measure.norms import layer_norms, parameter_norms
from train.measure.separation import separation
from train.networks.feed import Inputs, inputs

SAMPLE = 1000
SEED = 0  # of the sample, the same for every network


class Measurements(Value):
    """Hold what `measure` found; shares and accuracies are fractions, losses are in nats.

    None: there is no bias attribute or no mask for it, nothing to average (no errors, a loss of zero), or the number
    is not finite. Names that start with `biased_` need no bias label and come from `validation_biased`.
    """

    validation_images: int  # in the samples
    biased_images: int
    # sparsity and separation of the activations before the head, on `validation`
    hidden_units: int
    dead_units: int
    activation_sparsity: float | None
    pq_index: float | None
    separation: float | None
    bias_separation: float | None  # mean over the attributes
    # the weights
    l1: float | None
    l2: float | None
    weights_l1: float | None
    weights_l2: float | None
    layer_l2: dict[str, float | None]  # Frobenius, by parameter name
    compressibility_keep_5: float | None  # with the largest 5, 10 and 20 % of the weights kept
    compressibility_keep_10: float | None
    compressibility_keep_20: float | None
    # removable by magnitude with at most 0.01 or 0.05 of unbiased accuracy lost, on `validation`
    removable_within_1: float | None
    removable_within_5: float | None
    # logits and errors on `validation`
    logit_norm: float | None
    error_confidence: float | None
    conflicting_error_confidence: float | None
    bias_following: float | None
    # whose loss it is, on `validation_biased`; the first is what the second would be if all losses were equal
    conflicting_share: float | None
    conflicting_loss_share: float | None
    conflicting_loss_ratio: float | None
    # accuracy on single bands of spatial frequencies of `validation`
    accuracy_zero_band: float | None
    accuracy_low_band: float | None
    accuracy_middle_band: float | None
    accuracy_high_band: float | None
    # where the answer comes from, on `test`
    core_share: float | None
    spurious_share: float | None
    attribution_method: attribution.Method | None
    # signals without a bias label
    biased_loss_gini: float | None
    biased_loss_concentration: float | None
    biased_hard_error_confidence: float | None
    biased_separation: float | None
    biased_activation_sparsity: float | None
    biased_prunability: float | None


@dataclass(frozen=True)
class _Sample:
    """Hold the sample of one split, and the network's logits (N, K) and activations before the head (N, D) on it."""

    split: Split
    inputs: Inputs
    logits: NDArray[np.float32]
    hidden: Tensor

    def correct(self, model: nn.Module) -> NDArray[np.bool_]:
        """Say which images of the sample another network gets right."""
        predicted_N = outputs(model, self.inputs)[0].argmax(dim=1).cpu().numpy()
        correct_N: NDArray[np.bool_] = np.equal(predicted_N, self.split.labels)
        return correct_N


def measure(model: nn.Module, images: Images, architecture: Architecture, device: str) -> Measurements:
    """Measure a trained network on at most 1,000 images of each split, the same ones for every network.

    Everything but the shares of the attribution comes from `validation` or `validation_biased`. Masks of core and
    spurious pixels exist for `test` only, so `core_share` and `spurious_share` are for reports: nothing may be chosen
    by them, nor by anything else that has seen the test images.

    Args:
        model: a network of `architecture` with finite weights, on any device. It is left as it was.
        images: the data set.
        architecture: for its normalisation.
        device: where to compute.

    Returns:
        Equal numbers for equal weights and images on one and the same CPU; on a GPU but for the order of sums.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # outputs of huge weights overflow; what they spoil is None
        numbers = _numbers(copy.deepcopy(model).to(device).eval(), images, architecture, device)
    return Measurements(**{name: _finite(value) for name, value in numbers.items()})


def _numbers(model: nn.Module, images: Images, architecture: Architecture, device: str) -> dict[str, Any]:
    validation = _sample(model, images, "validation", architecture, device)
    biased = _sample(model, images, "validation_biased", architecture, device)
    bands = band_accuracies(model, validation.split.images, validation.split.labels, architecture)
    return {
        "validation_images": len(validation.inputs),
        "biased_images": len(biased.inputs),
        **_hidden(validation),
        **_weights(model),
        **_pruned(model, validation, biased),
        **_errors(validation, images),
        **_losses(biased),
        **dict(zip((f"accuracy_{band}_band" for band in ("zero", "low", "middle", "high")), bands, strict=True)),
        **_attributions(model, images, architecture, device),
        **_label_free(biased),
    }


def _sample(model: nn.Module, images: Images, name: SplitName, architecture: Architecture, device: str) -> _Sample:
    split = images.split(name)
    rows = _rows(len(split.labels))
    split = replace(
        split,
        **{field: np.array(getattr(split, field)[rows]) for field in SPLIT_FIELDS},
        aligned=None if split.aligned is None else split.aligned[rows],
    )
    x_NCHW = inputs(split.images, architecture, device)
    logits_NK, z_ND = outputs(model, x_NCHW)
    return _Sample(split, x_NCHW, logits_NK.cpu().numpy(), z_ND)


def _rows(count: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(SEED).permutation(count)[:SAMPLE])


def _hidden(sample: _Sample) -> dict[str, Any]:
    z_ND = sample.hidden
    bias = [separation(z_ND, _on(z_ND, values_N)) for values_N in sample.split.bias.T]
    return {
        "hidden_units": z_ND.shape[1],
        "dead_units": sparsity.dead_units(z_ND),
        "activation_sparsity": sparsity.activation_sparsity(z_ND),
        "pq_index": sparsity.pq_index(z_ND),
        "separation": separation(z_ND, _on(z_ND, sample.split.labels)),
        "bias_separation": float(np.mean(bias)) if bias else None,
    }


def _weights(model: nn.Module) -> dict[str, Any]:
    norms = parameter_norms(model)
    kept = {f"compressibility_keep_{k}": sparsity.network_compressibility(model, k / 100) for k in (5, 10, 20)}
    layers = {"layer_l2": {name: _finite(norm) for name, norm in layer_norms(model).items()}}
    return {name: getattr(norms, name) for name in ("l1", "l2", "weights_l1", "weights_l2")} | kept | layers


def _pruned(model: nn.Module, validation: _Sample, biased: _Sample) -> dict[str, Any]:
    split = validation.split
    points, biased_points = [], []
    for fraction, pruned in prunability.pruned_copies(model):  # not `curve`: each copy serves both splits
        scores = accuracies(validation.correct(pruned), split.labels, split.bias, split.aligned)
        points.append((fraction, scores.unbiased))
        biased_points.append((fraction, float(biased.correct(pruned).mean())))
    return {
        "removable_within_1": prunability.largest_fraction(points, 0.01),
        "removable_within_5": prunability.largest_fraction(points, 0.05),
        "biased_prunability": prunability.area(biased_points),
    }


def _errors(sample: _Sample, images: Images) -> dict[str, Any]:
    logits_NK, split = sample.logits, sample.split
    found: dict[str, Any] = {
        "logit_norm": loss_share.logit_norm(logits_NK),
        "error_confidence": loss_share.error_confidence(logits_NK, split.labels),
        "conflicting_error_confidence": None,
        "bias_following": None,
    }
    if split.aligned is not None:
        tables = [np.array(images.info.aligned[a], dtype=np.bool_) for a in images.info.attributes]
        found["conflicting_error_confidence"] = loss_share.error_confidence(logits_NK, split.labels, ~split.aligned)
        found["bias_following"] = loss_share.bias_following(logits_NK.argmax(axis=1), split.labels, split.bias, tables)
    return found


def _losses(biased: _Sample) -> dict[str, Any]:
    if biased.split.aligned is None:
        return dict.fromkeys(("conflicting_share", "conflicting_loss_share", "conflicting_loss_ratio"))
    conflicting_N = ~biased.split.aligned
    losses_N = loss_share.sample_losses(biased.logits, biased.split.labels)
    return {
        "conflicting_share": float(conflicting_N.mean()),
        "conflicting_loss_share": loss_share.conflicting_loss_share(losses_N, conflicting_N),
        "conflicting_loss_ratio": loss_share.conflicting_loss_ratio(losses_N, conflicting_N),
    }


def _attributions(model: nn.Module, images: Images, architecture: Architecture, device: str) -> dict[str, Any]:
    masks = {n: images.folder / f"test.{n}.npy" for n in ("core", "spurious")}
    given = {n: images.array(path.name) for n, path in masks.items() if path.is_file()}
    if not given:
        return dict.fromkeys(("core_share", "spurious_share", "attribution_method"))
    test = images.split("test")
    rows = _rows(len(test.labels))
    marked = {n: torch.from_numpy(np.array(mask_NHW[rows])) for n, mask_NHW in given.items()}
    core_NHW = marked["core"] if "core" in marked else ~marked["spurious"]  # one mask given: the other is the rest
    spurious_NHW = marked["spurious"] if "spurious" in marked else ~marked["core"]
    x_NCHW = inputs(test.images[rows], architecture, device)
    labels_N = torch.from_numpy(np.array(test.labels[rows])).to(device)
    found = attribution.core_share(model, x_NCHW, labels_N, core_NHW, spurious_NHW)
    return {"core_share": found.core, "spurious_share": found.spurious, "attribution_method": found.method}


def _label_free(biased: _Sample) -> dict[str, Any]:
    labels_N = biased.split.labels
    losses_N = loss_share.sample_losses(biased.logits, labels_N)
    hard_N = label_free.hardest(losses_N)
    return {
        "biased_loss_gini": label_free.loss_gini(losses_N),
        "biased_loss_concentration": label_free.loss_concentration(losses_N),
        "biased_hard_error_confidence": loss_share.error_confidence(biased.logits, labels_N, hard_N),
        "biased_separation": separation(biased.hidden, _on(biased.hidden, labels_N)),
        "biased_activation_sparsity": sparsity.activation_sparsity(biased.hidden),
    }


def _on(z_ND: Tensor, values_N: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.array(values_N)).to(z_ND.device)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""Everything that is measured on a trained network beside its accuracy, on a fixed sample of images.

Shapes: N images, C channels, H height, W width, D hidden units, K classes.
"""

import copy

import numpy as np
import torch
from torch import nn

from bigstep.records.architecture import Architecture
from bigstep.records.images import Images
from bigstep.records.numbers import Numbers, finite
from train.measure import attribution, label_free, loss_share, prunability, sparsity
from train.measure.bands import band_accuracies
from train.measure.norms import layer_norms, parameter_norms
from train.measure.prunability import FRACTIONS
from train.measure.readout import ReadOut, features, fixed, fixed_rows
from train.measure.separation import separation
from train.networks.feed import inputs


def measure(model: nn.Module, images: Images, architecture: Architecture, device: str) -> Numbers:
    """Measure a trained network on a fixed sample of each split, the same one for every network.

    Everything but the shares of the attribution comes from `validation` or, if a name begins with `biased_`, from
    `validation_biased`, without any bias label. Masks of core and spurious pixels exist for `test` only, so
    `core_share` and `spurious_share` are for reports: nothing may be chosen by them, nor by anything else that has
    seen the test images. The norm of each weight matrix is called `layer_l2.<parameter>`.

    Args:
        model: a network of `architecture` with finite weights, on any device. It is left as it was.
        images: the data set.
        architecture: for its normalisation.
        device: where to compute.

    Returns:
        Equal numbers for equal weights and images on one and the same CPU; on a GPU but for the order of sums. None:
        there is no bias attribute or no mask for it, nothing to average, or the number is not finite.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # outputs of huge weights overflow; what they spoil is None
        return finite(_numbers(copy.deepcopy(model).to(device).eval(), images, architecture, device))


def _numbers(model: nn.Module, images: Images, architecture: Architecture, device: str) -> Numbers:
    validation = features(model, fixed(images, "validation", architecture, device))
    biased = features(model, fixed(images, "validation_biased", architecture, device))
    split = validation.sample.split
    bands = band_accuracies(model, split.images, split.labels, architecture)
    return {
        "validation_images": len(split.labels),
        "biased_images": len(biased.sample.split.labels),
        **_hidden(validation),
        **_weights(model),
        **_pruned(model, validation, biased),
        **_errors(validation),
        **_losses(biased),
        **dict(zip((f"accuracy_{band}_band" for band in ("zero", "low", "middle", "high")), bands, strict=True)),
        **_attributions(model, images, architecture, device),
        **_label_free(biased),
    }


def _hidden(found: ReadOut) -> Numbers:
    z_ND, sample = found.features, found.sample
    bias = [separation(z_ND, sample.on_device(values_N)) for values_N in sample.split.bias.T]
    return {
        "hidden_units": z_ND.shape[1],
        "dead_units": sparsity.dead_units(z_ND),
        "activation_sparsity": sparsity.activation_sparsity(z_ND),
        "pq_index": sparsity.pq_index(z_ND),
        "separation": separation(z_ND, sample.y),
        "bias_separation": float(np.mean(bias)) if bias else None,
    }


def _weights(model: nn.Module) -> Numbers:
    """Measure the weights; `compressibility_keep_5` keeps the largest 5 % of them."""
    kept = {f"compressibility_keep_{k}": sparsity.network_compressibility(model, k / 100) for k in (5, 10, 20)}
    layers = {f"layer_l2.{name}": norm for name, norm in layer_norms(model).items()}
    return {**parameter_norms(model), **kept, **layers}


def _pruned(model: nn.Module, validation: ReadOut, biased: ReadOut) -> Numbers:
    """Measure what can be removed by magnitude; `removable_within_1` with at most 0.01 of accuracy lost."""
    points, biased_points = [(0.0, validation.accuracies().unbiased)], [(0.0, float(biased.correct.mean()))]
    for fraction, pruned in prunability.pruned_copies(model, FRACTIONS[1:]):  # not `curve`: each serves both splits
        points.append((fraction, features(pruned, validation.sample).accuracies().unbiased))
        biased_points.append((fraction, float(features(pruned, biased.sample).correct.mean())))
    return {
        "removable_within_1": prunability.largest_fraction(points, 0.01),
        "removable_within_5": prunability.largest_fraction(points, 0.05),
        "biased_prunability": prunability.area(biased_points),
    }


def _errors(found: ReadOut) -> Numbers:
    return {
        "logit_norm": loss_share.logit_norm(found.logits_array),
        "error_confidence": loss_share.error_confidence(found.logits_array, found.sample.split.labels),
        "conflicting_error_confidence": found.conflicting_error_confidence(),
        "bias_following": found.bias_following(),
    }


def _losses(biased: ReadOut) -> Numbers:
    """Say whose loss it is; `conflicting_share` is what the share of the loss would be if all losses were equal."""
    conflicting_N = biased.conflicting
    if conflicting_N is None:
        return dict.fromkeys(("conflicting_share", "conflicting_loss_share", "conflicting_loss_ratio"))
    return {
        "conflicting_share": float(conflicting_N.mean()),
        "conflicting_loss_share": biased.conflicting_loss_share(),
        "conflicting_loss_ratio": loss_share.conflicting_loss_ratio(biased.losses, conflicting_N),
    }


def _attributions(model: nn.Module, images: Images, architecture: Architecture, device: str) -> Numbers:
    core_NHW, spurious_NHW = images.mask("core"), images.mask("spurious")
    if core_NHW is None and spurious_NHW is None:
        return {"core_share": None, "spurious_share": None}
    test = images.split("test")
    rows = fixed_rows(len(test.labels))
    given = [torch.from_numpy(np.array(mask[rows])) for mask in (core_NHW, spurious_NHW) if mask is not None]
    core_nHW = given[0] if core_NHW is not None else ~given[-1]  # one mask given: the other is the rest
    spurious_nHW = given[-1] if spurious_NHW is not None else ~given[0]
    x_NCHW = inputs(test.images[rows], architecture, device)
    labels_N = torch.from_numpy(np.array(test.labels[rows])).to(device)
    found = attribution.core_share(model, x_NCHW, labels_N, core_nHW, spurious_nHW)
    return {"core_share": found.core, "spurious_share": found.spurious}


def _label_free(biased: ReadOut) -> Numbers:
    labels_N, hard_N = biased.sample.split.labels, label_free.hardest(biased.losses)
    return {
        "biased_loss_gini": label_free.loss_gini(biased.losses),
        "biased_loss_concentration": label_free.loss_concentration(biased.losses),
        "biased_hard_error_confidence": loss_share.error_confidence(biased.logits_array, labels_N, hard_N),
        "biased_separation": separation(biased.features, biased.sample.y),
        "biased_activation_sparsity": sparsity.activation_sparsity(biased.features),
    }

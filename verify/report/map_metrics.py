"""What is drawn on a learning-rate map: every metric with its name for people and how it is defined, and the panels."""

from dataclasses import dataclass
from typing import Literal

from verify.report.wording import NONE

Form = Literal["fraction", "count", "number"]


@dataclass(frozen=True)
class Metric:
    """One number of a trial: its names, how to print it, and its definition in a line with the source."""

    name: str
    title: str
    form: Form
    means: str


@dataclass(frozen=True)
class Panel:
    """What shares one of the opening panels, and what its sentence speaks of beside.

    `relative` metrics are drawn as multiples of their mean at the smallest rate. What lies far from the rest of a panel
    would flatten it, so it is told here and drawn behind.
    """

    name: str
    title: str
    metrics: tuple[str, ...]
    log: bool = False
    relative: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


ADVCOMP = "as in github.com/mbarsbey/advcomp"
HESSIAN = "largest magnitude of a Hessian eigenvalue of the training loss, on at most 5,000 images, by Lanczos"

METRICS = (
    Metric("conflicting", "conflicting accuracy", "fraction", "accuracy on images whose bias suggests another label"),
    Metric(
        "unbiased", "unbiased accuracy", "fraction", "mean accuracy over label x bias cells; Nam et al. 2020, section 4"
    ),
    Metric("aligned", "aligned accuracy", "fraction", "accuracy on images whose bias suggests their label"),
    Metric(
        "worst_group", "worst-group accuracy", "fraction", "lowest accuracy of a label x bias cell of 10 images or more"
    ),
    Metric(
        "prunability",
        "prunability (area)",
        "fraction",
        "area under unbiased accuracy over the share of weights removed by magnitude, over the accuracy before",
    ),
    Metric(
        "removable_within_1",
        "removable within 1 point",
        "fraction",
        "largest share of weights that can be removed with every unbiased accuracy until then at most 0.01 lower",
    ),
    Metric("removable_within_5", "removable within 5 points", "fraction", "the same with 0.05"),
    Metric("steps_to_fit", "steps to fit", "count", "steps until the training loss is at most train.stop_loss"),
    Metric(
        "activation_sparsity",
        "activation sparsity",
        "fraction",
        f"share of zeros among the activations before the head; {ADVCOMP}",
    ),
    Metric(
        "pq_index",
        "PQ-index of the activations",
        "fraction",
        "1 - d^(1/q - 1/p) |z|_p / |z|_q, mean over images; Diao et al. 2023, arXiv:2302.05601",
    ),
    Metric(
        "separation",
        "class separation",
        "fraction",
        "R2 = 1 - cosine distance within classes / over all pairs of classes; Kornblith et al. 2021, arXiv:2010.16402",
    ),
    Metric(
        "bias_separation", "bias separation", "fraction", "the same with the value of the bias in place of the class"
    ),
    Metric("dead_units", "dead units", "count", "units before the head that are 0 on every image of the sample"),
    Metric(
        "compressibility_keep_5", "compressibility, 5 % kept", "fraction", "1 - |rest|_2 / |w|_2, the largest 5 % kept"
    ),
    Metric(
        "compressibility_keep_10",
        "compressibility, 10 % kept",
        "fraction",
        "1 - |rest|_2 / |w|_2, the largest 10 % kept",
    ),
    Metric(
        "compressibility_keep_20",
        "compressibility, 20 % kept",
        "fraction",
        "1 - |rest|_2 / |w|_2, the largest 20 % kept",
    ),
    Metric("core_share", "core-feature share", "fraction", "share of the attribution on core pixels, captum, on test"),
    Metric("spurious_share", "spurious-feature share", "fraction", "the same on spurious pixels"),
    Metric(
        "accuracy_zero_band",
        "accuracy on the zero band",
        "fraction",
        "accuracy on the mean colour alone; Sadrtdinov et al. 2024, arXiv:2410.22113 (bands of |kx| + |ky|)",
    ),
    Metric(
        "accuracy_low_band",
        "accuracy on the low band",
        "fraction",
        "the same on frequencies up to 0.25 cycles per pixel",
    ),
    Metric("accuracy_middle_band", "accuracy on the middle band", "fraction", "the same from 0.25 to 0.75"),
    Metric("accuracy_high_band", "accuracy on the high band", "fraction", "the same from 0.75 to 1"),
    Metric(
        "conflicting_loss_share",
        "conflicting share of the loss",
        "fraction",
        f"loss of conflicting images over that of all, at the end, on validation_biased; {ADVCOMP}",
    ),
    Metric("error_confidence", "confidence of errors", "fraction", "mean largest softmax output of wrong predictions"),
    Metric(
        "conflicting_error_confidence", "confidence of conflicting errors", "fraction", "of conflicting images alone"
    ),
    Metric(
        "bias_following",
        "errors that follow the bias",
        "fraction",
        "of the errors on conflicting images, the share that the bias suggests",
    ),
    Metric("logit_norm", "logit norm", "number", "mean Euclidean norm of the logits, on validation"),
    Metric(
        "sharpness_eta_half", "S eta / 2", "number", "sharpness times rate / 2 (rate / (1 + momentum)): 1 at the edge"
    ),
    Metric("l2", "L2 norm", "number", "of all parameters"),
    Metric("l1", "L1 norm", "number", "of all parameters"),
    Metric("weights_l2", "L2 norm of the weights", "number", "without biases and normalisation"),
    Metric("weights_l1", "L1 norm of the weights", "number", "without biases and normalisation"),
    Metric("sharpness", "sharpness S", "number", f"{HESSIAN}; Cohen et al. 2021, arXiv:2103.00065, section 2"),
    Metric("sharpness_residual", "residual of S", "number", "|H v - S v| / S"),
    Metric(
        "scale_free_sharpness",
        "scale-free sharpness",
        "number",
        "of D H D with D = diag(|w|); Kwon et al. 2021, arXiv:2102.11600, section 3",
    ),
    Metric("scale_free_residual", "residual of the scale-free S", "number", "as above"),
    Metric("biased_prunability", "prunability, no bias labels", "fraction", "area, from accuracy on validation_biased"),
    Metric("biased_loss_gini", "Gini of the losses", "fraction", "of the losses on validation_biased"),
    Metric(
        "biased_loss_concentration",
        "loss concentration",
        "fraction",
        "1 - entropy of the shares of images in the loss / log N",
    ),
    Metric("biased_hard_error_confidence", "confidence of hard errors", "fraction", "of the images of highest loss"),
    Metric("biased_separation", "class separation, biased", "fraction", "R2 on validation_biased"),
    Metric("biased_activation_sparsity", "activation sparsity, biased", "fraction", "on validation_biased"),
    Metric("train_loss", "training loss", "number", "mean cross entropy on all training images, in nats"),
)
BY_NAME = {metric.name: metric for metric in METRICS}

PANELS = (
    Panel("groups", "accuracy", ("conflicting", "unbiased"), beside=("aligned", "worst_group")),
    Panel("pruning", "what can be removed", ("removable_within_1", "removable_within_5", "prunability")),
    Panel("speed", "steps to fit", ("steps_to_fit",), log=True),
    Panel("features", "activations", ("separation", "bias_separation", "activation_sparsity")),
    Panel("curvature", "curvature and norms", ("sharpness_eta_half", "l2", "l1"), log=True, relative=("l2", "l1")),
    Panel("losses", "loss on conflicting images", ()),
)
OPENING = {name for panel in PANELS for name in panel.metrics}


def write(value: float | None, form: Form) -> str:
    """Write a number of some form for people."""
    if value is None:
        return NONE
    if form == "fraction":
        return f"{value:.3f}"
    return f"{value:,.0f}" if form == "count" or abs(value) >= 1000 else f"{value:.3g}"

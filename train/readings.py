"""What is read off a network while it trains, on a fixed sample of at most 1,000 images of each split.

Shapes: N images, C channels, H height, W width, K classes, A bias attributes, D units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bigstep.errors import TrainError
from bigstep.records.architecture import Architecture
from bigstep.records.images import Images, SplitName
from train.measure.activations import outputs
from train.measure.loss_share import bias_following
from train.measure.norms import parameter_norms
from train.measure.sharpness import Lanczos, sharpness
from train.measure.sparsity import dead_units
from train.measure.surface import Surface
from train.networks.build import normalise
from train.networks.predict import mean_loss, predict

IMAGES = 1000
# Every measurement starts anew: a warm start would make the numbers depend on where a run was interrupted.
LANCZOS = Lanczos(ends="largest", tolerance=0.01, max_iterations=50)


@dataclass(frozen=True)
class Sample:
    """Hold normalised images (N, C, H, W) and labels (N,) on the device, and values of the bias (N, A)."""

    images: Tensor
    labels: Tensor
    bias: NDArray[np.int64]


class Reader:
    """Read numbers off a network in evaluation mode, and change nothing of it (final).

    Without `bias_labels` the split `validation` stays closed: it may be unbiased, and the rate is chosen without it.
    """

    def __init__(self, images: Images, architecture: Architecture, device: str, *, bias_labels: bool = True) -> None:
        self._tables = [np.array(images.info.aligned[a], dtype=np.bool_) for a in images.info.attributes]
        self.train = _sample(images, "train", architecture, device)
        self._biased = _sample(images, "validation_biased", architecture, device)
        self._validation = _sample(images, "validation", architecture, device) if bias_labels else None
        counts = np.bincount(images.split("train").labels, minlength=architecture.classes)
        shares = counts[counts > 0] / counts.sum()
        self.chance_loss = float(-(shares * np.log(shares)).sum())

    def read(self, model: nn.Module) -> dict[str, float | None]:
        """Return everything cheap that a `Measurement` holds: four forward passes and one backward pass."""
        surface = Surface(model, self.train.images, self.train.labels)
        loss, gradient_P = surface.gradient(surface.point())
        logits_NK, dead = self._heads(model)
        validation_loss, following = self._on_validation(model)
        norms = parameter_norms(model)
        return _finite(
            {
                "train_loss": loss,
                "biased_loss": mean_loss(model, self._biased.images, self._biased.labels),
                "validation_loss": validation_loss,
                "bias_following": following,
                "gradient": float(gradient_P.double().norm()),
                "l1": norms.l1,
                "l2": norms.l2,
                "spread": float(logits_NK.std(dim=0).max()),
                "dead": dead,
            }
        )

    def sharpness(self, model: nn.Module) -> dict[str, float | None]:
        """Return sharpness and residual on the training sample; None where there is no finite Hessian."""
        try:
            found = sharpness(model, self.train.images, self.train.labels, LANCZOS)
        except TrainError:
            return {"sharpness": None, "residual": None}
        return _finite({"sharpness": found.lambda_max, "residual": float(found.residual)})

    def _heads(self, model: nn.Module) -> tuple[Tensor, float]:
        """Return the logits on the training sample, and the share of dead units before the head, NaN without one."""
        try:
            logits_NK, hidden_ND = outputs(model, self.train.images)
        except TrainError:  # somebody's own network need not end in a linear layer
            return predict(model, self.train.images), math.nan
        return logits_NK, dead_units(hidden_ND) / hidden_ND.shape[1]

    def _on_validation(self, model: nn.Module) -> tuple[float, float]:
        """Return the loss and the share of errors that follow the bias; NaN where that is unknown."""
        sample = self._validation
        if sample is None:
            return math.nan, math.nan
        logits_NK = predict(model, sample.images)
        loss = float(cross_entropy(logits_NK, sample.labels))
        if not self._tables:
            return loss, math.nan
        predicted_N = logits_NK.argmax(dim=1).cpu().numpy()
        return loss, bias_following(predicted_N, sample.labels.cpu().numpy(), sample.bias, self._tables)


def _sample(images: Images, name: SplitName, architecture: Architecture, device: str) -> Sample:
    split = images.split(name)
    order = np.random.default_rng(0).permutation(len(split.labels))  # images may come sorted
    rows = np.sort(order[:IMAGES])
    x_NCHW = normalise(split.images[rows], architecture).to(device)
    y_N = torch.from_numpy(np.array(split.labels[rows])).to(device)
    return Sample(x_NCHW, y_N, split.bias[rows])


def _finite(numbers: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}

"""What is read off a network while it trains, on a fixed sample of each split.

Shapes: N images, K classes, D units.
"""

import numpy as np
import torch
from torch import nn

from bigstep.errors import TrainError
from bigstep.records.architecture import Architecture
from bigstep.records.images import Images
from bigstep.records.numbers import Numbers, finite
from train import step
from train.measure.norms import parameter_norms
from train.measure.readout import ReadOut, Sample, answers, features, fixed
from train.measure.sharpness import Lanczos, sharpness
from train.measure.sparsity import dead_units
from train.measure.surface import Surface

# Every measurement starts anew: a warm start would make the numbers depend on where a run was interrupted.
LANCZOS = Lanczos(ends="largest", tolerance=0.01, max_iterations=50)


class Reader:
    """What reads numbers off a network in evaluation mode, and changes nothing of it.

    Without `bias_labels` the split `validation` stays closed: it may be unbiased, and the rate is chosen without it.
    """

    def __init__(self, images: Images, architecture: Architecture, device: str, *, bias_labels: bool = True) -> None:
        self.train = fixed(images, "train", architecture, device)
        self._biased = fixed(images, "validation_biased", architecture, device)
        self._validation = fixed(images, "validation", architecture, device) if bias_labels else None
        self.chance_loss = step.chance_loss(torch.from_numpy(np.array(images.split("train").labels)))

    def read(self, model: nn.Module) -> Numbers:
        """Return everything cheap that a `Moment` holds: four forward passes and one backward pass."""
        surface = Surface(model, self.train.x, self.train.y)
        loss, gradient_P = surface.gradient(surface.point())
        found, norms = _with_features(model, self.train), parameter_norms(model)
        numbers: Numbers = {
            "train_loss": loss,
            "biased_loss": answers(model, self._biased).loss(),
            "validation_loss": None,
            "bias_following": None,
            "gradient": float(gradient_P.double().norm()),
            "l1": norms["l1"],
            "l2": norms["l2"],
            "spread": float(found.logits.std(dim=0).max()),
            "dead": None if found.hidden is None else dead_units(found.hidden) / found.hidden.shape[1],
        }
        if self._validation is not None:
            judged = answers(model, self._validation)
            numbers |= {"validation_loss": judged.loss(), "bias_following": judged.bias_following()}
        return finite(numbers)

    def sharpness(self, model: nn.Module) -> Numbers:
        """Return sharpness and residual on the training sample; None where there is no finite Hessian."""
        try:
            found = sharpness(model, self.train.x, self.train.y, LANCZOS)
        except TrainError:
            return {"sharpness": None, "residual": None}
        return finite({"sharpness": found.lambda_max, "residual": float(found.residual)})


def _with_features(model: nn.Module, sample: Sample) -> ReadOut:
    try:
        return features(model, sample)
    except TrainError:  # somebody's own network need not end in a linear layer
        return answers(model, sample)

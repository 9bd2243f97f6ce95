"""What a network makes of some images, read once: everything that is measured of its answers is a function of this.

Shapes: N images, C channels, H height, W width, K classes, D units before the head, A bias attributes, B their values.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bigstep.groups import Accuracies, accuracies
from bigstep.records.architecture import Architecture
from bigstep.records.images import SPLIT_FIELDS, Images, Split, SplitName
from train.measure import loss_share
from train.measure.activations import outputs
from train.networks.feed import Inputs, first, inputs
from train.networks.predict import predict

SAMPLE = 1000  # images of a fixed sample
SEED = 0  # of the sample, the same for every network


@dataclass(frozen=True)
class Sample:
    """Images of one split: normalised, with labels (N,), on the device; and what the split says of them.

    `tables` are the tables (K, B) of each attribute, true where training over-represents a value in a class.
    """

    x: Inputs
    y: Tensor
    split: Split
    tables: list[NDArray[np.bool_]]

    def on_device(self, values_N: NDArray[np.int64]) -> Tensor:
        """Return one number for each image, such as the value of a bias, beside the labels."""
        return torch.from_numpy(np.array(values_N)).to(self.y.device)


@dataclass(frozen=True)
class ReadOut:
    """The logits (N, K) of a network on a sample, and what feeds its head (N, D), if that was asked for."""

    sample: Sample
    logits: Tensor
    hidden: Tensor | None = None

    @cached_property
    def logits_array(self) -> NDArray[np.float32]:
        """Return the logits as an array."""
        logits_NK: NDArray[np.float32] = self.logits.cpu().numpy()
        return logits_NK

    @property
    def features(self) -> Tensor:
        """Return the activations before the head."""
        assert self.hidden is not None
        return self.hidden

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Say which images the network gets right."""
        correct_N: NDArray[np.bool_] = np.equal(self.logits.argmax(dim=1).cpu().numpy(), self.sample.split.labels)
        return correct_N

    @cached_property
    def losses(self) -> loss_share.Floats:
        """Return the cross entropy of each image in nats."""
        return loss_share.sample_losses(self.logits_array, self.sample.split.labels)

    @property
    def conflicting(self) -> NDArray[np.bool_] | None:
        """Say which images contradict the bias; None where no attribute is known."""
        aligned_N = self.sample.split.aligned
        return None if aligned_N is None else ~aligned_N

    def loss(self) -> float:
        """Return the mean cross entropy in nats."""
        return float(cross_entropy(self.logits, self.sample.y))

    def accuracy(self) -> float:
        """Return the share of images that the network gets right."""
        return float((self.logits.argmax(dim=1) == self.sample.y).float().mean())

    def conflicting_loss_share(self) -> float | None:
        """Return the share of the loss that conflicting images have; None where no attribute is known."""
        return None if self.conflicting is None else loss_share.conflicting_loss_share(self.losses, self.conflicting)

    def conflicting_error_confidence(self) -> float | None:
        """Return how surely the network errs on conflicting images; None where no attribute is known."""
        if self.conflicting is None:
            return None
        return loss_share.error_confidence(self.logits_array, self.sample.split.labels, self.conflicting)

    def bias_following(self) -> float | None:
        """Return the share of errors on conflicting images that follow the bias; None where no attribute is known."""
        split, tables = self.sample.split, self.sample.tables
        predicted_N = self.logits_array.argmax(axis=1)
        return loss_share.bias_following(predicted_N, split.labels, split.bias, tables) if tables else None

    def accuracies(self) -> Accuracies:
        """Return unbiased, aligned and conflicting accuracy."""
        split = self.sample.split
        return accuracies(self.correct, split.labels, split.bias, split.aligned)


def whole(images: Images, name: SplitName, architecture: Architecture, device: str) -> Sample:
    """Return a whole split."""
    return _sample(images, images.split(name), architecture, device)


def fixed(images: Images, name: SplitName, architecture: Architecture, device: str) -> Sample:
    """Return at most SAMPLE images of a split, in their order, the same ones for every network."""
    split = images.split(name)
    return _sample(images, _some(split, fixed_rows(len(split.labels))), architecture, device)


def fixed_rows(count: int) -> NDArray[np.int64]:
    """Return which of so many images are in the fixed sample; images may come sorted."""
    return np.sort(np.random.default_rng(SEED).permutation(count)[:SAMPLE])


def head(sample: Sample, count: int) -> Sample:
    """Return the first images of a sample without reading them."""
    return replace(sample, x=first(sample.x, count), y=sample.y[:count], split=_some(sample.split, slice(count)))


def answers(model: nn.Module, sample: Sample) -> ReadOut:
    """Read the logits of a network."""
    return ReadOut(sample, predict(model, sample.x))


def features(model: nn.Module, sample: Sample) -> ReadOut:
    """Read the logits of a network and the activations before its head.

    Raises:
        TrainError: the network has no linear layer.
    """
    return ReadOut(sample, *outputs(model, sample.x))


def _some(split: Split, rows: NDArray[np.int64] | slice) -> Split:
    arrays = {field: getattr(split, field)[rows] for field in SPLIT_FIELDS}
    return replace(split, **arrays, aligned=None if split.aligned is None else split.aligned[rows])


def _sample(images: Images, split: Split, architecture: Architecture, device: str) -> Sample:
    tables = [np.array(images.info.aligned[a], dtype=np.bool_) for a in images.info.attributes]
    y_N = torch.from_numpy(np.array(split.labels)).to(device)
    return Sample(inputs(split.images, architecture, device), y_N, split, tables)

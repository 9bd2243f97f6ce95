"""What the trials of a stage share, and what is asked of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bigstep.records.architecture import Architecture
from bigstep.records.images import Images, SplitName
from bigstep.records.trained import Recipe
from train.augment import Augmentation
from train.finish import Finish
from train.networks.feed import Inputs, inputs


@dataclass(frozen=True)
class Job:
    """Say which run to make; one that is not `final` may go on later, and is then measured for the first time."""

    name: str
    recipe: Recipe
    seed: int
    max_steps: int
    final: bool = True


@dataclass(frozen=True)
class Setup:
    """Hold what every trial of a stage shares: the images on one device, the network, the stopping rule.

    `out` is the folder of the unfinished record; two processes may share it, each working on trials of its own.
    Without `bias_labels` nothing but `train` and `validation_biased` is opened. `watch_steps` are the steps between
    measurements of sharpness in a watched run; 0 watches none. With `keeps_moments` each trial has a `moments.json`:
    whose loss it is, after epochs 1, 2, 4, 8, ...
    """

    images: Images
    architecture: Architecture
    batch_size: int
    stop_loss: float
    device: str
    out: Path
    augmentation: Augmentation = "none"
    bias_labels: bool = True
    pretrained: Path | None = None
    watch_steps: int = 0
    finish: Finish = field(default_factory=Finish)
    keeps_moments: bool = False
    held: dict[str, tuple[Inputs, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    def tensors(self, name: SplitName) -> tuple[Inputs, Tensor]:
        """Return normalised images and labels of one split on the device; they are held for the next trial."""
        if name not in self.held:
            split = self.images.split(name)
            y_N = torch.from_numpy(np.array(split.labels)).to(self.device)
            self.held[name] = inputs(split.images, self.architecture, self.device), y_N
        return self.held[name]

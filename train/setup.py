"""What the trials of a stage share, and what is asked of one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from bigstep.records.architecture import Architecture
from bigstep.records.images import Images, SplitName
from bigstep.records.trained import Augmentation, Recipe
from train.finish import Finish
from train.measure.readout import Sample, head, whole
from train.networks import pretrained
from train.networks.build import build, place
from train.networks.feed import Inputs

TRAINING_IMAGES = 2000  # on which a run is measured that is not to be judged on others


@dataclass(frozen=True)
class Job:
    """A run to make; one that is not `final` may go on later, and is then measured for the first time."""

    name: str
    recipe: Recipe
    seed: int
    max_steps: int
    final: bool = True


def jobs_of(recipes: Sequence[Recipe], seeds: Sequence[int], max_steps: int) -> list[Job]:
    """Return a job for every seed of every recipe, each a whole training."""
    return [Job(f"{recipe.name}-s{seed}", recipe, seed, max_steps) for recipe in recipes for seed in seeds]


@dataclass(frozen=True)
class Setup:
    """What every trial of a stage shares: the images on one device, the network, the stopping rule.

    `out` is the folder of the unfinished record; two processes may share it, each working on trials of its own.
    Without `bias_labels` nothing but `train` and `validation_biased` is opened. `observe_steps` are the steps between
    measurements of sharpness in an observed run; 0 observes none. With `keeps_moments` each trial has a `moments.json`:
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
    observe_steps: int = 0
    finish: Finish = field(default_factory=Finish)
    keeps_moments: bool = False
    held: dict[str, Sample] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, object]:
        """Leave the images behind: a worker process maps them itself."""
        return {**vars(self), "held": {}}

    def folder(self, trial: str) -> Path:
        """Return the folder of a finished trial."""
        return self.out / "trials" / trial

    def network(self, seed: int) -> nn.Module:
        """Return the network at which a run of a seed starts, on the device."""
        model = build(self.architecture, seed)
        if self.pretrained is not None:
            pretrained.start_from(model, self.pretrained)
        return place(model, self.device)

    def sample(self, name: SplitName) -> Sample:
        """Return a whole split, normalised, on the device; it is held for the next trial."""
        if name not in self.held:
            self.held[name] = whole(self.images, name, self.architecture, self.device)
        return self.held[name]

    def first_training_images(self) -> Sample:
        """Return some training images, which lie in random order, for what is measured of all runs."""
        return head(self.sample("train"), TRAINING_IMAGES)

    def tensors(self, name: SplitName) -> tuple[Inputs, Tensor]:
        """Return normalised images and labels of one split on the device."""
        sample = self.sample(name)
        return sample.x, sample.y

"""What training makes: trials over learning rates, the map drawn from them, and the networks that were kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from bigstep.records import Architecture
from bigstep.sealed import Record, Value

Status = Literal["fitted", "unfitted", "diverged", "collapsed"]


class Recipe(Value):
    """Name an optimiser and its settings: SGD, or Adam with its default betas.

    `weight_decay` and `l1` add weight_decay * w and l1 * sign(w) to the gradient of every weight matrix or kernel, not
    of biases and normalisation. The rate rises linearly from 0 over the first `warmup_steps` steps.
    """

    optimizer: Literal["sgd", "adam"]
    rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    l1: float = 0.0
    warmup_steps: int = 0

    @property
    def name(self) -> str:
        """Return a short name of every setting that is not its default, like sgd-0.05-m0.9."""
        marks = {"m": self.momentum, "wd": self.weight_decay, "l1_": self.l1, "w": self.warmup_steps}
        return "-".join([self.optimizer, f"{self.rate:g}", *(f"{k}{v:g}" for k, v in marks.items() if v)])


class Trial(Value):
    """Report one training run. Accuracies are fractions on `validation`; None where the run has no finite weights.

    `prunability` is the area under unbiased accuracy over pruned fraction, divided by the unpruned accuracy.
    """

    name: str
    recipe: Recipe
    seed: int
    status: Status
    steps: int
    train_loss: float | None
    unbiased: float | None = None
    aligned: float | None = None
    conflicting: float | None = None
    prunability: float | None = None
    biased_accuracy: float | None = None
    biased_loss: float | None = None
    stored: bool = False


class RatePoint(Value):
    """Summarise one rate of the map over its seeds; `score` is None unless every seed fitted."""

    rate: float
    statuses: list[Status]
    unbiased: float | None
    aligned: float | None
    conflicting: float | None
    prunability: float | None
    score: float | None


class Baseline(Value):
    """Name the trial that stands for a conventional recipe; `trial` is None when no seed fitted."""

    name: str
    trial: str | None
    why: str


class TrainedInfo(Value):
    """Hold the learning-rate map, what was chosen from it, and the settings that fine-tuning needs again."""

    architecture: Architecture
    batch_size: int
    stop_loss: float
    chosen: str
    why: str
    at_edge: bool
    map: list[RatePoint]
    trials: list[Trial]
    baselines: list[Baseline]

    def trial(self, name: str) -> Trial:
        """Return the trial of that name."""
        return next(t for t in self.trials if t.name == name)


@dataclass(frozen=True)
class Trained(Record[TrainedInfo]):
    """Hold trained networks: `trials/<name>/weights.safetensors`, curves, per-sample outputs, probe logits."""

    kind: ClassVar[str] = "trained"
    Info: ClassVar[type[Any]] = TrainedInfo

    def weights(self, trial: str) -> Path:
        """Return the weights file of a stored trial."""
        return self.folder / "trials" / trial / "weights.safetensors"

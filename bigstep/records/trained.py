"""What training makes: trials over learning rates, the map drawn from them, and the networks that were kept."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError

from bigstep.records.architecture import Architecture
from bigstep.records.sealed import Record, Value

# `stopped` and `stuck` are short trials that the search did not finish: their loss was still falling, or no longer.
Status = Literal["fitted", "unfitted", "diverged", "collapsed", "stopped", "stuck"]
LOG = "log.jsonl"  # in the folder of a watched trial: one `Measurement` a line


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


class Signals(Value):
    """Say what a network shows without any bias label, on images with the distribution of training; 0 to 1 each.

    `prunability` and `sparsity` (share of the activations before the head that are 0) tell of a small network;
    `separation` (R2 of the classes before the head) and `concentration` (Gini coefficient of the losses of training
    images after the first epoch) of one that does not treat all images alike.
    """

    prunability: float
    sparsity: float
    separation: float
    concentration: float


class Trial(Value):
    """Report one training run. Accuracies are fractions on `validation`; None where the run has no finite weights.

    Where the rate is chosen without bias labels, nothing is measured on `validation`, which may be unbiased.
    `prunability` is the area under unbiased accuracy over pruned fraction, divided by the unpruned accuracy.
    `alarms` are sentences; only a run that was watched can have some.
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
    signals: Signals | None = None
    stored: bool = False
    alarms: tuple[str, ...] = ()


class Measurement(Value):
    """Hold one line of the log of a watched run; None where a number is not finite, unknown, or was not measured.

    Losses are mean cross entropies in nats, `l1` and `l2` norms of all weights. `bias_following` is the share of wrong
    answers on conflicting validation images that the bias suggests, `spread` the largest standard deviation of a logit
    over the images, `dead` the share of units of the last hidden layer that are zero on every image. `sharpness` is
    the largest eigenvalue of the Hessian of the train loss, `residual` how exact it is, and `stability` compares it
    with what the step size bears: 1 is the edge, S * rate / 2 for plain SGD.
    """

    step: int
    epoch: int
    train_loss: float | None
    biased_loss: float | None
    validation_loss: float | None
    bias_following: float | None
    gradient: float | None
    l1: float | None
    l2: float | None
    spread: float | None
    dead: float | None
    sharpness: float | None = None
    residual: float | None = None
    stability: float | None = None
    alarms: dict[str, str] = Field(default_factory=dict)


def read_log(log: Path) -> list[Measurement]:
    """Return the measurements of a log up to the first torn line, in order; none if there is no log."""
    found: list[Measurement] = []
    with suppress(OSError, ValidationError):
        for line in log.read_bytes().splitlines():
            found.append(Measurement.model_validate_json(line))
    return found


class RatePoint(Value):
    """Summarise one rate of the map over its seeds; without averages and score unless every seed fitted."""

    recipe: Recipe
    trials: list[str]
    statuses: list[Status]
    unbiased: float | None = None
    aligned: float | None = None
    conflicting: float | None = None
    prunability: float | None = None
    score: float | None = None

    @property
    def rate(self) -> float:
        """Return the learning rate."""
        return self.recipe.rate


class Baseline(Value):
    """Name the trial that stands for a conventional recipe; `trial` is None when no seed fitted."""

    name: str
    trial: str | None
    why: str


class TrainedInfo(Value):
    """Hold the rates that were tried, what was chosen, and the settings that fine-tuning needs again.

    `search` says in sentences how the rate was found; `spent` is what all its trials took, in trainings' worth of
    steps. `rule` says what the score rests on: bias labels of validation, or signals that need none.
    """

    architecture: Architecture
    batch_size: int
    stop_loss: float
    chosen: str
    why: str
    rule: Literal["groups", "label-free"]
    search: list[str]
    spent: float
    at_edge: bool
    points: list[RatePoint]
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

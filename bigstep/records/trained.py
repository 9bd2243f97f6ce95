"""What training makes: trials over learning rates, their means, and the networks that were kept."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError

from bigstep.records.architecture import Architecture
from bigstep.records.numbers import Numbers
from bigstep.records.sealed import Record, Value

Status = Literal["fitted", "unfitted", "diverged", "collapsed", "stopped", "stuck"]
FAILED: tuple[Status, ...] = ("diverged", "collapsed")
# Short trials that the search did not finish, and that may go on: their loss was still falling, or no longer.
UNFINISHED: tuple[Status, ...] = ("stopped", "stuck")
Augmentation = Literal["none", "flip", "flip-shift"]
FinishKind = Literal["none", "fine-tune", "average"]
LOG = "log.jsonl"  # in the folder of an observed trial: one `Moment` a line


class Recipe(Value):
    """An optimiser and its settings: SGD, or Adam with its default betas.

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
    """One training run.

    Where the rate is chosen by bias labels, `numbers` holds accuracies on `validation` (`unbiased`, `aligned`,
    `conflicting`) and `prunability`, the area under unbiased accuracy over pruned fraction divided by the unpruned
    accuracy. Where it is chosen without, nothing is measured on `validation`, which may be unbiased: `prunability` and
    `activation_sparsity` tell of a small network, `separation` (R2 of the classes before the head) and `loss_gini`
    (of the losses of training images after the first epoch) of one that does not treat all images alike. Always there
    are `biased_accuracy` and `biased_loss` on `validation_biased`. A run that diverged, or may go on, has no numbers.
    `alarms` are sentences; only a run that was observed can have some. `finish` is what a run does that has not fitted
    at its rate (see `train.finish`), at `finish_rate` if that is fine-tuning, else None.
    """

    name: str
    recipe: Recipe
    seed: int
    status: Status
    steps: int
    train_loss: float | None
    numbers: Numbers = Field(default_factory=dict)
    stored: bool = False
    alarms: tuple[str, ...] = ()
    finish: FinishKind = "none"
    finish_rate: float | None = None


class Moment(Value):
    """What a run looked like after an epoch: one line of the log of an observed run, or one entry of a map's trial.

    Of `numbers`, losses are mean cross entropies in nats, `l1` and `l2` norms of all weights. `bias_following` is the
    share of wrong answers on conflicting validation images that the bias suggests, `spread` the largest standard
    deviation of a logit over the images, `dead` the share of units of the last hidden layer that are zero on every
    image. `sharpness` is the largest eigenvalue of the Hessian of the train loss, `residual` how exact it is, and
    `stability` compares it with what the step size bears: 1 is the edge, S * rate / 2 for plain SGD.
    """

    step: int
    epoch: int
    numbers: Numbers
    alarms: dict[str, str] = Field(default_factory=dict)


def read_log(log: Path) -> list[Moment]:
    """Return the moments of a log up to the first torn line, in order; none if there is no log."""
    found: list[Moment] = []
    with suppress(OSError, ValidationError):
        for line in log.read_bytes().splitlines():
            found.append(Moment.model_validate_json(line))
    return found


class RatePoint(Value):
    """One rate over its seeds: the means of the trials' numbers, and the score; neither unless every seed fitted."""

    recipe: Recipe
    trials: list[str]
    statuses: list[Status]
    numbers: Numbers = Field(default_factory=dict)
    score: float | None = None

    @property
    def rate(self) -> float:
        """Return the learning rate."""
        return self.recipe.rate


class Baseline(Value):
    """The trial that stands for a conventional recipe; `trial` is None when no seed fitted."""

    name: str
    trial: str | None
    why: str


class TrainedInfo(Value):
    """The rates that were tried, what was chosen, and the settings that fine-tuning needs again.

    `search` says in sentences how the rate was found; `spent` is what all its trials took, in trainings' worth of
    steps. `rule` says what the score rests on: bias labels of validation, or signals that need none.
    """

    architecture: Architecture
    batch_size: int
    stop_loss: float
    augmentation: Augmentation = "none"
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
    """Trained networks: `trials/<name>/weights.safetensors`, curves, per-sample outputs, probe logits."""

    kind: ClassVar[str] = "trained"
    Info: ClassVar[type[Any]] = TrainedInfo

    def weights(self, trial: str) -> Path:
        """Return the weights file of a stored trial."""
        return self.trial_folder(trial) / "weights.safetensors"

    def trial_folder(self, trial: str) -> Path:
        """Return the folder of a trial."""
        return self.folder / "trials" / trial

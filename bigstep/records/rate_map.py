"""The learning-rate map: what was measured at every rate and seed, and the thresholds on the axis of rates."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from bigstep.records.architecture import Architecture
from bigstep.records.numbers import Numbers
from bigstep.records.sealed import Record, Value
from bigstep.records.trained import Moment, Recipe, Status

Start = Literal["initial weights", "pretrained weights", "given checkpoints"]
ThresholdName = Literal["critical", "sharpness break", "convergence", "2A | 2B", "divergence"]


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a user's own training: one rate and seed."""

    rate: float
    seed: int
    path: Path

    @property
    def name(self) -> str:
        """Return a short name of rate and seed."""
        return f"{self.rate:g}-s{self.seed}"


class MapTrial(Value):
    """One rate and seed of the map.

    `numbers` holds every metric by name, None where there is nothing to measure; `missing` says of a part that failed
    why. A run that diverged has no numbers. `steps` is None for a checkpoint, whose training nobody saw.
    """

    name: str
    rate: float
    seed: int
    status: Status
    steps: int | None
    train_loss: float | None
    numbers: Numbers
    moments: list[Moment]
    missing: dict[str, str]


class FlowResult(Value):
    """The critical rate from the initial weights of one seed; an upper bound unless the loss was reached.

    `rate` is None where the flow met no curvature.
    """

    seed: int
    rate: float | None
    max_sharpness: float
    reached: bool
    steps: int
    loss: float


class SecondPhase(Value):
    """What a second phase made of one rate; accuracies, barrier and agreement are fractions.

    `small` and `large` are unbiased accuracies after fine-tuning at the smallest and largest rate for it, `averaged`
    that of the averaged weights; None where that phase diverged. `regime` is that of the first phase.
    """

    rate: float
    seed: int
    regime: Literal[1, 2]
    small: float | None
    large: float | None
    averaged: float | None
    small_conflicting: float | None
    large_conflicting: float | None
    averaged_conflicting: float | None
    barrier: float | None
    agreement: float | None
    angle: float | None
    fault: str | None


class Threshold(Value):
    """A place on the axis: between `low` and `high`; None is an open end, and both None a place unknown.

    `steps` is the budget of one training on which it depends; None where it depends on none.
    """

    name: ThresholdName
    low: float | None
    high: float | None
    steps: int | None
    says: str


class RateMapInfo(Value):
    """The whole map: what was run, what was measured, and what follows.

    `rates` is the grid and the rates that narrowed a threshold down, each tried with every seed. Accuracies come from
    `report_split`. `recipe` holds the settings that all trials share; its rate says nothing. `second_rates` are the
    two of fine-tuning, `band` the rates of 2A, `answer` says whether the most robust rate is one of them.
    """

    data: str
    attributes: list[str]
    architecture: Architecture
    start: Start
    recipe: Recipe
    batch_size: int
    stop_loss: float
    max_steps: int
    rates: list[float]
    seeds: int
    report_split: Literal["test", "validation"]
    trials: list[MapTrial]
    flows: list[FlowResult]
    second_phase: list[SecondPhase]
    second_rates: tuple[float, float] | None
    thresholds: list[Threshold]
    band: list[float]
    answer: str
    notes: list[str]


@dataclass(frozen=True)
class RateMap(Record[RateMapInfo]):
    """A learning-rate map; `trials/<name>/` keeps the curve of each run, no weights."""

    kind: ClassVar[str] = "rate-map"
    Info: ClassVar[type[Any]] = RateMapInfo

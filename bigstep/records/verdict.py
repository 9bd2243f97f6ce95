"""What the gate decides about bytes: every check, the accuracies behind it, and an outcome."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from bigstep.records.sealed import Record, Value

Outcome = Literal["passed", "failed", "undecided"]
SEVERITY: tuple[Outcome, ...] = ("failed", "undecided", "passed")


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the worst of some outcomes; passed if there is none."""
    return min(outcomes, key=SEVERITY.index, default="passed")


class Check(Value):
    """Report one check: the inequality `bound relation limit` decides, `measured` is the point estimate."""

    name: str
    outcome: Outcome
    measured: float | None
    bound: float | None
    relation: Literal["<=", ">=", ">", "=="]
    limit: float | None
    n: int
    says: str


class GroupScore(Value):
    """Report one form's accuracy on one group with one-sided bounds; None where the group is empty."""

    form: str
    group: str
    n: int
    accuracy: float | None
    low: float | None
    high: float | None


class VerdictInfo(Value):
    """Hold the decision, every check behind it, and the group accuracies of every judged form."""

    outcome: Outcome
    checks: list[Check]
    scores: list[GroupScore]
    comparisons: list[Check]
    judged: dict[str, str]
    notes: list[str]


@dataclass(frozen=True)
class Verdict(Record[VerdictInfo]):
    """Hold a verdict about bytes: `judged` maps each form to the SHA-256 of what was run."""

    kind: ClassVar[str] = "verdict"
    Info: ClassVar[type[Any]] = VerdictInfo

"""What the gate decides about bytes: every check, the accuracies behind it, and an outcome."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from bigstep.records.sealed import Record, Value

Outcome = Literal["passed", "failed", "undecided"]
SEVERITY: tuple[Outcome, ...] = ("failed", "undecided", "passed")
Rule = Literal[
    "finite outputs",
    "not constant",
    "bytes",
    "parity",
    "group present",
    "non-inferiority",
    "floor",
    "latency budget",
    "throughput budget",
]
ABOUT_OUTPUTS = ("finite outputs", "not constant")  # asked of more than one file


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the worst of some outcomes; passed if there is none."""
    return min(outcomes, key=SEVERITY.index, default="passed")


def three_way(*, passes: bool, fails: bool) -> Outcome:
    """Return passed or failed where one of them is sure, else undecided; write both so that NaN never passes."""
    return "passed" if passes else "failed" if fails else "undecided"


class Check(Value):
    """One check: the inequality `bound relation limit` decides, `measured` is the point estimate; None where unknown.

    Attributes:
        rule: what was asked.
        form: the file that it was asked of; None for parity, which is about two files of one network.
        group: the group of test images; None where every image counts.
        rung: the rung of the parity ladder, with its network.
    """

    rule: Rule
    form: str | None = None
    group: str | None = None
    rung: str | None = None
    outcome: Outcome
    measured: float | None = None
    bound: float | None = None
    relation: Literal["<=", ">=", ">", "=="]
    limit: float | None
    n: int
    says: str

    @property
    def name(self) -> str:
        """Return the rule, and where it is asked more than once of what: the same on every run."""
        about = self.group or self.rung or (self.form if self.rule in ABOUT_OUTPUTS else None)
        return f"{self.rule} ({about})" if about else self.rule

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values, with its name."""
        return {"name": self.name, **self.model_dump(mode="json")}


class GroupScore(Value):
    """One form's accuracy on one group with one-sided bounds; None where the group is empty."""

    form: str
    group: str
    n: int
    accuracy: float | None
    low: float | None
    high: float | None


class VerdictInfo(Value):
    """The decision, every check behind it, and the group accuracies of every judged form."""

    outcome: Outcome
    checks: list[Check]
    scores: list[GroupScore]
    comparisons: list[Check]
    judged: dict[str, str]
    notes: list[str]


@dataclass(frozen=True)
class Verdict(Record[VerdictInfo]):
    """A verdict about bytes: `judged` maps each form to the SHA-256 of what was run."""

    kind: ClassVar[str] = "verdict"
    Info: ClassVar[type[Any]] = VerdictInfo

"""What the gate decides about bytes: every check, the accuracies behind it, and an outcome."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from bigstep.groups import ALIGNED, CONFLICTING
from bigstep.records.sealed import Record, Value

Outcome = Literal["passed", "failed", "undecided"]
HEADLINES: Mapping[tuple[Outcome, Outcome], str] = {  # by the verdict, and by the worst of it and the budgets
    ("failed", "failed"): "Failed: this file must not be shipped.",
    ("undecided", "undecided"): "Undecided: the test data cannot tell whether this file passes, so do not ship it.",
    ("passed", "failed"): "Failed: the gate passed this file, but a budget was not kept.",
    ("passed", "undecided"): "Undecided: the gate passed this file, but a budget could not be decided.",
    ("undecided", "failed"): "Failed: a budget was not kept, and the test data cannot tell the rest.",
}
EVERY_IMAGE = ({ALIGNED, CONFLICTING}, {"all"})  # groups that together are all there is
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
    """The decision, every check behind it, and the group accuracies of every judged form.

    Attributes:
        floor: the accuracy that was demanded where the file is weakest; None where it only had to be above chance.
    """

    outcome: Outcome
    floor: float | None = None
    checks: list[Check]
    scores: list[GroupScore]
    comparisons: list[Check]
    judged: dict[str, str]
    notes: list[str]

    def headline(self, served: str, budgets: Iterable[Outcome]) -> str:
        """Say what was decided in one sentence, which claims what was judged of the served form and no more.

        Args:
            budgets: what became of each budget, which may be worse than the verdict.
        """
        decided = worst([self.outcome, *budgets])
        if decided == self.outcome == "passed":
            return f"Passed: {self._claim(served)}."
        return HEADLINES[self.outcome, decided]

    def _claim(self, served: str) -> str:
        judged = [c for c in self.checks if c.rule == "non-inferiority" and c.form == served]
        groups = [c.group for c in judged if c.group is not None]
        known = {s.group: s.accuracy for s in self.scores if s.form == served and s.accuracy is not None}
        told = [group for group in dict.fromkeys([CONFLICTING, ALIGNED, *groups]) if group in known] or [*known][:1]
        levels = ", ".join(f"{group} {known[group]:.1%}" for group in told)
        where = "" if any(images <= {*groups} for images in EVERY_IMAGE) else f" in {', '.join(groups)}"
        margin = max((c.limit for c in judged if c.limit is not None), default=None)
        kept = (
            "every check"
            if margin is None
            else f"no worse than before compression{where} (margin {100 * margin:g} points)"
        )
        of = "robustness" if CONFLICTING in known else "accuracy"
        if self.floor is None:
            return f"{kept}; level of {of} not required: {levels}"
        weakest = next((c.group for c in self.checks if c.rule == "floor" and c.form == served), None)
        return f"{kept}, and above the required {self.floor:.1%} on {weakest} images: {levels}"


@dataclass(frozen=True)
class Verdict(Record[VerdictInfo]):
    """A verdict about bytes: `judged` maps each form to the SHA-256 of what was run."""

    kind: ClassVar[str] = "verdict"
    Info: ClassVar[type[Any]] = VerdictInfo

"""The words for outcomes and networks: the same in the report, in the card, and on the page of a CI job."""

from bigstep.records.verdict import Outcome

ICONS = {"passed": "✔", "failed": "✘", "undecided": "?"}
HEADLINES = {
    "passed": "Passed: this file may be shipped.",
    "failed": "Failed: this file must not be shipped.",
    "undecided": "Undecided: the test data cannot tell whether this file may be shipped.",
}
BUDGET_HEADLINES = {  # by the verdict and by the worst budget, where the budget is worse
    ("passed", "failed"): "Failed: the gate passed this file, but a budget was not kept.",
    ("passed", "undecided"): "Undecided: the gate passed this file, but a budget could not be decided.",
    ("undecided", "failed"): "Failed: a budget was not kept, and the test data cannot tell the rest.",
}
ROLES = {
    "compact": "compressed",
    "dense": "uncompressed",
    "baseline": "conventional",
    "compact_baseline": "conventional, compressed",
}
NONE = "n/a"


def headline(verdict: Outcome, worst: Outcome) -> str:
    """Say what was decided; `worst` is the worse of the verdict and the budgets."""
    return HEADLINES[verdict] if worst == verdict else BUDGET_HEADLINES[verdict, worst]

"""The run as JUnit XML: suites `stages`, `gate` and `budgets`, which every CI system can show.

There is no standard; the elements are those that Jenkins, GitLab and junitparser read.
"""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bigstep.records.verdict import Check
from bigstep.text import printable
from verify.report.run_outcome import RunOutcome, StageRun, message, origin

Result = Literal["failure", "error", "skipped"]
COUNTED: dict[Result, str] = {"failure": "failures", "error": "errors", "skipped": "skipped"}
MOST_ATTRIBUTE = 500  # characters; viewers show it on one line
MOST_TEXT = 20_000
REUSED = "reused: nothing that this stage depends on has changed"


@dataclass(frozen=True)
class Case:
    """One test case: it passed unless it has a `result`; `kind` is the type of a failure or an error."""

    name: str
    seconds: float = 0.0
    result: Result | None = None
    kind: str = ""
    message: str = ""
    text: str = ""


def document(outcome: RunOutcome) -> bytes:
    """Return the XML document, UTF-8, with the counts of every suite and of all together."""
    suites = {
        "stages": [_stage(stage, outcome) for stage in outcome.stages()],
        "gate": _gate(outcome),
        "budgets": [_check(check) for check in outcome.records.judged.budgets] if outcome.records.judged else [],
    }
    root = ET.Element("testsuites", {"name": printable(f"bigstep {outcome.name}", MOST_ATTRIBUTE)})
    filled = {name: cases for name, cases in suites.items() if cases}
    for name, cases in filled.items():
        suite = ET.SubElement(root, "testsuite", {"name": name} | _counts(cases))
        for case, unique in zip(cases, _unique([case.name for case in cases]), strict=True):
            suite.append(_element(case, unique, f"bigstep.{name}"))
    root.attrib.update(_counts([case for cases in filled.values() for case in cases]))
    ET.indent(root)
    xml: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return xml + b"\n"


def _stage(stage: StageRun, outcome: RunOutcome) -> Case:
    if stage.action == "not reached":
        return Case(stage.stage, result="skipped", message="not reached: an earlier error stopped the run")
    if stage.action != "stopped" or outcome.error is None:
        return Case(stage.stage, stage.seconds, text=REUSED if stage.action == "reused" else "")
    said, error = message(outcome.error), outcome.error
    text = "\n\n".join(part for part in (said, origin(error)) if part)
    return Case(
        stage.stage,
        stage.seconds,
        "error",
        "interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__,
        said.splitlines()[0],
        text,
    )


def _gate(outcome: RunOutcome) -> list[Case]:
    if outcome.records.judged is not None:
        return [_check(check) for check in outcome.records.judged.verdict.info.checks] or [
            Case("gate", 0.0, "error", "undecided", "no check was made, so nothing is known of the file")
        ]
    if outcome.error is not None and "verify" in outcome.planned:
        return [Case("gate", result="skipped", message="no verdict was reached: an earlier error stopped the run")]
    return []


def _check(check: Check) -> Case:
    if check.outcome == "passed":
        return Case(check.name, text=check.says)
    # JUnit has no third outcome. "Undecided" blocks a release, so it must not look green, and it is not a failure of
    # the file either: `error` is what JUnit has for a test that came to no result.
    result: Result = "failure" if check.outcome == "failed" else "error"
    return Case(check.name, 0.0, result, check.outcome, check.says, check.says)


def _element(case: Case, name: str, classname: str) -> ET.Element:
    element = ET.Element("testcase", {"classname": classname, "name": name, "time": f"{_ms(case) / 1000:.3f}"})
    text = printable(case.text, MOST_TEXT)
    if case.result is None:
        if text:
            ET.SubElement(element, "system-out").text = text
        return element
    told = {"type": case.kind, "message": printable(case.message, MOST_ATTRIBUTE)}
    ET.SubElement(element, case.result, {key: value for key, value in told.items() if value}).text = text or None
    return element


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    return {
        "tests": str(len(cases)),
        **{word: str(sum(case.result == result for case in cases)) for result, word in COUNTED.items()},
        "time": f"{sum(_ms(case) for case in cases) / 1000:.3f}",
    }


def _ms(case: Case) -> int:
    """Round before summing, so that a suite's time is the sum of what its cases show."""
    return round(1000 * case.seconds)


def _unique(names: Sequence[str]) -> list[str]:
    """Number repeated names: CI systems follow a case from run to run by its name, and show one of two alike."""
    found: dict[str, None] = {}  # in order
    for name in names:
        plain = printable(name, MOST_ATTRIBUTE)
        candidate, number = plain, 2
        while candidate in found:
            candidate, number = f"{plain} ({number})", number + 1
        found[candidate] = None
    return list(found)

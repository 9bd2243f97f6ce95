"""A judged run in the small world, and functions that return it with other numbers."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from bigstep.config import VerifyConfig
from bigstep.records.measured import Measured
from bigstep.records.run import JudgedRun, RunRecords
from bigstep.records.trained import Trained
from bigstep.records.verdict import Check
from verify import measure, stage
from verify.report.run_outcome import RunOutcome, StageRun

STAGES = ["data", "train", "compress", "export", "verify"]


@pytest.fixture(scope="session")
def judge(trained: Trained) -> Callable[..., JudgedRun]:
    """Return a function that judges the files of a world."""

    def run(world: Any, config: VerifyConfig | None = None) -> JudgedRun:
        images, compact, exported = world.records()
        verdict = stage.run(config or VerifyConfig(), images, compact, exported, out=world.folder / "verdict")
        measured = measure.measure(images, exported, measure.FOR_THE_REPORT)
        return JudgedRun(images, trained, compact, exported, verdict, measured, budgets=[])

    return run


@pytest.fixture(scope="session")
def judged(judge: Any, make_world: Any, tmp_path_factory: pytest.TempPathFactory) -> JudgedRun:
    return judge(make_world(tmp_path_factory.mktemp("judged")))


@pytest.fixture(scope="session")
def changed() -> Callable[..., JudgedRun]:
    """Return a function that gives fields of a run's records other values; `measured` takes its own fields.

    `budgets` are the checks themselves.
    """

    def change(run: JudgedRun, budgets: Sequence[Check] = (), **updates: dict[str, Any]) -> JudgedRun:
        run = replace(run, budgets=budgets or run.budgets)
        for name, update in updates.items():
            value = getattr(run, name)
            is_value = isinstance(value, Measured)
            new = (value if is_value else value.info).model_copy(update=update)
            run = replace(run, **{name: new if is_value else replace(value, info=new)})
        return run

    return change


@pytest.fixture(scope="session")
def check() -> Callable[..., Check]:
    """Return a function that makes a check, by default one that passed."""

    def make(outcome: Any = "passed", says: str = "It is 0.9.", rule: Any = "floor", **about: str) -> Check:
        values: dict[str, Any] = {"measured": 0.9, "bound": 0.8, "relation": ">=", "limit": 0.5, "n": 10}
        return Check(rule=rule, outcome=outcome, says=says, **values, **about)

    return make


@pytest.fixture
def ended() -> Callable[..., RunOutcome]:
    """Return a function that says how a run with these records ended: well, or by an error after some stages.

    `ran` stages were done when the error came, and the next one was under way if `begun`.
    """

    def make(run: JudgedRun, error: BaseException | None = None, ran: int = 5, *, begun: bool = False) -> RunOutcome:
        made = dict(zip(STAGES, (run.images, run.trained, run.compact, run.exported, run.verdict), strict=True))
        records = RunRecords(**{name: made[name] for name in STAGES[:ran]}).judge(run.measured, run.budgets)
        history = [StageRun(name, "ran", 1.2345) for name in STAGES[:ran]]
        history += [StageRun(STAGES[ran], "begun", 0.5)] if begun else []
        return RunOutcome("small", STAGES, history, records, error)

    return make

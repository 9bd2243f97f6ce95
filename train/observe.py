"""What looks on while a run trains, and the log of an observed run: a line an epoch, TensorBoard events, alarms.

What is measured is a function of weights and step, and changes nothing of the run. A run that goes on from a checkpoint
keeps the lines up to there and writes the rest again, so that its log is the one of an undisturbed run.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import final

from bigstep.records.sealed import replace_file
from bigstep.records.trained import LOG, Moment, Recipe, read_log
from train import alarms, event_files, step
from train.measure.sharpness import plain_rate
from train.readings import Reader


@contextmanager
def observed(observers: Sequence[step.Observer], run: step.Run) -> Iterator[Callable[[step.Run], None]]:
    """Let some look on in their order, and yield what is to be called after each epoch."""

    def after_epoch(run: step.Run) -> None:
        for observer in observers:
            observer.after_epoch(run)

    try:
        for observer in observers:
            observer.begin(run)
        yield after_epoch
    finally:
        for observer in observers:
            observer.end(run)


@final
class Log(step.Observer):
    """The observer that measures a run as it goes, and writes what it finds.

    Args:
        reader: reads the network.
        every_steps: steps between measurements of the sharpness, each as dear as dozens of steps on 1,000 images.
        plan: the settings of the run.
        folder: where log and events go.
    """

    def __init__(self, reader: Reader, every_steps: int, plan: step.Plan, folder: Path) -> None:
        self._reader, self._every_steps = reader, every_steps
        self._recipe, self._log = plan.recipe, folder / LOG
        self._course = alarms.Course(plan.recipe.rate, plan.max_steps, reader.chance_loss)
        self._history: list[Moment] = []
        self._events: event_files.EventFile | None = None

    def begin(self, run: step.Run) -> None:
        """Take up the log where the run is; a run that has not made a step is measured at once."""
        self._history = [m for m in read_log(self._log) if m.step <= run.steps]
        replace_file(self._log, "".join(map(_line, self._history)).encode())
        if event_files.available():
            self._events = event_files.EventFile(self._log.parent, self._history)
        if not self._history:
            self._measure(run, sharply=True)

    def after_epoch(self, run: step.Run) -> None:
        """Measure; the sharpness only where the epoch passed a multiple of `every_steps`."""
        before = run.curve[-2][0] if len(run.curve) > 1 else 0
        self._measure(run, sharply=run.steps // self._every_steps > before // self._every_steps)

    def end(self, run: step.Run) -> None:
        """Measure the last weights too, unless they diverged."""
        try:
            if run.status not in (None, "diverged"):
                self._measure(run, sharply=True)
        finally:
            if self._events:
                self._events.close()

    def _measure(self, run: step.Run, *, sharply: bool) -> None:
        numbers = self._reader.read(run.model)
        if sharply and numbers["train_loss"] is not None:
            numbers |= self._reader.sharpness(run.model)
            numbers["stability"] = stability(numbers["sharpness"], self._recipe, run.steps)
        found = Moment(step=run.steps, epoch=run.epoch, numbers=numbers)
        found = found.model_copy(update={"alarms": alarms.check([*self._history, found], self._course)})
        self._history.append(found)
        with self._log.open("a", encoding="utf-8") as file:
            file.write(_line(found))
        if self._events:
            self._events.add(found)


def stability(sharpness: float | None, recipe: Recipe, steps: int = 0) -> float | None:
    """Compare sharpness with what the step size bears: 1 is the edge of stability of full-batch descent.

    S * rate / (2 * (1 + momentum)), with S the sharpness and the rate of the coming step, which is lower while a run
    warms up; None for Adam, whose steps are not bounded by S.

    Source: Cohen et al. 2021, arXiv:2103.00065, section 2 and appendix B (heavy-ball momentum).
    """
    if sharpness is None or recipe.optimizer != "sgd":
        return None
    warm = min(1.0, (steps + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
    return sharpness * plain_rate(recipe) * warm / 2


def raised(folder: Path) -> list[str]:
    """Return the sentences of all alarms that a run raised, in order; none if it was not observed."""
    return [says for moment in read_log(folder / LOG) for says in moment.alarms.values()]


def _line(moment: Moment) -> str:
    return moment.model_dump_json() + "\n"

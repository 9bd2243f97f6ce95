"""Progress on the terminal: what the stages log, with a bar where they say how far they are.

Stages know nothing of this; they log to `bigstep.<stage>` with extra={"done": ..., "total": ...}.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bigstep.terminal import Terminal


class Bars(logging.Handler):
    """One bar for each stage, and plain lines for everything else."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.INFO)
        self.progress = progress
        self.tasks: dict[str, TaskID] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Advance the bar of the stage, or print the message above the bars."""
        stage = record.name.partition(".")[2].replace(".", " ")
        done, total = getattr(record, "done", None), getattr(record, "total", None)
        if done is None:
            self.progress.console.print(record.getMessage(), markup=False, highlight=False)
            return
        if stage not in self.tasks:
            self.tasks[stage] = self.progress.add_task(stage, total=total, last="")
        self.progress.update(
            self.tasks[stage], completed=done, total=total, last=record.getMessage() if done != total else ""
        )


class Lines(logging.Handler):
    """A line for every message, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message, with how far the stage is."""
        done = f" [{record.done}/{record.total}]" if hasattr(record, "done") and hasattr(record, "total") else ""
        stage = record.name.partition(".")[2]
        prefix = f"{stage}{done}: " if stage else ""
        self.console.print(prefix + record.getMessage(), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def shown() -> Iterator[None]:
    """Show on standard error what the stages log: bars on a terminal, lines elsewhere."""
    console = Terminal(stderr=True)
    log = logging.getLogger("bigstep")
    log.setLevel(logging.INFO)
    before, log.propagate = log.propagate, False
    bars = Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[last]}", style="dim"),
        console=console,
    )
    handler: logging.Handler = Bars(bars) if console.is_live else Lines(console)
    log.addHandler(handler)
    try:
        if console.is_live:
            with bars:
                yield
        else:
            yield
    finally:
        log.removeHandler(handler)
        log.propagate = before

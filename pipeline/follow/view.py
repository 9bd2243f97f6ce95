"""What a followed training looks like: a table that is drawn again, lines of text, or lines of JSON."""

import json
import math
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self, final

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bigstep.records.trained import Moment
from bigstep.terminal import Terminal
from pipeline.follow.place import Course

BARS, PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.-~=*#@"
TREND = 7  # characters of a trend
SHORT = {
    "fitted": "fit",
    "unfitted": "unfit",
    "diverged": "div.",
    "collapsed": "coll.",
    "stopped": "stop",
    "stuck": "stuck",
}
ALARMS = 4  # newest alarms below a table that is drawn again
NO_LOG = "No measurement so far; a run is observed if asked to, for example with --set train.observe_steps=300"


class View(Protocol):
    """What shows a training again and again."""

    def show(self, courses: Sequence[Course]) -> None:
        """Show the present state."""

    def end(self, courses: Sequence[Course]) -> None:
        """Show the last state."""


@final
class JsonLines:
    """A line of JSON for every new measurement."""

    def __init__(self) -> None:
        self._news = News()

    def show(self, courses: Sequence[Course]) -> None:
        """Print what is new."""
        for course, m in self._news.of(courses):
            typer.echo(
                json.dumps({"trial": course.name, "step": m.step, "epoch": m.epoch, **m.numbers, "alarms": m.alarms})
            )

    end = show


@final
class News:
    """What was not shown before."""

    def __init__(self) -> None:
        self._shown: dict[str, int] = {}

    def of(self, courses: Sequence[Course]) -> list[tuple[Course, Moment]]:
        """Return the moments beyond the last step shown; a resumed run repeats earlier ones unchanged."""
        found = [(c, m) for c in courses for m in c.moments if m.step > self._shown.get(c.name, -1)]
        self._shown |= {course.name: moment.step for course, moment in found}
        return found


@final
class Lines:
    """A line for every new measurement and alarm, and the table at the end."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal, self._news = terminal, News()

    def show(self, courses: Sequence[Course]) -> None:
        """Print what is new."""
        for course, m in self._news.of(courses):
            found = m.numbers
            self._print(
                f"{course.name} step {m.step}, epoch {m.epoch}: "
                f"train {number(found.get('train_loss'))}, validation {number(found.get('validation_loss'))}, "
                f"follow the bias {percent(found.get('bias_following'))}, "
                f"S*eta/2 {number(found.get('stability'))}, norm {number(found.get('l2'))}"
            )
            for says in m.alarms.values():
                self._print(f"! {course.name}, {says}")

    def end(self, courses: Sequence[Course]) -> None:
        """Print the table and every alarm."""
        self._terminal.print(table(courses, _bars(self._terminal)))
        for course in courses:
            for says in course.alarms:
                self._print(f"! {course.name}, {says}")
        for note in notes(courses):
            self._print(note)

    def _print(self, line: str) -> None:
        self._terminal.print(line, markup=False, soft_wrap=not self._terminal.is_screen)


@final
class Screen:
    """The table, drawn again and again, as much of it as the terminal is high; use it in a `with` statement."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal, self._live = terminal, Live(console=terminal, auto_refresh=False)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the last picture, and give the cursor back."""
        self._live.stop()

    def show(self, courses: Sequence[Course]) -> None:
        """Draw the present state: running trials first, then those with alarms."""
        order = sorted(courses, key=lambda c: (c.trial is not None, not c.alarms, c.name))
        alarms = sorted((m.step, c.name, says) for c in courses for m in c.moments for says in m.alarms.values())
        below = [Text(f"! {name}, {says}", "yellow") for _, name, says in alarms[-ALARMS:]]
        below += [Text(note) for note in notes(courses)]
        room = max(self._terminal.height - 4 - sum(len(self._terminal.render_lines(text)) for text in below), 1)
        if len(order) > room:
            below.insert(0, Text(f"and {len(order) - room} more", "dim"))
        self._live.update(Group(table(order[:room], _bars(self._terminal)), *below), refresh=True)

    end = show


def table(courses: Sequence[Course], bars: str = BARS) -> Table:
    """Return a table with one row for each trial, 80 columns wide: numbers of the last measurement, and trends."""
    drawn = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    drawn.add_column("trial", no_wrap=True, overflow="ellipsis")
    drawn.add_column("", no_wrap=True)
    for heading in ("step", "train", "trend", "valid", "trend", "bias", "S*eta/2", "norm"):
        drawn.add_column(heading, justify="left" if heading == "trend" else "right", no_wrap=True)
    for course in courses:
        drawn.add_row(*_row(course, bars), style="yellow" if course.alarms else None)
    return drawn


def notes(courses: Sequence[Course]) -> list[str]:
    """Return what a reader of the table should know."""
    if not courses:
        return ["Nothing has been trained here yet."]
    return [] if any(course.moments for course in courses) else [NO_LOG]


def trend(values: Sequence[float | None], bars: str = BARS, width: int = TREND) -> str:
    """Draw positive numbers as bars on a logarithmic scale, the last of each of `width` equal stretches of the list.

    The smallest has the lowest bar and the largest the highest; a blank stands where nothing was measured.
    """
    n = min(len(values), width)
    picked = [values[(k + 1) * len(values) // n - 1] for k in range(n)]
    logs = [math.log(max(v, 1e-12)) if v is not None else math.nan for v in picked]
    finite = [x for x in logs if not math.isnan(x)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(" " if math.isnan(x) else bars[round((x - low) * scale)] for x in logs)


def number(value: float | None) -> str:
    """Write a number in at most five characters, six with a sign."""
    if value is None:
        return "-"
    if value < 0:
        return f"-{number(-value)}"
    if value and not 1e-3 <= value < 99999.5:
        return f"{value:.0e}"
    return f"{value:.3f}"[:5].rstrip(".") if value < 9999.5 else f"{value:.0f}"


def percent(value: float | None) -> str:
    """Write a fraction as a percentage."""
    return "-" if value is None else f"{value:.0%}"


def _row(course: Course, bars: str) -> list[str]:
    state = (SHORT[course.trial.status] if course.trial else "runs") + ("!" if course.alarms else "")
    moments = course.moments
    if not moments:
        return [
            course.name,
            state,
            str(course.trial.steps) if course.trial else "-",
            number(course.trial.train_loss if course.trial else None),
            *[""] * 6,
        ]
    last = moments[-1].numbers
    sharp = [value for m in moments if (value := m.numbers.get("stability")) is not None]

    def drawn(name: str) -> list[str]:
        return [number(last.get(name)), trend([m.numbers.get(name) for m in moments], bars)]

    return [
        course.name,
        state,
        str(course.trial.steps if course.trial else moments[-1].step),
        *drawn("train_loss"),
        *drawn("validation_loss"),
        percent(last.get("bias_following")),
        number(sharp[-1] if sharp else None),
        number(last.get("l2")),
    ]


def _bars(terminal: Terminal) -> str:
    return BARS if terminal.encoding.startswith("utf") else PLAIN_BARS

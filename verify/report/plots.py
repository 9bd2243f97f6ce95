"""The report's three plots, drawn from the records alone, as SVG text that is the same for the same numbers."""

import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from bigstep.groups import ALIGNED, CONFLICTING, UNBIASED
from bigstep.records.compact import Candidate
from bigstep.records.run import JudgedRun
from bigstep.records.trained import RatePoint, TrainedInfo
from bigstep.records.verdict import GroupScore
from bigstep.text import format_bytes
from verify.report import facts
from verify.report.facts import FormFacts

# Okabe and Ito's colours: told apart with any common colour blindness; markers and dashes tell them apart in print.
INK = {
    CONFLICTING: ("#D55E00", "o", "-"),
    UNBIASED: ("#0072B2", "s", "--"),
    ALIGNED: ("#009E73", "^", "-."),
    "prunability": ("#7A4F7A", "D", ":"),
}
SPLITS = {"groups": "validation split", "label-free": "training images"}  # on which rates are measured, by the rule
PANELS = ((CONFLICTING, UNBIASED), ("prunability",), (ALIGNED,))
FAILED = ("unfitted", "diverged", "collapsed")  # a trial that the search stopped early says nothing
OTHER = ("#555555", "v", ":")
ROLES = {"compact": "#D55E00", "dense": "#0072B2", "baseline": "#777777", "compact_baseline": "#222222"}
MARKERS = "poDs^v<>Ph8H"
SIDE_BY_SIDE = 1.035  # ratio of the drawn sizes of neighbours
STYLE = {
    "svg.hashsalt": "bigstep",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def learning_rates(trained: TrainedInfo) -> str:
    """Draw accuracies and prunability on `validation` against the learning rate, one small point per fitted seed.

    Each quantity has an axis of its own range, since they change by points and not by tens of points. The chosen rate
    is marked; rates at which a seed did not fit are hatched and have no mean.
    """
    points = sorted(trained.points, key=lambda point: point.rate)
    rates = [point.rate for point in points]
    shown_trials = {name for point in points for name in point.trials}
    fitted = [t for t in trained.trials if t.status == "fitted" and t.name in shown_trials]
    chosen = trained.trial(trained.chosen).recipe.rate
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 6.2), layout="constrained")
        shown_panels = [
            names for names in PANELS if any(p.numbers.get(name) is not None for p in points for name in names)
        ]
        heights = [len(names) + 1 for names in shown_panels]
        panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
        for axes, names in zip(panels, shown_panels, strict=True):
            for name in names:
                colour, marker, dash = INK[name]
                means = [point.numbers.get(name) for point in points]  # where there is none, the line is broken
                axes.plot(rates, means, dash, marker=marker, color=colour, label=name, zorder=3)
                seeds = [(t.recipe.rate, value) for t in fitted if (value := t.numbers.get(name)) is not None]
                axes.scatter([r for r, _ in seeds], [v for _, v in seeds], s=12, marker=marker, color=colour, alpha=0.4)
            _hatch_unfitted(axes, points)
            axes.axvline(chosen, color="#111111", linewidth=1.2)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        panels[0].annotate(
            f"chosen {chosen:g}",
            (chosen, 1.0),
            (4, 2),
            fontweight="bold",
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
        )
        plain_log_axis(panels[-1], rates)
        panels[-1].set_xlabel("learning rate of plain SGD (logarithmic)")
        figure.supylabel(SPLITS[trained.rule], fontsize=10)
        _legend(figure, panels)
        return svg(figure, "Accuracy and prunability against the learning rate")


def stages(run: JudgedRun) -> str:
    """Draw each group's accuracy: after every kept step of compression (validation), then of the files (test)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 4.4), layout="constrained")
        kept = [candidate for candidate in run.compact.info.frontier if candidate.kept]
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[max(len(kept), 1) + 1, 2])
        _draw_steps(left, kept)
        served, dense = facts.served_and_dense(run)
        _draw_files(right, [dense, served])
        left.yaxis.set_major_formatter(PercentFormatter(1.0))
        left.set_ylabel("accuracy")
        _legend(figure, (left, right))
        return svg(figure, "Accuracy of each group through the stages")


def sizes(run: JudgedRun) -> str:
    """Draw file size against conflicting accuracy: every candidate (validation) and every exported file (test)."""
    group, files = facts.headline_group(run), facts.forms(run)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 4.6), layout="constrained")
        axes = figure.add_subplot()
        _scatter_candidates(axes, run.compact.info.frontier, group)
        _scatter_files(axes, files, group)
        plain_log_axis(axes, [file.form.bytes for file in files], format_bytes)
        axes.set(xlabel="size of the ONNX file (logarithmic)", ylabel=f"{group} accuracy")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        figure.legend(loc="outside lower center", ncols=2)
        return svg(figure, f"Size against {group} accuracy")


def _legend(figure: Figure, panels: Iterable[Any]) -> None:
    """Explain each quantity once, below all panels."""
    lines = {str(line.get_label()): line for axes in panels for line in axes.get_lines()}
    shown = {name: line for name, line in lines.items() if not name.startswith("_")}
    figure.legend(list(shown.values()), list(shown), loc="outside lower center", ncols=4)


def _hatch_unfitted(axes: Any, points: Sequence[RatePoint]) -> None:
    """Hatch, halfway to the neighbours on the logarithmic axis, each rate at which a seed did not fit."""
    rates = [point.rate for point in points]
    step = (rates[-1] / rates[0]) ** (0.5 / max(len(rates) - 1, 1)) if len(rates) > 1 else 1.5
    for point in points:
        if failed := sum(status in FAILED for status in point.statuses):
            near, far = point.rate / step, point.rate * step
            axes.axvspan(near, far, facecolor="none", edgecolor="#bbbbbb", hatch="///", linewidth=0)
            axes.annotate(
                f"{failed} of {len(point.statuses)}\ndid not fit",
                (point.rate, 0.04),
                xycoords=("data", "axes fraction"),
                ha="center",
                fontsize=7,
            )


def _draw_steps(axes: Any, kept: Sequence[Candidate]) -> None:
    axes.set_title("steps of compression, validation split", fontsize=10)
    if not kept:
        axes.text(0.5, 0.5, "no step was kept", ha="center", transform=axes.transAxes)
        axes.set_xticks([])
        return
    steps = range(len(kept) + 1)
    for group, before in [(drop.group, drop.before) for drop in kept[0].drops]:
        colour, marker, dash = INK.get(group, OTHER)
        axes.plot(
            steps,
            [before, *(_accuracy_after(candidate, group) for candidate in kept)],
            dash,
            marker=marker,
            color=colour,
            label=group,
        )
    axes.set_xticks(steps, ["dense", *(candidate.step for candidate in kept)], rotation=20, ha="right")
    axes.set_xlim(-0.3, len(kept) + 0.3)


def _draw_files(axes: Any, files: Sequence[FormFacts]) -> None:
    axes.set_title("files, test split", fontsize=10)
    for shift, group in enumerate((CONFLICTING, UNBIASED, ALIGNED)):
        present = [
            (i + 0.08 * (shift - 1), score)
            for i, file in enumerate(files)
            if (score := file.scores.get(group)) is not None and score.accuracy is not None
        ]
        if present:
            colour, marker, dash = INK[group]
            x, scores = zip(*present, strict=True)
            axes.errorbar(
                x,
                [score.accuracy for score in scores],
                _errors(scores),
                fmt=dash,
                marker=marker,
                color=colour,
                capsize=3,
                label=None,
            )
            axes.plot([], [], dash, marker=marker, color=colour, label=group)
    axes.set_xticks(range(len(files)), [file.form.name for file in files], rotation=20, ha="right")
    axes.set_xlim(-0.4, len(files) - 0.6)


def _scatter_candidates(axes: Any, frontier: Sequence[Candidate], group: str) -> None:
    for kept, marker, label in ((True, "o", "step kept (validation)"), (False, "x", "step rolled back (validation)")):
        tried = [candidate for candidate in frontier if candidate.kept == kept]
        drawn = [(c.bytes, value) for c in tried if (value := _accuracy_after(c, group)) is not None]
        if drawn:
            axes.plot(*zip(*drawn, strict=True), marker, markersize=7, color="#888888", fillstyle="none", label=label)


def _scatter_files(axes: Any, files: Sequence[FormFacts], group: str) -> None:
    networks = list(dict.fromkeys(file.form.network for file in files))
    labelled: set[str] = set()
    for file in files:
        network, accuracy = file.form.network, file.accuracy(group)
        if accuracy is None:
            continue
        place = networks.index(network)
        name = f"{file.form.name} (test, served)" if file.served else f"{network} (test)"
        axes.errorbar(
            # Networks compressed alike have files of one size: side by side, each can be seen.
            file.form.bytes * SIDE_BY_SIDE ** (place - len(networks) / 2),
            accuracy,
            _errors([file.scores[group]]),
            fmt="*" if file.served else MARKERS[place % len(MARKERS)],
            markersize=14 if file.served else 6,
            color=ROLES[file.form.role],
            elinewidth=0.8,
            label=None if name in labelled else name,
        )
        labelled.add(name)


def _accuracy_after(candidate: Candidate, group: str) -> float | None:
    """Return a group's accuracy after a step of compression; None if the search did not look at the group."""
    return next((drop.after for drop in candidate.drops if drop.group == group), None)


def _errors(scores: Sequence[GroupScore]) -> list[list[float]]:
    """Return the lengths of the error bars, downwards and upwards; 0 where a score has no bounds."""
    down = [(s.accuracy or 0.0) - s.low if s.low is not None else 0.0 for s in scores]
    up = [s.high - (s.accuracy or 0.0) if s.high is not None else 0.0 for s in scores]
    return [[max(value, 0.0) for value in side] for side in (down, up)]


def plain_log_axis(axes: Any, ticks: Sequence[float], form: Callable[[float], str] = "{:g}".format) -> None:
    """Make the horizontal axis logarithmic, with a tick at each of `ticks` that has room for its number."""
    shown: list[float] = []
    for tick in sorted(set(ticks)):
        if not shown or tick / shown[-1] > 1.2:
            shown.append(tick)
    axes.set_xscale("log")
    axes.set_xticks(shown, [form(tick) for tick in shown])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()


def svg(figure: Figure, title: str) -> str:
    """Return the figure as an `<svg>` element to stand in HTML, named for those who cannot see it."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)

"""The plots of a learning-rate map: one logarithmic axis of rates with the thresholds, and panels that share it."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from bigstep.records.rate_map import RateMapInfo, Threshold
from verify.report import map_facts
from verify.report.map_metrics import BY_NAME, PANELS, Metric, Panel, write
from verify.report.plots import STYLE, plain_log_axis, svg

WIDTH = 6.4  # inches of every plot that shares the axis
LEFT, RIGHT = 0.095, 0.985  # of the width: the axes of different plots lie below each other
MARKS = (("#D55E00", "o", "-"), ("#0072B2", "s", "--"), ("#7A4F7A", "D", ":"), ("#009E73", "^", "-."))
BANDS = {
    "critical": ("#7A4F7A", "critical rate"),
    "sharpness break": ("#56707F", "break in sharpness"),
    "convergence": ("#0072B2", "convergence"),
    "2A | 2B": ("#009E73", "2A | 2B"),
    "divergence": ("#B3261E", "divergence"),
}
AGES = ("#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b")  # of the epochs, light to dark
NEAREST = 0.085  # distance of two numbers on the axis, as a share of it
MARGIN = 1.25  # factor of the axis beyond the smallest and the largest rate


def axis(info: RateMapInfo) -> str:
    """Draw the axis of rates alone, with the interval or bound of every threshold."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(2.3)
        _draw_axis(axes, info)
        return svg(figure, "Thresholds on the axis of learning rates")


def panel(info: RateMapInfo, which: Panel) -> str:
    """Draw one of the opening panels above the same axis."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(2.35)
        _draw_panel(axes, info, which)
        _ticks(axes, info)
        return svg(figure, f"{which.title} against the learning rate")


def small(info: RateMapInfo, metric: Metric) -> str:
    """Draw one metric in a small panel."""
    with mpl.rc_context({**STYLE, "font.size": 8}):
        figure = Figure(figsize=(3.1, 1.8))
        axes = figure.add_axes((0.17, 0.13, 0.8, 0.83))  # a layout engine would take most of the time
        _draw_metric(axes, info, metric.name, MARKS[1], relative=False)
        _shade(axes, info)
        plain_log_axis(
            axes, [info.rates[0], *map_facts.fitting_rates(info)[-1:], info.rates[-1]], lambda rate: f"{rate:.2g}"
        )
        axes.set_xlim(info.rates[0] / MARGIN, info.rates[-1] * MARGIN)
        return svg(figure, f"{metric.title} against the learning rate")


def poster(info: RateMapInfo) -> str:
    """Draw the axis and the opening panels as one picture."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 12.4))
        places = figure.subplots(len(PANELS) + 1, 1, sharex=True)
        figure.subplots_adjust(left=0.08, right=0.985, top=0.98, bottom=0.04, hspace=0.55)
        _draw_axis(places[0], info)
        places[0].tick_params(labelbottom=False)
        for axes, which in zip(places[1:], PANELS, strict=True):
            _draw_panel(axes, info, which)
        _ticks(places[-1], info)
        places[-1].set_xlabel("learning rate (logarithmic)")
        return svg(figure, "Learning-rate map")


def _figure(height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.add_axes((LEFT, 0.32 / height, RIGHT - LEFT, 1 - 0.78 / height))


def _ticks(axes: Any, info: RateMapInfo) -> None:
    limits = info.rates[0] / MARGIN, info.rates[-1] * MARGIN
    apart = (limits[1] / limits[0]) ** NEAREST
    shown: list[float] = []
    for rate in info.rates:
        if not shown or rate / shown[-1] >= apart:
            shown.append(rate)
    plain_log_axis(axes, shown, lambda rate: f"{rate:.3g}")
    axes.set_xlim(*limits)


def _draw_axis(axes: Any, info: RateMapInfo) -> None:
    _ticks(axes, info)
    low, high = axes.get_xlim()
    for row, threshold in enumerate(info.thresholds):
        colour, label = BANDS[threshold.name]
        _draw_threshold(axes, threshold, -row, (low, high))
        ends = [end for end in (threshold.low, threshold.high) if end is not None]
        left = not ends or min(ends) ** 2 > low * high  # where the bar leaves room
        axes.annotate(
            f"{label}: {_place(threshold)}",
            (low if left else high, -row),
            (3 if left else -3, 2),
            textcoords="offset points",
            ha="left" if left else "right",
            fontsize=8,
            color=colour,
        )
    axes.set_ylim(-len(info.thresholds) + 0.55, 0.95)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_title("thresholds", fontsize=10, loc="left")


def _draw_threshold(axes: Any, threshold: Threshold, y: float, limits: tuple[float, float]) -> None:
    """Draw an interval as a bar; a bound as an arrow from it to the side where the threshold may lie."""
    colour = BANDS[threshold.name][0]
    low, high = threshold.low, threshold.high
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], color=colour, linewidth=4, solid_capstyle="butt")
        axes.plot([(low * high) ** 0.5], [y], "|", color=colour, markersize=10, markeredgewidth=2)
    elif low is not None or high is not None:
        start = low if low is not None else high
        end = limits[1] if low is not None else limits[0]
        axes.annotate("", (end, y), (start, y), arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.5})
        axes.plot([start], [y], "|", color=colour, markersize=10, markeredgewidth=2)


def _place(threshold: Threshold) -> str:
    low, high = threshold.low, threshold.high
    if low is not None and high is not None:
        return f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"
    return f"above {low:.3g}" if low is not None else f"below {high:.3g}" if high is not None else "not found"


def _shade(axes: Any, info: RateMapInfo) -> None:
    """Shade the interval of every threshold; of one with a single end, dash that end."""
    for threshold in info.thresholds:
        colour = BANDS[threshold.name][0]
        if threshold.low is None or threshold.high is None:
            for end in (threshold.low, threshold.high):
                if end is not None:
                    axes.axvline(end, color=colour, linewidth=0.8, alpha=0.6, linestyle="--")
        else:
            axes.axvspan(threshold.low, threshold.high, color=colour, alpha=0.13, linewidth=0)
            axes.axvline((threshold.low * threshold.high) ** 0.5, color=colour, linewidth=0.8, alpha=0.6)


def _draw_panel(axes: Any, info: RateMapInfo, which: Panel) -> None:
    axes.set_title(which.title, fontsize=10, loc="left", pad=19)
    _shade(axes, info)
    if which.name == "losses":
        _draw_shares(axes, info)
    for name, mark in zip(which.metrics, MARKS, strict=False):
        _draw_metric(axes, info, name, mark, relative=name in which.relative)
    for line in axes.get_lines():
        line.set_label(str(line.get_label()).removesuffix(f" {which.title}"))
    if which.log and which.metrics and axes.get_lines():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles,
            labels,
            ncols=len(labels),
            fontsize=8,
            handlelength=1.8,
            columnspacing=1.2,
            loc="lower left",
            bbox_to_anchor=(-0.01, 0.99),
            borderaxespad=0,
            borderpad=0.3,
        )
    else:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes, color="#555555")


def _draw_metric(axes: Any, info: RateMapInfo, name: str, mark: tuple[str, str, str], *, relative: bool) -> None:
    """Draw each seed as a small point, and the mean of the rates of which every seed has the number as a line."""
    colour, marker, dash = mark
    known = [(rate, value) for rate in info.rates if (value := map_facts.mean(info, name, rate)) is not None]
    if not any(map_facts.values(info, name, rate) for rate in info.rates):
        return
    unit = known[0][1] if relative and known and known[0][1] else 1.0
    axes.plot(
        [r for r, _ in known],
        [v / unit for _, v in known],
        dash,
        marker=marker,
        markersize=4,
        color=colour,
        label=BY_NAME[name].title + (f" / {write(unit, 'number')}" if relative and known else ""),
    )
    points = [(rate, value / unit) for rate in info.rates for value in map_facts.values(info, name, rate)]
    axes.scatter(
        [r for r, _ in points], [v for _, v in points], s=7, marker=marker, color=colour, alpha=0.35, linewidth=0
    )


def _draw_shares(axes: Any, info: RateMapInfo) -> None:
    epochs = _spaced(map_facts.common_epochs(info), len(AGES))
    for epoch, colour in zip(epochs, AGES[-len(epochs) :] if epochs else (), strict=True):
        found = [(r, v) for r in info.rates if (v := map_facts.moment_mean(info, r, epoch)) is not None]
        axes.plot(
            [r for r, _ in found], [v for _, v in found], "-o", markersize=3, color=colour, label=f"epoch {epoch}"
        )


def _spaced(epochs: Sequence[int], most: int) -> list[int]:
    if len(epochs) <= most:
        return list(epochs)
    return [epochs[round(i * (len(epochs) - 1) / (most - 1))] for i in range(most)]

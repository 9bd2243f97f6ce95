"""The learning-rate map for people and for programs, drawn from its record alone: a page, a text, tables, a picture."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from bigstep.records.rate_map import MapTrial, RateMapInfo, SecondPhase
from verify.report import map_facts, map_plots
from verify.report.map_facts import Correlation
from verify.report.map_metrics import METRICS, OPENING, PANELS, write
from verify.report.render import html_page, markdown_page

TEMPLATES = ("map.html", "map.md")
KEY = (
    *("unbiased", "aligned", "conflicting", "worst_group", "removable_within_1", "prunability", "steps_to_fit"),
    *("separation", "activation_sparsity", "sharpness_eta_half", "l2"),
)
LOOKED = {  # what is measured while a run trains, and what the table calls it
    "conflicting_loss_share": "loss_share",
    "conflicting_error_confidence": "confidence",
    "logit_norm": "logit_norm",
}
ROW = ("rate", "seed", "status", "steps", "metric", "value")


def documents(info: RateMapInfo, name: str) -> dict[str, str]:
    """Return the files of a map by name: page, text, both tables and the picture.

    Args:
        name: what the run is called.
    """
    facts = _facts(info, name)
    return {
        "lr-map.html": html_page(
            TEMPLATES[0],
            {
                **facts,
                "plots": {
                    "axis": map_plots.axis(info),
                    "panels": [(map_plots.panel(info, which), map_facts.sentence(info, which)) for which in PANELS],
                    "small": [(m, map_plots.small(info, m)) for m in map_facts.present(info) if m.name not in OPENING],
                },
            },
        ),
        "lr-map.md": markdown_page(TEMPLATES[1], facts),
        "lr-map.csv": numbers_csv(info),
        "lr-map-thresholds.csv": thresholds_csv(info),
        "lr-map.svg": map_plots.poster(info),
    }


def numbers_csv(info: RateMapInfo) -> str:
    """Return every number as a row of rate, seed, status, steps, metric and value; an empty value is not known.

    `loss_share@4` is the conflicting share of the training loss after epoch 4, `second.small` the unbiased accuracy
    after fine-tuning at the small rate.
    """
    names = sorted({name for trial in info.trials for name in trial.numbers})
    rows = [row for trial in info.trials for row in _trial_rows(trial, names)]
    trials = {(t.rate, t.seed): t for t in info.trials}
    for second in info.second_phase:
        rows += [
            _row(trials[second.rate, second.seed], f"second.{name}", value)
            for name, value in _second_numbers(second).items()
        ]
    return _csv(ROW, rows)


def thresholds_csv(info: RateMapInfo) -> str:
    """Return one row per threshold: its interval, where an empty end is open, its step budget, and what it says."""
    return _csv(
        ("threshold", "low", "high", "steps", "says"),
        [[t.name, _cell(t.low), _cell(t.high), _cell(t.steps), t.says] for t in info.thresholds],
    )


def _trial_rows(trial: MapTrial, names: Sequence[str]) -> list[list[str]]:
    rows = [_row(trial, name, trial.numbers.get(name)) for name in names]
    for moment in trial.moments:
        rows += [_row(trial, f"{LOOKED[name]}@{moment.epoch}", moment.numbers[name]) for name in LOOKED]
    return rows


def _row(trial: MapTrial, metric: str, value: float | None) -> list[str]:
    return [repr(trial.rate), str(trial.seed), trial.status, _cell(trial.steps), metric, _cell(value)]


def _second_numbers(second: SecondPhase) -> dict[str, float | None]:
    return second.model_dump(exclude={"rate", "seed", "regime", "fault"})


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)


def _csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    return text.getvalue()


def _facts(info: RateMapInfo, name: str) -> dict[str, Any]:
    """Return everything that the templates print."""
    return {
        "name": name,
        "info": info,
        "headline": map_facts.headline(info),
        "sentences": [(which.title, map_facts.sentence(info, which)) for which in PANELS],
        "columns": [m for m in METRICS if m.name in KEY and m in map_facts.present(info)],
        "rates": [_rate_row(info, rate) for rate in info.rates],
        "seconds": [_second_row(row) for row in info.second_phase],
        "correlations": [_correlation_row(c) for c in map_facts.correlations(info)],
        "fitting": map_facts.fitting_rates(info),
        "metrics": map_facts.present(info),
        "unmeasured": _unmeasured(info),
    }


def _rate_row(info: RateMapInfo, rate: float) -> dict[str, Any]:
    statuses = [t.status for t in info.trials if t.rate == rate]
    cells = {}
    for metric in METRICS:
        found, spread = map_facts.mean(info, metric.name, rate), map_facts.deviation(info, metric.name, rate)
        cells[metric.name] = write(found, metric.form) + (
            f" ± {write(spread, metric.form)}" if found is not None and spread is not None else ""
        )
    return {
        "rate": f"{rate:.4g}",
        "seeds": ", ".join(f"{statuses.count(s)} {s}" for s in dict.fromkeys(statuses)),
        **cells,
    }


def _second_row(row: SecondPhase) -> dict[str, str]:
    return {
        "rate": f"{row.rate:.4g}",
        "regime": {1: "regime 1", 2: "regime 2"}[row.regime],
        "where": "regime 1" if row.regime == 1 else "2A" if row.fault is None else f"not 2A: {row.fault}",
        **{name: write(value, "fraction") for name, value in _second_numbers(row).items()},
    }


def _correlation_row(found: Correlation) -> dict[str, str]:
    metric = found.metric
    return {
        "title": metric.title,
        "first": write(found.first, metric.form),
        "last": write(found.last, metric.form),
        "rho": f"{found.rho:+.2f}",
        "span": f"{found.low:+.2f} to {found.high:+.2f}",
        "p": f"{found.p:.4f}" if found.p >= 0.001 else "< 0.001",
        "n": str(found.n),
    }


def _unmeasured(info: RateMapInfo) -> list[str]:
    """Say which metrics no trial has, and which parts failed and why, once for each reason."""
    absent = [m.title for m in METRICS if all(m != p for p in map_facts.present(info))]
    found = [f"Nowhere on this map: {', '.join(absent)}."] if absent else []
    reasons: dict[str, list[str]] = {}
    for trial in info.trials:
        for part, why in trial.missing.items():
            reasons.setdefault(f"{part}: {why}", []).append(trial.name)
    found += [f"{reason} ({len(names)} of {len(info.trials)} networks)." for reason, names in reasons.items()]
    diverged = [t.name for t in info.trials if t.status == "diverged"]
    found += [f"{len(diverged)} runs diverged: they have no network to measure."] if diverged else []
    return found

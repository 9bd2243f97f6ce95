"""The report for people, drawn from the records alone: `report.md`, a self-contained `report.html`, and `card.md`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from bigstep.groups import ALIGNED, CONFLICTING, UNBIASED
from bigstep.records.compact import Candidate, Compact
from bigstep.records.exported import Exported, Form
from bigstep.records.images import Images
from bigstep.records.trained import RatePoint, Trained, TrainedInfo
from bigstep.records.verdict import SEVERITY, Check, GroupScore, Outcome, Verdict, worst
from bigstep.scores import Evidence, flips, group_names
from bigstep.text import format_bytes, format_rate
from verify.report import plots
from verify.report.wording import ICONS, NONE, ORDER, ROLES, headline

TEMPLATES = ("report.html", "report.md", "card.md")


@dataclass(frozen=True)
class Run:
    """Hold the records that a report is drawn from, and the clock readings that lie beside the verdict."""

    name: str
    images: Images
    trained: Trained
    compact: Compact
    exported: Exported
    verdict: Verdict
    measured: Mapping[str, Any]

    @property
    def scores(self) -> dict[tuple[str, str], GroupScore]:
        """Return the verdict's scores by form and group."""
        return plots.by_form_and_group(self.verdict.info.scores)

    @property
    def budgets(self) -> list[Check]:
        """Return the checks on the clock, the worst first."""
        found = [Check.model_validate(check) for check in self.measured["budgets"]]
        return sorted(found, key=lambda check: SEVERITY.index(check.outcome))

    @property
    def outcome(self) -> Outcome:
        """Return the worse of the verdict and the budgets."""
        outcomes = [self.verdict.info.outcome, *(check.outcome for check in self.budgets)]
        return worst(outcomes)

    def p50_ms(self, form: str) -> float | None:
        """Return the median latency of one form at batch 1."""
        value: float | None = self.measured["latency"].get(form, {}).get("p50_ms")
        return value


def write(
    out: Path,
    *,
    bundle_name: str,
    images: Images,
    trained: Trained,
    compact: Compact,
    exported: Exported,
    verdict: Verdict,
) -> None:
    """Write `report.md`, `report.html` and `card.md` into a folder.

    The reports hold clock readings and stay outside every digest; the card holds none and is the same for the same
    records.
    """
    measured = json.loads((verdict.folder / "measured.json").read_bytes())
    run = Run(bundle_name, images, trained, compact, exported, verdict, measured)
    facts = _facts(run)
    drawn = {
        "rates": plots.learning_rates(trained.info),
        "stages": plots.stages(compact, exported, verdict),
        "sizes": plots.sizes(compact, exported, verdict),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(markdown_page("report.md", facts), encoding="utf-8")
    (out / "card.md").write_text(markdown_page("card.md", facts), encoding="utf-8")
    (out / "report.html").write_text(html_page("report.html", {**facts, "plots": drawn}), encoding="utf-8")


def _facts(run: Run) -> dict[str, Any]:
    """Return everything the templates print, as text and plain values."""
    info, verdict = run.exported.info, run.verdict.info
    counts = {o: sum(check.outcome == o for check in verdict.checks) for o in ICONS}
    return {
        "name": run.name,
        "outcome": verdict.outcome,
        "icons": ICONS,
        "headline": headline(verdict.outcome, verdict.outcome),
        "tally": ", ".join(f"{n} {o}" for o, n in counts.items() if n),
        **_told(run),
        "paragraph": _paragraph(run),
        "forms": [_form_row(run, form) for form in sorted(info.forms, key=lambda f: ORDER.index(f.role))],
        **_sorted_checks(verdict.checks),
        "comparisons": [_comparison_row(check) for check in verdict.comparisons],
        "notes": [*verdict.notes, *_missing(run)],
        "flips": _flip_rows(run),
        "labels": _label_rows(run),
        "dense": run.exported.info.dense().name,
        "served": info.form(info.served),
        "groups": _served_groups(run),
        "rates": [_rate_row(run, point) for point in sorted(run.trained.info.points, key=lambda p: p.rate)],
        "why": run.trained.info.why,
        "search": _search(run.trained.info),
        "rates_from": plots.SPLITS[run.trained.info.rule],
        "at_edge": run.trained.info.at_edge,
        "baselines": run.trained.info.baselines,
        "frontier": [_step_row(candidate) for candidate in run.compact.info.frontier],
        "source": run.compact.info.source,
        "contract": info.contract,
        "data": run.images.info,
        "digests": {r.kind: r.digest for r in (run.images, run.trained, run.compact, run.exported, run.verdict)},
        "judged": verdict.judged,
        "fingerprint": run.measured["fingerprint"],
        "timed": _timed(run),
        "machine": _machine(run),
    }


def _told(run: Run) -> dict[str, Any]:
    """Return what the report says where budgets count too; the card speaks of the verdict alone."""
    verdict, budgets = run.verdict.info.outcome, run.budgets
    sentence = ""
    if budgets and budgets[0].outcome != "passed":
        alike = sum(check.outcome == budgets[0].outcome for check in budgets)
        sentence = f" {alike} of {len(budgets)} budgets: {budgets[0].outcome}. The first says: {budgets[0].says}"
    return {
        "outcome_of_all": run.outcome,
        "headline_of_all": headline(verdict, run.outcome),
        "budgets": budgets,
        "budget_sentence": sentence,
    }


def _sorted_checks(checks: Sequence[Check]) -> dict[str, list[Check]]:
    """Put what decides a release first: what did not pass, then groups and floor; the rest is routine."""
    ranked = sorted(checks, key=lambda check: SEVERITY.index(check.outcome))
    decisive = [c for c in ranked if c.outcome != "passed" or c.name.startswith(("non-inferiority", "floor"))]
    return {"checks": decisive, "routine": [c for c in ranked if c not in decisive]}


def _comparison_row(check: Check) -> dict[str, str]:
    network, _, rule = check.name.partition(": ")
    return {
        "network": network,
        "group": rule.partition("(")[2].removesuffix(")"),
        "drop": NONE if check.measured is None else f"{100 * check.measured:+.1f}",
        "bound": NONE if check.bound is None else f"{100 * check.bound:+.1f}",
        "limit": NONE if check.limit is None else f"{100 * check.limit:.1f}",
        "outcome": check.outcome,
    }


def _paragraph(run: Run) -> str:
    """Say in plain English what was made, what it costs, and what the gate decided."""
    info, verdict = run.exported.info, run.verdict.info
    served, dense = info.form(info.served), run.exported.info.dense()
    group = plots.headline_group(verdict.scores)
    now, was = run.scores[served.name, group], run.scores[dense.name, group]
    which = "the test images"
    if group == CONFLICTING:
        which = f"the test images whose {' or '.join(run.images.info.attributes)} suggests a wrong label"
    sentences = [
        f"{run.name} sorts {run.images.info.name} into {len(info.contract.labels)} labels.",
        f"The file to ship, {served.file}, is {format_bytes(served.bytes)} large, "
        f"the uncompressed network {dense.bytes / served.bytes:.1f} times that.",
        f"On {which} it is right on {_percent(now.accuracy)}, the uncompressed network on {_percent(was.accuracy)}.",
    ]
    alike = [form for form in info.forms if (form.role, form.precision) == ("compact_baseline", served.precision)]
    told = [f"{form.name} on {_percent(run.scores[form.name, group].accuracy)}" for form in alike]
    sentences += [f"Conventionally trained and compressed alike: {', '.join(told)}."] if told else []
    sentences += _worst_label(run)
    open_ = [check for check in verdict.checks if check.outcome == verdict.outcome != "passed"]
    total = len(verdict.checks)
    told = [f"{len(open_)} of {total} checks: {verdict.outcome}. The first says: {open_[0].says}"] if open_ else []
    sentences += told or [f"All {total} checks passed."]
    return " ".join(sentences)


def _form_row(run: Run, form: Form) -> dict[str, Any]:
    dense = run.exported.info.dense()
    p50, base = run.p50_ms(form.name), run.p50_ms(dense.name)
    return {
        "name": form.name,
        "role": ROLES[form.role] + (", served" if form.name == run.exported.info.served else ""),
        "precision": form.precision,
        "bytes": format_bytes(form.bytes),
        "smaller": f"{dense.bytes / form.bytes:.2f}x",
        **{group: _bounded(run.scores.get((form.name, group))) for group in (UNBIASED, ALIGNED, CONFLICTING)},
        "latency": NONE if p50 is None else f"{p50:.3f} ms",
        "ratio": NONE if p50 is None or not base else f"{p50 / base:.2f}x",
        **_throughput(run, form.name, dense.name),
        "served": form.name == run.exported.info.served,
    }


def _throughput(run: Run, form: str, dense: str) -> dict[str, str]:
    readings = run.measured["throughput"]
    if form not in readings:
        return {"throughput": NONE, "batch": NONE, "throughput_ratio": NONE}
    rate, base = readings[form]["images_per_s"], readings.get(dense, {}).get("images_per_s")
    ratio = f"{rate / base:.2f}x" if base else NONE
    return {"throughput": format_rate(rate), "batch": str(readings[form]["batch"]), "throughput_ratio": ratio}


def _timed(run: Run) -> str:
    fewest = [min((r["n"] for r in run.measured[kind].values()), default=0) for kind in ("latency", "throughput")]
    if not all(fewest):
        return "not measured"
    return f"{fewest[0]:,} queries of each file at batch 1 and {fewest[1]:,} at its best batch"


def _machine(run: Run) -> str:
    """Say in one sentence where the clock was read; the whole fingerprint is at the end of the report."""
    facts = run.measured["fingerprint"]
    loads = " to ".join(facts[key].split()[0] for key in ("load_before", "load") if key in facts)
    return f"{facts['cpu']}, CPUs: {facts['cpus']}, load {loads}"


def _flip_rows(run: Run) -> list[dict[str, Any]]:
    """Count, per group, predictions that compression turned wrong and right, from the stored outputs."""
    names = (run.exported.info.dense().name, run.exported.info.served)
    evidence = Evidence.of(run.images, {name: run.verdict.array(f"logits.{name}.npy") for name in names})
    groups = group_names(evidence, [])
    found = [flips(evidence, *names, "all" if group == UNBIASED else group) for group in groups]
    return [
        {
            "group": flip.group,
            "n": flip.n,
            "negative": f"{flip.negative} ({flip.negative / flip.n:.1%})",
            "positive": f"{flip.positive} ({flip.positive / flip.n:.1%})",
        }
        for flip in found
        if flip is not None and flip.n
    ]


def _label_rows(run: Run) -> list[dict[str, str]]:
    dense, served = run.exported.info.dense().name, run.exported.info.served
    rows = []
    for label in run.images.info.labels:
        was, now = (run.scores[name, f"label={label}"] for name in (dense, served))
        known = was.accuracy is not None and now.accuracy is not None
        change = f"{100 * ((now.accuracy or 0) - (was.accuracy or 0)):+.1f}" if known else NONE
        row = {"label": label, "n": f"{now.n:,}", "dense": _bounded(was), "served": _bounded(now), "change": change}
        rows.append(row)
    return rows


def _worst_label(run: Run) -> list[str]:
    """Name the label that lost most by compression; no sentence where none lost anything."""
    labels = run.images.info.labels
    names = (run.exported.info.dense().name, run.exported.info.served)
    pairs = {label: [run.scores[name, f"label={label}"].accuracy for name in names] for label in labels}
    losses = {label: was - now for label, (was, now) in pairs.items() if was is not None and now is not None}
    worst = max(losses, key=losses.__getitem__, default=None)
    if worst is None or losses[worst] <= 0:
        return []
    was, now = pairs[worst]
    return [f"The label that lost most is {worst}, from {_percent(was)} to {_percent(now)} (labels are not gated)."]


def _served_groups(run: Run) -> list[dict[str, str]]:
    scores = [score for score in run.verdict.info.scores if score.form == run.exported.info.served]
    return [{"group": score.group, "n": f"{score.n:,}", "accuracy": _bounded(score)} for score in scores]


def _search(trained: TrainedInfo) -> str:
    """Say how the rate was found and what that took."""
    return f"{' '.join(trained.search)} The search took {trained.spent:.1f} of at most 4 trainings' worth of steps."


def _rate_row(run: Run, point: RatePoint) -> dict[str, Any]:
    fitted = sum(status == "fitted" for status in point.statuses)
    others = sorted({status for status in point.statuses if status != "fitted"})
    return {
        "rate": f"{point.rate:.4g}" + (" warm-up" if point.recipe.warmup_steps else ""),
        "seeds": f"{fitted} of {len(point.statuses)} fitted" + (f" ({', '.join(others)})" if others else ""),
        UNBIASED: _percent(point.numbers.get("unbiased")),
        ALIGNED: _percent(point.numbers.get("aligned")),
        CONFLICTING: _percent(point.numbers.get("conflicting")),
        "prunability": NONE if (found := point.numbers.get("prunability")) is None else f"{found:.3f}",
        "score": NONE if point.score is None else f"{point.score:.3f}",
        "chosen": point.recipe == run.trained.info.trial(run.trained.info.chosen).recipe,
    }


def _step_row(candidate: Candidate) -> dict[str, Any]:
    drops = [
        f"{d.group} {d.after:.1%} (drop {100 * d.drop:.2f}, at most {100 * d.high:.2f} points)" for d in candidate.drops
    ]
    return {
        "step": candidate.step,
        "bytes": NONE if candidate.bytes is None else format_bytes(candidate.bytes),
        "drops": "; ".join(drops) or NONE,
        "kept": candidate.kept,
        "why": candidate.why,
        "sha256": candidate.sha256,
    }


def _missing(run: Run) -> list[str]:
    """Name the conventional recipes that never fitted, that chose the same network, or that could not be compressed."""
    recipes, chosen = run.trained.info.baselines, run.trained.info.chosen
    compressed = {model.name for model in run.compact.info.baselines}
    unfitted = [recipe for recipe in recipes if recipe.trial is None]
    found = [f"{r.name}: this conventional recipe never fitted, so it is missing above ({r.why})." for r in unfitted]
    found += [
        f"{r.name}: this conventional recipe chose the same network, {chosen}." for r in recipes if r.trial == chosen
    ]
    lost = [r.name for r in recipes if r.trial not in (None, chosen) and r.name not in compressed]
    return found + [f"{name}: this conventional network could not be compressed." for name in lost]


def _percent(fraction: float | None) -> str:
    return NONE if fraction is None else f"{fraction:.1%}"


def _bounded(score: GroupScore | None) -> str:
    """Write an accuracy with its two one-sided bounds, like `91.2% (89.0 to 93.1)`."""
    if score is None or score.accuracy is None:
        return NONE
    if score.low is None or score.high is None:
        return _percent(score.accuracy)
    return f"{score.accuracy:.1%} ({100 * score.low:.1f} to {100 * score.high:.1f})"


_SPECIAL = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "} | {c: f"\\{c}" for c in "\\|*_`[]"}
)


def _escape_markdown(value: object) -> object:
    """Make any text safe inside a Markdown sentence or table cell; numbers pass through."""
    return str(value).translate(_SPECIAL) if isinstance(value, str) else value


def markdown_page(template: str, facts: Mapping[str, Any]) -> str:
    """Fill in a Markdown template of this folder."""
    # Autoescape would write HTML entities; `finalize` escapes every printed value for Markdown instead.
    environment = _environment(autoescape=False, finalize=_escape_markdown)
    return environment.get_template(template).render(facts)


def html_page(template: str, facts: Mapping[str, Any]) -> str:
    """Fill in an HTML template of this folder; what it does not mark as safe is escaped."""
    return _environment(autoescape=True).get_template(template).render(facts)


def _environment(**options: Any) -> jinja2.Environment:
    return jinja2.Environment(  # noqa: S701 - autoescape is among the options, and HTML has it
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )

"""The report for people, drawn from the records alone: `report.md`, a self-contained `report.html`, and `card.md`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bigstep.groups import ALIGNED, CONFLICTING, UNBIASED
from bigstep.records.compact import Candidate
from bigstep.records.provenance import Provenance
from bigstep.records.run import JudgedRun
from bigstep.records.trained import RatePoint, TrainedInfo
from bigstep.records.verdict import Check, GroupScore
from bigstep.scores import ALL, Evidence, Flips, flips, group_names
from bigstep.text import format_bytes, format_rate
from verify.report import facts, plots
from verify.report.facts import FormFacts
from verify.report.render import html_page, markdown_page
from verify.report.wording import ICONS, NONE

TEMPLATES = ("report.html", "report.md", "card.md")


def write(out: Path, name: str, run: JudgedRun) -> None:
    """Write `report.md`, `report.html` and `card.md` into a folder.

    The reports hold clock readings and stay outside every digest; the card holds none and is the same for the same
    records.

    Args:
        name: what the configuration calls the run.
    """
    told = _told(name, run)
    drawn = {"rates": plots.learning_rates(run.trained.info), "stages": plots.stages(run), "sizes": plots.sizes(run)}
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(markdown_page("report.md", told), encoding="utf-8")
    (out / "card.md").write_text(markdown_page("card.md", told), encoding="utf-8")
    (out / "report.html").write_text(html_page("report.html", {**told, "plots": drawn}), encoding="utf-8")


def _told(name: str, run: JudgedRun) -> dict[str, Any]:
    """Return everything the templates print, as text and plain values."""
    info, verdict, trained = run.exported.info, run.verdict.info, run.trained.info
    counts = {o: sum(check.outcome == o for check in verdict.checks) for o in ICONS}
    served, dense = facts.served_and_dense(run)
    ranked = facts.worst_first(verdict.checks)
    routine = [c for c in ranked if c.outcome == "passed" and c.rule not in ("non-inferiority", "floor")]
    return {
        "name": name,
        "outcome": run.outcome,
        "icons": ICONS,
        "headline": run.headline,
        "tally": ", ".join(f"{n} {o}" for o, n in counts.items() if n),
        "paragraph": _paragraph(name, run),
        "forms": [_form_row(form) for form in facts.forms(run)],
        "decisive": [check for check in ranked if check not in routine],
        "routine": routine,
        "budgets": facts.worst_first(run.budgets),
        "comparisons": verdict.comparisons,
        "notes": [*facts.notes(run), *facts.missing_baselines(run)],
        "flips": _changed_predictions(run),
        "labels": [_label_row(label, dense, served) for label in info.contract.labels],
        "dense": dense.form.name,
        "served": served.form,
        "groups": [{"group": g, "n": f"{s.n:,}", "accuracy": _bounded(s)} for g, s in served.scores.items()],
        "rates": [_rate_row(trained, point) for point in sorted(trained.points, key=lambda p: p.rate)],
        "why": trained.why,
        "search": f"{' '.join(trained.search)} The search took {trained.spent:.1f} of at most 4 trainings' worth of "
        "steps.",
        "rates_from": plots.SPLITS[trained.rule],
        "at_edge": trained.at_edge,
        "baselines": trained.baselines,
        "frontier": run.compact.info.frontier,
        "source": run.compact.info.source,
        "contract": info.contract,
        "data": run.images.info,
        "digests": {r.kind: r.digest for r in (run.images, run.trained, run.compact, run.exported, run.verdict)},
        "judged": verdict.judged,
        "made": [_made_row(kind, one) for kind, one in run.provenance().items()],
        "packages": _packages(run.provenance()),
        "judged_by": _judged_by(run.provenance().get(run.verdict.kind)),
        "fingerprint": run.measured.fingerprint,
        "timed": _timed(run),
        "machine": _machine(run),
        "write_drops": _drops,
        "write_points": _points,
        "write_share": lambda n, of: f"{n:,} ({n / of:.1%})",
        "write_bytes": lambda size: NONE if size is None else format_bytes(size),
    }


def _paragraph(name: str, run: JudgedRun) -> str:
    """Say in plain English what was made, what it costs, and what was decided."""
    (served, dense), group = facts.served_and_dense(run), facts.headline_group(run)
    which = "the test images"
    if group == CONFLICTING:
        which = f"the test images whose {' or '.join(run.images.info.attributes)} suggests a wrong label"
    now, was = _percent(served.accuracy(group)), _percent(dense.accuracy(group))
    alike = ("compact_baseline", served.form.precision)
    told = [
        f"{rival.form.name} on {_percent(rival.accuracy(group))}"
        for rival in facts.forms(run)
        if (rival.form.role, rival.form.precision) == alike
    ]
    sentences = [
        f"{name} sorts {run.images.info.name} into {len(run.exported.info.contract.labels)} labels.",
        f"The compressed file, {served.form.file}, is {format_bytes(served.form.bytes)} large, "
        f"the uncompressed network {served.smaller:.1f} times that.",
        f"On {which} it is right on {now}, the uncompressed network on {was}.",
        *([f"Conventionally trained and compressed alike: {', '.join(told)}."] if told else []),
        *_worst_label(run, dense, served),
        *_first_open(run.verdict.info.checks, "checks"),
        *_first_open(run.budgets, "budgets"),
    ]
    return " ".join(sentences)


def _first_open(checks: Sequence[Check], kind: str) -> list[str]:
    """Say how many checks share the worst outcome, and the first of them; of budgets that were kept, nothing."""
    worst = facts.worst_first(checks)[:1]
    if not worst or worst[0].outcome == "passed":
        return [f"All {len(checks)} checks passed."] if kind == "checks" else []
    alike = sum(check.outcome == worst[0].outcome for check in checks)
    return [f"{alike} of {len(checks)} {kind}: {worst[0].outcome}. The first says: {worst[0].says}"]


def _form_row(facts: FormFacts) -> dict[str, Any]:
    form, latency, throughput = facts.form, facts.latency, facts.throughput
    return {
        "name": form.name,
        "role": facts.role,
        "precision": form.precision,
        "bytes": format_bytes(form.bytes),
        "smaller": f"{facts.smaller:.2f}x",
        **{group: _bounded(facts.scores.get(group)) for group in (UNBIASED, ALIGNED, CONFLICTING)},
        "latency": f"{latency.p50_ms:.3f} ms" if latency else NONE,
        "ratio": _times(facts.latency_ratio),
        "throughput": format_rate(throughput.images_per_s) if throughput else NONE,
        "throughput_ratio": _times(facts.throughput_ratio),
        "batch": str(throughput.batch) if throughput else NONE,
        "served": facts.served,
    }


def _made_row(kind: str, made: Provenance) -> dict[str, str]:
    return {
        "record": kind,
        "begun": _time(made),
        "bigstep": made.bigstep or NONE,
        "commit": made.commit or NONE,
        "python": made.python,
        "device": made.device or "cpu",
    }


def _packages(made: Mapping[str, Provenance]) -> str:
    """List the versions of each package that any stage imported; more than one where stages ran with others."""
    found: dict[str, dict[str, None]] = {}
    for one in made.values():
        for package, version in one.packages.items():
            found.setdefault(package, {})[version] = None
    return ", ".join(f"{package} {' and '.join(versions)}" for package, versions in sorted(found.items()))


def _judged_by(made: Provenance | None) -> str:
    if made is None:
        return ""
    commit = f", commit {made.commit[:12]}{'-dirty' * made.commit.endswith('-dirty')}" if made.commit else ""
    return f"judged {_time(made)} by bigstep {made.bigstep or NONE}{commit}"


def _time(made: Provenance) -> str:
    return f"{made.begun[:10]} {made.begun[11:16]} UTC"


def _timed(run: JudgedRun) -> str:
    fewest = [
        min((reading.n for reading in found.values()), default=0)
        for found in (run.measured.latency, run.measured.throughput)
    ]
    if not all(fewest):
        return "not measured"
    return f"{fewest[0]:,} queries of each file at batch 1 and {fewest[1]:,} at its best batch"


def _machine(run: JudgedRun) -> str:
    """Say in one sentence where the clock was read; the whole fingerprint is at the end of the report."""
    found = run.measured.fingerprint
    loads = " to ".join(found[key].split()[0] for key in ("load_before", "load") if key in found)
    return f"{found['cpu']}, CPUs: {found['cpus']}, load {loads}"


def _changed_predictions(run: JudgedRun) -> list[Flips]:
    """Count, per group with images, predictions that compression turned wrong and right, from the stored outputs."""
    names = run.exported.info.dense.name, run.exported.info.served
    evidence = Evidence.of(run.images, {name: run.verdict.array(f"logits.{name}.npy") for name in names})
    found = [flips(evidence, *names, ALL if group == UNBIASED else group) for group in group_names(evidence, [])]
    return [flip for flip in found if flip is not None and flip.n]


def _label_row(label: str, dense: FormFacts, served: FormFacts) -> dict[str, str]:
    was, now = (form.scores[f"label={label}"] for form in (dense, served))
    change = None if was.accuracy is None or now.accuracy is None else now.accuracy - was.accuracy
    return {
        "label": label,
        "n": f"{now.n:,}",
        "change": _points(change),
        "dense": _bounded(was),
        "served": _bounded(now),
    }


def _worst_label(run: JudgedRun, dense: FormFacts, served: FormFacts) -> list[str]:
    """Name the label that lost most by compression; no sentence where none lost anything."""
    pairs = {
        label: (dense.accuracy(f"label={label}"), served.accuracy(f"label={label}")) for label in run.images.info.labels
    }
    losses = {label: was - now for label, (was, now) in pairs.items() if was is not None and now is not None}
    worst = max(losses, key=losses.__getitem__, default=None)
    if worst is None or losses[worst] <= 0:
        return []
    was, now = map(_percent, pairs[worst])
    return [f"The label that lost most is {worst}, from {was} to {now} (labels are not gated)."]


def _rate_row(trained: TrainedInfo, point: RatePoint) -> dict[str, Any]:
    others = sorted({status for status in point.statuses if status != "fitted"})
    return {
        "rate": f"{point.rate:.4g}" + (" warm-up" if point.recipe.warmup_steps else ""),
        "seeds": f"{point.statuses.count('fitted')} of {len(point.statuses)} fitted"
        + (f" ({', '.join(others)})" if others else ""),
        UNBIASED: _percent(point.numbers.get("unbiased")),
        ALIGNED: _percent(point.numbers.get("aligned")),
        CONFLICTING: _percent(point.numbers.get("conflicting")),
        "prunability": NONE if (found := point.numbers.get("prunability")) is None else f"{found:.3f}",
        "score": NONE if point.score is None else f"{point.score:.3f}",
        "chosen": point.recipe == trained.trial(trained.chosen).recipe,
    }


def _drops(candidate: Candidate) -> str:
    told = (
        f"{d.group} {d.after:.1%} (drop {100 * d.drop:.2f}, at most {100 * d.high:.2f} points)" for d in candidate.drops
    )
    return "; ".join(told) or NONE


def _percent(fraction: float | None) -> str:
    return NONE if fraction is None else f"{fraction:.1%}"


def _points(fraction: float | None, sign: str = "+") -> str:
    return NONE if fraction is None else f"{round(100 * fraction, 1) + 0.0:{sign}.1f}"  # no -0.0


def _times(ratio: float | None) -> str:
    return NONE if ratio is None else f"{ratio:.2f}x"


def _bounded(score: GroupScore | None) -> str:
    """Write an accuracy with its two one-sided bounds, like `91.2% (89.0 to 93.1)`."""
    if score is None or score.accuracy is None:
        return NONE
    if score.low is None or score.high is None:
        return _percent(score.accuracy)
    return f"{score.accuracy:.1%} ({100 * score.low:.1f} to {100 * score.high:.1f})"

"""The checks behind a verdict: three-way, one sentence each, and written so that NaN never passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bigstep.config import VerifyConfig
from bigstep.groups import CONFLICTING
from bigstep.intervals import Interval, accuracy_interval, detectable_drop, drop_interval
from bigstep.records.compact import Compact
from bigstep.records.exported import Exported, Form, Rung
from bigstep.records.verdict import Check, Outcome, worst
from bigstep.scores import ALL, Evidence, Outputs

POWER = 0.8
UNKNOWN_BIAS = (
    "No bias attribute of these images is known: nothing was judged of groups that a spurious correlation could hurt."
)
MOST_SOURCES = 100  # times the sources at hand: beyond that "more data" is no advice


def checks(config: VerifyConfig, evidence: Evidence, compact: Compact, exported: Exported) -> list[Check]:
    """Return every check that decides: outputs, bytes, parity, groups, non-inferiority per group, floor.

    They concern the forms that ship and the dense one they are compared with; baselines decide nothing.
    """
    served, dense = exported.info.served, exported.info.dense().name
    own = [form.name for form in exported.info.forms if form.role in ("compact", "dense")]
    found = [_finite(name, evidence.forms[name]) for name in own]
    found += [_not_constant(served, evidence.forms[served]), _bytes(exported.info.form(served), compact)]
    found += [parity(rung) for rung in exported.info.ladder if rung.network in ("compact", "dense")]
    for group in dict.fromkeys(config.groups):
        found += [_present(config, evidence, group), _non_inferiority(config, evidence, group, dense, served)]
    return [*found, _floor(config, evidence, served)]


def comparisons(config: VerifyConfig, evidence: Evidence, exported: Exported) -> list[Check]:
    """Judge every baseline by the served file's non-inferiority rule; none of these decides anything."""
    dense = exported.info.dense().name
    found = []
    for form in exported.info.forms:
        if form.role in ("baseline", "compact_baseline"):
            for group in dict.fromkeys(config.groups):
                check = _non_inferiority(config, evidence, group, dense, form.name)
                found.append(check.model_copy(update={"name": comparison_name(form.name, group)}))
    return found


def comparison_name(form: str, group: str) -> str:
    """Name the comparison of a baseline's form in a group."""
    return f"{form}: non-inferiority ({group})"


def outcome(checks: Sequence[Check]) -> Outcome:
    """Return failed if any check failed, else undecided if any is (or there is none), else passed."""
    return worst(check.outcome for check in checks) if checks else "undecided"


def notes(
    config: VerifyConfig, evidence: Evidence, compact: Compact, exported: Exported, judged: Sequence[Check]
) -> list[str]:
    """Say what the gate could have seen, and whether it would have stopped the compressed conventional networks.

    Args:
        judged: what `checks` and `comparisons` returned, together.
    """
    served, dense = exported.info.served, exported.info.dense().name
    groups = list(dict.fromkeys(config.groups))
    by_name = {check.name: check for check in judged}
    found = [note for group in groups if (note := _power_note(config, evidence, group, dense, served))]
    if evidence.split.aligned is None:
        found.insert(0, UNKNOWN_BIAS)
    rivals = [form for form in exported.info.forms if form.role == "compact_baseline"]
    unfitted = {
        f"{model.name}-compact-{form.precision}"
        for model in compact.info.baselines
        for form in rivals
        if not model.fitted
    }
    failing = False
    for form in rivals:
        if form.name in unfitted:
            found.append(f"{form.name} (conventional, compressed) never fitted again after pruning: no fair rival.")
            continue
        ruled = _ruled(form.name, groups, by_name)
        failing |= "would fail" in ruled
        found.append(
            f"{form.name} (conventional, compressed alike) {ruled}; {_versus(config, evidence, served, form)}."
        )
    found += _better_than_dense(config, exported, by_name)
    untrue = [parity(rung) for rung in exported.info.ladder if rung.network not in ("compact", "dense")]
    found += [f"Do not trust this baseline. {check.says}" for check in untrue if check.outcome != "passed"]
    if not rivals:
        found.append("No conventionally trained network was compressed, so there is nothing to compare with.")
    elif not failing:
        found.append(
            "No compressed conventional network would fail the rule that the served file is judged by: "
            "on these data this gate shows no advantage of the large learning rate."
        )
    return found


def _ruled(rival: str, groups: Sequence[str], by_name: Mapping[str, Check]) -> str:
    """Say what the rule of the served file, against the same dense file, would have said of another network."""
    outcomes = {group: by_name[comparison_name(rival, group)].outcome for group in groups}
    for outcome, verb in (("failed", "fail"), ("undecided", "not be decided by")):
        hit = [group for group, found in outcomes.items() if found == outcome]
        if hit:
            return f"would {verb} the same rule in: {', '.join(hit)}"
    return "would pass the same rule"


def _versus(config: VerifyConfig, evidence: Evidence, served: str, rival: Form) -> str:
    """Compare a compressed conventional network with the served file itself, where it is hardest."""
    group = ALL if evidence.split.aligned is None else CONFLICTING
    pair = _pair(evidence, group, served, rival.name)
    if pair is None:
        return "it cannot be compared with the served file"
    ours, theirs, sources = pair
    drop = drop_interval(ours, theirs, sources, config.confidence)
    surely = "less" if drop.low > 0 else "more" if drop.high < 0 else ""
    sentence = f"{surely} accurate than" if surely else "not surely different from"
    return f"on {group} images it is {sentence} the served file, {theirs.mean():.1%} against {ours.mean():.1%}"


def _better_than_dense(config: VerifyConfig, exported: Exported, judged: Mapping[str, Check]) -> list[str]:
    """Say which uncompressed conventional networks are surely more accurate than the network that was compressed."""
    dense, found = exported.info.dense().name, []
    for form in exported.info.forms:
        if form.role == "baseline":
            bounds = {group: judged[comparison_name(form.name, group)].bound for group in dict.fromkeys(config.groups)}
            better = [group for group, bound in bounds.items() if bound is not None and bound < 0]
            if better:
                sure = f"with {100 * config.confidence:g}% confidence"
                found.append(
                    f"{form.name} (conventional) is more accurate than {dense}, {sure}, in: {', '.join(better)}."
                )
    return found


def parity(rung: Rung) -> Check:
    """Check one rung of the parity ladder against its limit."""
    upper = rung.measure == "max_abs_difference"
    measured = float("nan") if rung.measured is None else rung.measured
    ok = measured <= rung.limit if upper else measured >= rung.limit
    what = "largest difference of logits" if upper else "share of equal predictions"
    return Check(
        name=f"parity ({rung.network}: {rung.name})",
        outcome="passed" if ok else "failed",
        measured=rung.measured,
        bound=rung.measured,
        relation="<=" if upper else ">=",
        limit=rung.limit,
        n=rung.n,
        says=f"{rung.network}: the {what} ({rung.name}) on {rung.n:,} images is {measured:.3g}, and may be "
        f"{'at most' if upper else 'no less than'} {rung.limit:.3g}, so the two forms "
        f"{'agree' if ok else 'do not agree'}.",
    )


def _finite(form: str, outputs: Outputs) -> Check:
    ok = outputs.non_finite == 0
    return Check(
        name=f"finite outputs ({form})",
        outcome="passed" if ok else "failed",
        measured=outputs.non_finite,
        bound=outputs.non_finite,
        relation="==",
        limit=0,
        n=len(outputs.logits),
        says=f"{form}: {outputs.non_finite:,} of {outputs.logits.size:,} logits on {len(outputs.logits):,} images are "
        f"NaN or infinite, and none may be; {'every' if ok else 'no'} prediction can be judged.",
    )


def _not_constant(form: str, outputs: Outputs) -> Check:
    name, n = f"not constant ({form})", len(outputs.logits)
    if outputs.predicted is None:
        return _undecided(name, ">=", 2, n, f"{form}: not computed, because its outputs are not finite.")
    classes = len(np.unique(outputs.predicted))
    ok = classes >= 2
    return Check(
        name=name,
        outcome="passed" if ok else "failed",
        measured=classes,
        bound=classes,
        relation=">=",
        limit=2,
        n=n,
        says=f"{form} predicts {classes} different labels on {n:,} images, and must predict at least 2"
        + ("." if ok else ": it answers the same whatever it sees."),
    )


def _bytes(served: Form, compact: Compact) -> Check:
    expected = compact.info.model.sha256
    ok = served.sha256 == expected
    return Check(
        name="bytes",
        outcome="passed" if ok else "failed",
        measured=None,
        bound=None,
        relation="==",
        limit=None,
        n=1,
        says=f"{served.name} has sha256 {served.sha256[:12]}…, and the file that compression judged "
        f"{expected[:12]}…: {'the same bytes' if ok else 'other bytes, so its search says nothing about this file'}.",
    )


def _present(config: VerifyConfig, evidence: Evidence, group: str) -> Check:
    name, n, sources = f"group present ({group})", int(evidence.mask(group).sum()), evidence.sources(group)
    if n == 0:
        known = "; ".join(f"{key}: {', '.join(names)}" for key, names in evidence.values.items())
        says = f"{group}: declared, but no test image belongs to it; the data has: {known}."
        return _undecided(name, ">=", config.min_group, 0, says)
    ok = sources >= config.min_group
    return Check(
        name=name,
        outcome="passed" if ok else "undecided",
        measured=sources,
        bound=sources,
        relation=">=",
        limit=config.min_group,
        n=n,
        says=f"{group}: {n:,} test images come from {sources:,} independent sources, and at least {config.min_group:,} "
        f"are needed{', so the group can be judged' if ok else '; that is too few to judge the group'}.",
    )


def _non_inferiority(config: VerifyConfig, evidence: Evidence, group: str, dense: str, form: str) -> Check:
    name, n = f"non-inferiority ({group})", int(evidence.mask(group).sum())
    pair = _pair(evidence, group, dense, form)
    if pair is None:
        why = "no test image belongs to the group" if n == 0 else "the outputs are not finite"
        return _undecided(name, "<=", config.margin, n, f"{group}: not computed for {form}, because {why}.")
    before, after, sources = pair
    drop = drop_interval(before, after, sources, config.confidence)
    result = _three_way(passes=drop.high <= config.margin, fails=not drop.estimate <= config.margin)
    says = (
        f"{group}: {form} is right on {after.mean():.1%} of {n:,} images ({evidence.sources(group):,} independent "
        f"sources) and {dense} on {before.mean():.1%}, a {_change(drop.estimate)} (with {100 * config.confidence:g}% "
        f"confidence, a {_change(drop.high, bound=True)}); the limit is a drop of {_points(config.margin)}"
    )
    ends = {"passed": ", so any loss is small enough.", "failed": ", so the loss is too large."}
    says += ends[result] if result in ends else _what_would_decide(config, pair, drop)
    return Check(
        name=name,
        outcome=result,
        measured=drop.estimate,
        bound=drop.high,
        relation="<=",
        limit=config.margin,
        n=n,
        says=says,
    )


def _floor(config: VerifyConfig, evidence: Evidence, served: str) -> Check:
    group = ALL if evidence.split.aligned is None else CONFLICTING
    floor = 1 / len(evidence.values["label"]) if config.floor is None else config.floor
    mask, correct = evidence.mask(group), evidence.forms[served].correct
    name, n = f"floor ({group})", int(mask.sum())
    if correct is None or n == 0:
        why = "no test image belongs to the group" if n == 0 else "the outputs are not finite"
        return _undecided(name, ">", floor, n, f"{group}: not computed for {served}, because {why}.")
    found = accuracy_interval(correct[mask], evidence.split.sources[mask], config.confidence)
    result = _three_way(passes=found.low > floor, fails=not found.estimate > floor)
    ends = {
        "passed": "it is above",
        "failed": "it is not above",
        "undecided": "the data cannot tell whether it is above",
    }
    kind = "chance" if config.floor is None else "the floor"
    return Check(
        name=name,
        outcome=result,
        measured=found.estimate,
        bound=found.low,
        relation=">",
        limit=floor,
        n=n,
        says=f"{group}: {served} is right on {found.estimate:.1%} of {n:,} images, at least {found.low:.1%} with "
        f"{100 * config.confidence:g}% confidence; {ends[result]} {kind}, {floor:.1%}.",
    )


def _pair(
    evidence: Evidence, group: str, dense: str, form: str
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]] | None:
    """Return dense right, form right, and source of each image of a group; None where that cannot be computed."""
    before, after, mask = evidence.forms[dense].correct, evidence.forms[form].correct, evidence.mask(group)
    if before is None or after is None or not mask.any():
        return None
    return before[mask], after[mask], evidence.split.sources[mask]


def sources_to_decide(
    before_N: NDArray[np.bool_], after_N: NDArray[np.bool_], sources_N: NDArray[np.int64], config: VerifyConfig
) -> int | None:
    """Return about how many independent sources would pass, were more data to look just like these.

    The images are repeated as if from new sources until the bound of the drop is within the margin.

    Returns:
        The number of sources, or None if even MOST_SOURCES times those at hand would not do.
    """
    names, index = np.unique(sources_N, return_inverse=True)

    def decides(times: int) -> bool:
        clusters = np.concatenate([index + len(names) * i for i in range(times)])
        repeated = drop_interval(np.tile(before_N, times), np.tile(after_N, times), clusters, config.confidence)
        return repeated.high <= config.margin

    few, enough = 1, MOST_SOURCES
    if not decides(enough):
        return None
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if decides(middle) else (middle, enough)
    return enough * len(names)


def _what_would_decide(
    config: VerifyConfig, pair: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]], drop: Interval
) -> str:
    before, after, sources = pair
    seen = detectable_drop(drop, float((before != after).mean()), config.confidence, POWER)
    needed = sources_to_decide(before, after, sources, config)
    more = f"about {needed:,} independent sources" if needed else f"not even {MOST_SOURCES} times as many sources"
    return (
        f", so this data cannot tell: the smallest drop it could have shown is {_points(seen)}, and if more data "
        f"looked like this, {more} would decide."
    )


def _power_note(config: VerifyConfig, evidence: Evidence, group: str, dense: str, served: str) -> str | None:
    pair = _pair(evidence, group, dense, served)
    if pair is None:
        return None
    before, after, sources = pair
    drop = drop_interval(before, after, sources, config.confidence)
    seen = detectable_drop(drop, float((before != after).mean()), config.confidence, POWER)
    return (
        f"{group}: the smallest true drop that these {drop.n:,} images could have shown is {_points(seen)} "
        f"(one-sided, {100 * config.confidence:g}% confidence, {POWER:.0%} power)."
    )


def _three_way(*, passes: bool, fails: bool) -> Outcome:
    return "passed" if passes else "failed" if fails else "undecided"


def _undecided(name: str, relation: str, limit: float, n: int, says: str) -> Check:
    values = {"name": name, "relation": relation, "limit": limit, "n": n, "says": says}
    return Check.model_validate({"outcome": "undecided", "measured": None, "bound": None, **values})


def _change(drop: float, *, bound: bool = False) -> str:
    """Write a drop, or one's upper bound, as people say it: a negative drop is a gain."""
    if drop < 0:
        return f"gain of {'at least ' if bound else ''}{_points(-drop)}"
    return f"drop of {'at most ' if bound else ''}{_points(drop)}"


def _points(fraction: float) -> str:
    return f"{100 * fraction:.2f} points"

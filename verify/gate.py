"""The checks behind a verdict: three-way, one sentence each, and written so that NaN never passes."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bigstep.config import VerifyConfig
from bigstep.groups import CONFLICTING
from bigstep.intervals import Interval, accuracy_interval, detectable_drop, drop_interval
from bigstep.records.compact import Compact
from bigstep.records.exported import Exported, Form, Rung
from bigstep.records.verdict import Check, Outcome, three_way, worst
from bigstep.scores import ALL, Evidence, Outputs

POWER = 0.8
UNKNOWN_BIAS = (
    "No bias attribute of these images is known: nothing was judged of groups that a spurious correlation could hurt."
)
MOST_SOURCES = 100  # times the sources at hand: beyond that "more data" is no advice
Judged = Mapping[tuple[str | None, str | None], Check]  # non-inferiority, by form and group


@dataclass(frozen=True)
class Pair:
    """Two files on the same images, shape (N,): which are right by each, their sources, and the drop of accuracy."""

    before: NDArray[np.bool_]
    after: NDArray[np.bool_]
    sources: NDArray[np.int64]
    drop: Interval

    def detectable(self, config: VerifyConfig) -> float:
        """Return the smallest true drop that these images could have shown."""
        discordant = float((self.before != self.after).mean())
        return detectable_drop(self.drop, discordant, config.confidence, POWER)


def checks(config: VerifyConfig, evidence: Evidence, compact: Compact, exported: Exported) -> list[Check]:
    """Return every check that decides: outputs, bytes, parity, groups, non-inferiority per group, floor.

    They concern the forms that ship and the dense one they are compared with; baselines decide nothing.
    """
    served, dense = exported.info.served, exported.info.dense.name
    own = [form.name for form in exported.info.forms if form.role in ("compact", "dense")]
    found = [_finite(name, evidence.forms[name]) for name in own]
    found += [_not_constant(served, evidence.forms[served]), _bytes(exported.info.form(served), compact)]
    found += [parity(rung) for rung in exported.info.ladder if rung.network in ("compact", "dense")]
    for group in dict.fromkeys(config.groups):
        found += [_present(config, evidence, group), _non_inferiority(config, evidence, group, dense, served)]
    return [*found, _floor(config, evidence, served)]


def comparisons(config: VerifyConfig, evidence: Evidence, exported: Exported) -> list[Check]:
    """Judge every baseline by the served file's non-inferiority rule; none of these decides anything."""
    dense = exported.info.dense.name
    baselines = [form.name for form in exported.info.forms if form.role in ("baseline", "compact_baseline")]
    groups = dict.fromkeys(config.groups)
    return [_non_inferiority(config, evidence, group, dense, name) for name in baselines for group in groups]


def outcome(checks: Sequence[Check]) -> Outcome:
    """Return failed if any check failed, else undecided if any is (or there is none), else passed."""
    return worst(check.outcome for check in checks) if checks else "undecided"


def notes(
    config: VerifyConfig, evidence: Evidence, compact: Compact, exported: Exported, compared: Sequence[Check]
) -> list[str]:
    """Say what the gate could have seen, and whether it would have stopped the compressed conventional networks.

    Args:
        compared: what `comparisons` returned.
    """
    served, dense = exported.info.served, exported.info.dense.name
    groups = list(dict.fromkeys(config.groups))
    judged = {(check.form, check.group): check for check in compared}
    found = [UNKNOWN_BIAS] if evidence.split.aligned is None else []
    pairs = {group: _pair(config, evidence, group, dense, served) for group in groups}
    found += [_power_note(config, group, pair) for group, pair in pairs.items() if pair]
    rivals = [form for form in exported.info.forms if form.role == "compact_baseline"]
    unfitted = {model.sha256 for model in compact.info.baselines if not model.fitted}
    found += _absent_cells(evidence)
    for form in rivals:
        told = ") never fitted again after pruning: no fair rival"
        if form.sha256 not in unfitted:
            told = f" alike) {_ruled(form, groups, judged)}; {_versus(config, evidence, served, form)}"
        found.append(f"{form.name} (conventional, compressed{told}.")
    found += _better_than_dense(config, exported, groups, judged)
    untrue = [parity(rung) for rung in exported.info.ladder if rung.network not in ("compact", "dense")]
    found += [f"Do not trust this baseline. {check.says}" for check in untrue if check.outcome != "passed"]
    fair = [form.name for form in rivals if form.sha256 not in unfitted]
    if not rivals:
        found.append("No conventionally trained network was compressed, so there is nothing to compare with.")
    elif all(judged[name, group].outcome != "failed" for name in fair for group in groups):
        found.append(
            "No compressed conventional network would fail the rule that the served file is judged by: "
            "on these data this gate shows no advantage of the large learning rate."
        )
    return found


def _absent_cells(evidence: Evidence) -> list[str]:
    present, declared = evidence.cells()
    if present == declared:
        return []
    return [
        f"Unbiased accuracy is the mean over {present:,} of {declared:,} cells of label and bias; there is no test "
        "image of the others, and nothing was judged of them."
    ]


def _ruled(rival: Form, groups: Sequence[str], judged: Judged) -> str:
    """Say what the rule of the served file, against the same dense file, would have said of another network."""
    for outcome, verb in (("failed", "fail"), ("undecided", "not be decided by")):
        hit = [group for group in groups if judged[rival.name, group].outcome == outcome]
        if hit:
            return f"would {verb} the same rule in: {', '.join(hit)}"
    return "would pass the same rule"


def _versus(config: VerifyConfig, evidence: Evidence, served: str, rival: Form) -> str:
    """Compare a compressed conventional network with the served file itself, where it is hardest."""
    group = _hardest(evidence)
    pair = _pair(config, evidence, group, served, rival.name)
    if pair is None:
        return "it cannot be compared with the served file"
    surely = "less" if pair.drop.low > 0 else "more" if pair.drop.high < 0 else ""
    sentence = f"{surely} accurate than" if surely else "not surely different from"
    accuracies = f"{pair.after.mean():.1%} against {pair.before.mean():.1%}"
    return f"on {group} images it is {sentence} the served file, {accuracies}"


def _better_than_dense(config: VerifyConfig, exported: Exported, groups: Sequence[str], judged: Judged) -> list[str]:
    """Say which uncompressed conventional networks are surely more accurate than the network that was compressed."""
    names = [form.name for form in exported.info.forms if form.role == "baseline"]
    better = {name: [group for group in groups if (judged[name, group].bound or 0) < 0] for name in names}
    than = f"more accurate than {exported.info.dense.name}, with {100 * config.confidence:g}% confidence"
    return [f"{name} (conventional) is {than}, in: {', '.join(where)}." for name, where in better.items() if where]


def parity(rung: Rung) -> Check:
    """Check one rung of the parity ladder against its limit."""
    upper = rung.measure == "max_abs_difference"
    measured = float("nan") if rung.measured is None else rung.measured
    ok = measured <= rung.limit if upper else measured >= rung.limit
    what = "largest difference of logits" if upper else "share of equal predictions"
    return Check(
        rule="parity",
        rung=f"{rung.network}: {rung.name}",
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
        rule="finite outputs",
        form=form,
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
    n = len(outputs.logits)
    if outputs.predicted is None:
        says = f"{form}: not computed, because its outputs are not finite."
        return Check(rule="not constant", form=form, outcome="undecided", relation=">=", limit=2, n=n, says=says)
    classes = len(np.unique(outputs.predicted))
    ok = classes >= 2
    return Check(
        rule="not constant",
        form=form,
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
        rule="bytes",
        form=served.name,
        outcome="passed" if ok else "failed",
        relation="==",
        limit=None,
        n=1,
        says=f"{served.name} has sha256 {served.sha256[:12]}…, and the file that compression judged "
        f"{expected[:12]}…: {'the same bytes' if ok else 'other bytes, so its search says nothing about this file'}.",
    )


def _present(config: VerifyConfig, evidence: Evidence, group: str) -> Check:
    n, sources = int(evidence.mask(group).sum()), evidence.sources(group)
    ok = n > 0 and sources >= config.min_group
    says = (
        f"{group}: {n:,} test images come from {sources:,} independent sources, and at least {config.min_group:,} "
        f"are needed{', so the group can be judged' if ok else '; that is too few to judge the group'}."
    )
    if n == 0:
        known = "; ".join(f"{key}: {', '.join(names)}" for key, names in evidence.values.items())
        says = f"{group}: declared, but no test image belongs to it; the data has: {known}."
    return Check(
        rule="group present",
        group=group,
        outcome="passed" if ok else "undecided",
        measured=sources if n else None,
        bound=sources if n else None,
        relation=">=",
        limit=config.min_group,
        n=n,
        says=says,
    )


def _non_inferiority(config: VerifyConfig, evidence: Evidence, group: str, dense: str, form: str) -> Check:
    n, pair = int(evidence.mask(group).sum()), _pair(config, evidence, group, dense, form)
    if pair is None:
        says = f"{group}: not computed for {form}, because {_why_not(n)}."
        return Check(
            rule="non-inferiority",
            form=form,
            group=group,
            outcome="undecided",
            relation="<=",
            limit=config.margin,
            n=n,
            says=says,
        )
    drop = pair.drop
    result = three_way(passes=drop.high <= config.margin, fails=not drop.estimate <= config.margin)
    says = (
        f"{group}: {form} is right on {pair.after.mean():.1%} of {n:,} images ({evidence.sources(group):,} independent "
        f"sources) and {dense} on {pair.before.mean():.1%}, a {_change(drop.estimate)} (with "
        f"{100 * config.confidence:g}% confidence, a {_change(drop.high, bound=True)}); the limit is a drop of "
        f"{_points(config.margin)}"
    )
    ends = {"passed": ", so any loss is small enough.", "failed": ", so the loss is too large."}
    return Check(
        rule="non-inferiority",
        form=form,
        group=group,
        outcome=result,
        measured=drop.estimate,
        bound=drop.high,
        relation="<=",
        limit=config.margin,
        n=n,
        says=says + (ends[result] if result in ends else _what_would_decide(config, pair)),
    )


def _floor(config: VerifyConfig, evidence: Evidence, served: str) -> Check:
    group = _hardest(evidence)
    floor = 1 / len(evidence.values["label"]) if config.floor is None else config.floor
    mask, correct = evidence.mask(group), evidence.forms[served].correct
    n = int(mask.sum())
    if correct is None or n == 0:
        says = f"{group}: not computed for {served}, because {_why_not(n)}."
        return Check(
            rule="floor", form=served, group=group, outcome="undecided", relation=">", limit=floor, n=n, says=says
        )
    found = accuracy_interval(correct[mask], evidence.split.sources[mask], config.confidence)
    result = three_way(passes=found.low > floor, fails=not found.estimate > floor)
    ends = {
        "passed": "it is above",
        "failed": "it is not above",
        "undecided": "the data cannot tell whether it is above",
    }
    kind = "chance" if config.floor is None else "the floor"
    return Check(
        rule="floor",
        form=served,
        group=group,
        outcome=result,
        measured=found.estimate,
        bound=found.low,
        relation=">",
        limit=floor,
        n=n,
        says=f"{group}: {served} is right on {found.estimate:.1%} of {n:,} images, at least {found.low:.1%} with "
        f"{100 * config.confidence:g}% confidence; {ends[result]} {kind}, {floor:.1%}.",
    )


def _hardest(evidence: Evidence) -> str:
    """Return the group that is judged where one number has to do."""
    return ALL if evidence.split.aligned is None else CONFLICTING


def _why_not(n: int) -> str:
    return "no test image belongs to the group" if n == 0 else "the outputs are not finite"


def _pair(config: VerifyConfig, evidence: Evidence, group: str, before: str, after: str) -> Pair | None:
    """Compare two forms on the images of a group; None where that cannot be computed."""
    was, now, mask = evidence.forms[before].correct, evidence.forms[after].correct, evidence.mask(group)
    if was is None or now is None or not mask.any():
        return None
    sources = evidence.split.sources[mask]
    return Pair(was[mask], now[mask], sources, drop_interval(was[mask], now[mask], sources, config.confidence))


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

    times = range(2, MOST_SOURCES + 1)  # once is what could not be decided
    first = bisect_left(times, True, key=decides)
    return times[first] * len(names) if first < len(times) else None


def _what_would_decide(config: VerifyConfig, pair: Pair) -> str:
    needed = sources_to_decide(pair.before, pair.after, pair.sources, config)
    more = f"about {needed:,} independent sources" if needed else f"not even {MOST_SOURCES} times as many sources"
    return (
        f", so this data cannot tell: the smallest drop it could have shown is {_points(pair.detectable(config))}, and "
        f"if more data looked like this, {more} would decide."
    )


def _power_note(config: VerifyConfig, group: str, pair: Pair) -> str:
    return (
        f"{group}: the smallest true drop that these {pair.drop.n:,} images could have shown is "
        f"{_points(pair.detectable(config))} (one-sided, {100 * config.confidence:g}% confidence, {POWER:.0%} power)."
    )


def _change(drop: float, *, bound: bool = False) -> str:
    """Write a drop, or one's upper bound, as people say it: a negative drop is a gain."""
    if drop < 0:
        return f"gain of {'at least ' if bound else ''}{_points(-drop)}"
    return f"drop of {'at most ' if bound else ''}{_points(drop)}"


def _points(fraction: float) -> str:
    return f"{100 * fraction:.2f} points"

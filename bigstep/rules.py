"""What is asked of a file that is to ship: the rules by which compression keeps one and the gate lets it pass.

Both call the same functions, compression on the validation images and the gate on the test images, so that no file is
kept by one rule and fails by another. Each check is three-way, says one sentence, and is written so that NaN never
passes.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bigstep.config import Config, ExportConfig, VerifyConfig
from bigstep.groups import CONFLICTING
from bigstep.intervals import Interval, accuracy_interval, detectable_drop, drop_interval
from bigstep.records.exported import Rung
from bigstep.records.verdict import Check, three_way
from bigstep.scores import ALL, Evidence, Outputs

POWER = 0.8
MOST_SOURCES = 100  # times the sources at hand: beyond that "more data" is not advice


@dataclass(frozen=True)
class Demands:
    """What a file must meet to be kept: the settings of the gate, with the narrower of both margins, and of parity."""

    verify: VerifyConfig
    export: ExportConfig

    @classmethod
    def of(cls, config: Config) -> "Demands":
        """Take them from a whole configuration."""
        margin = min(config.compress.margin, config.verify.margin)
        return cls(config.verify.model_copy(update={"margin": margin}), config.export)


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
        says=f"{rung.network}: the {what} ({rung.name}) on {rung.n:,} images{_in_batches(rung.batch_sizes)} is "
        f"{measured:.3g}, and may be {'at most' if upper else 'no less than'} {rung.limit:.3g}, so the two forms "
        f"{'agree' if ok else 'do not agree'}.",
    )


def _in_batches(sizes: Sequence[int]) -> str:
    return f", the first of them in batches of {', '.join(map(str, sizes))}," if sizes else ""


def finite(form: str, outputs: Outputs) -> Check:
    """Check that every logit of a file is a number."""
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


def not_constant(form: str, outputs: Outputs) -> Check:
    """Check that a file predicts at least two different labels."""
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


def on_groups(config: VerifyConfig, evidence: Evidence, dense: str, form: str) -> list[Check]:
    """Return the checks of a file that are about groups of images: present, not inferior to the dense file, floor."""
    found: list[Check] = []
    for group in dict.fromkeys(config.groups):
        found += [present(config, evidence, group), non_inferiority(config, evidence, group, dense, form)]
    return [*found, floor(config, evidence, form)]


def present(config: VerifyConfig, evidence: Evidence, group: str) -> Check:
    """Check that enough independent images belong to a group to judge it."""
    n, sources = int(evidence.mask(group).sum()), evidence.sources(group)
    ok = n > 0 and sources >= config.min_group
    says = (
        f"{group}: {n:,} {evidence.name} images come from {sources:,} independent sources, and at least "
        f"{config.min_group:,} are needed"
        f"{', so the group can be judged' if ok else '; that is too few to judge the group'}."
    )
    if n == 0:
        known = "; ".join(f"{key}: {', '.join(names)}" for key, names in evidence.values.items())
        says = f"{group}: declared, but no {evidence.name} image belongs to it; the data has: {known}."
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


def non_inferiority(config: VerifyConfig, evidence: Evidence, group: str, dense: str, form: str) -> Check:
    """Check that a file is not less accurate on a group than the dense one, up to the margin."""
    n, pair = int(evidence.mask(group).sum()), compare(config, evidence, group, dense, form)
    if pair is None:
        says = f"{group}: not computed for {form}, because {_why_not(evidence, n)}."
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
        f"{points(config.margin)}"
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


def floor(config: VerifyConfig, evidence: Evidence, form: str) -> Check:
    """Check that a file is more accurate than the floor, where it is hardest."""
    group = hardest(evidence)
    limit = 1 / len(evidence.values["label"]) if config.floor is None else config.floor
    mask, correct = evidence.mask(group), evidence.forms[form].correct
    n = int(mask.sum())
    if correct is None or n == 0:
        says = f"{group}: not computed for {form}, because {_why_not(evidence, n)}."
        return Check(
            rule="floor", form=form, group=group, outcome="undecided", relation=">", limit=limit, n=n, says=says
        )
    found = accuracy_interval(correct[mask], evidence.split.sources[mask], config.confidence)
    result = three_way(passes=found.low > limit, fails=not found.estimate > limit)
    ends = {
        "passed": "it is above",
        "failed": "it is not above",
        "undecided": "the data cannot tell whether it is above",
    }
    kind = "chance" if config.floor is None else "the floor"
    return Check(
        rule="floor",
        form=form,
        group=group,
        outcome=result,
        measured=found.estimate,
        bound=found.low,
        relation=">",
        limit=limit,
        n=n,
        says=f"{group}: {form} is right on {found.estimate:.1%} of {n:,} images, at least {found.low:.1%} with "
        f"{100 * config.confidence:g}% confidence; {ends[result]} {kind}, {limit:.1%}.",
    )


def hardest(evidence: Evidence) -> str:
    """Return the group that is judged where one number has to do."""
    return ALL if evidence.split.aligned is None else CONFLICTING


def _why_not(evidence: Evidence, n: int) -> str:
    return f"no {evidence.name} image belongs to the group" if n == 0 else "the outputs are not finite"


def compare(config: VerifyConfig, evidence: Evidence, group: str, before: str, after: str) -> Pair | None:
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
        f", so this data cannot tell: the smallest drop it could have shown is {points(pair.detectable(config))}, and "
        f"if more data looked like this, {more} would decide."
    )


def _change(drop: float, *, bound: bool = False) -> str:
    """Write a drop, or one's upper bound, as people say it: a negative drop is a gain."""
    if drop < 0:
        return f"gain of {'at least ' if bound else ''}{points(-drop)}"
    return f"drop of {'at most ' if bound else ''}{points(drop)}"


def points(fraction: float) -> str:
    """Write a share of images, like a drop of accuracy, in points."""
    return f"{100 * fraction:.2f} points"

"""The checks behind a verdict, by the rules of `bigstep.rules`, and what is said beside them."""

from collections.abc import Mapping, Sequence

from bigstep import rules
from bigstep.config import VerifyConfig
from bigstep.records.compact import Compact
from bigstep.records.exported import Exported, Form
from bigstep.records.verdict import Check, Outcome, worst
from bigstep.scores import Evidence

UNKNOWN_BIAS = (
    "No bias attribute of these images is known: nothing was judged of groups that a spurious correlation could hurt."
)
Judged = Mapping[tuple[str | None, str | None], Check]  # non-inferiority, by form and group


def checks(config: VerifyConfig, evidence: Evidence, compact: Compact, exported: Exported) -> list[Check]:
    """Return every check that decides: outputs, bytes, parity, groups, non-inferiority per group, floor.

    They concern the forms that ship and the dense one they are compared with; baselines decide nothing.
    """
    served, dense = exported.info.served, exported.info.dense.name
    own = [form.name for form in exported.info.forms if form.role in ("compact", "dense")]
    found = [rules.finite(name, evidence.forms[name]) for name in own]
    found += [rules.not_constant(served, evidence.forms[served]), _bytes(exported.info.form(served), compact)]
    found += [rules.parity(rung) for rung in exported.info.ladder if rung.network in ("compact", "dense")]
    return found + rules.on_groups(config, evidence, dense, served)


def comparisons(config: VerifyConfig, evidence: Evidence, exported: Exported) -> list[Check]:
    """Judge every baseline by the served file's non-inferiority rule; none of these decides anything."""
    dense = exported.info.dense.name
    baselines = [form.name for form in exported.info.forms if form.role in ("baseline", "compact_baseline")]
    groups = dict.fromkeys(config.groups)
    return [rules.non_inferiority(config, evidence, group, dense, name) for name in baselines for group in groups]


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
    pairs = {group: rules.compare(config, evidence, group, dense, served) for group in groups}
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
    untrue = [rules.parity(rung) for rung in exported.info.ladder if rung.network not in ("compact", "dense")]
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
    group = rules.hardest(evidence)
    pair = rules.compare(config, evidence, group, served, rival.name)
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


def _power_note(config: VerifyConfig, group: str, pair: rules.Pair) -> str:
    return (
        f"{group}: the smallest true drop that these {pair.drop.n:,} images could have shown is "
        f"{rules.points(pair.detectable(config))} (one-sided, {100 * config.confidence:g}% confidence, "
        f"{rules.POWER:.0%} power)."
    )

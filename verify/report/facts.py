"""What every report says of a judged run, as numbers: computed once, and written out by each in its own words."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bigstep.groups import CONFLICTING, UNBIASED
from bigstep.records.exported import Form
from bigstep.records.measured import Latency, noted_instructions
from bigstep.records.run import JudgedRun
from bigstep.records.verdict import SEVERITY, Check, GroupScore
from verify.report.wording import ROLES


@dataclass(frozen=True)
class FormFacts:
    """What is known of one file; a clock reading, or its ratio to that of the dense file, is None where there is none.

    Attributes:
        role: what its network is for, in words.
        smaller: how many times it is as small as the dense file.
        scores: by group.
        latency: at batch 1.
        throughput: at its best batch.
    """

    form: Form
    served: bool
    role: str
    smaller: float
    scores: Mapping[str, GroupScore]
    latency: Latency | None
    latency_ratio: float | None
    throughput: Latency | None
    throughput_ratio: float | None

    def accuracy(self, group: str) -> float | None:
        """Return the accuracy on a group; None where it is not known."""
        return self.scores[group].accuracy if group in self.scores else None


def forms(run: JudgedRun) -> list[FormFacts]:
    """Return what is known of every file, role by role."""
    info, measured = run.exported.info, run.measured
    base, fast = (found.get(info.dense.name) for found in (measured.latency, measured.throughput))

    def facts(form: Form) -> FormFacts:
        latency, throughput = measured.latency.get(form.name), measured.throughput.get(form.name)
        return FormFacts(
            form=form,
            served=form.name == info.served,
            role=ROLES[form.role] + (", served" if form.name == info.served else ""),
            smaller=info.dense.bytes / form.bytes,
            scores={score.group: score for score in run.verdict.info.scores if score.form == form.name},
            latency=latency,
            latency_ratio=latency.p50_ms / base.p50_ms if latency and base and base.p50_ms else None,
            throughput=throughput,
            throughput_ratio=throughput.images_per_s / fast.images_per_s
            if throughput and fast and fast.images_per_s
            else None,
        )

    return [facts(form) for form in info.forms]


def served_and_dense(run: JudgedRun) -> tuple[FormFacts, FormFacts]:
    """Return the file that ships, and the one that it is compared with."""
    info, found = run.exported.info, {facts.form.name: facts for facts in forms(run)}
    return found[info.served], found[info.dense.name]


def headline_group(run: JudgedRun) -> str:
    """Return `conflicting`, or `unbiased` for data without a bias attribute."""
    return CONFLICTING if any(score.group == CONFLICTING for score in run.verdict.info.scores) else UNBIASED


def worst_first(checks: Iterable[Check]) -> list[Check]:
    """Return checks by their outcome, the worst first."""
    return sorted(checks, key=lambda check: SEVERITY.index(check.outcome))


def notes(run: JudgedRun) -> list[str]:
    """Return what the gate noted, and a sentence if processors that round differently had a part in the run."""
    parts: dict[str, Counter[str]] = {}
    trials = run.trained.info.trials
    noted = [("trial", name) for trial in trials for name in noted_instructions(run.trained.trial_folder(trial.name))]
    noted += [("compression", name) for name in noted_instructions(run.compact.folder)]
    noted += [("verdict", name) for name in [run.measured.fingerprint.get("instructions")] if name]
    for part, name in noted:
        parts.setdefault(name, Counter())[part] += 1
    if len(parts) < 2:
        return run.verdict.info.notes
    told = [f"{name} ({', '.join(_times(part, n) for part, n in found.items())})" for name, found in parts.items()]
    return [
        *run.verdict.info.notes,
        f"Processors that round differently computed this run: {'; '.join(told)}. The same settings give other numbers "
        "on each, so part of what lies between two rates may be theirs; numerics = portable makes them agree.",
    ]


def _times(part: str, n: int) -> str:
    return f"{n} {part}s" if part == "trial" and n > 1 else part if part != "trial" else "1 trial"


def missing_baselines(run: JudgedRun) -> list[str]:
    """Name the conventional recipes that never fitted, that chose the same network, or that could not be compressed."""
    recipes, chosen = run.trained.info.baselines, run.trained.info.chosen
    compressed = {model.name for model in run.compact.info.baselines}
    why = [(r.name, f"recipe never fitted, so it is missing above ({r.why})") for r in recipes if r.trial is None]
    why += [(r.name, f"recipe chose the same network, {chosen}") for r in recipes if r.trial == chosen]
    why += [
        (r.name, "network could not be compressed")
        for r in recipes
        if r.trial not in (None, chosen) and r.name not in compressed
    ]
    return [f"{name}: this conventional {told}." for name, told in why]

"""Alarms: what the measurements of a run say is going wrong, in sentences with numbers and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bigstep.records.trained import Measurement


@dataclass(frozen=True)
class Limits:
    """Say where each alarm begins.

    `stability` is S * rate / 2: 1 is where full-batch SGD stops being stable, and it hovers there; `norm_share` is a
    fraction of the step budget; `collapse_loss` is in multiples of chance; `dead` is a share of the last hidden layer.
    """

    stability: float = 1.1
    stability_times: int = 3
    norm_growth: float = 2.0
    norm_share: float = 0.1
    collapse_epochs: int = 5
    collapse_loss: float = 0.98
    collapse_spread: float = 1e-3
    dead: float = 0.5


@dataclass(frozen=True)
class Course:
    """Hold what a run's measurements are compared with.

    `chance_loss` is the loss (nats) of the best answer that ignores the image: the entropy of the training labels.
    """

    rate: float
    max_steps: int
    chance_loss: float


def check(history: Sequence[Measurement], course: Course, limits: Limits = Limits()) -> dict[str, str]:
    """Return the alarms that the last measurement raises, by name; a name in the history is not raised again.

    Args:
        history: every measurement of a run so far, in order; the alarms of earlier ones are those already raised.
        course: what the run was asked to do.
        limits: where each alarm begins.
    """
    raised = {name for measurement in history for name in measurement.alarms}
    return {name: says for name, says in _all(history, course, limits) if name not in raised}


def _all(history: Sequence[Measurement], course: Course, limits: Limits) -> Iterator[tuple[str, str]]:
    alarms = {"unstable": _unstable, "norm": _norm, "collapse": _collapse, "dead": _dead}
    for name, alarm in alarms.items():
        says = alarm(history, course, limits) if history else None
        if says:
            yield name, f"step {history[-1].step}: {says}"


def _unstable(history: Sequence[Measurement], course: Course, limits: Limits) -> str | None:
    """Say that the step was too large for the curvature several measurements in a row.

    Source: Cohen et al. 2021, arXiv:2103.00065, section 3 (sharpness hovers at 2 / rate).
    """
    found = [m.stability for m in history if m.stability is not None][-limits.stability_times :]
    if history[-1].stability is None or len(found) < limits.stability_times or min(found) <= limits.stability:
        return None
    numbers = ", ".join(f"{value:.2f}" for value in found)
    return (
        f"S*eta/2 was {numbers}, above {limits.stability:g} {limits.stability_times} times in a row: steps overshoot "
        f"where the loss curves most; if the loss does not fall, try a rate below {course.rate / found[-1]:.2g}"
    )


def _norm(history: Sequence[Measurement], course: Course, limits: Limits) -> str | None:
    """Say that the weights grew fast; where measurements lie further apart than the window, nobody can tell."""
    last, window = history[-1], limits.norm_share * course.max_steps
    before = [m for m in history[:-1] if last.step - m.step <= window and m.l2]
    if last.l2 is None or not before:
        return None
    least = min(before, key=lambda m: m.l2 or 0.0)
    if not least.l2 or last.l2 < limits.norm_growth * least.l2:
        return None
    return (
        f"the L2 norm of the weights grew from {least.l2:.3g} at step {least.step} to {last.l2:.3g}, within "
        f"{limits.norm_share:.0%} of {course.max_steps} steps: the run is about to diverge or has been thrown far; "
        f"try a rate below {course.rate / 2:.2g}"
    )


def _collapse(history: Sequence[Measurement], course: Course, limits: Limits) -> str | None:
    last = history[-1]
    if not 1 <= last.epoch <= limits.collapse_epochs or last.train_loss is None or last.spread is None:
        return None
    if last.train_loss < limits.collapse_loss * course.chance_loss or last.spread >= limits.collapse_spread:
        return None
    return (
        f"the loss is {last.train_loss:.3g} nats, chance is {course.chance_loss:.3g}, and the outputs no longer depend "
        f"on the image (they vary by {last.spread:.1g}): the network has collapsed; try a rate below "
        f"{course.rate / 2:.2g}"
    )


def _dead(history: Sequence[Measurement], course: Course, limits: Limits) -> str | None:
    last = history[-1]
    if last.dead is None or last.dead <= limits.dead:
        return None
    return (
        f"{last.dead:.0%} of the units of the last hidden layer are zero on every image (limit {limits.dead:.0%}): "
        f"they learn no more; try a rate below {course.rate / 2:.2g}, or accept a smaller network"
    )

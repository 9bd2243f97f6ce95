"""Alarms: what the measurements of a run say is going wrong, in sentences with numbers and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass

from bigstep.records.trained import Moment
from train.step import COLLAPSE_EPOCHS, COLLAPSE_LOSS, CONSTANT_LOGITS

STABILITY = 1.1  # S * rate / 2: 1 is where full-batch SGD stops being stable, and it hovers there
STABILITY_TIMES = 3  # measurements in a row
NORM_GROWTH = 2.0  # of the norm ...
NORM_SHARE = 0.1  # ... within this part of the step budget
DEAD = 0.5  # share of the last hidden layer


@dataclass(frozen=True)
class Course:
    """What the moments of a run are compared with.

    `chance_loss` is the loss (nats) of the best answer that ignores the image: the entropy of the training labels.
    """

    rate: float
    max_steps: int
    chance_loss: float


def check(history: Sequence[Moment], course: Course) -> dict[str, str]:
    """Return the alarms that the last moment raises, by name; a name in the history is not raised again.

    Args:
        history: every moment of a run so far, in order; the alarms of earlier ones are those already raised.
        course: what the run was asked to do.
    """
    raised = {name for moment in history for name in moment.alarms}
    alarms = {"unstable": _unstable, "norm": _norm, "collapse": _collapse, "dead": _dead}
    found = {name: alarm(history, course) for name, alarm in alarms.items() if history and name not in raised}
    return {name: f"step {history[-1].step}: {says}" for name, says in found.items() if says}


def _unstable(history: Sequence[Moment], course: Course) -> str | None:
    """Say that the step was too large for the curvature several measurements in a row.

    Source: Cohen et al. 2021, arXiv:2103.00065, section 3 (sharpness hovers at 2 / rate).
    """
    measured = [m.numbers.get("stability") for m in history]
    found = [value for value in measured if value is not None][-STABILITY_TIMES:]
    if measured[-1] is None or len(found) < STABILITY_TIMES or min(found) <= STABILITY:
        return None
    numbers = ", ".join(f"{value:.2f}" for value in found)
    return (
        f"S*eta/2 was {numbers}, above {STABILITY:g} {STABILITY_TIMES} times in a row: steps overshoot "
        f"where the loss curves most; if the loss does not fall, try a rate below {course.rate / found[-1]:.2g}"
    )


def _norm(history: Sequence[Moment], course: Course) -> str | None:
    """Say that the weights grew fast; where measurements lie further apart than the window, nobody can tell."""
    last, window = history[-1], NORM_SHARE * course.max_steps
    now = last.numbers.get("l2")
    before = [(l2, m.step) for m in history[:-1] if last.step - m.step <= window and (l2 := m.numbers.get("l2"))]
    if now is None or not before:
        return None
    least, at = min(before, key=lambda pair: pair[0])
    if now < NORM_GROWTH * least:
        return None
    return (
        f"the L2 norm of the weights grew from {least:.3g} at step {at} to {now:.3g}, within "
        f"{NORM_SHARE:.0%} of {course.max_steps} steps: the run is about to diverge or has been thrown far; "
        f"try a rate below {course.rate / 2:.2g}"
    )


def _collapse(history: Sequence[Moment], course: Course) -> str | None:
    last = history[-1]
    loss, spread = last.numbers.get("train_loss"), last.numbers.get("spread")
    if not 1 <= last.epoch <= COLLAPSE_EPOCHS or loss is None or spread is None:
        return None
    if loss < COLLAPSE_LOSS * course.chance_loss or spread >= CONSTANT_LOGITS:
        return None
    return (
        f"the loss is {loss:.3g} nats, chance is {course.chance_loss:.3g}, and the outputs no longer depend "
        f"on the image (they vary by {spread:.1g}): the network has collapsed; try a rate below "
        f"{course.rate / 2:.2g}"
    )


def _dead(history: Sequence[Moment], course: Course) -> str | None:
    dead = history[-1].numbers.get("dead")
    if dead is None or dead <= DEAD:
        return None
    return (
        f"{dead:.0%} of the units of the last hidden layer are zero on every image (limit {DEAD:.0%}): "
        f"they learn no more; try a rate below {course.rate / 2:.2g}, or accept a smaller network"
    )

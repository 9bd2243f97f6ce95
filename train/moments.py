"""What a run looks like while it trains: whose loss it is, and how surely it errs, epoch by epoch.

Shapes: N training images, K classes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigstep.records.rate_map import Moment
from bigstep.records.sealed import write_json
from train.measure import loss_share
from train.step import Run

FILE = "moments.json"


@dataclass(frozen=True)
class Losses:
    """Hold logits (N, K), labels (N,) and which images are aligned (N,), None where no attribute is known."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    aligned: NDArray[np.bool_] | None


def note(folder: Path, run: Run, losses: Losses) -> None:
    """Add the present epoch of a run to `moments.json`; one that is there already is replaced."""
    with np.errstate(invalid="ignore", over="ignore"):  # the logits of a run about to diverge overflow
        moment = look(run, losses)
    earlier = [m for m in read(folder) if m.epoch < moment.epoch]
    write_json(folder / FILE, [m.model_dump(mode="json") for m in [*earlier, moment]])


def look(run: Run, losses: Losses) -> Moment:
    """Measure one moment; None stands where a number is not finite or there is nothing to average."""
    share = confidence = math.nan
    if losses.aligned is not None:
        losses_N = loss_share.sample_losses(losses.logits, losses.labels)
        share = loss_share.conflicting_loss_share(losses_N, ~losses.aligned)
        confidence = loss_share.error_confidence(losses.logits, losses.labels, ~losses.aligned)
    numbers = {
        "conflicting_loss_share": share,
        "conflicting_error_confidence": confidence,
        "logit_norm": loss_share.logit_norm(losses.logits),
    }
    known: dict[str, Any] = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    return Moment(epoch=run.epoch, steps=run.steps, **known)


def read(folder: Path) -> list[Moment]:
    """Return the moments that were noted in a folder, in order; none if it has no such file."""
    try:
        return [Moment.model_validate(m) for m in json.loads((folder / FILE).read_bytes())]
    except FileNotFoundError:
        return []

"""What a run looks like while it trains: whose loss it is, and how surely it errs, after epochs 1, 2, 4, 8, ...

Shapes: N training images, K classes.
"""

import json
from pathlib import Path
from typing import final

import numpy as np
from torch import nn

from bigstep.records.numbers import Numbers, finite
from bigstep.records.sealed import write_json
from bigstep.records.trained import Moment
from train.measure import loss_share
from train.measure.readout import Sample, answers
from train.step import Observer, Run

FILE = "moments.json"


@final
class Moments(Observer):
    """An observer that adds to `moments.json` of a trial; a moment that is there already is replaced."""

    def __init__(self, sample: Sample, folder: Path) -> None:
        self._sample, self._folder = sample, folder

    def after_epoch(self, run: Run) -> None:
        """Look where the number of epochs is a power of two."""
        if run.epoch & (run.epoch - 1) == 0:
            self._note(run)

    def end(self, run: Run) -> None:
        """Look at the last weights, unless they diverged."""
        if run.status not in (None, "diverged"):
            self._note(run)

    def _note(self, run: Run) -> None:
        moment = Moment(step=run.steps, epoch=run.epoch, numbers=look(run.model, self._sample))
        earlier = [m for m in read(self._folder) if m.epoch < moment.epoch]
        write_json(self._folder / FILE, [m.model_dump(mode="json") for m in [*earlier, moment]])


def look(model: nn.Module, sample: Sample) -> Numbers:
    """Measure a network; None stands where a number is not finite or there is nothing to average."""
    with np.errstate(invalid="ignore", over="ignore"):  # the logits of a run about to diverge overflow
        found = answers(model, sample)
        return finite(
            {
                "conflicting_loss_share": found.conflicting_loss_share(),
                "conflicting_error_confidence": found.conflicting_error_confidence(),
                "logit_norm": loss_share.logit_norm(found.logits_array),
            }
        )


def read(folder: Path) -> list[Moment]:
    """Return the moments that were noted in a folder, in order; none if it has no such file."""
    try:
        return [Moment.model_validate(m) for m in json.loads((folder / FILE).read_bytes())]
    except FileNotFoundError:
        return []

"""What follows a large constant rate: some steps at a small one, or the average of weights at the large one.

In the band just above the convergence threshold training at a constant rate does not fit, and it is there that such a
second phase pays (Sadrtdinov et al. 2024, arXiv:2410.22113, abstract). A run that has fitted already needs none.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from bigstep.records.trained import FAILED, FinishKind, Status
from train import batch_norm, step
from train.networks.feed import Inputs
from train.networks.predict import mean_loss

FIRST = 0.75  # part of the step budget that is spent at the large rate, if there is a second phase


@dataclass(frozen=True)
class Finish:
    """How a run of at most `whole_steps` is finished.

    `rate` is that of `fine-tune`, if the run has a larger one; averaging goes on at the rate of the run.
    """

    kind: FinishKind = "none"
    rate: float = 0.0
    whole_steps: int = 0

    def first_steps(self, max_steps: int) -> int:
        """Return the steps at the large rate of a run of so many steps."""
        return max_steps if self.kind == "none" else min(max_steps, max(1, math.floor(FIRST * self.whole_steps)))

    def begin(self, run: step.Run, plan: step.Plan, max_steps: int) -> "Finishing":
        """Return the second phase of a run, which shares its weights and goes on counting its steps and epochs."""
        averages = self.kind == "average"
        rate = plan.recipe.rate if averages else min(self.rate, plan.recipe.rate)
        recipe = plan.recipe.model_copy(update={"rate": rate, "warmup_steps": 0})
        after = replace(step.start(run.model, recipe), epoch=run.epoch, steps=run.steps, curve=run.curve)
        stop_loss = -math.inf if averages else plan.stop_loss
        second = replace(plan, recipe=recipe, max_steps=max_steps, stop_loss=stop_loss)
        return Finishing(after, second, AveragedModel(run.model) if averages else None)


@final
@dataclass(frozen=True)
class Finishing(step.Observer):
    """A second phase: the run to fit, its plan, and the average that grows after every epoch, if there is one."""

    run: step.Run
    plan: step.Plan
    averaged: AveragedModel | None

    def after_epoch(self, run: step.Run) -> None:
        """Let the average grow."""
        if self.averaged is not None:
            self.averaged.update_parameters(run.model)

    def finished(self, x_NCHW: Inputs, loss: Callable[[nn.Module], float], stop_loss: float) -> step.Run:
        """Return the finished run, with the averaged weights and their own loss if weights were averaged.

        Args:
            x_NCHW: training images, on which BatchNorm's statistics are measured anew.
            loss: the mean cross entropy of a network on them, nats.
            stop_loss: at most this is a fit.
        """
        if self.averaged is None or self.run.status in FAILED:
            return self.run
        self.averaged.update_parameters(self.run.model)  # nobody is called after the last epoch
        model = batch_norm.renew(self.averaged.module, x_NCHW)
        found = loss(model)
        status: Status = "fitted" if found <= stop_loss else "unfitted" if math.isfinite(found) else "diverged"
        return replace(self.run, model=model, train_loss=found, status=status)


def fit(run: step.Run, x_NCHW: Inputs, y_N: Tensor, plan: step.Plan, finish: Finish) -> step.Run:
    """Train a fresh run to its end, the second phase included, and return it.

    Args:
        x_NCHW, y_N: train images and labels on the network's device.
        plan: the settings of the whole run.
        finish: what follows the large rate in a run of as many steps.
    """
    first = replace(plan, max_steps=finish.first_steps(plan.max_steps))
    step.fit(run, x_NCHW, y_N, first)
    if first.max_steps == plan.max_steps or run.status != "unfitted":
        return run
    second = finish.begin(run, first, plan.max_steps)
    step.fit(second.run, x_NCHW, y_N, second.plan, second.after_epoch)
    return second.finished(x_NCHW, lambda model: mean_loss(model, x_NCHW, y_N), plan.stop_loss)

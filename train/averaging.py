"""The second phase of training after a large rate: go on at a small one, or average weights at the large one.

Both start at a network's present weights with a fresh optimiser and without warm-up, and leave the network unchanged.

Shapes: N images, C channels, H height, W width.
"""

import copy
import math
from dataclasses import replace

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from train import batch_norm, step
from train.networks.feed import Inputs


def fine_tune(model: nn.Module, x_NCHW: Inputs, y_N: Tensor, plan: step.Plan, rate: float) -> step.Run:
    """Train a copy at a small constant rate for exactly `plan.max_steps` steps, unless it diverges or collapses.

    Args:
        model: the network that the large rate has made.
        x_NCHW, y_N: train images and labels on the network's device.
        plan: the settings of the first phase, but for the steps; its rate, warm-up and stopping loss do not count, and
            another seed gives another order of the images.
        rate: learning rate of this phase.

    Source: Sadrtdinov et al. 2024, arXiv:2410.22113 (fine-tuning at a constant small rate).
    """
    second = _second_phase(plan, rate, plan.max_steps)
    return step.fit(step.start(copy.deepcopy(model), second.recipe), x_NCHW, y_N, second)


def average(model: nn.Module, x_NCHW: Inputs, y_N: Tensor, plan: step.Plan, count: int) -> nn.Module:
    """Average the weights now and after each of `count` - 1 more epochs at the plan's rate.

    BatchNorm statistics are measured anew on the train images. If the run ends early, the average is over the
    checkpoints until then; weights of a run that diverged are not among them.

    Args:
        model: the network that the large rate has made.
        x_NCHW, y_N: train images and labels on the network's device.
        plan: the settings of the first phase; its warm-up, stopping loss and number of steps do not count, and another
            seed gives another order of the images.
        count: number of checkpoints, 1 or more.

    Source: Izmailov et al. 2018, arXiv:1803.05407; Sadrtdinov et al. 2024, arXiv:2410.22113 (at a constant rate).
    """
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    if count > 1:
        epoch_steps = step.steps_of_epoch(len(y_N), plan.batch_size, model)
        second = _second_phase(plan, plan.recipe.rate, (count - 1) * epoch_steps)
        run = step.start(copy.deepcopy(model), second.recipe)
        step.fit(run, x_NCHW, y_N, second, lambda run: averaged.update_parameters(run.model))
        if run.status != "diverged":
            averaged.update_parameters(run.model)  # `fit` calls nobody after its last epoch
    return batch_norm.renew(averaged.module, x_NCHW)


def _second_phase(plan: step.Plan, rate: float, steps: int) -> step.Plan:
    """Return a plan that is not stopped by its loss."""
    recipe = plan.recipe.model_copy(update={"rate": rate, "warmup_steps": 0})
    return replace(plan, recipe=recipe, max_steps=steps, stop_loss=-math.inf)

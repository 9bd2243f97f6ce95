"""Mini-batch training to a stopping rule, noticing divergence and collapse, resumable to the same bits on a CPU.

w <- w - rate * mean gradient of the cross entropy over a batch. The batch order of an epoch depends on seed and epoch
alone, so a checkpoint at the end of an epoch needs no state of a random generator.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bigstep.records.trained import Augmentation, Recipe, Status
from train.augment import augment
from train.networks.feed import Inputs, batches
from train.networks.predict import mean_loss, predict

DIVERGED_LOSS = 5.0  # an epoch's mean loss above this multiple of chance, from the third epoch on
COLLAPSE_LOSS = 0.98  # epochs that stay above this multiple of chance ...
COLLAPSE_EPOCHS = 5  # ... for this long, with outputs that no longer depend on the image
PASS_EPOCHS = 5  # epochs between full passes of a run with augmentation
CONSTANT_LOGITS = 1e-3  # standard deviation over images below which outputs do not depend on the image


@dataclass(frozen=True)
class Plan:
    """How to train: optimiser, images per step, and when to stop.

    `stop_loss` is the mean cross entropy (nats) on the whole training set at which a run counts as fitted.
    """

    recipe: Recipe
    batch_size: int
    stop_loss: float
    max_steps: int
    seed: int
    augmentation: Augmentation = "none"


@dataclass
class Run:
    """The state of one training run between epochs. `curve` has (steps, mean batch loss) of each epoch."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    steps: int = 0
    status: Status | None = None
    train_loss: float | None = None
    high_epochs: int = 0
    curve: list[tuple[int, float]] = field(default_factory=list)


class Observer:
    """What looks on while a run trains, and leaves it as it is; by itself it does nothing."""

    def begin(self, run: Run) -> None:
        """Look at a run that is about to begin, or to go on."""

    def after_epoch(self, run: Run) -> None:
        """Look at a run after an epoch that has not ended it."""

    def end(self, run: Run) -> None:
        """Look at a run that has ended; its status is None if something broke it off."""


def start(model: nn.Module, recipe: Recipe) -> Run:
    """Begin a run at the model's present weights."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if recipe.weight_decay:  # a second group costs time at every step
        others = [p for p in parameters if p.ndim < 2]
        groups = [{"params": weights(model), "weight_decay": recipe.weight_decay}, {"params": others}]
    if recipe.optimizer == "adam":
        return Run(model, torch.optim.Adam(groups, lr=recipe.rate))
    return Run(model, torch.optim.SGD(groups, lr=recipe.rate, momentum=recipe.momentum))


def weights(model: nn.Module) -> list[nn.Parameter]:
    """Return the trainable weight matrices and kernels, without biases and the parameters of normalisation."""
    return [p for p in model.parameters() if p.requires_grad and p.ndim > 1]


def fit(run: Run, x_NCHW: Inputs, y_N: Tensor, plan: Plan, after_epoch: Callable[[Run], None] = lambda _: None) -> Run:
    """Train until the stopping rule, the step budget, divergence or collapse; sets `run.status`.

    Args:
        run: a fresh or a resumed run; it is changed in place.
        x_NCHW: normalised float32 images on the model's device, or what hands them out (see `train.networks.feed`).
        y_N: int64 labels on the same device.
        plan: the settings.
        after_epoch: called after each epoch that does not end the run, for checkpoints.
    """
    while run.status is None:
        with _drawing(plan, run.epoch, y_N.device):
            loss = _epoch(run, x_NCHW, y_N, plan)
        end_epoch(run, loss, x_NCHW, y_N, plan)
        if run.status is None:
            after_epoch(run)
    return run


def normalises_batches(model: nn.Module) -> bool:
    """Say whether a network normalises over a batch while it trains, which takes two images at least."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def batch_order(plan: Plan, epoch: int, n: int) -> Tensor:
    """Return the order (n,) in which an epoch, counted from 0, goes through the images."""
    return torch.from_numpy(np.random.default_rng([plan.seed, epoch]).permutation(n))


def end_epoch(run: Run, loss: float, x_NCHW: Inputs, y_N: Tensor, plan: Plan) -> None:
    """Count an epoch, put its mean batch loss (nats) on the curve, and set `run.status` if the run is over."""
    run.epoch += 1
    run.curve.append((run.steps, loss))
    run.status = _status(run, loss / chance_loss(y_N), x_NCHW, y_N, plan)


def chance_loss(y_N: Tensor) -> float:
    """Return the mean cross entropy of guessing by the frequencies of the labels: their entropy, nats."""
    shares = torch.bincount(y_N).double() / len(y_N)
    return float(torch.special.entr(shares).sum())


def steps_of_epoch(n: int, batch_size: int, model: nn.Module) -> int:
    """Return the steps that a network makes in an epoch of n images."""
    return len(_cut(torch.arange(n), batch_size, model))


def save_checkpoint(run: Run, path: Path) -> None:
    """Write everything that `load_checkpoint` needs, replacing an older checkpoint at once."""
    tensors = {f"model.{name}": t for name, t in run.model.state_dict().items()}
    for index, state in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items() if value is not None}
    names = ("epoch", "steps", "high_epochs", "curve", "train_loss")
    counters = {name: getattr(run, name) for name in names}
    written = path.with_suffix(".tmp")
    save_file({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, written, {"run": json.dumps(counters)})
    written.replace(path)


def load_checkpoint(run: Run, path: Path) -> None:
    """Set a fresh run to the state of a checkpoint of the same model and recipe."""
    model: dict[str, Tensor] = {}
    optimizer: dict[int, dict[str, Tensor]] = {}
    with safe_open(path, framework="pt") as file:
        counters: dict[str, Any] = json.loads(file.metadata()["run"])
        for key in file.keys():  # noqa: SIM118 - this object has keys() but is not a mapping
            kind, _, name = key.partition(".")
            if kind == "model":
                model[name] = file.get_tensor(key)
            else:
                index, _, entry = name.partition(".")
                optimizer.setdefault(int(index), {})[entry] = file.get_tensor(key)
    run.model.load_state_dict(model, strict=True)
    run.optimizer.load_state_dict({"state": optimizer, "param_groups": run.optimizer.state_dict()["param_groups"]})
    run.epoch, run.steps, run.high_epochs = counters["epoch"], counters["steps"], counters["high_epochs"]
    run.train_loss = counters["train_loss"]
    run.curve = [(steps, loss) for steps, loss in counters["curve"]]


@contextmanager
def _drawing(plan: Plan, epoch: int, device: torch.device) -> Iterator[None]:
    """Let what a network draws, such as dropout, depend on seed and epoch alone, so that a run can be resumed."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence([plan.seed, epoch, 2]).generate_state(1)[0]))
        yield


def _epoch(run: Run, x_NCHW: Inputs, y_N: Tensor, plan: Plan) -> float:
    """Train for one epoch, or to the step budget, and return the mean loss of its batches."""
    order = batch_order(plan, run.epoch, len(y_N)).to(y_N.device)
    rng = np.random.default_rng([plan.seed, run.epoch, 1])
    run.model.train()
    decayed = weights(run.model) if plan.recipe.l1 else []
    total, seen = torch.zeros((), device=y_N.device), 0
    indices = _cut(order, plan.batch_size, run.model)[: plan.max_steps - run.steps]
    for batch, x_nCHW in zip(indices, batches(x_NCHW, indices), strict=True):
        if run.steps < plan.recipe.warmup_steps:
            _warm_up(run, plan.recipe)
        run.optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(run.model(augment(x_nCHW, plan.augmentation, rng)), y_N[batch])
        loss.backward()
        for weight in decayed:
            assert weight.grad is not None
            weight.grad.add_(weight.detach().sign(), alpha=plan.recipe.l1)
        run.optimizer.step()
        total += loss.detach() * len(batch)
        run.steps, seen = run.steps + 1, seen + len(batch)
    return float(total) / max(seen, 1)


def _cut(order: Tensor, batch_size: int, model: nn.Module) -> list[Tensor]:
    """Cut an order into batches; where batches are normalised, a last one of one image joins the one before."""
    indices = list(order.split(batch_size))
    if 1 < batch_size < len(order) and len(indices[-1]) == 1 and normalises_batches(model):
        indices[-2:] = [torch.cat(indices[-2:])]
    return indices


def _warm_up(run: Run, recipe: Recipe) -> None:
    """Set the rate of the coming step: rate * (step + 1) / warmup_steps, the whole rate at the last of them."""
    for group in run.optimizer.param_groups:
        group["lr"] = recipe.rate * (run.steps + 1) / recipe.warmup_steps


def _status(run: Run, relative_loss: float, x_NCHW: Inputs, y_N: Tensor, plan: Plan) -> Status | None:
    """Decide whether a run is over; `relative_loss` is the epoch's loss in multiples of chance."""
    last = run.curve[-1][1]
    if not math.isfinite(last) or (run.epoch >= 3 and relative_loss > DIVERGED_LOSS):
        return "diverged"
    out_of_steps = run.steps >= plan.max_steps
    # Batches are seen while the weights still move, so only a full pass decides; it is made when it may succeed. Where
    # batches are drawn harder than the images are, their loss does not tell, and a pass is made now and then.
    harder = plan.augmentation != "none" and run.epoch % PASS_EPOCHS == 0
    if last <= 2 * plan.stop_loss or harder or out_of_steps:
        run.train_loss = mean_loss(run.model, x_NCHW, y_N)
        if not math.isfinite(run.train_loss):
            return "diverged"  # the last step overflowed
        if run.train_loss <= plan.stop_loss:
            return "fitted"
    run.high_epochs = run.high_epochs + 1 if relative_loss >= COLLAPSE_LOSS else 0
    if run.high_epochs >= COLLAPSE_EPOCHS and float(predict(run.model, x_NCHW).std(dim=0).max()) < CONSTANT_LOGITS:
        run.train_loss = mean_loss(run.model, x_NCHW, y_N)
        return "collapsed"
    return "unfitted" if out_of_steps else None

"""Many runs of a small network at once: their weights are stacked, and one step of the stack is a step of every run.

A small network leaves a GPU waiting for the next kernel, and so do many of them that train one after the other. Runs of
a stack share the network and the images; each has its own rate, batch order and end.

Results equal those of one-by-one runs up to rounding, and so do those of a stack of another size: only equal operations
on equal shapes give equal bits, on one kind of CPU. A run at the edge of divergence amplifies it, and so does, at any
rate, a ReLU whose input is moved across zero by it: with `digits`, 135 steps at five rates, one unit on one image set
the loss of one run apart by a fraction of 8e-4; the others differ by at most 3e-7.

Shapes: R runs, N images, B images of a batch, C channels, H height, W width.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from bigstep.records.trained import Recipe
from train import step
from train.networks.build import is_small
from train.networks.feed import Inputs
from train.step import Plan, Run

MOST_INPUTS = 2**19  # values in one batch: beyond, a step keeps a GPU busy; not measured on one
WARM_UPS = 3  # passes before a CUDA graph is captured, so that libraries have set up what they need


def can_vectorise(model: nn.Module, x_NCHW: Inputs, plan: Plan) -> bool:
    """Tell whether `fit_together` can train this network in this way; if not, its runs are made one by one.

    It takes plain SGD at a constant rate, without augmentation, on images held as one tensor, and networks that are
    small. Batch normalisation is not supported: its statistics would have to be stacked and updated for every run; nor
    is dropout, which would have to draw for each.
    """
    plain = plan.recipe == Recipe(optimizer="sgd", rate=plan.recipe.rate) and plan.augmentation == "none"
    alone = next(model.buffers(), None) is None and not step.normalises_batches(model)  # no statistics over a batch
    free = all(p.requires_grad for p in model.parameters())
    draws = any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in model.modules())
    held = isinstance(x_NCHW, Tensor) and x_NCHW[0].numel() * plan.batch_size <= MOST_INPUTS
    return plain and is_small(model) and alone and free and held and not draws


def fit_together(runs: Sequence[Run], x_NCHW: Tensor, y_N: Tensor, plans: Sequence[Plan]) -> Iterator[tuple[int, bool]]:
    """Train every run to its own end, as `step.fit` would.

    After each epoch, each run is what it would be on its own: its model, counters, curve and status can be read, and a
    checkpoint of it can be written. A run that ends leaves the stack, so that nothing is computed for it any more.

    Args:
        runs: fresh or resumed runs of one architecture that `can_vectorise`, on the device of the images.
        x_NCHW: normalised float32 images.
        y_N: int64 labels.
        plans: the settings of each run; rates, seeds, `max_steps` and `stop_loss` may differ.

    Yields:
        after each epoch of each run, its index and whether it has ended.
    """
    stack: Stack | None = None
    while going := [i for i, run in enumerate(runs) if run.status is None]:
        lasts = {i: _steps_of_epoch(runs[i], len(y_N), plans[i]) for i in going}
        # Only the last epoch of a step budget is cut short, so nearly always this is one group.
        for steps, members in groupby(sorted(going, key=lambda i: lasts[i]), key=lambda i: lasts[i]):
            group = list(members)
            if stack is None or stack.members != group:
                stack = Stack(group, [runs[i] for i in group], x_NCHW, y_N)
            losses = stack.epoch([plans[i] for i in group], steps)
            for i, loss in zip(group, losses, strict=True):
                step.end_epoch(runs[i], loss, x_NCHW, y_N, plans[i])
        for i in going:
            if runs[i].status is not None:
                _detach(runs[i])
            yield i, runs[i].status is not None


def _steps_of_epoch(run: Run, n: int, plan: Plan) -> int:
    return min(-(-n // plan.batch_size), plan.max_steps - run.steps)


def _detach(run: Run) -> None:
    """Give a run weights of its own again, which free those of the stack."""
    for parameter in run.model.parameters():
        parameter.data = parameter.data.clone()


class Stack:
    """The weights of some runs as one tensor (R, ...) per parameter; those of each model become views of it."""

    def __init__(self, members: list[int], runs: list[Run], x_NCHW: Tensor, y_N: Tensor) -> None:
        self.members, self.runs, self.x_NCHW, self.y_N = members, runs, x_NCHW, y_N
        self.total_R = torch.zeros(len(runs), device=y_N.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        for run in runs:
            run.model.train()
            for parameter in run.model.parameters():  # `vmap` has no rule for pooling of what lies channels last
                parameter.data = parameter.data.contiguous()
        self.parameters: dict[str, Tensor] = stack_module_state([run.model for run in runs])[0]
        rate_R = torch.tensor([-run.optimizer.param_groups[0]["lr"] for run in runs], device=y_N.device)
        self.minus_rate = [rate_R.view(-1, *[1] * (p.ndim - 1)) for p in self.parameters.values()]
        for position, run in enumerate(runs):
            for name, parameter in run.model.named_parameters():
                parameter.data = self.parameters[name].detach()[position]
        model = runs[0].model
        self.losses = vmap(lambda p, x, y: cross_entropy(functional_call(model, p, (x,)), y))

    def epoch(self, plans: Sequence[Plan], steps: int) -> list[float]:
        """Make some steps of the coming epoch in every run; return their mean batch losses in nats."""
        n, size = len(self.y_N), plans[0].batch_size
        orders = [step.batch_order(plan, run.epoch, n) for run, plan in zip(self.runs, plans, strict=True)]
        order_RN = torch.stack(orders).to(self.y_N.device)
        self.total_R.zero_()
        for batch_RB in order_RN.split(size, dim=1)[:steps]:
            if self.y_N.is_cuda and batch_RB.shape[1] == size:
                self._replay(batch_RB)
            else:
                self.step(batch_RB)
        for run in self.runs:
            run.steps += steps
        seen = min(steps * size, n)
        return [float(total) / max(seen, 1) for total in self.total_R.tolist()]

    def step(self, batch_RB: Tensor) -> None:
        """Make one step of every run, on images by their places (R, B); nothing waits for the device."""
        loss_R, gradients = self._gradients(batch_RB)
        with torch.no_grad():
            for p, gradient, minus_rate in zip(self.parameters.values(), gradients, self.minus_rate, strict=True):
                p.addcmul_(gradient, minus_rate)
            self.total_R += loss_R * batch_RB.shape[1]

    def _gradients(self, batch_RB: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the loss of each run, and the gradients: a run's weights move no loss but its own, so a sum serves.

        `vmap` of `grad` gives the same and took 1.4 times as long for the smallest networks (one CPU thread).
        """
        x_RBCHW = self.x_NCHW[batch_RB.flatten()].unflatten(0, batch_RB.shape)
        loss_R = self.losses(self.parameters, x_RBCHW, self.y_N[batch_RB])
        return loss_R.detach(), torch.autograd.grad(loss_R.sum(), list(self.parameters.values()))

    def _replay(self, batch_RB: Tensor) -> None:
        """Make a step by replaying its kernels as one CUDA graph, which spares the cost of launching each."""
        if self.graph is None:
            self.batch_RB = batch_RB.clone()
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    self._gradients(self.batch_RB)
            torch.cuda.current_stream().wait_stream(side)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.step(self.batch_RB)
        self.batch_RB.copy_(batch_RB)
        self.graph.replay()

"""Runs side by side must be the runs that they would be one by one; tolerances are named where they are needed.

Equal bits are promised of equal computations on one kind of CPU: the same operations on tensors of the same shapes. A
stack of seven networks is another computation than a stack of six, and than seven networks one by one: a library may
add in another order, which AMD's processors show and Intel's do not. What differs in shape is held to the tolerances.

A rate at the edge of divergence amplifies rounding (float32 sums in another order) without bound: there, curves are
compared for the first epochs only. Measured on the CPU at moderate rates, 13 epochs: losses differ by at most 4e-7,
weights by at most 8e-5 of the largest weight of their layer.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from bigstep.records.trained import Recipe
from train import stack, step, workers
from train.networks.build import SMALL_PARAMETERS, build, channels_last, load_weights, place, save_weights
from train.networks.predict import mean_loss
from train.setup import Job, Setup
from train.stack import can_vectorise, fit_together
from train.trial import Fitting, go_on, make_trial, run_trial

LOSS_TOLERANCE, WEIGHT_TOLERANCE = 1e-5, 1e-3  # relative; see above
RATES = (0.01, 0.05, 0.2, 1e4)  # the last one diverges at once


@pytest.fixture(scope="module")
def tensors(rows):
    split = rows.split("train")
    x = torch.from_numpy(split.images.copy()).permute(0, 3, 1, 2).float() / 100 - 1
    return x.contiguous(), torch.from_numpy(np.array(split.labels))


@pytest.fixture
def plans(make_plan):
    """Four rates times two seeds; the seeds have different step budgets, both ending within an epoch of six steps."""
    return [
        make_plan(recipe=Recipe(optimizer="sgd", rate=rate), seed=seed, max_steps=40 + 25 * seed, stop_loss=0.2)
        for rate in RATES
        for seed in (0, 1)
    ]


def runs(architecture, plans):
    return [step.start(build(architecture, plan.seed), plan.recipe) for plan in plans]


def together(found, tensors, plans):
    for _ in fit_together(found, *tensors, plans):
        pass
    return found


def losses(run):
    return [loss for _, loss in run.curve]


def weights_differ(a, b):
    """Return the largest difference of two networks, relative to the largest weight of its layer."""
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max(float((p - q).detach().abs().max() / q.detach().abs().max()) for p, q in pairs)


def check_equal(found, expected):
    assert (found.status, found.epoch, found.steps) == (expected.status, expected.epoch, expected.steps)
    assert found.high_epochs == expected.high_epochs
    assert [steps for steps, _ in found.curve] == [steps for steps, _ in expected.curve]
    assert losses(found) == pytest.approx(losses(expected), rel=LOSS_TOLERANCE, nan_ok=True)
    if expected.status != "diverged":
        assert found.train_loss == pytest.approx(expected.train_loss, rel=LOSS_TOLERANCE)
        assert weights_differ(found.model, expected.model) <= WEIGHT_TOLERANCE


@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_every_run_is_the_one_that_it_would_be_alone(request, tensors, plans, family):
    architecture = request.getfixturevalue(family)
    alone = [step.fit(run, *tensors, plan) for run, plan in zip(runs(architecture, plans), plans, strict=True)]
    for found, expected in zip(together(runs(architecture, plans), tensors, plans), alone, strict=True):
        check_equal(found, expected)
    assert {run.status for run in alone} >= {"unfitted", "diverged"}
    assert family == "cnn" or {"fitted"} < {run.status for run in alone}
    assert len({run.steps for run in alone}) >= 3  # so runs left the stack at different times


def test_an_overflowing_run_changes_no_bit_of_the_others(mlp, tensors, plans):
    quiet = [plans[0], replace(plans[2], max_steps=6), *plans[1:6]]  # the second leaves after one epoch in both stacks
    loud = [plans[0], plans[6], *plans[1:6]]
    undisturbed = together(runs(mlp, quiet), tensors, quiet)
    disturbed = together(runs(mlp, loud), tensors, loud)
    assert disturbed[1].status == "diverged" and not np.isfinite(disturbed[1].curve[-1][1])
    assert undisturbed[1].status == "unfitted" and undisturbed[1].steps == disturbed[1].steps
    del undisturbed[1], disturbed[1]
    for a, b in zip(undisturbed, disturbed, strict=True):
        assert a.curve == b.curve and a.status == b.status
        assert all(torch.equal(p, q) for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True))


def test_a_stack_of_another_size_gives_the_same_runs(mlp, tensors, plans):
    seven = together(runs(mlp, plans[:7]), tensors, plans[:7])
    for found, expected in zip(together(runs(mlp, plans[:4]), tensors, plans[:4]), seven[:4], strict=True):
        check_equal(found, expected)


def test_at_the_edge_of_divergence_runs_part_slowly(mlp, tensors, make_plan):
    plan = make_plan(recipe=Recipe(optimizer="sgd", rate=1.0), max_steps=12)
    [alone] = [step.fit(run, *tensors, plan) for run in runs(mlp, [plan])]
    stacked = together(runs(mlp, [plan] * 2), tensors, [plan] * 2)
    for run in stacked:
        assert losses(run) == pytest.approx(losses(alone), rel=1e-3)  # two epochs


def test_after_each_epoch_a_run_can_be_read_and_saved_and_goes_on_from_there(mlp, tensors, plans, tmp_path):
    path, some = tmp_path / "c.safetensors", [plans[0], plans[2]]
    undisturbed = runs(mlp, some)
    for index, over in fit_together(undisturbed, *tensors, some):
        if index == 1 and undisturbed[1].epoch == 2:
            assert not over
            step.save_checkpoint(undisturbed[1], path)
            assert mean_loss(undisturbed[1].model, *tensors) < undisturbed[1].curve[0][1]
    resumed = runs(mlp, some)
    step.load_checkpoint(resumed[1], path)
    assert resumed[1].epoch == 2 and resumed[0].epoch == 0  # runs of a stack need not be in the same epoch
    together(resumed, tensors, some)
    for a, b in zip(undisturbed, resumed, strict=True):
        check_equal(b, a)  # the stack has other sizes at the end, when one run is ahead


def test_a_run_that_has_ended_keeps_its_weights_and_lets_go_of_the_stack(mlp, tensors, plans):
    found = runs(mlp, plans)
    for index, over in fit_together(found, *tensors, plans):
        if over:
            for parameter in found[index].model.parameters():
                assert parameter.untyped_storage().nbytes() == 4 * parameter.numel()
                parameter.data.zero_()
    assert all(float(p.detach().abs().max()) == 0 for run in found for p in run.model.parameters())


@pytest.mark.parametrize(
    ("layer", "values", "expected"),
    [
        (nn.ReLU(), {}, True),
        (nn.GroupNorm(1, 3), {}, True),
        (nn.Dropout(0.0), {}, True),
        (nn.Dropout(0.1), {}, False),
        (nn.BatchNorm2d(3), {}, False),
        (nn.BatchNorm2d(3, track_running_stats=False), {}, False),
        (nn.ReLU(), {"recipe": Recipe(optimizer="adam", rate=0.1)}, False),
        (nn.ReLU(), {"recipe": Recipe(optimizer="sgd", rate=0.1, momentum=0.9)}, False),
        (nn.ReLU(), {"recipe": Recipe(optimizer="sgd", rate=0.1, weight_decay=0.1)}, False),
        (nn.ReLU(), {"augmentation": "flip-shift"}, False),
        (nn.Linear(4, SMALL_PARAMETERS), {}, False),
        (nn.ReLU(), {"batch_size": stack.MOST_INPUTS // 48 + 1}, False),
        (nn.Conv2d(3, 3, 1).requires_grad_(False), {}, False),
    ],
)
def test_what_can_be_stacked(tensors, make_plan, layer, values, expected):
    assert can_vectorise(nn.Sequential(layer), tensors[0], make_plan(**values)) is expected


def test_kernels_that_lie_channels_last_train_to_the_same_weights_and_file(cnn, tensors, plans, tmp_path):
    usual, last = runs(cnn, plans[:2]), runs(cnn, plans[:2])
    for run in last:
        channels_last(run.model)
        assert run.model.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    step.fit(usual[0], *tensors, plans[0])
    step.fit(last[0], *tensors, plans[0])
    assert last[0].model.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    save_weights(last[0].model, tmp_path / "w.safetensors")
    assert weights_differ(load_weights(cnn, tmp_path / "w.safetensors"), usual[0].model) <= WEIGHT_TOLERANCE
    together(last[1:], tensors, plans[1:2])
    check_equal(last[1], step.fit(usual[1], *tensors, plans[1]))


@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_no_step_waits_for_the_device(request, tensors, plans, family):
    """A CUDA graph cannot hold a transfer to the host; tracing shows every operation that a step makes."""
    stacked = stack.Stack([0, 1], runs(request.getfixturevalue(family), plans[:2]), *tensors)
    graph = make_fx(lambda batch_RB: stacked.step(batch_RB))(torch.zeros(2, 4, dtype=torch.int64)).graph
    called = {str(node.target) for node in graph.nodes if node.op == "call_function"}
    assert "aten.addcmul_.default" in called
    assert not called & {"aten._local_scalar_dense.default", "aten.nonzero.default", "aten.item.default"}


def test_trials_side_by_side_are_measured_and_stored_like_others(rows, mlp, tmp_path):
    momentum = Recipe(optimizer="sgd", rate=0.05, momentum=0.9)
    jobs = [Job(f"sgd-{rate:g}-s0", Recipe(optimizer="sgd", rate=rate), 0, 40) for rate in RATES]
    jobs.append(Job("momentum", momentum, 0, 40))
    setups = [Setup(rows, mlp, 16, 0.2, "cpu", tmp_path / name) for name in ("alone", "together")]
    alone = {job.name: run_trial(setups[0], job) for job in jobs}
    found = {trial.name: trial for trial in workers.run_together(setups[1], jobs)}
    assert found.keys() == alone.keys()
    for name, trial in alone.items():
        words = {"name", "recipe", "status", "alarms", "numbers", "finish"}
        assert [vars(found[name])[word] for word in ("status", "alarms", "finish")] == [
            vars(trial)[word] for word in ("status", "alarms", "finish")
        ]
        assert found[name].numbers == pytest.approx(trial.numbers, rel=1e-4)
        numbers = trial.model_dump(exclude=words, exclude_none=True)
        assert found[name].model_dump(exclude=words, exclude_none=True) == pytest.approx(numbers, rel=1e-4)
        kept = [sorted(p.name for p in (setup.out / "trials" / name).iterdir()) for setup in setups]
        assert kept[0] == kept[1]
    assert {trial.status for trial in alone.values()} >= {"unfitted", "diverged"}
    assert {t.name: t for t in workers.run_together(setups[1], jobs)} == found  # now from the disk
    assert not any((setups[1].out / "work").iterdir())


def test_what_asks_for_training_gets_it_before_it_goes_on(rows, mlp, tmp_path):
    making = make_trial(Setup(rows, mlp, 16, 0.2, "cpu", tmp_path), Job("one", Recipe(optimizer="sgd", rate=0.1), 0, 9))
    asked = go_on(making)
    assert isinstance(asked, Fitting) and asked.run.steps == 0 and asked.plan.max_steps == 9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_a_stack_on_the_gpu_equals_one_by_one_runs_on_the_cpu(request, tensors, plans, family):
    architecture = request.getfixturevalue(family)
    moderate = plans[:6]
    alone = [step.fit(run, *tensors, p) for run, p in zip(runs(architecture, moderate), moderate, strict=True)]
    models = [place(build(architecture, plan.seed), "cuda") for plan in moderate]
    found = [step.start(model, plan.recipe) for model, plan in zip(models, moderate, strict=True)]
    together(found, [t.cuda() for t in tensors], moderate)
    for run, expected in zip(found, alone, strict=True):
        assert (run.status, run.steps) == (expected.status, expected.steps)
        assert losses(run) == pytest.approx(losses(expected), rel=1e-3)

"""Batches that are normalised, and networks that draw: a last batch of one image, and runs that can be resumed."""

import pytest
import torch
from torch import nn

from bigstep.config import TrainConfig
from bigstep.errors import ConfigError
from bigstep.records.trained import Recipe
from train import stage, step

RECIPE = Recipe(optimizer="sgd", rate=0.1)
X_NCHW, Y_N = torch.randn(9, 3, 2, 2, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 3


def network(*layers):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), *layers, nn.Linear(8, 3))


def fit(model, steps, batch_size=4, run=None):
    run = run or step.start(model, RECIPE)
    return step.fit(run, X_NCHW, Y_N, step.Plan(RECIPE, batch_size, 1e-9, steps, 0))


@pytest.mark.parametrize(
    ("layer", "batch_size", "sizes"),
    [
        (nn.BatchNorm1d(8), 4, [4, 5]),
        (nn.BatchNorm1d(8), 2, [2, 2, 2, 3]),
        (nn.BatchNorm1d(8), 8, [9]),
        (nn.BatchNorm1d(8), 5, [5, 4]),
        (nn.BatchNorm1d(8), 9, [9]),
        (nn.ReLU(), 4, [4, 4, 1]),
    ],
)
def test_a_last_batch_of_one_image_joins_the_one_before_where_batches_are_normalised(layer, batch_size, sizes):
    model, seen = network(layer), []
    model[1].register_forward_hook(lambda _, __, output: seen.append(len(output)) if model.training else None)
    run = fit(model, len(sizes), batch_size)
    assert seen == sizes and run.steps == len(sizes) and run.epoch == 1


def test_batches_of_one_image_cannot_be_normalised(rows, tmp_path):
    with pytest.raises(ConfigError, match="normalises over batches"):
        stage.run(TrainConfig(network="resnet18", batch_size=1), rows, device="cpu", out=tmp_path)


def test_what_a_network_draws_depends_on_seed_and_epoch_alone(tmp_path):
    whole = fit(network(nn.Dropout(0.5)), 9)
    torch.manual_seed(123)
    first = fit(network(nn.Dropout(0.5)), 6)
    step.save_checkpoint(first, tmp_path / "c.safetensors")
    resumed = step.start(network(nn.Dropout(0.5)), RECIPE)
    step.load_checkpoint(resumed, tmp_path / "c.safetensors")
    before = torch.get_rng_state()
    fit(None, 9, run=resumed)
    assert resumed.steps == 9 and torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(t, resumed.model.state_dict()[n]) for n, t in whole.model.state_dict().items())
    assert not torch.equal(network(nn.Dropout(0.5))[1].weight, whole.model[1].weight)

"""What the trials share: images held once, the network at which a seed starts, and the jobs of recipes and seeds."""

import copy
from dataclasses import replace

import torch

from bigstep.records.trained import Recipe
from train import prepare
from train.networks.build import build, save_weights
from train.setup import Job, jobs_of


def test_every_seed_of_every_recipe_is_a_whole_training():
    slow, fast = (Recipe(optimizer="sgd", rate=rate) for rate in (0.1, 0.5))
    assert jobs_of([slow, fast], range(2), 30) == [
        Job("sgd-0.1-s0", slow, 0, 30),
        Job("sgd-0.1-s1", slow, 1, 30),
        Job("sgd-0.5-s0", fast, 0, 30),
        Job("sgd-0.5-s1", fast, 1, 30),
    ]


def test_a_seed_starts_at_its_own_weights_or_at_the_pretrained_ones(rows, tmp_path, stage_config):
    setup = prepare.make_setup(stage_config, rows, "cpu", tmp_path)
    first, again, other = (setup.network(seed)[1].weight for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    save_weights(build(setup.architecture, 9), tmp_path / "w.safetensors")
    pretrained = replace(setup, pretrained=tmp_path / "w.safetensors")
    assert torch.equal(pretrained.network(3)[1].weight, build(setup.architecture, 9)[1].weight)


def test_a_split_is_read_once_and_never_sent_to_a_worker(rows, tmp_path, stage_config):
    setup = prepare.make_setup(stage_config, rows, "cpu", tmp_path)
    assert setup.sample("train") is setup.sample("train") and list(setup.held) == ["train"]
    assert len(setup.first_training_images().y) == min(2000, len(setup.sample("train").y))
    assert copy.copy(setup).held == {}  # made of the same state as what a worker gets

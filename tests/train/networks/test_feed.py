"""Where pixels are held must not matter: whole, by batch, read ahead, memory-mapped."""

import numpy as np
import pytest
import torch

from train import step
from train.networks import feed
from train.networks.build import build, normalise
from train.networks.feed import Pixels, batches, inputs


@pytest.fixture
def mapped(rows):
    return rows.split("train").images


def test_few_images_are_a_tensor_and_many_are_not(mapped, mlp, monkeypatch):
    assert isinstance(inputs(mapped, mlp, "cpu"), torch.Tensor)
    monkeypatch.setattr(feed, "FLOAT_BYTES", 4 * mapped.size - 1)
    assert isinstance(inputs(mapped, mlp, "cpu"), Pixels)


def test_batches_are_those_of_the_whole(mapped, mlp):
    whole, pixels = normalise(mapped, mlp), Pixels(mapped, mlp, "cpu")
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(mapped)))
    assert len(pixels) == len(whole)
    assert torch.equal(pixels[3:11], whole[3:11])
    assert torch.equal(pixels[order[:7]], whole[order[:7]])
    for split in (order.split(10), order.split(len(order)), ()):
        ahead = list(batches(pixels, split))
        assert len(ahead) == len(split)
        assert all(torch.equal(a, b) for a, b in zip(ahead, batches(whole, split), strict=True))


def test_the_first_images_are_not_read_before_they_are_asked_for(mapped, mlp):
    whole, pixels = normalise(mapped, mlp), Pixels(mapped, mlp, "cpu")
    few = feed.first(pixels, 5)
    assert isinstance(few, Pixels) and len(few) == 5 and np.shares_memory(few.memory, pixels.memory)
    assert torch.equal(few[:], whole[:5]) and torch.equal(feed.first(whole, 5), whole[:5])
    assert len(pixels) == len(whole)


def test_training_ends_at_the_same_bits_wherever_pixels_are_held(rows, mlp, make_plan):
    split = rows.split("train")
    y_N = torch.from_numpy(np.array(split.labels))
    plan = make_plan(augmentation="flip-shift")
    runs = [
        step.fit(step.start(build(mlp), plan.recipe), x, y_N, plan)
        for x in (normalise(split.images, mlp), Pixels(split.images, mlp, "cpu"))
    ]
    assert runs[0].curve == runs[1].curve and runs[0].steps == plan.max_steps
    for a, b in zip(*(run.model.parameters() for run in runs), strict=True):
        assert torch.equal(a, b)


def test_an_error_while_reading_ahead_reaches_the_caller(mapped, mlp):
    beyond = [torch.tensor([0]), torch.tensor([len(mapped)])]
    with pytest.raises(IndexError):
        list(Pixels(mapped, mlp, "cpu").ahead(beyond))

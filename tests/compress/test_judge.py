"""Drops by group, against counts made by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from bigstep.errors import CompressError
from bigstep.intervals import drop_interval
from compress import search as searching
from compress.judge import Judge


@pytest.fixture
def write(mlp, contract, write_plain, tmp_path):
    """Return a function that writes a linear model (logits = brightness of the row of each label + bias)."""

    def write_linear(name: str, *bias: float, looks: bool = True):
        model = nn.Sequential()
        model.add_module("head", nn.Linear(48, 3))
        with torch.no_grad():
            model.head.weight.zero_()
            for label in range(3):
                model.head.weight.view(3, 3, 4, 4)[label, :, label] = float(looks)
            model.head.bias.copy_(torch.tensor(bias or (0.0, 0.0, 0.0)))
        write_plain(model, mlp, contract, tmp_path / f"{name}.onnx")
        return tmp_path / f"{name}.onnx"

    return write_linear


def test_drops_are_counts_of_the_groups(rows, contract, write):
    split = rows.split("validation")
    judge = Judge(split, contract, write("perfect"))
    assert judge.before.all()
    drops = {d.group: d for d in judge.drops(write("constant", 0.0, 1.0, 0.0, looks=False))}
    assert list(drops) == ["aligned", "conflicting"]
    for name, mask in [("aligned", split.aligned), ("conflicting", ~split.aligned)]:
        right = (split.labels == 1)[mask]
        assert drops[name].before == 1.0 and drops[name].after == pytest.approx(right.mean())
        assert drops[name].drop == pytest.approx(1 - right.mean())
        bounds = drop_interval(np.ones_like(right), right, split.sources[mask], 0.95)
        assert (drops[name].low, drops[name].high) == (bounds.low, bounds.high)
        assert bounds.low < drops[name].drop < bounds.high


def test_the_same_file_drops_nothing_and_a_better_one_gains(rows, contract, write):
    constant, perfect = write("constant", 0.0, 1.0, 0.0, looks=False), write("perfect")
    judge = Judge(rows.split("validation"), contract, constant)
    assert [d.drop for d in judge.drops(constant)] == [0.0, 0.0]
    gained = judge.drops(perfect)
    assert all(d.drop < -0.5 and d.high < 0 for d in gained)


def test_a_group_without_images_is_left_out(rows, contract, write):
    split = rows.split("validation")
    only_aligned = dataclasses.replace(split, aligned=np.ones(len(split.labels), dtype=bool))
    path = write("perfect")
    assert [d.group for d in Judge(only_aligned, contract, path).drops(path)] == ["aligned"]


def test_data_without_bias_attributes_is_one_group(rows, contract, write):
    split = dataclasses.replace(rows.split("validation"), aligned=None)
    [drop] = Judge(split, contract, write("perfect")).drops(write("constant", 0.0, 1.0, 0.0, looks=False))
    assert (drop.group, drop.before, drop.after) == ("all", 1.0, pytest.approx(1 / 3))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_dense_file_whose_logits_are_not_finite_is_a_user_error(rows, contract, write, bad):
    broken = write("broken", 0.0, bad, 0.0)
    with pytest.raises(CompressError, match=r"broken\.onnx returns logits that are not finite"):
        Judge(rows.split("validation"), contract, broken)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_candidate_whose_logits_are_not_finite_is_not_judged(rows, contract, write, bad):
    judge = Judge(rows.split("validation"), contract, write("perfect"))
    assert judge.drops(write("broken", 0.0, bad, 0.0)) == []
    assert searching._decide([], 0.5, 1, 2) == (False, "taken back: its logits are not finite")

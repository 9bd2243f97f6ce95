"""Drops by group, against counts made by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from bigstep.config import VerifyConfig
from bigstep.errors import CompressError
from bigstep.intervals import drop_interval
from bigstep.records.exported import Rung
from compress.judge import Judge
from compress.search import decide


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


ASKED = VerifyConfig(margin=0.5, min_group=10)


def outcomes(checks):
    return {check.name.replace("the candidate", "file"): check.outcome for check in checks}


def test_drops_are_counts_of_the_groups(rows, contract, write):
    split = rows.split("validation")
    judge = Judge(ASKED, rows, contract, write("perfect"))
    assert judge.evidence.forms["the dense file"].correct.all()
    _, found = judge.judge(write("constant", 0.0, 1.0, 0.0, looks=False), [])
    drops = {d.group: d for d in found}
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
    judge = Judge(ASKED, rows, contract, constant)
    assert [d.drop for d in judge.judge(constant, [])[1]] == [0.0, 0.0]
    checks, gained = judge.judge(perfect, [])
    assert all(d.drop < -0.5 and d.high < 0 for d in gained)
    assert set(outcomes(checks).values()) == {"passed"}


def test_every_rule_of_the_gate_is_asked(rows, contract, write):
    judge = Judge(ASKED, rows, contract, write("perfect"))
    low = Rung(network="the candidate", name="r", measure="argmax_agreement", measured=0.96, limit=0.97, n=48)
    checks, _ = judge.judge(write("constant", 0.0, 1.0, 0.0, looks=False), [low])
    assert outcomes(checks) == {
        "finite outputs (file)": "passed",
        "not constant (file)": "failed",
        "parity (file: r)": "failed",
        "group present (aligned)": "passed",
        "non-inferiority (aligned)": "failed",
        "group present (conflicting)": "passed",
        "non-inferiority (conflicting)": "failed",
        "floor (conflicting)": "undecided",  # 11 of 32 are right, a little more than chance
    }
    assert all("test image" not in check.says for check in checks)


@pytest.mark.parametrize(
    ("settings", "undecided"),
    [
        ({"groups": ("label=top", "label=top,shade=d")}, ["group present (label=top,shade=d)"]),
        ({"min_group": 17}, ["group present (aligned)"]),
        ({"confidence": 0.9999, "margin": 0.2}, ["non-inferiority (aligned)", "non-inferiority (conflicting)"]),
        ({"floor": 0.95}, ["floor (conflicting)"]),
    ],
)
def test_what_the_gate_could_not_decide_is_not_decided_here(rows, contract, write, settings, undecided):
    path = write("perfect")
    checks, _ = Judge(ASKED.model_copy(update=settings), rows, contract, path).judge(path, [])
    found = outcomes(checks)
    assert {found[name] for name in undecided} == {"undecided"}
    assert decide(checks, [], 1, 2)[0] is False
    assert set(outcomes(Judge(ASKED, rows, contract, path).judge(path, [])[0]).values()) == {"passed"}


def test_the_gated_groups_are_judged_and_where_it_is_hardest(rows, contract, write):
    path = write("perfect")
    asked = ASKED.model_copy(update={"groups": ("label=top", "all")})
    checks, drops = Judge(asked, rows, contract, path).judge(path, [])
    assert [check.group for check in checks if check.rule == "non-inferiority"] == ["label=top", "all"]
    assert [drop.group for drop in drops] == ["label=top", "all", "conflicting"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_dense_file_whose_logits_are_not_finite_is_a_user_error(rows, contract, write, bad):
    broken = write("broken", 0.0, bad, 0.0)
    with pytest.raises(CompressError, match=r"broken\.onnx returns logits that are not finite"):
        Judge(ASKED, rows, contract, broken)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_candidate_whose_logits_are_not_finite_is_taken_back(rows, contract, write, bad):
    checks, drops = Judge(ASKED, rows, contract, write("perfect")).judge(write("broken", 0.0, bad, 0.0), [])
    kept, why = decide(checks, drops, 1, 2)
    assert not kept and drops == []
    assert why.startswith("taken back: the candidate: 48 of 144 logits on 48 images are NaN or infinite")


def test_a_file_that_passes_is_kept_if_it_is_smaller(rows, contract, write):
    path = write("perfect")
    checks, drops = Judge(ASKED, rows, contract, path).judge(path, [])
    assert decide(checks, drops, 9, 10) == (True, "kept: aligned may drop by up to 14.5 points, 9 bytes")
    assert decide(checks, drops, 10, 10) == (False, "taken back: no smaller (10 bytes, 10 before)")

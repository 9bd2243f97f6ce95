"""Pretrained weights: taken over to the bit, the last layer left out for other classes, anything else refused."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from bigstep.config import TrainConfig
from bigstep.errors import ConfigError
from bigstep.records.architecture import Architecture
from train import prepare, stage
from train.networks import pretrained
from train.networks.build import build, load_weights, save_weights
from train.networks.user_files import sources


@pytest.fixture
def weights(mlp):
    return {name: tensor.clone() for name, tensor in build(mlp, seed=7).state_dict().items()}


def start(mlp, path):
    model = build(mlp, seed=1)
    dropped = pretrained.start_from(model, path)
    return model.state_dict(), dropped


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth"])
def test_all_weights_are_taken_over(mlp, weights, tmp_path, name):
    (save_file if name.endswith("tensors") else torch.save)(weights, tmp_path / name)
    found, dropped = start(mlp, tmp_path / name)
    assert dropped == [] and all(torch.equal(found[n], weights[n]) for n in weights)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_checkpoint_may_hold_them_under_a_name(mlp, weights, tmp_path, key):
    torch.save({key: weights, "epoch": 3}, tmp_path / "w.pth")
    found, _ = start(mlp, tmp_path / "w.pth")
    assert torch.equal(found["hidden1.weight"], weights["hidden1.weight"])


def test_the_last_layer_starts_afresh_for_other_classes(mlp, weights, tmp_path):
    weights |= {"head.weight": torch.zeros(10, 5), "head.bias": torch.zeros(10)}
    save_file(weights, tmp_path / "w.safetensors")
    found, dropped = start(mlp, tmp_path / "w.safetensors")
    fresh = build(mlp, seed=1).state_dict()
    assert dropped == ["head.weight", "head.bias"]
    assert all(torch.equal(found[n], (fresh if n in dropped else weights)[n]) for n in weights)


def test_counters_of_normalised_batches_may_be_missing(tmp_path):
    architecture = Architecture(
        family="mobilenet_v3_small",
        widths={},
        classes=2,
        input={"height_px": 8, "width_px": 8},
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        blocks=1,
    )
    weights = build(architecture, seed=7).state_dict()
    old = {n: t.clone() for n, t in weights.items() if not n.endswith("num_batches_tracked")}
    save_file(old, tmp_path / "w.safetensors")
    model = build(architecture, seed=1)
    assert len(old) < len(weights) and pretrained.start_from(model, tmp_path / "w.safetensors") == []
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


CHANGES = {
    "missing": (lambda w: w.pop("hidden2.bias"), r"hidden2\.bias is missing"),
    "strange": (lambda w: w.update(extra=torch.zeros(1)), "extra is not one of its tensors"),
    "another width": (
        lambda w: w.update({"hidden1.weight": torch.zeros(9, 48), "hidden2.weight": torch.zeros(5, 9)}),
        r"hidden1\.weight is \(9, 48\), not \(6, 48\); hidden2\.weight is \(5, 9\)",
    ),
    "another input": (lambda w: w.update({"hidden1.weight": torch.zeros(6, 5)}), r"hidden1\.weight is \(6, 5\)"),
    "not finite": (lambda w: w["hidden1.bias"].fill_(float("nan")), r"hidden1\.bias has values that are not finite"),
}


@pytest.mark.parametrize(("change", "says"), CHANGES.values(), ids=CHANGES)
def test_weights_of_another_network_are_refused_by_name(mlp, weights, tmp_path, change, says):
    change(weights)
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match=says) as caught:
        start(mlp, tmp_path / "w.safetensors")
    assert caught.value.exit_code == 2


class Harmful:
    def __reduce__(self):
        return (print, ("code from a file of weights ran",))


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 damaged", pickle.dumps({"head.bias": Harmful()}), pickle.dumps([1, 2])],
    ids=["empty", "damaged", "code", "no mapping"],
)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_other_files_are_refused_and_nothing_in_them_runs(mlp, tmp_path, capsys, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"the weights .*{name} cannot be read"):
        start(mlp, tmp_path / name)
    assert capsys.readouterr().out == ""


def test_a_changed_file_is_noticed_and_a_missing_one_named(tmp_path):
    path = tmp_path / "w.safetensors"
    config = TrainConfig(weights=str(path))
    with pytest.raises(ConfigError, match=r"the file of train\.weights cannot be read"):
        sources(config)
    path.write_bytes(b"one")
    before = sources(config)
    path.write_bytes(b"two")
    assert set(before) == {"weights"} and sources(config) != before


def test_every_trial_starts_from_them(rows, tmp_path):
    config = TrainConfig(
        widths=(4,), num_rates=1, num_seeds=1, max_steps=1, baseline_max_steps=1, stop_loss=10.0, min_rate=0.01
    )
    teacher = build(prepare.architecture_of(config, rows), seed=9)
    save_weights(teacher, tmp_path / "w.safetensors")
    started = config.model_copy(update={"weights": str(tmp_path / "w.safetensors")})
    trained = stage.run(started, rows, device="cpu", out=tmp_path)
    model = load_weights(trained.info.architecture, trained.weights(trained.info.chosen))
    moved = (model.hidden1.weight - teacher.hidden1.weight).abs().max()
    assert 0 < moved < 0.05 * teacher.hidden1.weight.abs().max()

"""Pretrained weights: taken over to the bit, the last layer left out for other classes, anything else refused."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

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


def named(weights, start):
    return {f"{start}{name}": tensor for name, tensor in weights.items()}


def arrays(weights, dtype):
    return {name: tensor.numpy().astype(dtype) for name, tensor in weights.items()}


WRAPPED = {
    "DataParallel": lambda w: named(w, "module."),
    "torch.compile": lambda w: named(w, "_orig_mod."),
    "one block compiled": lambda w: {n.replace("hidden1", "hidden1._orig_mod"): t for n, t in w.items()},
    "Lightning": lambda w: {"state_dict": named(w, "model."), "epoch": 3, "hyper_parameters": {"lr": 0.1}},
    "Lightning, compiled, parallel": lambda w: {"state_dict": named(w, "model._orig_mod.module.")},
    "a backbone's name": lambda w: {"student": named(w, "encoder.net.")},
    "timm": lambda w: {"state_dict": w, "arch": "x"},
    "model": lambda w: {
        "model": w,
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": []},
    },
    "model_state_dict": lambda w: {"model_state_dict": w},
    "EMA alone": lambda w: {"state_dict_ema": w},
    "EMA before the weights": lambda w: {"model_ema": {n: t + 1 for n, t in w.items()}, "model": w},
    "averaged": lambda w: {"n_averaged": torch.tensor(3), **named(w, "module.")},
    "numbers between the tensors": lambda w: {**w, "epoch": 3},
    "numpy": lambda w: arrays(w, np.float32),
    "numpy, half": lambda w: arrays(w, np.float16),
    "numpy, double, big endian": lambda w: arrays(w, ">f8"),
    "a score of numpy": lambda w: {"model": w, "best": np.float64(0.5)},
    "half": lambda w: {n: t.half() for n, t in w.items()},
    "bfloat16": lambda w: {n: t.bfloat16() for n, t in w.items()},
    "double": lambda w: {n: t.double() for n, t in w.items()},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_what_other_trainers_leave_is_read(mlp, weights, tmp_path, wrap, zipped):
    torch.save(wrap(weights), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    found, dropped = start(mlp, tmp_path / "w.pth")
    assert dropped == [] and all(torch.allclose(found[n], t, rtol=0, atol=2e-3) for n, t in weights.items())
    assert all(tensor.dtype == torch.float32 for tensor in found.values())


def test_the_suffix_does_not_count(mlp, weights, tmp_path):
    torch.save(weights, tmp_path / "w.safetensors")
    save_file(weights, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        assert torch.equal(start(mlp, tmp_path / name)[0]["head.bias"], weights["head.bias"])


OTHER_FILES = {
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "web page": (b"\n<!DOCTYPE html><html></html>", "download the file itself"),
    "index": (b'{"weight_map": {}}', "merge the parts into one file"),
    "Keras": (b"\x89HDF\r\n\x1a\n", "convert it to tensors by name"),
    "nothing": (b"", "copy it again from where it came"),
}


@pytest.mark.parametrize(("content", "do"), OTHER_FILES.values(), ids=OTHER_FILES)
def test_a_file_of_another_kind_is_named_with_what_to_do(mlp, tmp_path, content, do):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ConfigError, match=do):
        start(mlp, tmp_path / "w.pth")


class Settings:
    rate = 0.1


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("held", "says"), [(Settings(), "Settings"), (nn.Linear(2, 2), r"Linear"), (print, "print")])
def test_objects_are_named_and_not_made(mlp, weights, tmp_path, held, says, zipped):
    torch.save({"state_dict": weights, "hyper_parameters": held}, tmp_path / "w", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ConfigError, match=rf"objects of Python beside the tensors, [\w.]*{says}") as caught:
        start(mlp, tmp_path / "w")
    assert "save the tensors alone" in str(caught.value) and "weights_only" not in str(caught.value)


UNUSABLE = {
    "integers": lambda t: t.to(torch.int8),
    "complex": lambda t: t.to(torch.complex64),
    "sparse": lambda t: t.to_sparse(),
    "no values at all": lambda t: t.to("meta"),
}


@pytest.mark.parametrize("change", UNUSABLE.values(), ids=UNUSABLE)
def test_tensors_that_are_no_weights_are_refused_by_name(mlp, weights, tmp_path, change):
    torch.save({name: change(tensor) for name, tensor in weights.items()}, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"hidden1\.weight is torch\."):
        start(mlp, tmp_path / "w.pt")


def test_doubles_beyond_single_precision_are_not_finite(mlp, weights, tmp_path):
    torch.save({name: 1e300 * tensor.double() for name, tensor in weights.items()}, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"hidden1\.weight has values that are not finite.*\n.*earlier checkpoint"):
        start(mlp, tmp_path / "w.pt")


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

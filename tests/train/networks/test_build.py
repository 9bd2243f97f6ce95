"""Networks from architectures: the same every time, strict about weights, and equal in a fresh process."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bigstep.errors import TrainError
from bigstep.records.trained import Recipe
from train import step
from train.networks.build import build, load_weights, normalise, save_weights
from train.networks.predict import mean_loss


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_one_seed_gives_one_network_and_leaves_the_generator_alone(family, request):
    architecture = request.getfixturevalue(family)
    before = torch.get_rng_state()
    first, again, other = (weights_of(build(architecture, seed)) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("family", "names"), [("mlp", ["hidden1", "hidden2"]), ("cnn", ["conv1", "conv2"])])
def test_logits_have_one_row_per_image_and_layers_their_names(family, names, request):
    architecture = request.getfixturevalue(family)
    model = build(architecture)
    assert model(torch.zeros(7, 3, 4, 4)).shape == (7, 3)
    assert list(architecture.widths) == names
    assert {name: len(model.get_submodule(name).weight) for name in names} == architecture.widths


@pytest.mark.parametrize("side", [1, 3, 5])
def test_a_convolutional_network_takes_odd_sizes(cnn, side):
    spec = cnn.input.model_copy(update={"height_px": side * 2, "width_px": side * 2 + 1})
    model = build(cnn.model_copy(update={"input": spec}))
    assert model(torch.zeros(2, 3, side * 2, side * 2 + 1)).shape == (2, 3)


def test_a_small_convolutional_network_learns(cnn, rows):
    split = rows.split("train")
    x_NCHW, y_N = normalise(split.images, cnn), torch.from_numpy(np.array(split.labels))
    recipe = Recipe(optimizer="adam", rate=0.05)
    run = step.start(build(cnn), recipe)
    before = mean_loss(run.model, x_NCHW, y_N)
    step.fit(run, x_NCHW, y_N, step.Plan(recipe, 16, 0.4, 120, 0))
    assert run.status == "fitted" and run.train_loss <= 0.4 < before


def test_normalisation_is_per_channel(mlp):
    pixels = np.zeros((1, 1, 2, 3), np.uint8)
    pixels[0, 0, 1] = (255, 51, 0)
    x_NCHW = normalise(pixels, mlp)
    assert x_NCHW.shape == (1, 3, 1, 2) and x_NCHW.dtype == torch.float32 and x_NCHW.is_contiguous()
    expected = [[(0 - 0.1) / 0.5, (1 - 0.1) / 0.5], [(0 - 0.2) / 0.25, (0.2 - 0.2) / 0.25], [-0.3 / 0.2, -0.3 / 0.2]]
    torch.testing.assert_close(x_NCHW[0, :, 0], torch.tensor(expected), atol=1e-6, rtol=0)


def test_weights_survive_the_disk_bit_by_bit(mlp, tmp_path):
    model = build(mlp, seed=5)
    save_weights(model, tmp_path / "w.safetensors")
    loaded = load_weights(mlp, tmp_path / "w.safetensors")
    assert not loaded.training
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


RELOAD = """
import sys
from pathlib import Path
import numpy as np
from bigstep.records.trained import Trained
from train.networks import build, predict
trained = Trained.open(Path(sys.argv[1]))
with predict.one_thread():
    model = build.load_weights(trained.info.architecture, trained.weights(trained.info.chosen))
    logits = predict.predict(model, build.normalise(trained.array("probe.images.npy"), trained.info.architecture))
expected = trained.array("probe.logits.npy")
assert logits.shape == expected.shape == (16, 10)
assert logits.numpy().tobytes() == expected.tobytes()
print("equal")
"""


def test_a_fresh_process_rebuilds_the_chosen_network_to_equal_bits(small_run):
    command = [sys.executable, "-c", RELOAD, str(small_run.records["train"].folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "equal\n", done.stderr


def saved(mlp, path, change):
    save_weights(build(mlp), path)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_named(mlp, tmp_path, value):
    path = tmp_path / "w.safetensors"
    saved(mlp, path, lambda tensors: tensors["hidden2.bias"].__setitem__(slice(0, 2), value))
    with pytest.raises(TrainError, match=r"2 of 5 values of hidden2\.bias are NaN or infinite") as caught:
        load_weights(mlp, path)
    assert caught.value.exit_code == 2 and str(path) in str(caught.value)


CHANGES = {
    "missing": lambda tensors: tensors.pop("head.bias"),
    "unexpected": lambda tensors: tensors.update(extra=torch.zeros(1)),
    "wrong shape": lambda tensors: tensors.update({"hidden1.weight": torch.zeros(6, 47)}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_weights_of_another_network_are_refused(mlp, tmp_path, change):
    path = tmp_path / "w.safetensors"
    saved(mlp, path, change)
    with pytest.raises(TrainError, match="does not hold the weights of this network"):
        load_weights(mlp, path)


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_truncated_weights_are_refused(mlp, tmp_path, length):
    path = tmp_path / "w.safetensors"
    save_weights(build(mlp), path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(TrainError, match="does not hold the weights"):
        load_weights(mlp, path)


def test_a_missing_weights_file_is_a_user_error(mlp, tmp_path):
    with pytest.raises(TrainError, match="nowhere"):
        load_weights(mlp, tmp_path / "nowhere.safetensors")

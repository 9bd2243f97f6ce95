"""Units that are really gone: shapes, counts, which ones stay, and outputs that do not change when they need not."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compress.prune import prune, scaled_widths
from train.networks.build import build, load_weights, save_weights


def num_parameters(model) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("family", "widths", "parameters"),
    [
        ("mlp", {"hidden1": 4, "hidden2": 2}, (48 + 1) * 4 + (4 + 1) * 2 + (2 + 1) * 3),
        ("mlp", {"hidden1": 1, "hidden2": 1}, (48 + 1) + (1 + 1) + (1 + 1) * 3),
        ("mlp", {"hidden1": 6, "hidden2": 3}, (48 + 1) * 6 + (6 + 1) * 3 + (3 + 1) * 3),
        ("cnn", {"conv1": 2, "conv2": 3}, (27 + 1) * 2 + (18 + 1) * 3 + (3 + 1) * 3),
        ("cnn", {"conv1": 1, "conv2": 1}, (27 + 1) + (9 + 1) + (1 + 1) * 3),
    ],
)
def test_the_smaller_network_has_the_shapes_it_says(family, widths, parameters, request, tmp_path):
    architecture = request.getfixturevalue(family)
    model = build(architecture, seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    smaller, description = prune(model, architecture, widths)
    assert description.widths == widths and num_parameters(smaller) == parameters < num_parameters(model)
    assert smaller(torch.randn(5, 3, 4, 4)).shape == (5, 3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    save_weights(smaller, tmp_path / "w.safetensors")
    load_weights(description, tmp_path / "w.safetensors")


@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_removing_nothing_changes_nothing(family, request):
    architecture = request.getfixturevalue(family)
    model = build(architecture, seed=1)
    same, description = prune(model, architecture, architecture.widths)
    x = torch.randn(5, 3, 4, 4)
    assert description == architecture and torch.equal(same(x), model(x))


@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_units_of_zero_weight_go_first_and_are_not_missed(family, request):
    architecture = request.getfixturevalue(family)
    model = build(architecture, seed=2)
    layers = [*map(model.get_submodule, architecture.widths), model.head]
    dead = [1, 3]
    with torch.no_grad():
        for layer, reader in pairwise(layers):
            layer.weight[dead] = 0.0
            layer.bias[dead] = 0.0
            reader.weight[:, dead] = 0.0
    widths = {name: width - len(dead) for name, width in architecture.widths.items()}
    smaller, _ = prune(model, architecture, widths)
    x = torch.randn(9, 3, 4, 4)
    torch.testing.assert_close(smaller(x), model(x), atol=1e-6, rtol=1e-5)


def test_the_strongest_units_stay_in_their_order(mlp):
    model = build(mlp, seed=3)
    scales = torch.tensor([0.1, 5.0, 0.2, 3.0, 4.0, 0.3])
    with torch.no_grad():
        model.hidden1.weight.mul_(scales[:, None])
    smaller, _ = prune(model, mlp, {"hidden1": 3, "hidden2": 5})
    assert torch.equal(smaller.hidden1.weight, model.hidden1.weight[[1, 3, 4]])
    assert torch.equal(smaller.hidden2.weight, model.hidden2.weight[:, [1, 3, 4]])


def test_a_unit_counts_by_what_reads_it_too(mlp):
    model = build(mlp, seed=3)
    with torch.no_grad():
        model.hidden1.weight.fill_(0.1)
        model.hidden2.weight.fill_(0.1)
        model.hidden2.weight[:, 4] = 9.0  # weak in itself, and the next layer relies on it
    smaller, _ = prune(model, mlp, {"hidden1": 1, "hidden2": 5})
    assert (smaller.hidden2.weight == 9.0).all()


def test_the_norm_is_the_root_of_the_sum_of_squares(mlp):
    """One large weight outweighs many middling ones, of which the sum is larger."""
    model = build(mlp, seed=3)
    with torch.no_grad():
        model.hidden2.weight.fill_(0.5)
        model.hidden1.weight.zero_()
        model.hidden1.bias.zero_()
        model.hidden1.weight[0, :9] = 1.2  # sum 10.8, root 3.6
        model.hidden1.weight[1, 0] = 5.0
    smaller, _ = prune(model, mlp, {"hidden1": 1, "hidden2": 5})
    assert smaller.hidden1.weight[0, 0] == 5.0


@given(
    widths=st.dictionaries(st.sampled_from("abc"), st.integers(1, 1000), min_size=1),
    fraction=st.floats(min_value=0.001, max_value=1.0),
)
def test_scaled_widths_are_rounded_up_and_never_zero(mlp, widths, fraction):
    scaled = scaled_widths(mlp.model_copy(update={"widths": widths}), fraction)
    for name, width in widths.items():
        assert 1 <= scaled[name] <= width
        assert width * fraction <= scaled[name] < width * fraction + 1

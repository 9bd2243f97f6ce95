"""The whole bundle of measurements on small images: what is there, what is not, and that nothing is left behind."""

import shutil

import numpy as np
import pytest
import torch

from bigstep.records.images import Images
from bigstep.records.sealed import to_json
from train.measure import activations, measurements
from train.measure.separation import separation
from train.networks.build import build, normalise


@pytest.fixture(scope="module")
def model(mlp):
    return build(mlp, seed=3)


@pytest.fixture(scope="module")
def found(model, rows, mlp):
    return measurements.measure(model, rows, mlp, "cpu")


def absent(measurements):
    return {name for name, value in measurements.items() if value is None}


def layers(found):
    return {name: value for name, value in found.items() if name.startswith("layer_l2.")}


def sealed_again(images, folder, **info):
    shutil.copytree(images.folder, folder, ignore=shutil.ignore_patterns("manifest.json", "record.json"))
    return lambda: Images.seal(folder, images.info.model_copy(update=info))


@pytest.fixture(scope="module")
def masked(rows, tmp_path_factory):
    """Return the images with a test split whose upper half is core and whose lower half is spurious."""
    folder = tmp_path_factory.mktemp("masked") / "images"
    seal = sealed_again(rows, folder)
    for field in ("images", "labels", "bias", "ids", "sources"):
        shutil.copy(folder / f"validation.{field}.npy", folder / f"test.{field}.npy")
    upper_NHW = np.zeros((48, 4, 4), np.bool_)
    upper_NHW[:, :2] = True
    np.save(folder / "test.core.npy", upper_NHW)
    np.save(folder / "test.spurious.npy", ~upper_NHW)
    return seal()


def test_every_number_is_there_but_those_of_the_masks(found):
    assert absent(found) == {"core_share", "spurious_share"}
    assert (found["validation_images"], found["biased_images"], found["hidden_units"]) == (48, 24, 5)
    assert layers(found).keys() == {f"layer_l2.{name}.weight" for name in ("hidden1", "hidden2", "head")}


def test_numbers_are_those_of_the_functions(found, model, rows, mlp):
    split = rows.split("validation")
    x_NCHW, labels_N = normalise(split.images, mlp), torch.from_numpy(np.array(split.labels))
    z_ND = activations.outputs(model, x_NCHW)[1]
    assert found["separation"] == pytest.approx(separation(z_ND, labels_N))
    assert found["bias_separation"] == pytest.approx(separation(z_ND, torch.from_numpy(np.array(split.bias[:, 0]))))
    wrong_N = model(x_NCHW).argmax(dim=1) != labels_N
    conflicting_N = torch.from_numpy(~split.aligned) & wrong_N
    follows_N = model(x_NCHW).argmax(dim=1) == torch.from_numpy(np.array(split.bias[:, 0]))
    assert found["bias_following"] == pytest.approx(float(follows_N[conflicting_N].double().mean()))
    assert found["weights_l2"] == pytest.approx(sum(norm**2 for norm in layers(found).values()) ** 0.5)


def test_training_images_without_conflicts_have_no_loss_on_them(found):
    assert (
        found["conflicting_share"] == 0
        and found["conflicting_loss_share"] == 0
        and found["conflicting_loss_ratio"] == 0
    )


def test_a_second_measurement_is_equal(found, model, rows, mlp):
    assert measurements.measure(model, rows, mlp, "cpu") == found


def test_the_model_stays_as_it_was(model, rows, mlp):
    model.train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    measurements.measure(model, rows, mlp, "cpu")
    assert all(m.training for m in model.modules())
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_core_share_is_read_off_the_masks_of_test(found, model, masked, mlp):
    again = measurements.measure(model, masked, mlp, "cpu")
    assert again["core_share"] + again["spurious_share"] == pytest.approx(1)
    assert {**again, "core_share": None, "spurious_share": None} == found


def test_one_mask_makes_the_rest_the_other(model, masked, mlp, tmp_path):
    both = measurements.measure(model, masked, mlp, "cpu")
    seal = sealed_again(masked, tmp_path / "images")
    (tmp_path / "images" / "test.core.npy").unlink()
    alone = measurements.measure(model, seal(), mlp, "cpu")
    assert (alone["core_share"], alone["spurious_share"]) == (both["core_share"], both["spurious_share"])


def test_without_a_bias_attribute_what_needs_one_is_missing(found, model, rows, mlp, tmp_path):
    seal = sealed_again(rows, tmp_path / "images", attributes={}, aligned={})
    for name in ("train", "validation", "validation_biased"):
        path = tmp_path / "images" / f"{name}.bias.npy"
        np.save(path, np.load(path)[:, :0])
    plain = measurements.measure(model, seal(), mlp, "cpu")
    assert absent(plain) - absent(found) == {
        *("bias_separation", "conflicting_error_confidence", "bias_following"),
        *("conflicting_share", "conflicting_loss_share", "conflicting_loss_ratio"),
    }
    label_free = {name for name in plain if name.startswith("biased_")}
    assert len(label_free) == 7 and all(plain[name] == found[name] for name in label_free)


def test_what_is_not_finite_is_missing(model, rows, mlp):
    broken = build(mlp)
    with torch.no_grad():
        broken[-1].weight.mul_(float("inf"))
    found = measurements.measure(broken, rows, mlp, "cpu")
    assert found["weights_l2"] is None and found["layer_l2.head.weight"] is None
    assert {"logit_norm", "conflicting_loss_share", "biased_loss_gini", "biased_loss_concentration"} <= absent(found)
    assert found["separation"] is not None and found["dead_units"] >= 0
    to_json(found)  # JSON has no infinity

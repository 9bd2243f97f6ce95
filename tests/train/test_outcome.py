"""What is measured of a trial when it ends: what its files say."""

import json

import numpy as np
import pytest

from train.measure import prunability
from train.measure.activations import outputs
from train.measure.label_free import loss_gini
from train.measure.loss_share import sample_losses
from train.networks.build import load_weights, normalise
from train.networks.predict import predict


def test_a_trial_reports_what_its_files_say(trained, rows):
    found = trained.info.trial(trained.info.chosen)
    folder = trained.folder / "trials" / found.name
    assert sorted(p.name for p in folder.iterdir()) == [
        "curve.json",
        "measured.json",
        "prunability.json",
        "train.early.npy",
        "train.final.npy",
        "trial.json",
        "validation_biased.early.npy",
        "validation_biased.final.npy",
        "weights.safetensors",
    ]
    biased = rows.split("validation_biased")
    correct = np.load(folder / "validation_biased.final.npy").argmax(axis=1) == biased.labels
    assert found.numbers["biased_accuracy"] == pytest.approx(correct.mean())
    curve = json.loads((folder / "prunability.json").read_bytes())["fraction_and_unbiased_accuracy"]
    assert found.numbers["prunability"] == pytest.approx(prunability.area(curve))
    assert curve[0][1] == found.numbers["unbiased"]
    model = load_weights(trained.info.architecture, trained.weights(found.name))
    validation = rows.split("validation")
    logits = predict(model, normalise(validation.images, trained.info.architecture))
    correct = logits.argmax(dim=1).numpy() == validation.labels
    assert found.numbers["conflicting"] == pytest.approx(correct[~validation.aligned].mean())
    assert found.numbers["aligned"] == pytest.approx(correct[validation.aligned].mean())
    steps = [s for s, _ in json.loads((folder / "curve.json").read_bytes())["steps_and_loss"]]
    assert steps == list(range(6, found.steps + 1, 6))


def test_signals_are_what_the_files_say(blind, rows):
    trained = blind[0]
    found = trained.info.trial(trained.info.chosen)
    folder, split = trained.folder / "trials" / found.name, rows.split("train")
    losses = sample_losses(np.load(folder / "train.early.npy"), split.labels)
    assert found.numbers["train_loss_gini"] == pytest.approx(loss_gini(losses))
    curve = json.loads((folder / "prunability.json").read_bytes())["fraction_and_training_accuracy"]
    assert found.numbers["prunability"] == pytest.approx(prunability.area(curve))
    model = load_weights(trained.info.architecture, trained.weights(found.name))
    z_ND = outputs(model, normalise(split.images, trained.info.architecture))[1]
    assert found.numbers["train_sparsity"] == pytest.approx(float((z_ND == 0).float().mean()))


def test_early_outputs_are_kept_of_runs_that_last_so_long(trained):
    folder = trained.folder / "trials" / "adam-0.001-s0"
    early, final = np.load(folder / "train.early.npy"), np.load(folder / "train.final.npy")
    assert early.shape == final.shape == (96, 3) and not np.array_equal(early, final)


def test_a_diverged_trial_keeps_no_weights_and_no_numbers(trained):
    diverged = [t for t in trained.info.trials if t.status == "diverged"]
    assert diverged
    for found in diverged:
        assert found.numbers == {} and found.train_loss is None and not found.stored
        assert not trained.weights(found.name).exists()

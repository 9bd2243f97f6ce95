"""Every family of networks goes the whole road: trained, stored, built again, pruned, and written as ONNX."""

import subprocess
import sys
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch

from bigstep.records.architecture import Architecture, InputSpec
from bigstep.records.compact import Quantisation
from bigstep.records.exported import Contract
from bigstep.records.sealed import write_json
from bigstep.records.trained import Recipe
from compress.prune import prune, scaled_widths
from export import graph
from serve.predictor import Predictor
from train import step
from train.networks.build import build, describe, load_weights, normalise, save_weights
from train.networks.predict import one_thread, predict

SIDE_PX = 8
SPEC = InputSpec(height_px=SIDE_PX, width_px=SIDE_PX)
FAMILIES = ("resnet18", "resnet50", "wide_resnet101_2", "swin_t", "mobilenet_v3_small", "mobilenet_v3_large")
WRITTEN = ("resnet18", "swin_t", "mobilenet_v3_small")  # the others consist of the same blocks
CONTRACT = Contract(input=SPEC, labels=["dark", "medium", "bright"])
RECIPE = Recipe(optimizer="adam", rate=0.01)


class Fitted(NamedTuple):
    """Hold a narrow network of one block per stage after a few steps, its images and its logits."""

    architecture: Architecture
    model: torch.nn.Module
    pixels: np.ndarray
    logits: np.ndarray


def bright(n):
    labels = np.arange(n) % 3
    noise = np.random.default_rng(0).integers(0, 60, (n, SIDE_PX, SIDE_PX, 3), np.uint8)
    return noise + (90 * labels).astype(np.uint8)[:, None, None, None], labels


def logits_of(model, pixels, architecture):
    with one_thread():
        return predict(model, normalise(pixels, architecture)).numpy()


@cache
def fit(family):
    whole = Architecture(family=family, widths={}, classes=3, input=SPEC, mean=(0.5,) * 3, std=(0.3,) * 3, blocks=1)
    whole = describe(whole)
    architecture = whole.model_copy(update={"widths": scaled_widths(whole, 0.125)})
    pixels, labels = bright(33)  # 4 batches of 8, and one image more
    run = step.start(build(architecture, seed=1), RECIPE)
    x_NCHW = normalise(pixels, architecture)
    step.fit(run, x_NCHW, torch.from_numpy(labels), step.Plan(RECIPE, 8, 0.01, 24, 0))
    return Fitted(architecture, run.model.eval(), pixels, logits_of(run.model, pixels, architecture))


@pytest.fixture(params=FAMILIES)
def fitted(request):
    return fit(request.param)


RELOAD = """
import sys
from pathlib import Path
import numpy as np
from bigstep.records.architecture import Architecture
from train.networks import build, predict
for folder in sorted(Path(sys.argv[1]).iterdir()):
    architecture = Architecture.model_validate_json((folder / "architecture.json").read_bytes())
    with predict.one_thread():
        model = build.load_weights(architecture, folder / "w.safetensors")
        logits = predict.predict(model, build.normalise(np.load(folder / "pixels.npy"), architecture))
    assert logits.numpy().tobytes() == np.load(folder / "logits.npy").tobytes(), folder.name
    print(folder.name)
"""


def test_a_fresh_process_builds_every_family_again_to_equal_bits(tmp_path):
    for family in FAMILIES:
        folder, fitted = tmp_path / family, fit(family)
        folder.mkdir()
        write_json(folder / "architecture.json", fitted.architecture.model_dump(mode="json"))
        save_weights(fitted.model, folder / "w.safetensors")
        np.save(folder / "pixels.npy", fitted.pixels)
        np.save(folder / "logits.npy", fitted.logits)
    done = subprocess.run([sys.executable, "-c", RELOAD, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == sorted(FAMILIES), done.stderr


def test_one_seed_gives_one_network_and_its_logits_depend_on_the_image(fitted):
    first, again = (build(fitted.architecture, seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert np.isfinite(fitted.logits).all() and fitted.logits.std(axis=0).min() > 0


def test_a_smaller_network_is_written_as_it_computes(fitted, tmp_path):
    half = scaled_widths(fitted.architecture, 0.5)
    smaller, architecture = prune(fitted.model, fitted.architecture, half)
    assert architecture.widths == half
    counts = [sum(p.numel() for p in model.parameters()) for model in (smaller, fitted.model)]
    assert counts[0] < counts[1]
    expected = logits_of(smaller, fitted.pixels, architecture)
    save_weights(smaller, tmp_path / "w.safetensors")
    rebuilt = load_weights(architecture, tmp_path / "w.safetensors")
    assert logits_of(rebuilt, fitted.pixels, architecture).tobytes() == expected.tobytes()
    if architecture.family not in WRITTEN:
        return
    float32, int8 = tmp_path / "float32.onnx", tmp_path / "int8.onnx"
    graph.write_float32(smaller.eval(), architecture, CONTRACT, float32)
    found = Predictor.open(float32, CONTRACT).predict_all(fitted.pixels)
    assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())
    ranges = graph.calibrate(float32, CONTRACT, fitted.pixels)
    graph.write_int8(float32, Quantisation(ranges=ranges, float_nodes=[], reduce_range=True), int8)
    quantised = Predictor.open(int8, CONTRACT).predict_all(fitted.pixels)
    assert np.isfinite(quantised).all() and (quantised.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.8

"""Build every family at full size: parameters, a training step, half of the channels removed, and the ONNX files.

    .venv/bin/python benchmarks/networks.py [FAMILY ...]

Images of 32 pixels of uniform noise, random weights, one thread. A step is forward, backward and update of plain SGD;
times are the smallest of STEPS after one to warm up. Pruning removes half of every group's channels, and the result is
built again from its description. Each family is written as float32 and INT8 and compared with PyTorch on the same
noise: how far the logits differ, relative to their standard deviation, and how often INT8 names the same class. Random
weights say nothing about accuracy. Writes `results/networks.json` and `.md`.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from machine import machine
from torch.nn.functional import cross_entropy

from bigstep.config import FAMILIES
from bigstep.records.architecture import Architecture, InputSpec
from bigstep.records.compact import Quantisation
from bigstep.records.exported import Contract
from compress.prune import prune, scaled_widths
from export import graph
from serve.predictor import Predictor
from train.networks.build import build, describe, normalise
from train.networks.predict import one_thread, predict

HERE = Path(__file__).parent
SIDE_PX, CLASSES, BATCH, STEPS, IMAGES = 32, 10, 8, 2, 64
SPEC = InputSpec(height_px=SIDE_PX, width_px=SIDE_PX)
CONTRACT = Contract(input=SPEC, labels=[str(label) for label in range(CLASSES)])
RATE = 0.01
T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what some work returns, and the seconds it took."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def train_step(model: torch.nn.Module, x_NCHW: torch.Tensor, y_N: torch.Tensor) -> None:
    """Make one step of plain SGD."""
    model.train().zero_grad(set_to_none=True)
    cross_entropy(model(x_NCHW), y_N).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= RATE * parameter.grad


def measure(family: str, folder: Path) -> dict[str, Any]:
    """Take one family down the whole road, with weights of a few steps."""
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    bare = Architecture(family=family, widths={}, classes=CLASSES, input=SPEC, mean=(0.5,) * 3, std=(0.29,) * 3)
    architecture, describe_s = timed(lambda: describe(bare))
    model = build(architecture)
    x_NCHW, y_N = normalise(pixels, architecture), torch.arange(IMAGES) % CLASSES
    train_step(model, x_NCHW[:BATCH], y_N[:BATCH])
    step_s = min(timed(lambda: train_step(model, x_NCHW[:BATCH], y_N[:BATCH]))[1] for _ in range(STEPS))
    (smaller, described), prune_s = timed(lambda: prune(model, architecture, scaled_widths(architecture, 0.5)))
    float32, int8 = folder / f"{family}.fp32.onnx", folder / f"{family}.int8.onnx"
    _, export_s = timed(lambda: graph.write_float32(model.eval(), architecture, CONTRACT, float32))
    ranges = graph.calibrate(float32, CONTRACT, pixels)
    graph.write_int8(float32, Quantisation(ranges=ranges, float_nodes=[], reduce_range=True), int8)
    expected = predict(model, x_NCHW).numpy()
    found, quantised = (Predictor.open(path, CONTRACT).predict_all(pixels) for path in (float32, int8))
    return {
        "family": family,
        "parameters": sum(p.numel() for p in model.parameters()),
        "groups": len(architecture.widths),
        "parameters_of_half": sum(p.numel() for p in smaller.parameters()),
        "half_builds_again": described.widths == scaled_widths(architecture, 0.5),
        "step_s": step_s,
        "describe_s": describe_s,
        "prune_s": prune_s,
        "export_s": export_s,
        "float32_bytes": float32.stat().st_size,
        "int8_bytes": int8.stat().st_size,
        "float32_max_difference": float(np.abs(found - expected).max() / expected.std()),
        "int8_agreement": float((quantised.argmax(axis=1) == expected.argmax(axis=1)).mean()),
    }


def main() -> None:
    """Measure the families, one after the other, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", default=FAMILIES)
    families = parser.parse_args().families
    measured = []
    with tempfile.TemporaryDirectory(prefix="bigstep-networks-") as folder, one_thread():
        for family in families:
            measured.append(measure(family, Path(folder)))
            sys.stderr.write(f"{json.dumps(measured[-1])}\n")
    settings = {"side_px": SIDE_PX, "classes": CLASSES, "batch": BATCH, "steps": STEPS, "images": IMAGES, "threads": 1}
    command = " ".join([".venv/bin/python benchmarks/networks.py", *(families if families != FAMILIES else ())])
    found = {
        "command": command,
        "machine": machine("torchvision", "torch-pruning"),
        "settings": settings,
        "families": measured,
    }
    (HERE / "results" / "networks.json").write_text(json.dumps(found, indent=1) + "\n")
    (HERE / "results" / "networks.md").write_text(as_markdown(found))


def as_markdown(found: dict[str, Any]) -> str:
    """Return the table that people read."""
    told = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    lines = ["# Every family at full size", "", f"`{found['command']}`", "", f"{told}.", ""]
    lines += [
        ", ".join(f"{name} {value}" for name, value in found["settings"].items()) + "; seed 0, random weights.",
        "",
    ]
    lines += ["| network | parameters | with half of the channels | groups | a step, s | pruning, s | export, s |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for one in found["families"]:
        counts = f"{one['parameters']:,} | {one['parameters_of_half']:,} | {one['groups']}"
        times = f"{one['step_s']:.2f} | {one['prune_s']:.1f} | {one['export_s']:.1f}"
        lines.append(f"| {one['family']} | {counts} | {times} |")
    lines += ["", "| network | float32, MB | INT8, MB | float32 against PyTorch | INT8 names the same class |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    for one in found["families"]:
        sizes = f"{one['float32_bytes'] / 1e6:.1f} | {one['int8_bytes'] / 1e6:.1f}"
        agreement = f"{one['float32_max_difference']:.1e} | {100 * one['int8_agreement']:.0f} %"
        lines.append(f"| {one['family']} | {sizes} | {agreement} |")
    lines += [
        "",
        "Differences are the largest of a logit, in standard deviations of the logits. Timings are of a shared",
    ]
    lines += ["machine under other load: read the order of magnitude."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

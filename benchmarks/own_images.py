"""Run bigstep on folders of image files with a planted bias, with the bias column and without it.

    .venv/bin/python benchmarks/own_images.py

The pictures are scikit-learn's digits 0 to 4, written as files, with one of three biases: the hue of the stroke, the
corner in which a white square sits, or the quality of the JPEG file. In training the bias gives the label away but for
10 %; in validation and test it tells nothing. A CSV file names path, label, split and the bias; without the column
nothing downstream knows of it. Writes `results/own_images.json` and `.md`.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

HERE = Path(__file__).parent
BIASES = ("hue", "position", "quality")
CLASSES = 5
CONFLICTING = 0.1
SIDE_PX = 16
HUES = ((255, 60, 60), (60, 255, 60), (80, 80, 255), (255, 255, 60), (255, 60, 255))
CORNERS = ((0, 0), (0, 12), (12, 0), (12, 12), (0, 6))
QUALITIES = (5, 15, 30, 60, 95)
SETTINGS = ("train.num_rates=3", "train.num_seeds=1", "train.min_rate=0.05", "train.max_rate=0.4", "device=cpu")
SHORT = (
    'train.network="mlp"',
    "train.widths=[64,64]",
    "data.size_px=16",
    "train.stop_loss=0.02",
    "train.max_steps=3000",
    "train.baseline_max_steps=3000",
)


def write_set(folder: Path, bias: str, seed: int) -> Path:
    """Write the files and the CSV of one set, and return the path of the CSV.

    Every digit of validation and test appears once with each value of the bias.
    """
    rng = np.random.default_rng(seed)
    embedded = load_digits()
    kept = rng.permutation(np.flatnonzero(embedded.target < CLASSES))
    digits = (embedded.images[kept] * (255 / 16)).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    labels = embedded.target[kept]
    splits = np.array(["train"] * 620 + ["validation"] * 130 + ["test"] * (len(kept) - 750))
    rows = []
    for n, (grey, label, split) in enumerate(zip(digits, labels, splits, strict=True)):
        other = (label + rng.integers(1, CLASSES)) % CLASSES if rng.random() < CONFLICTING else label
        for value in [other] if split == "train" else range(CLASSES):
            name = f"{n:04}-{value}.jpg" if bias == "quality" else f"{n:04}-{value}.png"
            picture = Image.fromarray(draw(grey, bias, int(value)))
            picture.save(folder / name, **({"quality": QUALITIES[value]} if bias == "quality" else {}))
            rows.append([name, f"digit {label}", split, f"{bias} {value}", str(n)])
    path = folder / "images.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "label", "split", bias, "digit"], *rows])
    return path


def draw(grey_HW: NDArray[np.uint8], bias: str, value: int) -> NDArray[np.uint8]:
    """Return one RGB picture of a digit that carries a value of the bias (but for quality, which the file carries)."""
    tint = np.array(HUES[value] if bias == "hue" else (255, 255, 255))
    picture = (grey_HW[..., None] * (tint / 255)).astype(np.uint8)
    if bias == "position":
        top, left = CORNERS[value]
        picture[top : top + 4, left : left + 4] = 255
    return picture


def run(folder: Path, bias: str, *, known: bool, seed: int) -> dict[str, Any]:
    """Infer a configuration, run it, and return what the summary says."""
    images = folder / f"{bias}-{known}"
    images.mkdir()
    path = write_set(images, bias, seed)
    if not known:
        lines = list(csv.reader(path.open(encoding="utf-8")))
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([row[:3] for row in lines])
    script = Path(sys.executable).with_name("bigstep")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    toml = folder / f"{bias}-{known}.toml"
    init = [script, "init", "--data", "folder", path, "--output", toml]
    begun = subprocess.run(init, env=environment, capture_output=True, text=True, check=True)
    settings = [word for setting in (*SETTINGS, *SHORT) for word in ("--set", setting)]
    settings += ["--set", f'data.bias=["{bias}"]'] if known else []
    command = [script, "run", toml, "--run-dir", folder / f"run-{bias}-{known}", "--json", *settings]
    start = time.monotonic()
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 1, 3):
        raise RuntimeError(ended.stderr)
    found = json.loads(ended.stdout)
    served, dense = found["models"][0], next(m for m in found["models"] if m["model"] == "dense-fp32")
    return {
        "bias": bias,
        "known": known,
        "seed": seed,
        "exit": ended.returncode,
        "smaller": dense["bytes"] / served["bytes"],
        "accuracies": {name: served[name] for name in ("unbiased", "aligned", "conflicting")},
        "why": found["why_this_rate"],
        "notes": found["notes"],
        "inferred": begun.stdout.splitlines(),
        "seconds": round(time.monotonic() - start, 1),
    }


def main() -> None:
    """Run every bias with and without its column, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    with tempfile.TemporaryDirectory(prefix="bigstep-own-images-") as name:
        runs = []
        for bias in BIASES:
            for known in (True, False):
                runs.append(run(Path(name), bias, known=known, seed=seed))
                sys.stderr.write(f"{bias}, {'with' if known else 'without'} the column: exit {runs[-1]['exit']}\n")
    found = {"command": f".venv/bin/python benchmarks/own_images.py --seed {seed}", "machine": machine(), "runs": runs}
    (HERE / "results" / "own_images.json").write_text(json.dumps(found, indent=1) + "\n")
    (HERE / "results" / "own_images.md").write_text(as_markdown(found))


def as_markdown(found: dict[str, Any]) -> str:
    """Return the table that people read."""
    lines = ["# A user's own images with a planted bias", "", f"`{found['command']}`, one seed", ""]
    lines += [", ".join(f"{name} {value}" for name, value in found["machine"].items()) + ".", ""]
    lines += ["| bias | column | exit | times smaller | unbiased | aligned | conflicting |"]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    for one in found["runs"]:
        told = ["-" if value is None else f"{100 * value:.1f}" for value in one["accuracies"].values()]
        column = "given" if one["known"] else "not given"
        lines.append(f"| {one['bias']} | {column} | {one['exit']} | {one['smaller']:.1f} | {' | '.join(told)} |")
    lines += ["", "Accuracies in %, of the file that ships. Without the column the report says:", ""]
    lines += [f"> {next(one for one in found['runs'] if not one['known'])['notes'][0]}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

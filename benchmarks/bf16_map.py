"""Does bfloat16 change the learning-rate map?

    .venv/bin/python benchmarks/bf16_map.py [--seeds 3] [--network cnn --widths 16 32]

Trains the grid of the `digits` preset twice on this CPU, in float32 and with the forward pass under bfloat16 autocast,
from the same initial weights and in the same batch order, and writes benchmarks/results/bf16_map.json and .md.
The full pass that decides whether a run has fitted is made in the precision of the training.
"""

import argparse
import json
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from machine import machine
from torch import nn

from bigstep.config import DataConfig, TrainConfig
from bigstep.groups import accuracies
from bigstep.records.trained import Recipe
from data import stage as data_stage
from train import step
from train.measure import prunability
from train.networks.build import build
from train.networks.feed import inputs
from train.networks.predict import predict
from train.prepare import architecture_of

RESULTS = Path(__file__).parent / "results"
KINDS = ("float32", "bfloat16")


class Autocast(nn.Module):
    """Run a network's forward pass under bfloat16 autocast, with float32 weights and float32 logits."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x_NCHW):
        """Return float32 logits."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits_NK = self.inner(x_NCHW)
        return logits_NK.float()


def trial(config, images, architecture, rate, seed, kind):
    """Train one run and measure what the score is made of, in float32, whatever it was trained in."""
    model = build(architecture, seed)
    recipe = Recipe(optimizer="sgd", rate=rate)
    plan = step.Plan(recipe, config.batch_size, config.stop_loss, config.max_steps, seed)
    x_NCHW, y_N = tensors(images, architecture, "train")
    run = step.start(Autocast(model) if kind == "bfloat16" else model, recipe)
    step.fit(run, x_NCHW, y_N, plan)
    found = {"rate": rate, "seed": seed, "kind": kind, "status": run.status, "steps": run.steps}
    if run.status == "diverged":
        return found
    split = images.split("validation")
    x_NCHW, y_N = tensors(images, architecture, "validation")

    def scores(network):
        correct = (predict(network, x_NCHW).argmax(dim=1) == y_N).numpy()
        return accuracies(correct, split.labels, split.bias, split.aligned)

    area = prunability.area(prunability.curve(model, lambda network: scores(network).unbiased))
    conflicting = scores(model).conflicting
    score = config.robust_weight * conflicting + (1 - config.robust_weight) * area
    return found | {"conflicting": conflicting, "prunability": area, "score": score}


def tensors(images, architecture, name):
    split = images.split(name)
    return inputs(split.images, architecture, "cpu"), torch.from_numpy(np.array(split.labels))


def table(rows, rates):
    """Write one line per rate: how many seeds fitted, and the score, in both precisions."""
    lines = [
        "| rate | fitted, float32 | fitted, bfloat16 | steps, bfloat16 / float32 | score, float32 | score, bfloat16 |"
    ]
    lines.append("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for rate in rates:
        both = {k: [r for r in rows if (r["rate"], r["kind"]) == (rate, k)] for k in KINDS}
        fitted = {k: [r for r in both[k] if r["status"] == "fitted"] for k in KINDS}
        steps = {k: {r["seed"]: r["steps"] for r in fitted[k]} for k in KINDS}
        longer = [steps["bfloat16"][seed] / n for seed, n in steps["float32"].items() if seed in steps["bfloat16"]]
        longer = f"{statistics.geometric_mean(longer):.2f}" if longer else "-"
        cells = [f"{len(fitted[k])} of {len(both[k])}" for k in KINDS] + [longer]
        for k in KINDS:
            values = [r["score"] for r in fitted[k]]
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.3f} ± {deviation:.3f}" if values else "-")
        lines.append(f"| {rate:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def report(found, config):
    """Write the published page from the results."""
    rows = found["runs"]
    differ = sum(a["status"] != b["status"] for a, b in zip(rows[::2], rows[1::2], strict=True))
    seeds = len({row["seed"] for row in rows})
    return f"""# The learning-rate map in float32 and in bfloat16

Made by `{found["command"]}`: the grid of the preset `digits`,
network `{config.network}` with widths {list(config.widths)}, {seeds} seeds per rate, same initial weights and
batch order.
Only the forward pass runs under autocast; weights, gradients of weights and the update are float32. Scores are mean ±
standard deviation over the seeds that fitted, measured in float32. Of {len(rows) // 2} pairs of runs, {differ} ended
with another status.

{table(rows, config.rates)}

Machine: {"; ".join(f"{key} {value}" for key, value in found["machine"].items() if key != "load")}.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--network", choices=("mlp", "cnn"), default="mlp")
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 256, 256])
    arguments = parser.parse_args()
    seeds, network, widths = arguments.seeds, arguments.network, arguments.widths
    torch.set_num_threads(1)
    config = TrainConfig(network=network, widths=tuple(widths))
    with TemporaryDirectory() as folder:
        images = data_stage.run(DataConfig(), out=Path(folder))
        architecture = architecture_of(config, images)
        cases = [(rate, seed, kind) for rate in config.rates for seed in range(seeds) for kind in KINDS]
        rows = [trial(config, images, architecture, *case) for case in cases]
    option = f" --network {network} --widths {' '.join(map(str, widths))}" if network == "cnn" else ""
    command = f".venv/bin/python benchmarks/bf16_map.py --seeds {seeds}{option}"
    name = "bf16_map" + ("_cnn" if network == "cnn" else "")
    RESULTS.mkdir(exist_ok=True)
    found = {"command": command, "machine": machine(), "runs": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    (RESULTS / f"{name}.md").write_text(report(found, config))
    print(report(found, config))


if __name__ == "__main__":
    main()

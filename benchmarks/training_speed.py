"""How much slower is our training loop than a bare one, and how much faster are twelve rates side by side?

    .venv/bin/python benchmarks/training_speed.py [--repeats 15] [--steps 400] [--device cuda]

Both loops make the same steps on the same tensors, in turns, and must end at the same bits on a CPU. Writes
benchmarks/results/training_speed.json and .md (with another device, its name in theirs). On a CPU one thread computes
and the process's CPU time counts, which other work on the machine disturbs less than the wall clock; on a GPU the wall
clock, after waiting for it.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from machine import machine
from torch.nn.functional import cross_entropy

from bigstep.config import DataConfig, TrainConfig
from bigstep.records.trained import Recipe
from data import stage as data_stage
from serve.bench import load
from train import step
from train.networks.build import build, place
from train.networks.feed import inputs
from train.prepare import architecture_of
from train.stack import fit_together

RESULTS = Path(__file__).parent / "results"
NETWORKS = {
    "mlp 8-8": TrainConfig(widths=(8, 8)),
    "mlp 256-256-256 (`digits`)": TrainConfig(),
    "cnn 16-32": TrainConfig(network="cnn", widths=(16, 32)),
}
NEVER = 1e-9  # a stopping loss that no run reaches, so that every run makes all its steps
RATE = 0.05
RATES = [float(rate) for rate in np.geomspace(0.01, 0.1, 12)]


def bare(model, x_NCHW, y_N, plan):
    """Train as one would without us: the least that makes the same steps and stops by the same full pass."""
    optimizer = torch.optim.SGD(model.parameters(), lr=plan.recipe.rate)
    steps, epoch = 0, 0
    while True:
        model.train()
        order = torch.from_numpy(np.random.default_rng([plan.seed, epoch]).permutation(len(y_N))).to(y_N.device)
        total, seen = torch.zeros((), device=y_N.device), 0
        for batch in order.split(plan.batch_size):
            if steps == plan.max_steps:
                break
            optimizer.zero_grad(set_to_none=True)
            loss = cross_entropy(model(x_NCHW[batch]), y_N[batch])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(batch)
            steps, seen = steps + 1, seen + len(batch)
        epoch += 1
        if float(total) / seen <= 2 * plan.stop_loss or steps == plan.max_steps:
            model.eval()
            with torch.inference_mode():
                full = float(cross_entropy(torch.cat([model(part) for part in x_NCHW.split(1024)]), y_N))
            if full <= plan.stop_loss or steps == plan.max_steps:
                return model


def seconds(work, device):
    """Return how long `work` takes, and what it returns."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    if device == "cuda":
        torch.cuda.synchronize()
    begin = clock()
    found = work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - begin, found


def spread(values):
    """Summarise repeats."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": middle, "quartiles": [low, high], "values": values}


class Case:
    """Hold a network's description and the images on the device."""

    def __init__(self, config, images, device, steps):
        self.architecture = architecture_of(config, images)
        split = images.split("train")
        self.x_NCHW = inputs(split.images, self.architecture, device)
        self.y_N = torch.from_numpy(np.array(split.labels)).to(device)
        self.device, self.steps, self.batch_size = device, steps, config.batch_size

    def plan(self, rate):
        """Return the settings of a run that makes all its steps."""
        return step.Plan(Recipe(optimizer="sgd", rate=rate), self.batch_size, NEVER, self.steps, 0)

    def model(self):
        """Return the network at its initial weights."""
        return place(build(self.architecture, 0), self.device)

    def fit(self, rate):
        """Train one run with our loop, without callbacks."""
        plan = self.plan(rate)
        return step.fit(step.start(self.model(), plan.recipe), self.x_NCHW, self.y_N, plan)

    def fit_together(self):
        """Train all rates in one stack."""
        plans = [self.plan(rate) for rate in RATES]
        runs = [step.start(self.model(), plan.recipe) for plan in plans]
        for _ in fit_together(runs, self.x_NCHW, self.y_N, plans):
            pass
        return runs


def loops(case, repeats):
    """Time our loop and the bare one in turns; whoever begins changes at every repeat."""
    plan = case.plan(RATE)
    works = {"ours": lambda: case.fit(RATE).model, "bare": lambda: bare(case.model(), case.x_NCHW, case.y_N, plan)}
    times = {name: [] for name in works}
    for repeat in range(-1, repeats):  # the first one warms up
        models = {}
        for name in sorted(works, reverse=repeat % 2 == 1):
            taken, models[name] = seconds(works[name], case.device)
            if repeat >= 0:
                times[name].append(taken)
        pairs = zip(models["ours"].parameters(), models["bare"].parameters(), strict=True)
        if case.device == "cpu" and not all(torch.equal(a, b) for a, b in pairs):
            raise SystemExit("the two loops do not end at the same bits: they do not do the same work")
    ratios = [a / b for a, b in zip(times["ours"], times["bare"], strict=True)]
    return {
        "ratio": spread(ratios),
        "bare_us_per_step": 1e6 * statistics.median(times["bare"]) / case.steps,
        "ours_us_per_step": 1e6 * statistics.median(times["ours"]) / case.steps,
    }


def stacks(case, repeats):
    """Time all rates in one stack, the same one by one, and one rate, in turns."""
    times = {"one": [], "by_turns": [], "stack": []}
    for repeat in range(-1, repeats):
        total, alone = seconds(lambda: [case.fit(rate) for rate in RATES], case.device)
        one, _ = seconds(lambda: case.fit(RATE), case.device)
        stacked, together = seconds(case.fit_together, case.device)
        if {run.steps for run in (*alone, *together)} != {case.steps}:
            raise SystemExit("a run ended early: the times do not compare")
        if repeat >= 0:
            for name, taken in (("one", one), ("by_turns", total), ("stack", stacked)):
                times[name].append(taken)
    differences = [abs(a.train_loss / b.train_loss - 1) for a, b in zip(together, alone, strict=True)]
    return {
        "stack_over_one": spread([a / b for a, b in zip(times["stack"], times["one"], strict=True)]),
        "stack_over_by_turns": spread([a / b for a, b in zip(times["stack"], times["by_turns"], strict=True)]),
        "largest_difference_in_final_loss": max(differences),
    }


def compiled(case, repeats):
    """Time the bare loop with `torch.compile`, once compiling is over."""
    plan, model = case.plan(RATE), torch.compile(case.model())
    bare(model, case.x_NCHW, case.y_N, plan)
    ratios = []
    for _ in range(repeats):
        usual, _ = seconds(lambda: bare(case.model(), case.x_NCHW, case.y_N, plan), case.device)
        taken, _ = seconds(lambda: bare(model, case.x_NCHW, case.y_N, plan), case.device)
        ratios.append(taken / usual)
    return {"ratio": spread(ratios)}


def cell(found, digits=3):
    low, high = found["quartiles"]
    return f"{found['median']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def tables(rows):
    """Write the published tables as Markdown."""
    lines = [
        "| network | ours / bare | bare, µs per step | bare with `torch.compile` / bare |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        cells = [
            cell(row["loops"]["ratio"]),
            f"{row['loops']['bare_us_per_step']:.0f}",
            cell(row["compiled"]["ratio"], 2),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        f"{len(RATES)} rates from {RATES[0]:g} to {RATES[-1]:g} in one stack:",
        "",
        "| network | stack / one rate | stack / all rates by turns | largest relative difference in final loss |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        found = row["stacks"]
        cells = [cell(found["stack_over_one"], 2), cell(found["stack_over_by_turns"], 2)]
        lines.append(f"| {name} | {' | '.join(cells)} | {found['largest_difference_in_final_loss']:.1e} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    device = arguments.device
    torch.set_num_threads(1)
    measured_on = {**machine(device=device), "load before": load()}
    rows = {}
    with TemporaryDirectory() as folder:
        images = data_stage.run(DataConfig(), out=Path(folder))
        for name, config in NETWORKS.items():
            case = Case(config, images, device, arguments.steps)
            rows[name] = {
                "loops": loops(case, arguments.repeats),
                "stacks": stacks(case, max(2, arguments.repeats // 5)),
                "compiled": compiled(case, max(2, arguments.repeats // 5)),
            }
            print(name, rows[name]["loops"]["ratio"]["median"], flush=True)
    measured_on["load"] = load()
    command = ".venv/bin/python benchmarks/training_speed.py"
    command += f" --repeats {arguments.repeats} --steps {arguments.steps}" + (
        "" if device == "cpu" else " --device cuda"
    )
    name = "training_speed" + ("" if device == "cpu" else f"_{device}")
    found = {"command": command, "machine": measured_on, "networks": rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    clock = "wall clock" if device == "cuda" else "CPU time of the process, one thread"
    text = f"""# How fast is training?

Made by `{command}`: {arguments.steps} steps of SGD at
batch size 16 on the coloured digits, {clock}. Ratios are medians over interleaved
repeats with their quartiles. The bare loop makes the same steps with PyTorch alone, with the same full
pass at the end; both end at the same bits on a CPU. Diagnostics are off. The time of compiling is left out.

{tables(rows)}

Machine: {"; ".join(f"{key} {value}" for key, value in measured_on.items())}.
"""
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

"""Colored MNIST beside the table of Learning from Failure (Nam et al. 2020, arXiv:2007.02561, table 1).

    BIGSTEP_DATA=FOLDER .venv/bin/python benchmarks/colored_mnist.py [--work FOLDER]

FOLDER of BIGSTEP_DATA holds the four files of MNIST. Network, optimiser settings and batch are LfF's: three layers of
100, batches of 256; severity 4. Rows: the rate that the product chooses, with bias labels and without, the first of
these for LfF's 100 epochs, and two conventional recipes at the usual number of epochs at most. Measured on test at the
last step: the mean of the 100 cells of digit and colour. Then what else was tried with a large rate. Finished runs are
kept in the work folder.
Writes benchmarks/results/colored_mnist.json and .md.
"""

import argparse
import json
import math
import time
from pathlib import Path

import measured_runs as runs
from machine import machine

from bigstep.config import DataConfig, TrainConfig
from bigstep.records.trained import Recipe
from train.prepare import recipe_of
from train.search import Axis

RESULTS = Path(__file__).parent / "results"
SHARES = (0.005, 0.01, 0.02, 0.05)
EPOCHS = 20
STOP_LOSS = 0.001  # at 0.005, 0.5 % of conflicting images could all be wrong still, with a loss of 1 each
BATCH = 256
SEEDS = 3
WEIGHT = TrainConfig(priority="robust").robust_weight
LFF = {  # recalled, not verified
    "LfF's table, vanilla (recalled)": (35.34, 50.34, 62.29, 77.63),
    "LfF's table, LfF (recalled)": (63.39, 74.01, 80.48, 85.39),
}
CONVENTIONAL = {  # recipe and seeds
    "Adam 0.001, as LfF's vanilla": (Recipe(optimizer="adam", rate=0.001), SEEDS),
    "SGD 0.01": (Recipe(optimizer="sgd", rate=0.01), 1),
}
LONG, LONG_EPOCHS = "the rate chosen with bias labels, 100 epochs", 100  # whatever the loss, as LfF's table has it
RULES = {"chosen with bias labels": "groups", "chosen without bias labels": "label-free"}
TRIED = {  # beside the chosen rate, at TRIED_SHARE: change of the configuration, and of the recipe
    "the chosen rate, batches of 64": ({"batch_size": 64}, {}),
    "the chosen rate, on to a loss of 0.0003": ({"stop_loss": 0.0003}, {}),
    "the chosen rate, stopped at a loss of 0.005": ({"stop_loss": 0.005}, {}),
    "the chosen rate and L2 0.001": ({}, {"weight_decay": 0.001}),
    "the chosen rate and L2 0.003": ({}, {"weight_decay": 0.003}),
    "the chosen rate and L1 0.0001": ({}, {"l1": 0.0001}),
    "the chosen rate and momentum 0.5": ({}, {"momentum": 0.5}),
    "half the chosen rate and momentum 0.9": ({}, {"momentum": 0.9}),
}
TRIED_SHARE = 0.01


def configuration(**changes):
    steps = EPOCHS * math.ceil(55_000 / changes.get("batch_size", BATCH))
    fixed = {
        "baseline_max_steps": steps,
        "widths": (100, 100, 100),
        "batch_size": BATCH,
        "max_steps": steps,
        "num_seeds": SEEDS,
        "stop_loss": STOP_LOSS,
    }
    return TrainConfig(**{**fixed, **changes})


def summary(rows):
    """Reduce runs of one recipe to what is published."""
    measured = [row["test"] for row in rows if row["measured"]]
    found = {"seeds": len(rows), "statuses": [row["status"] for row in rows], "steps": [row["steps"] for row in rows]}
    for key in ("unbiased", "conflicting", "aligned", "prunability"):
        found[key] = [one[key] for one in measured]
    return found


def begin(share, folder):
    """Return the runs at one share of conflicting images."""
    data = DataConfig(kind="colored-mnist", conflicting=share, severity=4)
    setup = runs.make_setup(configuration(), runs.images(data, folder / "images"), folder)
    return runs.Runs(setup, folder / "runs.jsonl", ("validation", "test"))


def chosen(tried):
    """Search by both rules at one share of conflicting images."""
    config, built = configuration(), tried.setup.images
    epoch_steps = math.ceil(built.info.counts["train"] / config.batch_size)
    axis = Axis(
        recipe_of(config),
        config.rates,
        config.num_seeds,
        config.max_steps,
        epoch_steps,
        math.log(len(built.info.labels)),
    )
    found = {}
    for name, rule in RULES.items():
        recipe, made = runs.search(tried, axis, rule, WEIGHT, 0)
        if recipe is None:
            found[name] = {"rate": None, "says": made.says}
            continue
        seeds = [s for s, t in made.trials[recipe].items() if t.status == "fitted"]
        rows = [tried.make(recipe, seed, config.max_steps) for seed in sorted({*seeds, *range(SEEDS)})]
        found[name] = summary(rows) | {"recipe": recipe.name, "says": made.says}
        found[name] |= {"rate": recipe.rate, "spent": made.spent_steps() / config.max_steps}
    found["every rate that was trained to the end"] = ends(tried)
    return found


def conventional(tried, name):
    """Train one conventional recipe at one share of conflicting images."""
    recipe, seeds = CONVENTIONAL[name]
    rows = [tried.make(recipe, seed, configuration().max_steps) for seed in range(seeds)]
    return {name: summary(rows) | {"recipe": recipe.name}}


def long(rate, share, folder):
    """Train at the chosen rate for as many epochs as LfF, whatever the loss."""
    steps = LONG_EPOCHS * math.ceil(55_000 / BATCH)
    setup = runs.replace(begin(share, folder).setup, stop_loss=1e-9)
    tried = runs.Runs(setup, folder / "long.jsonl", ("test",))
    rows = [tried.make(recipe_of(configuration(), rate), seed, steps) for seed in range(SEEDS)]
    return {LONG: summary(rows) | {"rate": rate}}


def ends(tried):
    """List what the searches saw on test at each rate, one number a seed: nothing was chosen by it."""
    by_rate = {}
    for row in tried.rows.values():
        if row["measured"] and row["recipe"]["optimizer"] == "sgd":
            by_rate.setdefault(runs.recipe(row).name, []).append(row["test"]["unbiased"])
    return by_rate


def attempts(chosen_rate, setup, folder):
    """Try further settings beside the chosen rate, one seed each."""
    found = {}
    for name, (changes, settings) in TRIED.items():
        config = configuration(**changes)
        rate = chosen_rate / 2 if name.startswith("half") else chosen_rate
        other = runs.replace(setup, batch_size=config.batch_size, stop_loss=config.stop_loss)
        key = "-".join(f"{k}{v}" for k, v in changes.items()) or "plain"
        tried = runs.Runs(other, folder / f"tried-{key}.jsonl", ("validation", "test"))
        recipe = recipe_of(config, rate).model_copy(update=settings)
        found[name] = summary([tried.make(recipe, 0, config.max_steps)]) | {"recipe": recipe.name}
    return found


def as_markdown(found):
    """Return the page that people read."""
    shares = found["shares"]
    lines = [
        f"| | {' | '.join(f'{100 * float(share):g} %' for share in shares)} |",
        "| --- |" + " ---: |" * len(shares),
    ]
    for name in (*RULES, LONG, *CONVENTIONAL):
        cells = [cell(one[name], fits=name != LONG) if name in one else "-" for one in shares.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [f"| {name} | {' | '.join(map(str, row[: len(shares)]))} |" for name, row in LFF.items()]
    tried = [
        "| tried at 1 %, one seed | status | steps | unbiased, % | prunability |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name, one in found["tried"].items():
        numbers = [f"{100 * one['unbiased'][0]:.1f}", f"{one['prunability'][0]:.3f}"] if one["unbiased"] else ["-", "-"]
        tried.append(f"| {name} | {one['statuses'][0]} | {one['steps'][0]} | {' | '.join(numbers)} |")
    return f"""# Colored MNIST beside Learning from Failure

Made by `{found["command"]}`. {__doc__.split(chr(10) * 2)[2].replace(chr(10), " ")}

Unbiased accuracy on test, %, mean ± standard deviation over training seeds (their number in brackets).
Not the same set: bigstep holds 5,000 images out of training, which leaves 55,000 beside LfF's 60,000; its noise
comes from another seed. LfF trains 100 epochs and reports the last; runs here stop at a training loss of
{STOP_LOSS} or after {EPOCHS} epochs, but for the row of {LONG_EPOCHS} epochs, which train on whatever the loss.
The score of the choice weighs robustness with {WEIGHT:g}.

{chr(10).join(lines)}

{chr(10).join(tried)}

Machine: {"; ".join(f"{key} {value}" for key, value in found["machine"].items())}.
"""


def cell(one, *, fits):
    if not one.get("unbiased"):
        return "no rate fits"
    where = f", rate {one['rate']:g}" if "rate" in one else ""
    unfitted = sum(status != "fitted" for status in one["statuses"]) if fits else 0
    return f"{runs.spread(one['unbiased'])} ({one['seeds']}{f', {unfitted} not fitted' if unfitted else ''}{where})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/colored-mnist"))
    arguments = parser.parse_args()
    shares = {f"{share:g}": {} for share in SHARES}
    for name in ("chosen", *CONVENTIONAL):
        for share in shares:
            begun = time.process_time()
            tried = begin(float(share), arguments.work / share)
            shares[share] |= chosen(tried) if name == "chosen" else conventional(tried, name)
            print(f"{name}, {share}: {time.process_time() - begun:.0f} s of CPU", flush=True)
            publish({key: one for key, one in shares.items() if one}, {})
    for share, one in shares.items():
        if rate := one["chosen with bias labels"]["rate"]:
            one |= long(rate, float(share), arguments.work / share)
            publish(shares, {})
    at = f"{TRIED_SHARE:g}"
    setup = begin(TRIED_SHARE, arguments.work / at).setup
    if rate := shares[at]["chosen with bias labels"]["rate"]:
        publish(shares, attempts(rate, setup, arguments.work / at))


def publish(shares, tried):
    """Write what there is so far."""
    command = ".venv/bin/python benchmarks/colored_mnist.py"
    found = {"command": command, "machine": machine("scikit-learn"), "shares": shares, "tried": tried}
    path = RESULTS / "colored_mnist.json"
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    path.with_suffix(".md").write_text(as_markdown(found))


if __name__ == "__main__":
    main()

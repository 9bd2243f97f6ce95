"""A large rate against its rivals, each at its own best setting, found with the same budget and by the same rule.

    .venv/bin/python benchmarks/rivals.py [--set digits ...] [--seeds 5] [--work FOLDER]

The rate is chosen by the product's search. Each rival has a grid of its knob times two rates, tried in the listed order
with one seed until the steps of four trainings are spent, which is what the search may take. The best score on
validation (half conflicting accuracy, half prunability) among what fitted is repeated with other seeds and measured on
test. Finished runs are kept in FOLDER, so that a killed benchmark goes on.
Writes benchmarks/results/rivals.json and .md.
"""

import argparse
import json
import math
import time
from pathlib import Path

import measured_runs as runs
import rival_training
from choosing import SETS, SETTINGS
from machine import machine
from scipy.stats import spearmanr

from train.prepare import recipe_of
from train.search import BUDGET, Axis

RESULTS = Path(__file__).parent / "results"
FIRST_SEED = 100  # of the repetitions; the settings are chosen by seed 0
RATES = (0.05623, 0.1778)  # one grid step below and above the conventional 0.1
GRIDS = {  # knob and values
    "batch size": ("batch", (8, 32, 4)),
    "momentum": ("momentum", (0.5, 0.9, 0.97)),
    "L1": ("l1", (1e-5, 1e-4, 1e-3)),
    "L2": ("l2", (1e-4, 1e-3, 1e-2)),
    "focal loss": ("focal", (0.5, 1.0, 2.0)),
    "adaptive SAM": ("asam", (0.1, 0.5, 2.0)),
    "dropout": ("dropout", (0.1, 0.3, 0.5)),
    "label smoothing": ("smoothing", (0.05, 0.1, 0.2)),
}
METRICS = ("unbiased", "conflicting", "prunability")


def settings():
    """Return the settings of each rival in the order in which they are tried."""
    found = {}
    found["Adam"] = [{"optimizer": "adam", "rate": rate} for rate in (0.001, 0.003, 0.0003, 0.01)]
    found["AdamW"] = [{**one, "optimizer": "adamw", "l2": l2} for one in found["Adam"][:3] for l2 in (0.01, 0.1)]
    for name, (knob, values) in GRIDS.items():
        found[name] = [{"rate": rate, knob: value} for value in values for rate in RATES]
    return found


def score(row):
    return (row["validation"]["conflicting"] + row["validation"]["prunability"]) / 2


def tune(book, candidates, config):
    """Try settings until the budget is spent; a run that takes more than what is left of it is left out."""
    left, tried = round(BUDGET * config.max_steps), []
    for setting in candidates:
        row = book.make(setting, 0, config.max_steps, ("validation",))
        if row["steps"] > left:
            break
        left -= row["steps"]
        tried.append(row)
    return tried


def together(tried):
    """Return the Spearman correlation of a knob with each metric at the smaller rate, by what fitted."""
    fitted = [row for row in tried if row["status"] == "fitted" and row["setting"].get("rate") == RATES[0]]
    if len(fitted) < 3:
        return None
    knob = next((key for key in fitted[0]["setting"] if key != "rate"), None)
    ranks = {m: spearmanr([r["setting"][knob] for r in fitted], [r["validation"][m] for r in fitted]) for m in METRICS}
    return {metric: float(rank.statistic) for metric, rank in ranks.items()} if knob else None


def searched(setup, config, folder):
    """Return the setting that the product's search chooses, and what it spent in trainings."""
    tried = runs.Runs(setup, folder / "search.jsonl", ("validation",))
    epoch_steps = math.ceil(setup.images.info.counts["train"] / config.batch_size)
    chance_loss = math.log(len(setup.images.info.labels))
    axis = Axis(recipe_of(config), config.rates, config.num_seeds, config.max_steps, epoch_steps, chance_loss)
    recipe, found = runs.search(tried, axis, "groups", 0.5, 0)
    assert recipe is not None and not recipe.warmup_steps, "the rivals have no warm-up"
    return {"rate": recipe.rate}, found.spent_steps() / config.max_steps


def one_set(name, folder, seeds):
    """Tune and repeat every rival on one set."""
    data, config = SETS[name]
    setup = runs.make_setup(config, runs.images(data, folder / "images"), folder)
    book = rival_training.Book(setup, folder / "rivals.jsonl")
    again = range(FIRST_SEED, FIRST_SEED + seeds)
    best, spent = searched(setup, config, folder)
    found = {"rate alone": {"best": best, "spent": spent, "spearman": None, "tried": []}}
    found["rate alone"]["runs"] = [book.make(best, seed, config.max_steps, ("test",)) for seed in again]
    for rival, candidates in settings().items():
        tried = tune(book, candidates, config)
        fitted = [row for row in tried if row["status"] == "fitted"]
        one = {"of": len(candidates), "tried": tried, "spent": sum(row["steps"] for row in tried) / config.max_steps}
        one["best"] = max(fitted, key=score)["setting"] if fitted else None
        one["runs"] = []
        if fitted:
            one["runs"] = [book.make(one["best"], seed, config.max_steps, ("test",)) for seed in again]
        found[rival] = one | {"spearman": together(tried)}
    return {"settings": {key: getattr(config, key) for key in SETTINGS}, "rivals": found}


def table(found):
    """Write one set as Markdown."""
    lines = ["| rival | best setting | fitted | unbiased, % | conflicting, % | prunability | core share |"]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    for name in ("rate alone", *settings()):
        one = found["rivals"][name]
        if one["best"] is None:
            lines.append(f"| {name} | none fitted | - | - | - | - | - |")
            continue
        fitted = [row for row in one["runs"] if row["status"] == "fitted"]
        told = ", ".join(f"{key} {value}" for key, value in one["best"].items() if key != "optimizer")
        cells = [f"{len(fitted)} of {len(one['runs'])}"]
        cells += [runs.spread([row["test"][key] for row in fitted]) for key in ("unbiased", "conflicting")]
        cells.append(runs.spread([row["test"]["prunability"] for row in fitted], 3, 1))
        cores = [row["core_share"] for row in fitted if row["core_share"] is not None]
        lines.append(f"| {name} | {told} | {' | '.join(cells)} | {runs.spread(cores)} |")
    return "\n".join(lines)


def rank_table(found, grid):
    """Write how each knob goes with each metric, and the least of the three."""
    lines = ["| knob | unbiased | conflicting | prunability | the least |", "| --- | ---: | ---: | ---: | ---: |"]
    for name in settings():
        one = found["rivals"][name]
        if one["spearman"]:
            numbers = [one["spearman"][metric] for metric in METRICS]
            lines.append(f"| {name} | {' | '.join(f'{n:+.1f}' for n in (*numbers, min(numbers)))} |")
    grid = [point for point in (grid or {}).get("rates", []) if point["fitted"]]
    if len(grid) >= 3:
        rates = [point["rate"] for point in grid]
        means = {m: [sum(point[m]) / len(point[m]) for point in grid] for m in METRICS}
        numbers = [spearmanr(rates, means[metric]).statistic for metric in METRICS]
        lines.append(f"| rate ({len(grid)} values) | {' | '.join(f'{n:+.1f}' for n in (*numbers, min(numbers)))} |")
    return "\n".join(lines)


def as_markdown(found):
    """Return the page that people read."""
    text = f"""# A large rate against its rivals

Made by `{found["command"]}`. {__doc__.split(chr(10) * 2)[2].replace(chr(10), " ")}

Means ± standard deviations over the seeds that fitted; unbiased and conflicting accuracy, prunability and core share on
test. Core share is there where the set has masks. A run has fitted when the mean of its own loss on the training set,
penalties and dropout left out, is at most the stopping loss above the least it can be, which for label smoothing and
focal loss is not the same fit as for the cross entropy. A step of adaptive SAM counts as two. Below: Spearman
correlation of each knob's three values with the metrics on validation, one seed, rate {RATES[0]:g}: few points, so that
only signs that agree say anything. For the rate: the rates of the full grid at which some seed fits, on test, means
over ten seeds (choosing.md).
"""
    path = RESULTS / "choosing.json"
    grids = json.loads(path.read_text())["sets"] if path.is_file() else {}
    for name, one in found["sets"].items():
        told = ", ".join(f"{key} {value}" for key, value in one["settings"].items() if value)
        text += f"\n## {name}\n\n{told}\n\n{table(one)}\n\n{rank_table(one, grids.get(name))}\n"
    return text + f"\nMachine: {'; '.join(f'{key} {value}' for key, value in found['machine'].items())}.\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", choices=("digits", "moon-star"), help="default: both")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("runs/rivals"))
    arguments = parser.parse_args()
    path = RESULTS / "rivals.json"
    sets = json.loads(path.read_text())["sets"] if path.is_file() else {}
    for name in arguments.set or ("digits", "moon-star"):
        begun = time.process_time()
        sets[name] = one_set(name, arguments.work / name, arguments.seeds)
        print(f"{name}: {time.process_time() - begun:.0f} s of CPU")
    command = f".venv/bin/python benchmarks/rivals.py --seeds {arguments.seeds}"
    found = {"command": command, "machine": machine("scikit-learn"), "sets": dict(sorted(sets.items()))}
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    path.with_suffix(".md").write_text(as_markdown(found))


if __name__ == "__main__":
    main()

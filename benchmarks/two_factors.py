"""Which settings go with a large rate? Tables of the rate with batch size, L2 and L1.

    .venv/bin/python benchmarks/two_factors.py [--set digits ...] [--seeds 5] [--work FOLDER]

Four rates times four values of the other knob, plain SGD, measured on test: conflicting accuracy and prunability, and
J, half of each. A cell in which a seed does not fit says so and has no J. Finished runs are kept in FOLDER.
Writes benchmarks/results/two_factors.json and .md.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from statistics import stdev

import measured_runs as runs
import rival_training
from choosing import SETS, SETTINGS
from machine import machine
from scipy.stats import spearmanr

RESULTS = Path(__file__).parent / "results"
RATES = (0.03162, 0.1, 0.1778, 0.3162)
KNOBS = {"batch": (8, 16, 32, 64), "l2": (0.0, 1e-4, 1e-3, 3e-3), "l1": (0.0, 1e-5, 1e-4, 3e-4)}
TITLES = {"batch": "batch size", "l2": "L2", "l1": "L1"}
MAX_STEPS = 3000


def cell(rows):
    """Average the runs of one cell over seeds."""
    if any(row["status"] != "fitted" for row in rows):
        return {"statuses": [row["status"] for row in rows]}
    found = {k: sum(row["test"][k] for row in rows) / len(rows) for k in ("conflicting", "prunability")}
    js = [(row["test"]["conflicting"] + row["test"]["prunability"]) / 2 for row in rows]
    spread = {"j_sd": stdev(js)} if len(js) > 1 else {}
    return {"statuses": ["fitted"] * len(rows), **found, "j": sum(js) / len(js), **spread}


def setting(rate, knob, value, config):
    """Return a setting without the knob where it has its usual value, so that cells of different tables are one."""
    usual = {"batch": config.batch_size, "l2": 0.0, "l1": 0.0}
    return {"rate": rate} if value == usual[knob] else {"rate": rate, knob: value}


def one_set(name, folder, seeds):
    data, config = SETS[name]
    setup = runs.make_setup(config, runs.images(data, folder / "images"), folder)
    book = rival_training.Book(setup, folder / "two_factors.jsonl")
    tables = {}
    for knob, values in KNOBS.items():
        tables[knob] = []
        for value in values:
            for rate in RATES:
                asked = setting(rate, knob, value, config)
                rows = [book.make(asked, seed, MAX_STEPS, ("test",)) for seed in range(seeds)]
                tables[knob].append({"rate": rate, "value": value, **cell(rows)})
    told = {key: getattr(config, key) for key in SETTINGS} | {"max_steps": MAX_STEPS}
    return {"settings": told, "seeds": seeds, "tables": tables, "spearman": by_ratio(tables["batch"])}


def by_ratio(cells):
    """Return how J of the fitted cells goes with the rate alone, and with rate / batch."""
    fitted = [one for one in cells if "j" in one]
    if len(fitted) < 4:
        return None
    js = [one["j"] for one in fitted]
    keys = {"rate": [one["rate"] for one in fitted], "rate / batch": [one["rate"] / one["value"] for one in fitted]}
    return {name: float(spearmanr(values, js).statistic) for name, values in keys.items()} | {"cells": len(fitted)}


def table(knob, cells):
    """Write one table as Markdown."""
    lines = [f"| {TITLES[knob]} | {' | '.join(f'rate {rate:g}' for rate in RATES)} |", "| ---: |" + " ---: |" * 4]
    for value in KNOBS[knob]:
        row = [one for one in cells if one["value"] == value]
        told = []
        for one in row:
            bad = Counter(status for status in one["statuses"] if status != "fitted")
            spread = f" ± {100 * one['j_sd']:.1f}" if "j_sd" in one else ""
            if bad:
                told.append(", ".join(f"{count} {status}" for status, count in sorted(bad.items())))
            else:
                parts = f"({100 * one['conflicting']:.1f}, {one['prunability']:.3f})"
                told.append(f"{100 * one['j']:.1f}{spread} {parts}")
        lines.append(f"| {value:g} | {' | '.join(told)} |")
    return "\n".join(lines)


def as_markdown(found):
    """Return the page that people read."""
    text = f"""# Two factors at a time

Made by `{found["command"]}`. {__doc__.split(chr(10) * 2)[2].replace(chr(10), " ")}

Cells: J in points (conflicting accuracy in %, prunability), the mean ± standard deviation over seeds; or how many of
the seeds did not fit.
"""
    for name, one in found["sets"].items():
        told = ", ".join(f"{key} {value}" for key, value in one["settings"].items() if value)
        text += f"\n## {name}\n\n{told}; {one['seeds']} seed{'s' * (one['seeds'] > 1)}\n"
        for knob, cells in one["tables"].items():
            text += f"\n{table(knob, cells)}\n"
        if ranks := one["spearman"]:
            text += f"\nSpearman correlation with J over the {ranks['cells']} fitted cells of rate and batch size: "
            text += f"rate {ranks['rate']:+.2f}, rate / batch {ranks['rate / batch']:+.2f}.\n"
    return text + f"\nMachine: {'; '.join(f'{key} {value}' for key, value in found['machine'].items())}.\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", choices=("digits", "moon-star"), help="default: both")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("runs/two-factors"))
    arguments = parser.parse_args()
    path = RESULTS / "two_factors.json"
    sets = json.loads(path.read_text())["sets"] if path.is_file() else {}
    for name in arguments.set or ("digits", "moon-star"):
        begun = time.process_time()
        sets[name] = one_set(name, arguments.work / name, arguments.seeds)
        print(f"{name}: {time.process_time() - begun:.0f} s of CPU")
    command = f".venv/bin/python benchmarks/two_factors.py --seeds {arguments.seeds}"
    found = {
        "command": command,
        "machine": machine("scikit-learn"),
        "sets": dict(sorted(sets.items())),
    }
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    path.with_suffix(".md").write_text(as_markdown(found))


if __name__ == "__main__":
    main()

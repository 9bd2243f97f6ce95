"""The learning-rate map of the digits, or of another data set that needs no files.

    .venv/bin/python benchmarks/lr_map.py [--data digits] [--seeds 5] [--steps N] [--work FOLDER]

Runs `bigstep lr-map digits` and writes benchmarks/results/lr_map_<data>.csv (every number of every rate and seed),
lr_map_<data>_thresholds.csv and lr_map_<data>.md (thresholds, means, second phase, Spearman correlations), and the
picture docs/lr-map/<data>.svg. What an earlier run of the same code left in the work folder is used.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from machine import machine

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PICTURES = ROOT / "docs" / "lr-map"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="train.max_steps, by default that of the preset")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark"))
    arguments = parser.parse_args()
    name, seeds = arguments.data, arguments.seeds
    folder = arguments.work / f"lr-map-{name}"
    settings = [f"name={name}", f"data.kind={name}", f"train.num_seeds={seeds}"]
    settings += [f"train.max_steps={arguments.steps}"] if arguments.steps else []
    command = [sys.executable, "-m", "bigstep", "lr-map", "digits", "--json", "--run-dir", str(folder)]
    for setting in settings:
        command += ["--set", setting]
    start_s = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    took_s = time.perf_counter() - start_s
    found = json.loads(done.stdout)
    RESULTS.mkdir(exist_ok=True)
    PICTURES.mkdir(exist_ok=True)
    stem = f"lr_map_{name.replace('-', '_')}"
    shutil.copyfile(folder / "lr-map.csv", RESULTS / f"{stem}.csv")
    shutil.copyfile(folder / "lr-map-thresholds.csv", RESULTS / f"{stem}_thresholds.csv")
    shutil.copyfile(folder / "lr-map.svg", PICTURES / f"{name}.svg")
    told = "; ".join(f"{key} {value}" for key, value in machine("captum", "scipy", "scikit-learn").items())
    shown = f".venv/bin/python benchmarks/lr_map.py --data {name} --seeds {seeds}"
    shown += f" --steps {arguments.steps}" if arguments.steps else ""
    text = (folder / "lr-map.md").read_text()
    text += f"\nMade by `{shown}`; record {found['digest'][:16]}. Machine: {told}.\n"
    (RESULTS / f"{stem}.md").write_text(text)
    print(f"{found['answer']}\n{took_s:.0f} s")


if __name__ == "__main__":
    main()

"""The compact model against its baselines on the digits, over several seeds of the data.

    .venv/bin/python benchmarks/digits_over_seeds.py [--seeds 10] [--work FOLDER] [--batch-size N]

Runs the whole pipeline (`digits` preset) once per seed of splits and colours, and writes
benchmarks/results/digits_over_seeds.json and .md: what the README publishes. With another batch size the results carry
it in their name.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from machine import machine

from bigstep.records.bundle import Bundle
from bigstep.records.compact import Compact
from bigstep.records.exported import Exported
from bigstep.records.trained import Trained
from bigstep.records.verdict import Verdict
from pipeline.store import SHORT

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "torch-pruning", "onnx", "onnxscript", "onnxruntime", "numpy", "scikit-learn")


def run(seed, work, settings):
    """Run the pipeline for one data seed and return what it found."""
    folder = work / f"digits-{seed}"
    command = [sys.executable, "-m", "bigstep", "run", "digits", "--json", "--run-dir", str(folder)]
    for setting in (f"data.seed={seed}", *settings):
        command += ["--set", setting]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1, 3):
        raise SystemExit(done.stderr)
    made_from = Bundle.open(Path(json.loads(done.stdout)["bundle"])).info.made_from
    kinds = {"train": Trained, "compress": Compact, "export": Exported, "verify": Verdict}
    found = {
        stage: kind.open(folder / "records" / f"{kind.kind}-{made_from[stage][:SHORT]}")
        for stage, kind in kinds.items()
    }
    return row(seed, done.returncode, found)


def row(seed, code, found):
    """Reduce the records of one run to the published numbers."""
    trained, compact, exported, verdict = (found[stage] for stage in ("train", "compress", "export", "verify"))
    unfitted = {model.sha256 for model in compact.info.baselines if not model.fitted}
    forms = {form.name: form for form in exported.info.forms}
    accuracy = {(s.form, s.group): s.accuracy for s in verdict.info.scores}
    judgements = (*verdict.info.checks, *verdict.info.comparisons)
    checks = {(check.form, check.group): check for check in judgements if check.rule == "non-inferiority"}

    def judged(name):
        found = {group: checks[name, group] for group in ("aligned", "conflicting")}
        outcomes = {check.outcome for check in found.values()}
        return {
            "bytes": forms[name].bytes,
            **{group: accuracy[name, group] for group in ("unbiased", "aligned", "conflicting")},
            **{f"{group}_drop_at_most": check.bound for group, check in found.items()},
            "outcome": next(o for o in ("failed", "undecided", "passed") if o in outcomes),
            "fitted": forms[name].sha256 not in unfitted,
        }

    others = [form.name for form in forms.values() if form.role in ("baseline", "compact_baseline")]
    chosen = trained.info.trial(trained.info.chosen)
    return {
        "seed": seed,
        "exit_code": code,
        "verdict": verdict.info.outcome,
        "rate": chosen.recipe.rate,
        "map": [point.model_dump(mode="json") for point in trained.info.points],
        "dense": {g: accuracy["dense-fp32", g] for g in ("unbiased", "aligned", "conflicting")},
        "dense_bytes": forms["dense-fp32"].bytes,
        "compact": judged(exported.info.served),
        "others": {name: judged(name) for name in others},
        "digest": verdict.digest,
    }


def spread(values):
    """Write mean and standard deviation over seeds."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} ± {deviation:.1f}"


def percent(rows, read):
    return spread([100 * read(row) for row in rows])


def line(name, rows, read, dense):
    """Write one line of the table: sizes, accuracies, and how often the gate would have said what."""
    found = [(read(row), row) for row in rows if read(row) is not None]
    if not found:
        return f"| {name} | - | - | - | no seed fitted | 0 |"
    models = [model for model, _ in found if model.get("fitted", True)]
    spoilt = len(found) - len(models)
    if not models:
        return f"| {name} | - | - | - | {spoilt} did not fit again | {spoilt} |"
    smaller = sorted(row["dense_bytes"] / model.get("bytes", row["dense_bytes"]) for model, row in found)
    outcomes = [model.get("outcome") for model in models]
    told = ", ".join(f"{outcomes.count(o)} {o}" for o in ("passed", "undecided", "failed") if outcomes.count(o))
    told += f", {spoilt} did not fit again after pruning" if spoilt else ""
    times = f"{smaller[0]:.1f} to {smaller[-1]:.1f}" if smaller[0] != smaller[-1] else f"{smaller[0]:.1f}"
    cells = [spread([100 * model[group] for model in models]) for group in ("aligned", "conflicting")]
    return f"| {name} | {times} | {cells[0]} | {cells[1]} | {'reference' if dense else told} | {len(found)} |"


def table(rows):
    """Write the published table as Markdown."""
    names = list(dict.fromkeys(name for row in rows for name in row["others"]))
    lines = [
        "| model | times smaller | aligned, % | conflicting, % | gate against dense | runs |",
        "| --- | ---: | ---: | ---: | --- | ---: |",
        line("dense, chosen rate (float32)", rows, lambda r: r["dense"], dense=True),
        line("**compact, shipped (INT8)**", rows, lambda r: r["compact"], dense=False),
    ]
    for name in names:
        lines.append(line(name, rows, lambda r, name=name: r["others"].get(name), dense=False))
    return "\n".join(lines)


def warmed(point):
    return point["recipe"]["warmup_steps"] > 0


def rates(rows):
    """Write the map, averaged over data seeds, as Markdown."""
    lines = [
        "| rate | data seeds at which all that was tried fitted | conflicting, % | prunability | score |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    tried = sorted({point["recipe"]["rate"] for row in rows for point in row["map"]})
    for rate in tried:
        points = [p for row in rows for p in row["map"] if p["recipe"]["rate"] == rate and not warmed(p)]
        usable = [p for p in points if p["score"] is not None]
        cells = ["-", "-", "-"]
        if usable:
            cells = [percent(usable, lambda p: p["numbers"]["conflicting"])]
            cells += [f"{statistics.mean(p['numbers']['prunability'] for p in usable):.3f}"]
            cells += [f"{statistics.mean(p['score'] for p in usable):.3f}"]
        chosen = sum(row["rate"] == rate for row in rows)
        mark = f" (chosen {chosen} times)" if chosen else ""
        lines.append(f"| {rate:g}{mark} | {len(usable)} of {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--batch-size", type=int)
    arguments = parser.parse_args()
    settings = [f"train.batch_size={arguments.batch_size}"] if arguments.batch_size else []
    rows = []
    for seed in range(arguments.seeds):
        rows.append(run(seed, arguments.work, settings))
        print(f"seed {seed}: {rows[-1]['verdict']}, rate {rows[-1]['rate']:g}", file=sys.stderr)
    measured_on = machine(*PACKAGES)
    option = f" --batch-size {arguments.batch_size}" if arguments.batch_size else ""
    command = f".venv/bin/python benchmarks/digits_over_seeds.py --seeds {len(rows)}{option}"
    name = "digits_over_seeds" + (f"_batch_{arguments.batch_size}" if arguments.batch_size else "")
    RESULTS.mkdir(exist_ok=True)
    found = {"command": command, "machine": measured_on, "runs": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    batch = f" at batch size {arguments.batch_size}" if arguments.batch_size else ""
    text = f"""# Coloured digits{batch}, {len(rows)} seeds of splits and colours

Made by `{command}`: the preset `digits`{batch}. The rate was searched
for with at most four trainings' worth of steps; conventional recipes had five training seeds each. Accuracies are on
test (360 digits in ten colours), as mean ± standard deviation over the data seeds. "Gate against dense" is the rule
that the compact model has to keep: the upper 95 % bound of its drop against the dense network of the chosen rate,
aligned and conflicting, is at most 3 points. Networks that did not fit again after pruning are counted, not averaged.
Fewer runs: the baseline fitted on no training seed, was the chosen network itself, or diverged in fine-tuning after
pruning.

{table(rows)}

What the search tried, and the grid with one seed, on validation, averaged over data seeds:

{rates(rows)}

Machine: {"; ".join(f"{key} {value}" for key, value in measured_on.items() if key != "load average")}.
"""
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

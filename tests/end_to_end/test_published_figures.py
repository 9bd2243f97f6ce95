"""What the README publishes is what the benchmark measured, and the measurement says how it was made."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def table_rows(text):
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [line for line in rows if "±" in line or "no seed fitted" in line]


def test_every_row_of_the_readme_is_a_measured_one():
    published = table_rows((ROOT / "README.md").read_text())
    measured = table_rows((RESULTS / "digits_over_seeds.md").read_text())
    assert len(published) >= 5
    assert set(published) <= set(measured)


def test_results_say_how_they_were_made():
    for path in sorted(RESULTS.glob("*.json")):
        found = json.loads(path.read_bytes())
        assert found["command"].startswith(".venv/bin/python benchmarks/")
        assert {"cpu", "torch", "onnxruntime", "numpy", "python", "cores"} <= set(found["machine"])
        assert len(found["runs"]) >= 3
        assert len({run["seed"] for run in found["runs"]}) == len(found["runs"])


def test_the_compact_model_is_at_least_eight_times_smaller_with_no_gated_loss():
    runs = json.loads((RESULTS / "digits_over_seeds.json").read_bytes())["runs"]
    assert all(run["dense_bytes"] >= 8 * run["compact"]["bytes"] for run in runs)
    told = [run["compact"]["outcome"] for run in runs]
    row = next(r for r in table_rows((ROOT / "README.md").read_text()) if "compact, shipped" in r)
    assert f"{told.count('passed')} passed" in row
    for outcome in ("failed", "undecided"):
        assert (f"{told.count(outcome)} {outcome}" in row) == (outcome in told)

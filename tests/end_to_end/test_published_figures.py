"""What the README publishes is what the benchmark measured, and the measurement says how it was made."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from bigstep.own_packages import NAMES

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


def test_the_readme_tells_which_conventional_recipe_is_ahead_of_ours():
    """Before compression, on conflicting images, wherever the results have it."""
    readme = " ".join((ROOT / "README.md").read_text().split())
    ahead = []
    for path in sorted(RESULTS.glob("digits_over_seeds*.md")):
        rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table_rows(path.read_text())]
        dense = {cells[0]: float(cells[3].partition(" ")[0]) for cells in rows if cells[1:2] == ["1.0"]}
        ours = dense["dense, chosen rate (float32)"]
        ahead += [(path, f"{theirs} against {ours} %") for theirs in dense.values() if theirs - ours >= 2]
    assert ahead
    assert all(told in readme and f"({path.relative_to(ROOT)})" in readme for path, told in ahead)


def test_results_say_how_they_were_made():
    for path in sorted(RESULTS.glob("*.json")):
        found = json.loads(path.read_bytes())
        assert found["command"].startswith(".venv/bin/python benchmarks/")
        assert {"cpu", "torch", "onnxruntime", "numpy", "python", "cores"} <= set(found["machine"])
    for path in sorted(RESULTS.glob("*over_seeds*.json")):
        runs = json.loads(path.read_bytes())["runs"]
        assert len(runs) >= 3 and len({run["seed"] for run in runs}) == len(runs)


def test_every_fault_was_survived():
    found = json.loads((RESULTS / "faults.json").read_bytes())
    rows = found["rows"]
    assert found["held"] == found["of"] == len(rows)
    assert all(row["again"] == 0 and row["same_digests"] for row in rows)
    assert sum(row["fault"] == "kill -9" for row in rows) >= 20
    stages = {"data", "train", "compress", "export", "verify", "bundle"}
    for fault in ("kill -9", "full disk", "kill before", "kill after"):
        assert {row["stage"] for row in rows if row["fault"] == fault} >= stages, fault
    table = (RESULTS / "faults.md").read_text()
    assert f"**{found['held']} of {found['of']} faults ended as they must.**" in table


def test_the_compact_model_is_at_least_eight_times_smaller_with_no_gated_loss():
    runs = json.loads((RESULTS / "digits_over_seeds.json").read_bytes())["runs"]
    assert all(run["dense_bytes"] >= 8 * run["compact"]["bytes"] for run in runs)
    told = [run["compact"]["outcome"] for run in runs]
    row = next(r for r in table_rows((ROOT / "README.md").read_text()) if "compact, shipped" in r)
    assert f"{told.count('passed')} passed" in row
    for outcome in ("failed", "undecided"):
        assert (f"{told.count(outcome)} {outcome}" in row) == (outcome in told)


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)


def commit_of(results):
    """Return the commit whose code made results: what they say of it, or else what the table of the older ones says."""
    data = results.with_suffix(".json")
    told = json.loads(data.read_bytes())["machine"].get("commit", "") if data.is_file() else ""
    told = told or "".join(re.findall(r"\bcommit ([0-9a-f]{7,40})\b", results.read_text())[:1])
    table = dict(
        re.findall(r"^\| \[(\w+)\]\(results/\w+\.md\) \| (\w+) \|$", (ROOT / "benchmarks/README.md").read_text(), re.M)
    )
    assert bool(told) != (results.stem in table), "it names its commit, or the table does, never both"
    return told or table[results.stem]


@pytest.mark.parametrize("results", sorted(RESULTS.glob("*.md")), ids=lambda path: path.stem)
def test_results_name_a_commit_and_are_told_when_older_than_the_code(results):
    """Older ones are reported, as expected failures: not every change of the code changes a figure."""
    commit = commit_of(results)
    assert re.fullmatch(r"[0-9a-f]{7,40}", commit), "made from a working tree with changes, or outside a repository"
    if (
        git("rev-parse", "--verify", "HEAD").returncode
        or git("rev-parse", "--is-shallow-repository").stdout.strip() == "true"
    ):
        pytest.skip("there is no history to look in")
    assert git("cat-file", "-e", f"{commit}^{{commit}}").returncode == 0, f"no commit {commit}"
    changed = git("diff", "--name-only", commit, "HEAD", "--", *sorted(NAMES)).stdout.splitlines()
    if changed:
        pytest.xfail(f"{results.name}: measured at {commit}; {len(changed)} files of the code have changed since")

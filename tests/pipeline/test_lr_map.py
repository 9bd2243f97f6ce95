"""`bigstep lr-map` from the command line: cached, with its page and tables, and with networks trained elsewhere."""

import csv
import json
import os

import pytest
from safetensors.numpy import save_file

from bigstep.records.trained import Trained

NARROW = ["--set", "train.max_steps=120", "--set", "train.baseline_max_steps=120", "--set", "train.stop_loss=1.0"]


@pytest.fixture
def one_core(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})


def test_the_whole_command_and_a_second_time_from_the_store(bigstep, small_toml, run_copy, one_core):
    arguments = ["lr-map", small_toml, "--run-dir", run_copy, *NARROW]
    ended = bigstep(*arguments)
    assert ended.code == 0, ended.err
    assert "S*eta/2" in ended.out and "convergence: " in ended.out and str(run_copy / "lr-map.html") in ended.out
    assert "lr-map: running" in ended.err and "data: unchanged" in ended.err
    again = bigstep(*arguments, "--json")
    found = json.loads(again.out)
    assert again.code == 0 and "lr-map: unchanged" in again.err
    assert {0.05, 0.2} <= {row["rate"] for row in found["rates"]} and len(found["thresholds"]) == 5
    with (run_copy / "lr-map.csv").open(newline="") as file:
        numbers = {(float(r["rate"]), r["metric"]): r["value"] for r in csv.DictReader(file)}
    assert all(float(numbers[row["rate"], "unbiased"]) == pytest.approx(row["unbiased"]) for row in found["rates"])
    for name in ("lr-map.html", "lr-map.md", "lr-map.svg", "lr-map-thresholds.csv"):
        assert (run_copy / name).stat().st_size > 100
    swept = json.loads(bigstep("gc", run_copy, "--json").out)
    assert not [x for x in swept["leftovers"] if "rate-map" in x["path"]]


@pytest.fixture
def given(small_run, tmp_path):
    """Return a folder with a stored network of the small run under two rates."""
    trained = small_run.records["train"]
    assert isinstance(trained, Trained)
    folder = tmp_path / "given"
    folder.mkdir()
    for rate in ("0.1", "0.2-s0"):
        (folder / f"{rate}.safetensors").write_bytes(trained.weights(trained.info.chosen).read_bytes())
    return folder


def test_a_map_of_given_checkpoints(bigstep, small_toml, run_copy, given, one_core):
    ended = bigstep("lr-map", small_toml, "--run-dir", run_copy, "--checkpoints", given)
    assert ended.code == 0, ended.err
    page = (run_copy / "lr-map.html").read_text()
    assert "given as checkpoints" in page and "needs the training path" in page
    save_file({}, given / "0.3.safetensors")
    changed = bigstep("lr-map", small_toml, "--run-dir", run_copy, "--checkpoints", given)
    assert (changed.code, changed.out) == (2, "") and "0.3.safetensors does not hold the weights" in changed.err


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone", None, "no checkpoint, folder or table"),
        ("fast.safetensors", b"", "no learning rate above 0"),
        ("t.csv", b"rate,path\n0.1,x\n", "no column seed"),
        ("t.csv", b"rate,seed,path\n0.1,0,x.safetensors\n", "a checkpoint is missing"),
        ("t.csv", b"rate,seed,path\nfast,0,x.safetensors\n", "line 2: no learning rate"),
    ],
)
def test_what_is_wrong_with_checkpoints(bigstep, small_toml, tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    ended = bigstep("lr-map", small_toml, "--run-dir", tmp_path / "run", "--checkpoints", tmp_path / name)
    assert (ended.code, ended.out) == (2, "") and says in ended.err and "Traceback" not in ended.err
    assert not (tmp_path / "run").exists()

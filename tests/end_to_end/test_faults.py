"""Runs that are killed or that fill the disk at chosen operations: the short form of benchmarks/faults.py.

Kills in training and in compression, worker processes and all, are in tests/pipeline/test_interrupt.py.
"""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "faults.py"
spec = importlib.util.spec_from_file_location("faults", PATH)
faults = importlib.util.module_from_spec(spec)
sys.modules["faults"] = faults  # dataclasses look their module up
spec.loader.exec_module(faults)
Fault = faults.Fault

STRIKES = [
    ("data", Fault("full disk", 7)),
    ("data", Fault("kill after", 1, only="rename\trecords/")),
    ("train", Fault("full disk", 3, only=".safetensors")),
    ("export", Fault("full disk", 2, only=".onnx")),
    ("verify", Fault("full disk", 5, only=".npy")),
    ("verify", Fault("kill before", 1, only="rename\tkeys/")),
    ("bundle", Fault("full disk", 1, only="report.html")),
    ("bundle", Fault("kill before", 1, only="rename\tbundle")),
    ("bundle", Fault("kill after", 1, only="rename\tbundle")),
    ("bundle", Fault("kill before", 2, only="rename\tbundle")),
    ("bundle", Fault("kill after", 2, only="rename\tbundle")),
    ("bundle", Fault("full disk", 1, only="junit.xml")),
]


@pytest.fixture(scope="module")
def victims(tmp_path_factory):
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler (cc)")
    found = faults.Victims(tmp_path_factory.mktemp("faults"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def toml(small_config, tmp_path_factory):
    from bigstep.config_file import to_toml

    path = tmp_path_factory.mktemp("faults") / "small.toml"
    path.write_text(to_toml(small_config))
    return path


@pytest.mark.parametrize(("stage", "fault"), STRIKES, ids=lambda v: v if isinstance(v, str) else f"{v.mode} {v.only}")
def test_after_a_fault_the_next_run_ends_in_the_same_digests(victims, toml, small_run, stage, fault):
    row = faults.strike(victims, toml, small_run.folder, stage, fault)
    assert row is not None, "the fault struck nothing"
    assert row.held, row


def test_the_harness_would_notice(victims, toml, small_run, tmp_path):
    """A record that is published half-written, another digest and a wrong exit code are all told apart."""
    folder = shutil.copytree(small_run.folder, tmp_path / "run")
    faults.check_whole(folder)
    next(folder.glob("records/images-*/test.ids.npy")).write_bytes(b"")
    with pytest.raises(Exception, match=r"test\.ids\.npy was altered"):
        faults.check_whole(folder)
    good = faults.Row("full disk", "data", "1", 2, "the disk is full", 0, True)
    assert good.held
    wrong = [{"ended": 4}, {"again": 1}, {"same_digests": False}, {"says": "it broke"}]
    assert not any(faults.Row(**{**vars(good), **change}).held for change in wrong)


def test_a_clock_that_goes_backwards_decides_nothing(victims, toml, small_run, tmp_path):
    folder = faults.without(small_run.folder, "verify", tmp_path / "run")
    ended = victims.run(["run", str(toml), "--run-dir", str(folder)], folder, Fault("clock goes backwards"))
    assert ended.code == 0, ended.err
    assert faults.digests(folder) == faults.digests(small_run.folder)

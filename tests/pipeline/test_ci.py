"""The two files that a CI job reads: whole or not there, and never those of an earlier run."""

import subprocess
import sys
from dataclasses import replace

import pytest
from junitparser import JUnitXml

from bigstep.errors import ConfigError
from bigstep.records.measured import NOTHING
from bigstep.records.run import RunRecords
from pipeline import ci
from pipeline.stages import NAMES
from verify.report.run_outcome import RunOutcome, StageRun


@pytest.fixture
def passed(small_run):
    """Return the outcome of a run that ended well."""
    history = [StageRun(stage, "ran", 1.2345) for stage in NAMES]
    return RunOutcome("small", NAMES, history, RunRecords(**small_run.records).judge(NOTHING, []))


def stopped(passed, error):
    """Return the outcome of a run that an error stopped before the first stage."""
    return replace(passed, history=[], records=RunRecords(), error=error)


def test_both_files_are_written_whole(passed, small_run, tmp_path):
    ci.write(tmp_path, passed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["junit.xml", "summary.md"]
    suites = {suite.name: [case.name for case in suite] for suite in JUnitXml.fromfile(str(tmp_path / "junit.xml"))}
    checks = small_run.records["verify"].info.checks
    assert suites == {"stages": list(NAMES), "gate": [check.name for check in checks]}
    assert f" of {len(checks)} checks passed" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_an_error_is_told_where_packages_are_missing(passed, tmp_path):
    missing = ("jinja2", "matplotlib", "scipy", "onnxruntime")
    code = f"import sys; sys.modules |= dict.fromkeys({missing}); import pipeline.ci; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "verify.report.job_summary" in done.stdout, "what writes the files needs none of them"
    ci.write(tmp_path, stopped(passed, ConfigError("the package jinja2 is not installed", do="pip install jinja2")))
    assert "the package jinja2 is not installed" in (tmp_path / "summary.md").read_text()
    assert JUnitXml.fromfile(str(tmp_path / "junit.xml")).errors == 1


@pytest.fixture
def full_disk(tmp_path):
    """Return a folder in which what is written for a moment lands on a full device; old results lie there."""
    for name in ("junit.xml", "summary.md"):
        (tmp_path / name).write_text("an older, green result")
        (tmp_path / f".{name}.tmp").symlink_to("/dev/full")
    return tmp_path


def test_a_full_disk_does_not_hide_the_first_error(passed, full_disk, caplog):
    ci.write(full_disk, stopped(passed, ConfigError("the disk is full")))
    assert "junit.xml cannot be written: No space left on device" in caplog.text
    assert list(full_disk.iterdir()) == [], "an older result must not stand for this run"


def test_a_passed_run_that_cannot_say_so_is_an_error(passed, full_disk):
    with pytest.raises(OSError, match="No space left"):
        ci.write(full_disk, passed)
    assert not (full_disk / "junit.xml").exists()


def test_results_of_an_earlier_run_are_removed(passed, tmp_path):
    ci.write(tmp_path, passed)
    ci.remove(tmp_path, reports=True)
    ci.remove(tmp_path, reports=True)
    assert list(tmp_path.iterdir()) == []

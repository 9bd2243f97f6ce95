"""`bigstep bench`: what is measured of a bundle, what is shown, what is written, and which options are refused.

A clock that ticks once whenever it is looked at gives every query, whatever its batch, exactly one millisecond.
"""

import errno
import itertools
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bigstep.errors import ConfigError, RecordError
from pipeline import bench
from pipeline.bench import BenchOptions
from serve.bench import Timed


def ticking():
    """Return a clock that moves by one millisecond per look."""
    ticks = itertools.count()
    return lambda: next(ticks) / 1000


def run(folder, **options):
    return bench.run(folder, BenchOptions(**{"seconds": 12.0} | options), ticking())


@pytest.fixture(scope="module")
def bundle(small_run):
    return small_run.folder / "bundle"


@pytest.fixture(scope="module")
def timings(bundle):
    return run(bundle)


def test_every_form_is_timed_singly_and_at_its_best_batch(timings, small_run):
    forms = small_run.records["bundle"].info.forms
    assert len(forms) >= 2
    found = timings.as_json()
    assert list(found["models"]) == [form.name for form in forms]
    for form in forms:
        model = found["models"][form.name]
        assert model["sha256"] == form.sha256
        assert model["batch_1"]["batch"] == 1 and model["batch_1"]["p50_ms"] == pytest.approx(1.0)
        assert model["best_batch"]["batch"] == 64
        assert model["best_batch"]["images_per_s"] == pytest.approx(64_000)
        assert model["batch_1"]["n"] > 662 and model["batch_1"]["p99_ms"] == pytest.approx(1.0)
    assert (found["outcome"], found["budgets"]) == ("passed", [])
    assert found["served"] == small_run.records["bundle"].info.served
    assert "not an MLPerf result" in found["style"] and "uniform noise" in found["input"]
    assert found["machine"]["load_before"] and found["machine"]["threads"].startswith("1 ")
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("budgets", "outcomes", "worst"),
    [
        ({"max_p99_ms": 2.0}, ["passed"], "passed"),
        ({"max_p99_ms": 0.5}, ["failed"], "failed"),
        ({"max_p99_ms": 2.0, "min_images_per_s": 32_000.0}, ["passed", "passed"], "passed"),
        ({"max_p99_ms": 2.0, "min_images_per_s": 65_000.0}, ["passed", "failed"], "failed"),
        ({"max_p99_ms": 2.0, "seconds": 0.5}, ["undecided"], "undecided"),
        ({"max_p99_ms": 2.0, "min_images_per_s": 9e9, "seconds": 0.5}, ["undecided", "failed"], "failed"),
    ],
)
def test_budgets_concern_the_served_form(bundle, timings, budgets, outcomes, worst, capsys):
    judged = run(bundle, **budgets)
    assert [check.outcome for check in judged.budgets] == outcomes
    assert judged.outcome == judged.as_json()["outcome"] == worst
    assert all(check.says.startswith(timings.bundle.info.served) for check in judged.budgets)
    judged.show()
    out = capsys.readouterr().out
    sign = {"passed": "PASSED", "failed": "FAILED", "undecided": "CANNOT TELL"}
    for check in judged.budgets:
        assert f"{sign[check.outcome]} {check.name}: {check.says}\n" in out


def test_the_table_shows_the_numbers_and_fits_into_80_columns(timings, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    first = timings.forms[0]
    slow, fast = Timed(1, (0.0123456,) * 50), Timed(16, (0.000_05,) * 700)
    replace(timings, forms=[replace(first, single=slow, best=fast), *timings.forms[1:]]).show()
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    at = next(i for i, line in enumerate(lines) if line.startswith(first.form.name))
    assert lines[at].split()[-6:] == ["1", "50", "12.3", "-", "-", "81.0"]
    assert lines[at + 1].split() == ["best", "16", "700", "0.0500", "0.0500", "0.0500", "320,000"]
    served = [line for line in lines if " * " in line]
    assert len(served) == 1 and served[0].startswith(timings.bundle.info.served)
    text = " ".join(" ".join(lines).split())
    assert "p90 needs 64 and p99 needs 662 queries" in text
    assert "not an MLPerf result" in text and "uniform noise, seed 0" in text


def test_nothing_is_missing_when_there_were_enough_queries(timings, capsys):
    assert min(len(one.seconds) for form in timings.forms for one in (form.single, form.best)) >= 662
    timings.show()
    assert "needs" not in capsys.readouterr().out


def test_raw_holds_every_time_and_replaces_what_was_there(bundle, tmp_path):
    path = tmp_path / "raw.json"
    path.write_text("old")
    timings = run(bundle, raw=path)
    timings.write_raw()
    raw = json.loads(path.read_text())
    times = raw.pop("query_ms")
    assert raw == json.loads(json.dumps(timings.as_json()))
    assert list(tmp_path.iterdir()) == [path]
    for form in timings.forms:
        for kind, timed in (("batch_1", form.single), ("best_batch", form.best)):
            assert times[form.form.name][kind] == pytest.approx([1000 * seconds for seconds in timed.seconds])
            assert len(times[form.form.name][kind]) == raw["models"][form.form.name][kind]["n"]


def test_an_interrupt_leaves_nothing_half_written(bundle, tmp_path, monkeypatch):
    path = tmp_path / "raw.json"
    path.write_text("old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(bundle, raw=path, seconds=0.1).write_raw()
    assert [p.name for p in tmp_path.iterdir()] == ["raw.json"] and path.read_text() == "old"


def test_an_altered_file_is_not_timed(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    model = next(copy.glob("*.onnx"))
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    with pytest.raises(RecordError, match="altered"):
        run(copy)


def test_a_bundle_is_not_written_into(bundle):
    before = sorted(bundle.iterdir())
    with pytest.raises(ConfigError, match="lies in the bundle"):
        run(bundle, raw=bundle / "measured.json")
    assert sorted(bundle.iterdir()) == before


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"threads": 0}, "threads is out of range"),
        ({"threads": 10_000}, "threads is out of range"),
        ({"max_batch": 0}, "max_batch is out of range"),
        ({"max_batch": 4097}, "1 to 4096"),
        ({"seconds": 0.0}, "seconds is out of range"),
        ({"seconds": float("inf")}, "finite"),
        ({"max_p99_ms": float("nan")}, "max_p99_ms is out of range"),
        ({"max_p99_ms": -1.0}, "above 0"),
        ({"min_images_per_s": 0.0}, "min_images_per_s is out of range"),
    ],
)
def test_wrong_options_are_explained(option, says):
    with pytest.raises(ConfigError, match=says):
        BenchOptions(**option)


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_timed(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, says in (
        (tmp_path, "a folder"),
        (tmp_path / "no" / "raw.json", "No such file"),
        (Path(os.devnull), "a device"),
        (pipe, "a pipe"),
        (Path("/proc/raw.json"), "/proc: "),  # looks writable to root
    ):
        with pytest.raises(ConfigError, match=says):
            BenchOptions(raw=path)
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_full_disk_is_told_with_the_name_of_the_file(timings, tmp_path, monkeypatch):
    path = tmp_path / "raw.json"

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"raw\.json cannot be written") as caught:
        replace(timings, options=BenchOptions(raw=path)).write_raw()
    assert caught.value.got == "No space left on device" and not list(tmp_path.iterdir())


def test_a_link_for_the_raw_times_stays_a_link(timings, tmp_path):
    target, link = tmp_path / "raw.json", tmp_path / "latest.json"
    link.symlink_to(target)
    replace(timings, options=BenchOptions(raw=link)).write_raw()
    assert link.is_symlink() and json.loads(target.read_text())["query_ms"]


def test_a_control_group_bounds_the_threads(monkeypatch):
    monkeypatch.setattr(bench, "usable_cores", lambda: 3)
    assert BenchOptions(threads=3).threads == 3
    with pytest.raises(ConfigError, match="1 to 3"):
        BenchOptions(threads=4)


def test_the_command_exits_with_the_budgets(bigstep, bundle, tmp_path):
    ended = bigstep("bench", bundle, "--seconds", 0.3, "--max-p99-ms", 1e-6, "--json", "--raw", tmp_path / "raw.json")
    assert ended.code == 1
    assert json.loads(ended.out)["budgets"][0]["outcome"] == "failed"
    assert json.loads((tmp_path / "raw.json").read_text())["query_ms"]
    ended = bigstep("bench", bundle, "--seconds", -1)
    assert ended.code == 2 and "seconds is out of range" in ended.err

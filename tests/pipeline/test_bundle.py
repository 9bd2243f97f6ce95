"""The bundle of every decision stays as it was made, and `bundle` points to the last one that passed."""

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bigstep.records.bundle import Bundle
from pipeline.run import run
from serve.app import open_bundle


def judged_by(config, **settings):
    return config.model_copy(update={"verify": config.verify.model_copy(update=settings)})


def content(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_what_fails_leaves_the_last_good_bundle_and_can_be_looked_at(small_config, small_run, run_copy):
    good = Bundle.open(run_copy / "bundle")
    before = content(good.folder)
    for settings, outcome in (({"floor": 0.99}, "failed"), ({"groups": ("colour=beige",)}, "undecided")):
        records = run(judged_by(small_config, **settings), run_copy)
        assert records.judged.outcome == records.bundle.info.verdict.outcome == outcome
        assert (run_copy / "bundle").resolve() == good.folder and content(good.folder) == before
        assert open_bundle(run_copy / "bundle").digest == small_run.records["bundle"].digest
        assert records.bundle.folder.parent == run_copy / "bundles" and records.bundle.folder != good.folder
        assert Bundle.open(records.bundle.folder).digest == records.bundle.digest
        assert (run_copy / "report.html").read_bytes() == (records.bundle.folder / "report.html").read_bytes()
        told = (run_copy / "summary.md").read_text()
        assert f"bundles/{records.bundle.folder.name}, not to be served; " in told
        assert "/run/bundle is still the last that passed" in told


def test_a_run_that_never_passed_has_no_bundle_to_serve(small_config, run_copy):
    (run_copy / "bundle").unlink()
    run(judged_by(small_config, floor=0.99), run_copy)
    assert not os.path.lexists(run_copy / "bundle")
    assert "not to be served; none has passed" in (run_copy / "summary.md").read_text()


def test_the_pointer_is_relative_and_moves_with_the_next_pass(small_config, run_copy, tmp_path):
    before = (run_copy / "bundle").readlink()
    records = run(judged_by(small_config, margin=0.5), run_copy)
    link = (run_copy / "bundle").readlink()
    assert link == Path("bundles") / records.bundle.folder.name != before and not link.is_absolute()
    moved = run_copy.rename(tmp_path / "elsewhere")
    assert open_bundle(moved / "bundle").digest == records.bundle.digest
    assert Bundle.open(moved / before).digest != records.bundle.digest, "the one before is still there"


@pytest.mark.parametrize("copy", ["cp -r run copy", "cp -rL run copy", "rsync -a run/ copy", "tar c run | tar x -C t"])
def test_a_copied_run_folder_serves_and_runs_on(small_config, small_run, run_copy, copy):
    if not shutil.which(copy.split()[0]):
        pytest.skip(f"needs {copy.split()[0]}")
    (run_copy.parent / "t").mkdir()
    subprocess.run(copy, shell=True, cwd=run_copy.parent, check=True)
    made = run_copy.parent / ("t/run" if "tar" in copy else "copy")
    shutil.rmtree(run_copy)
    digest = small_run.records["bundle"].digest
    assert open_bundle(made / "bundle").digest == digest
    run(judged_by(small_config, floor=0.99), made)
    assert open_bundle(made / "bundle").digest == digest, "a folder in the place of the link is as good"
    assert run(small_config, made).bundle.digest == open_bundle(made / "bundle").digest == digest
    assert (made / "bundle").is_symlink() and not os.path.lexists(made / ".bundle.old")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_without_links_the_bundle_is_copied(small_config, run_copy, monkeypatch, number):
    def refused(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    (run_copy / "bundle").unlink()
    monkeypatch.setattr(Path, "symlink_to", refused)
    for settings in ({}, {"margin": 0.5}):
        records = run(judged_by(small_config, **settings), run_copy)
        assert not (run_copy / "bundle").is_symlink()
        assert open_bundle(run_copy / "bundle").digest == records.bundle.digest
        assert content(run_copy / "bundle") == content(records.bundle.folder)
    assert not [path for path in run_copy.iterdir() if path.name.startswith(".")]


def test_a_reader_finds_one_whole_bundle_while_the_pointer_moves(small_config, run_copy, monkeypatch):
    """What was opened through the link is read to the end from the bundle that it pointed to."""
    old = Bundle.open(run_copy / "bundle")
    run(judged_by(small_config, margin=0.5), run_copy)
    assert old.folder.is_absolute() and Bundle.open(old.folder).digest == old.digest
    assert Bundle.open(run_copy / "bundle").digest != old.digest


def test_a_damaged_bundle_is_made_again_in_its_place(small_config, run_copy, caplog):
    target = (run_copy / "bundle").resolve()
    (target / "card.md").write_text("altered")
    records = run(small_config, run_copy)
    assert "card.md was altered" in caplog.text and records.bundle.folder.name == target.name
    assert Bundle.open(run_copy / "bundle").digest == records.bundle.digest
    assert [path.name for path in (run_copy / "bundles").iterdir()] == [target.name]


# ---- what was measured, and what is demanded of it -------------------------------------------------------------------


def test_every_run_judges_its_own_budget_and_everything_drawn_says_the_same(bigstep, small_toml, run_copy):
    """Two budgets once shared one folder of readings with a judgement in it: the last one judged every later run."""
    steps = [(None, 0), (1e12, 1), (None, 0), (1e-6, 0), (1e12, 1), (1e12, 1), (1e-6, 0)]
    queries = set()
    for budget, code in steps:
        setting = [] if budget is None else ["--set", f"verify.min_images_per_s={budget}"]
        ended = bigstep("run", small_toml, "--run-dir", run_copy, "--json", *setting)
        found = json.loads(ended.out)
        assert (ended.code, found["outcome"]) == (code, "failed" if code else "passed"), (budget, ended.err)
        junit, summary = ((run_copy / name).read_text() for name in ("junit.xml", "summary.md"))
        bundle = run_copy / "bundle" if found["outcome"] == "passed" else Path(found["bundle"])
        page, report, card = ((bundle / name).read_text() for name in ("report.html", "report.md", "card.md"))
        assert ("<failure" in junit) == bool(code) and ("throughput budget" in junit) == (budget is not None)
        for text in (page, report, card, summary):
            assert ("Failed" in text) == bool(code) and ("✔ Passed" in text or "<h1>Passed" in text) == (not code)
        assert (run_copy / "report.html").read_text() == page
        assert found["last_good_bundle"] == str(run_copy / "bundle")
        assert "Passed" in (run_copy / "bundle" / "card.md").read_text(), "what is served is what passed"
        queries.add(json.loads((bundle / "measured.json").read_bytes())["queries"])
    assert queries == {700, 4096}, "without a budget few were enough, and readings are kept from then on"
    assert len(list((run_copy / "measured").iterdir())) == 1


def test_readings_are_taken_again_on_request_and_on_another_machine(small_config, run_copy, monkeypatch):
    def readings():
        return {path.name: path.read_bytes() for path in (run_copy / "measured").iterdir()}

    before = readings()
    again = run(small_config, run_copy)
    assert readings() == before
    assert again.judged.measured != run(small_config, run_copy, measure_again=True).judged.measured
    assert readings().keys() == before.keys() and readings() != before
    monkeypatch.setattr("bigstep.machine.governor", lambda _root: "powersave")
    elsewhere = run(small_config, run_copy).judged.measured
    assert elsewhere.fingerprint["governor"] == "powersave" and len(readings()) == 2
    assert run(small_config, run_copy).judged.measured == elsewhere
    monkeypatch.undo()
    assert run(small_config, run_copy).judged.measured != elsewhere, "and back here what was measured here"
    for path in (run_copy / "measured").iterdir():
        path.write_text("{")
    assert run(small_config, run_copy).judged.measured.latency


def test_another_reading_leaves_the_digest_and_the_older_bundle(small_config, small_run, run_copy):
    old = Bundle.open(run_copy / "bundle")
    before = content(old.folder)
    new = run(small_config, run_copy, measure_again=True).bundle
    assert new.digest == old.digest == small_run.records["bundle"].digest
    assert new.folder.name != old.folder.name and content(old.folder) == before
    assert (run_copy / "bundle").resolve() == new.folder.resolve()

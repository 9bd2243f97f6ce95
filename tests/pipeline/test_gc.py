"""What `bigstep gc` finds, removes, and never touches."""

import json
import os
import shutil
from pathlib import Path

import pytest

from bigstep.config_file import to_toml
from bigstep.errors import ConfigError, RecordError
from bigstep.records.bundle import Bundle
from pipeline import gc
from pipeline.dry_run import dry_run
from pipeline.run import run
from pipeline.store import SHORT, Store


def names(leftovers, folder):
    return [leftover.path.relative_to(folder).as_posix() for leftover in leftovers]


def everything(folder):
    return {p.relative_to(folder).as_posix(): p.lstat().st_mtime_ns for p in folder.rglob("*")}


def _retell(bundle):
    """Draw another report into a bundle, as another run would have had it."""
    (bundle / "report.html").write_text("another")
    Bundle.seal(bundle, Bundle.open(bundle.parent.parent / "bundle").info)


def litter(folder):
    """Leave what killed runs and other settings leave; return the paths that have to go."""
    other = shutil.copytree(next(folder.glob("records/images-*")), folder / "records" / "images-0123456789abcdef")
    shutil.copytree(other, folder / "records" / f".{other.name}.old")
    shutil.copytree(folder / "bundle", folder / ".bundle.old")
    (folder / ".bundle.tmp").symlink_to((folder / "bundle").readlink())
    bundle = shutil.copytree(folder / "bundle", folder / "bundles" / "0123456789abcdef-0123456789abcdef")
    _retell(bundle)
    shutil.copytree(bundle, folder / "bundles" / f".{bundle.name}.old")
    (folder / "measured" / "0123456789abcdef-0123456789abcdef.json").write_text("{}")
    (folder / "keys" / "aa.json").write_text(json.dumps({"record": other.name, "digest": "0"}))
    (folder / "keys" / "bb.json").write_text("not JSON")
    (folder / "keys" / "cc.tmp").write_text("")
    (folder / "partial" / "train-0123456789abcdef" / "work").mkdir(parents=True)
    (folder / "partial" / "train-0123456789abcdef" / "work" / "weights").write_bytes(bytes(1000))
    return sorted(
        [
            ".bundle.old",
            ".bundle.tmp",
            f"bundles/{bundle.name}",
            f"bundles/.{bundle.name}.old",
            "measured/0123456789abcdef-0123456789abcdef.json",
            f"records/.{other.name}.old",
            f"records/{other.name}",
            "keys/aa.json",
            "keys/bb.json",
            "keys/cc.tmp",
            "partial/train-0123456789abcdef",
        ]
    )


def test_a_finished_run_needs_all_it_has(run_copy):
    assert gc.find(run_copy) == []


def test_what_is_left_over_is_named_with_its_size_and_goes_and_the_run_stays(run_copy, small_config):
    (run_copy / "mine.txt").write_text("a note of the user's")
    before = everything(run_copy)
    expected = litter(run_copy)
    littered = everything(run_copy)
    found = gc.find(run_copy)
    assert sorted(names(found, run_copy)) == expected
    sizes = dict(zip(names(found, run_copy), (leftover.bytes for leftover in found), strict=True))
    assert sizes["partial/train-0123456789abcdef"] == 1000
    assert sizes["keys/bb.json"] == len("not JSON")
    assert all(leftover.why for leftover in found)
    assert everything(run_copy) == littered, "finding changes nothing"
    assert gc.remove(run_copy) == found
    left = everything(run_copy)
    assert set(left) == set(before), "what is needed, and what is none of ours, stays"
    actions = {step.action for step in dry_run(small_config, run_copy).steps}
    assert actions == {"reuse"}
    assert gc.find(run_copy) == []


def test_the_records_of_the_bundle_stay_when_the_configuration_has_moved_on(run_copy, small_config):
    moved = small_config.model_copy(update={"data": small_config.data.model_copy(update={"seed": 9})})
    run(moved, run_copy, until="data")
    kept = {p.name for p in (run_copy / "records").iterdir()}
    assert gc.find(run_copy) == [] and len(kept) == 6
    (run_copy / "bundle").unlink()
    gone = [path for path in names(gc.find(run_copy), run_copy) if path.startswith("records/")]
    assert len(gone) == 5, "without the bundle nothing needs what the older configuration made"


def test_a_bundle_that_is_served_stays_until_the_server_ends(run_copy):
    other = shutil.copytree(run_copy / "bundle", run_copy / "bundles" / "fedc-ba98")
    _retell(other)
    with Bundle.open(other).held():
        assert gc.remove(run_copy) == []
    assert names(gc.remove(run_copy), run_copy) == ["bundles/fedc-ba98"]


def test_the_bundle_that_the_report_tells_of_stays_beside_the_last_that_passed(run_copy, small_config):
    failing = small_config.model_copy(update={"verify": small_config.verify.model_copy(update={"floor": 0.99})})
    judged = run(failing, run_copy)
    assert judged.judged.outcome == "failed" and gc.find(run_copy) == []
    present = run(small_config, run_copy)
    gone = names(gc.find(run_copy), run_copy)
    assert f"bundles/{judged.bundle.folder.name}" in gone and any(name.startswith("records/verdict") for name in gone)
    assert not any(name.startswith(f"measured/{present.export.digest[:SHORT]}") for name in gone)


def test_what_an_interrupted_training_would_go_on_from_stays(run_copy, small_config):
    (run_copy / "bundle").unlink()
    key = next(step.key for step in dry_run(small_config, run_copy).steps if step.stage == "train")
    (run_copy / "keys" / f"{key}.json").unlink()
    begun = Store(run_copy).partial("train", key)
    assert begun.name not in {leftover.path.name for leftover in gc.find(run_copy)}


def test_links_are_removed_and_not_followed(run_copy, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("keep me")
    (run_copy / "records" / "images-ffffffffffffffff").symlink_to(tmp_path / "precious")
    assert len(gc.remove(run_copy)) == 1
    assert (tmp_path / "precious" / "file").read_text() == "keep me"
    assert not os.path.lexists(run_copy / "records" / "images-ffffffffffffffff")


@pytest.mark.parametrize("made", [[], ["keys"], ["file"], ["config.toml"]])
def test_a_folder_that_is_no_run_folder_is_left_alone(tmp_path, made):
    folder = tmp_path / "home"
    if made:
        folder.mkdir()
    for name in made:
        (folder / name).mkdir() if name == "keys" else (folder / name).write_text("x = 1")
    before = sorted(tmp_path.rglob("*"))
    for what in (gc.find, gc.remove):
        with pytest.raises(ConfigError, match="is not a run folder"):
            what(folder)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_ended_before_its_first_record_hinders_nobody(bigstep, run_copy, tmp_path, monkeypatch):
    (tmp_path / "runs" / "begun").mkdir(parents=True)
    for name in ("lock", "config.toml"):
        shutil.copy(run_copy / name, tmp_path / "runs" / "begun" / name)
    run_copy.rename(tmp_path / "runs" / "whole")
    monkeypatch.chdir(tmp_path)
    expected = litter(Path("runs/whole"))
    assert f"{len(expected)} files and folders" in bigstep("gc").out


def test_a_damaged_bundle_and_nothing_is_removed(run_copy):
    """Nobody can say which records it was made from, and they may be all that it can be made from again."""
    litter(run_copy)
    (run_copy / "bundle" / "card.md").write_text("altered")
    before = everything(run_copy)
    with pytest.raises(RecordError, match="does not say what it was made from"):
        gc.remove(run_copy)
    assert everything(run_copy).keys() == before.keys()


@pytest.mark.parametrize(("device", "stays"), [("auto", True), ("cpu", False)])
def test_what_a_gpu_would_go_on_from_stays_on_a_machine_without_one(run_copy, small_config, device, stays):
    (run_copy / "config.toml").write_text(to_toml(small_config.model_copy(update={"device": device})))
    key = next(step.key for step in dry_run(small_config, run_copy, device="cuda").steps if step.stage == "train")
    begun = Store(run_copy).partial("train", key)
    assert (begun.name not in {leftover.path.name for leftover in gc.find(run_copy)}) == stays


def test_what_cannot_be_removed_is_named(run_copy, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", "f")  # rmtree names a file, and not its folder

    litter(run_copy)
    monkeypatch.setattr(shutil, "rmtree", denied)
    with pytest.raises(ConfigError, match=r"\.bundle\.old cannot be removed\n  got:      Permission denied"):
        gc.remove(run_copy)


def test_nothing_is_removed_while_a_run_is_under_way(run_copy):
    expected = litter(run_copy)
    with Store(run_copy).locked(), pytest.raises(ConfigError, match="in use"):
        gc.remove(run_copy)
    assert sorted(names(gc.find(run_copy), run_copy)) == expected


def test_the_command_says_what_it_would_do_and_then_does_it(bigstep, run_copy, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    run_copy.rename(tmp_path / "runs" / "small")
    monkeypatch.chdir(tmp_path)
    expected = litter(Path("runs/small"))
    told = bigstep("gc")
    assert told.code == 0 and all(f"runs/small/{path}  (" in told.out for path in expected)
    assert f"{len(expected)} files and folders" in told.out and "bigstep gc --delete" in told.out
    as_json = json.loads(bigstep("gc", "runs/small", "--json").out)
    assert as_json["deleted"] is False and len(as_json["leftovers"]) == len(expected)
    assert as_json["bytes"] == sum(leftover["bytes"] for leftover in as_json["leftovers"]) > 1000
    assert all((Path("runs/small") / path).exists() for path in expected)
    done = bigstep("gc", "--delete")
    assert done.code == 0 and "removed" in done.out and "would" not in done.out
    assert not any((Path("runs/small") / path).exists() for path in expected)
    assert bigstep("gc").out == "nothing to remove\n"


def test_one_wrong_folder_and_nothing_is_removed_from_the_others(bigstep, run_copy, tmp_path):
    expected = litter(run_copy)
    ended = bigstep("gc", run_copy, tmp_path, "--delete")
    assert ended.code == 2 and "is not a run folder" in ended.err
    assert all((run_copy / path).exists() for path in expected)


def test_an_old_folder_among_all_is_told_and_passed_over(bigstep, run_copy, tmp_path, monkeypatch):
    """Without names: one folder of an earlier bigstep must not keep the others from being looked at."""
    monkeypatch.chdir(tmp_path)
    old = tmp_path / "runs" / "a-old"
    old.mkdir(parents=True)
    (old / "lock").touch()
    (old / "config.toml").write_text("[train]\nwatch_steps = 3\n")
    run_copy.rename(tmp_path / "runs" / "new")
    ended = bigstep("gc")
    assert ended.code == 0 and "passed over: runs/a-old/config.toml" in ended.err
    assert "files and folders" in ended.out or "nothing to remove" in ended.out
    assert bigstep("gc", "runs/a-old").code == 2

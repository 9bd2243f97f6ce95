"""The stages in order: what is reused, what is made again, and that it comes out the same."""

import errno
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from bigstep.config_file import load
from bigstep.errors import DataError, TrainError
from bigstep.records.bundle import Bundle
from bigstep.records.trained import Trained
from data.files import deferred
from pipeline.dry_run import dry_run
from pipeline.run import run
from pipeline.stages import NAMES
from pipeline.store import Store


@pytest.fixture
def said(caplog):
    """Return what the pipeline said of each stage, `running` or `unchanged`."""
    caplog.set_level(logging.INFO, "bigstep")

    def read():
        found = {}
        for record in caplog.records:
            stage, _, what = record.getMessage().partition(": ")
            if record.name == "bigstep" and stage in NAMES:
                found[stage] = what
        caplog.clear()
        return found

    return read


def listing(folder):
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*")}


def digests(records):
    made = records if isinstance(records, dict) else records.made()
    return {name: record.digest for name, record in made.items()}


def changed(config, **sections):
    """Return a configuration with other values in some sections."""
    update = {name: getattr(config, name).model_copy(update=values) for name, values in sections.items()}
    return config.model_copy(update=update)


def actions(config, folder, until="verify"):
    return {step.stage: step.action for step in dry_run(config, folder, until).steps}


def as_said(predicted):
    return {stage: "unchanged" if action == "reuse" else "running" for stage, action in predicted.items()}


def test_a_second_run_reuses_every_stage_and_touches_no_record(small_config, small_run, run_copy, said):
    kept = ("records", "bundles", "keys", "measured")
    before = [listing(run_copy / name) for name in kept]
    predicted = actions(small_config, run_copy)
    records = run(small_config, run_copy)
    assert set(predicted.values()) == {"reuse"} and said() == as_said(predicted)
    assert digests(records) == digests(small_run.records)
    assert [listing(run_copy / name) for name in kept] == before
    assert (run_copy / "report.html").read_bytes() == (run_copy / "bundle" / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("sections", "first"),
    [
        ({"verify": {"margin": 0.5}}, "verify"),
        ({"verify": {"groups": ("aligned",)}}, "compress"),  # which keeps what the gate lets pass
        ({"export": {"int8_agreement": 0.5}}, "compress"),
        ({"compress": {"margin": 0.5}}, "compress"),
        ({"train": {"stop_loss": 0.2}}, "train"),
        ({"data": {"seed": 1}}, "data"),
    ],
)
def test_a_setting_makes_the_first_stage_that_it_decides_run_again(small_config, small_run, sections, first):
    predicted = actions(changed(small_config, **sections), small_run.folder)
    at = NAMES.index(first)
    assert list(predicted.values()) == ["reuse"] * at + ["run"] * (5 - at)


def test_the_name_of_the_run_changes_no_stage(small_config, small_run):
    predicted = actions(small_config.model_copy(update={"name": "another"}), small_run.folder)
    assert set(predicted.values()) == {"reuse"}


def test_another_margin_runs_verify_alone_and_a_fresh_bundle_says_so(small_config, small_run, run_copy, said):
    config = changed(small_config, verify={"margin": 0.5})
    predicted = actions(config, run_copy)
    kept = listing(run_copy / "records")
    records = run(config, run_copy)
    assert said() == as_said(predicted)
    assert digests(records)["export"] == small_run.records["export"].digest
    assert records.verify.digest != small_run.records["verify"].digest
    assert records.bundle.info.verdict == records.verify.info
    assert kept.items() <= (listing(run_copy / "records") | {".": 0}).items()
    assert "50.00 points" in (run_copy / "report.html").read_text()


@pytest.mark.parametrize("exists", [False, True])
def test_a_dry_run_writes_nothing(small_config, small_run, tmp_path, exists):
    folder = small_run.folder if exists else tmp_path / "deep" / "nowhere"
    before = listing(small_run.folder) | listing(tmp_path)
    predicted = actions(small_config, folder)
    assert set(predicted.values()) == ({"reuse"} if exists else {"run"})
    assert listing(small_run.folder) | listing(tmp_path) == before


def test_a_dry_run_predicts_a_fresh_run(small_config, tmp_path, said):
    predicted = actions(small_config, tmp_path / "run", until="data")
    assert predicted == {"data": "run"}
    run(small_config, tmp_path / "run", until="data")
    assert said() == as_said(predicted)


def test_what_a_killed_training_left_is_resumed(small_config, small_run, run_copy):
    """The key leads to the same unfinished folder, and only training goes on from one."""
    run(small_config, run_copy, until="data")
    config = changed(small_config, train={"stop_loss": 0.2}, verify={"margin": 0.5})
    train = next(step for step in dry_run(config, run_copy).steps if step.stage == "train")
    Store(run_copy).partial("train", train.work_key)
    assert actions(config, run_copy) == {
        "data": "reuse",
        "train": "resume",
        "compress": "run",
        "export": "run",
        "verify": "run",
    }


def test_when_a_source_file_is_mended_the_others_are_not_decoded_again(small_config, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, size=(8, 8, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    monkeypatch.setattr("data.files.blocks.BLOCK_BYTES", 1)
    photos = {"kind": "folder", "path": str(tmp_path / "photos"), "size_px": 8}
    config = changed(small_config, data=photos)
    with pytest.raises(DataError, match=r"dog/39\.png"):
        run(config, tmp_path / "run", until="data")
    path.write_bytes(whole)
    assert actions(config, tmp_path / "run", until="data") == {"data": "resume"}
    read, names = deferred.read_image_file, []
    monkeypatch.setattr(deferred, "read_image_file", lambda file, spec: names.append(file.name) or read(file, spec))
    again = run(config, tmp_path / "run", until="data").data
    assert names == ["39.png"]
    assert again.digest == run(config, tmp_path / "other", until="data").data.digest
    assert not list((tmp_path / "run" / "partial").iterdir())


def test_one_flipped_byte_in_every_record_and_all_are_made_again_the_same(
    small_config, small_run, run_copy, caplog, monkeypatch, said
):
    monkeypatch.setattr("bigstep.pool.usable_cores", lambda: 1)  # train in this process: torch is loaded already
    for stage, record in small_run.records.items():
        folder = run_copy / record.folder.relative_to(small_run.folder)
        victim = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
        assert stage != "data" or actions(small_config, run_copy) == dict.fromkeys(NAMES, "reuse") | {"data": "run"}, (
            "a record that is made again comes out the same, so the later stages are still good"
        )
    predicted = actions(small_config, run_copy)
    caplog.clear()
    records = run(small_config, run_copy)
    assert caplog.text.count("was altered") == 6 and caplog.text.count("it is made again") == 6
    assert said() == as_said(predicted) == dict.fromkeys(NAMES, "running")
    assert digests(records) == digests(small_run.records)


def crash_at(monkeypatch, number):
    """End the process, so to say, at the n-th rename; return the calls that were made."""
    calls = []
    for name in ("rename", "replace"):
        works = getattr(Path, name)

        def call(path, target, works=works):
            calls.append(path.name)
            if len(calls) == number:
                raise KeyboardInterrupt
            return works(path, target)

        monkeypatch.setattr(Path, name, call)
    return calls


def test_a_crash_at_any_rename_of_the_last_steps_loses_nothing(small_config, small_run, run_copy, monkeypatch):
    """The verdict is there already under its key; what is left is the bundle and the report beside it."""
    config = small_config.model_copy(update={"name": "renamed"})
    old, made = small_run.records["bundle"].digest, run(config, run_copy).bundle
    for number in range(1, 10):
        shutil.rmtree(run_copy / "bundles")
        shutil.copytree(small_run.folder / "bundles", run_copy / "bundles")
        (run_copy / "bundle").unlink()
        (run_copy / "bundle").symlink_to((small_run.folder / "bundle").readlink())
        (run_copy / "report.html").unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            calls = crash_at(patch, number)
            try:
                run(config, run_copy)
            except KeyboardInterrupt:
                assert len(calls) >= number
                assert Bundle.open(run_copy / "bundle").digest in (old, made.digest), (
                    "whenever one looks, there is a whole one"
                )
            else:
                break
        bundle = run(config, run_copy).bundle
        assert bundle.info.name == "renamed" and bundle.info.verdict == small_run.records["verify"].info
        assert (run_copy / "report.html").is_file() and not (run_copy / ".bundle.old").exists()
    work = f"bundle-{made.folder.name.partition('-')[2]}"
    sealing = [f".{name}.json.tmp" for name in ("measured", "record", "manifest")]
    expected = [".config.toml.tmp", *sealing, work, ".bundle.tmp", ".junit.xml.tmp", ".summary.md.tmp"]
    assert calls == expected, "all were tried"


def test_a_missing_report_comes_back(small_config, run_copy):
    for name in ("report.html", "report.md", "example.png"):
        (run_copy / name).unlink()
    run(small_config, run_copy)
    for name in ("report.html", "report.md"):
        assert (run_copy / name).read_bytes() == (run_copy / "bundle" / name).read_bytes()
    assert (run_copy / "example.png").stat().st_size > 60


def test_a_full_disk_leaves_nothing_half_published(bigstep, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    works, calls = np.save, []

    def save(path, array, **options):
        calls.append(path)
        if len(calls) == 7:
            Path(path).write_bytes(b"\x93NUMPY")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        works(path, array, **options)

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", save)
        ended = bigstep("data", "tiny", "--run-dir", folder)
    assert ended.code == 2 and "No space left on device" in ended.err and "Traceback" not in ended.err
    assert str(calls[-1]) in ended.err
    assert not (folder / "records").exists() and not (folder / "keys").exists()
    full = bigstep("data", "tiny", "--run-dir", folder)
    other = bigstep("data", "tiny", "--run-dir", tmp_path / "other")
    assert full.code == other.code == 0
    assert full.out.split()[:2] == other.out.split()[:2]


def test_a_disk_that_is_really_full_and_then_read_only(small_toml, tmp_path):
    """Mount a small file system in a name space of its own, where the system allows that without privileges."""
    mount = "mount -t tmpfs -o size=3m tmpfs disk"
    if (
        shutil.which("unshare") is None
        or subprocess.run(
            ["unshare", "-rm", "sh", "-c", f"mkdir -p disk && {mount}"], cwd=tmp_path, capture_output=True
        ).returncode
    ):
        pytest.skip("unprivileged mounts are not allowed here; the tests above inject the same errors")
    command = f"{Path(sys.executable).with_name('bigstep')} data {small_toml} --run-dir disk/run"
    script = f"{mount}; {command}; echo $?; mount -o remount,size=60m disk; {command}; echo $?; "
    script += f"mount -o remount,ro disk; {command}; echo $?"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    codes = [line for line in done.stdout.splitlines() if line.isdigit()]
    assert codes == ["2", "0", "2"], done.stderr
    assert "error: disk/run: the disk is full" in done.stderr and "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr


def nan_weights(small_run, folder):
    """Put a NaN into the chosen weights, and seal and note the record as if training had made it."""
    trained = small_run.records["train"]
    place = folder / "records" / trained.folder.name
    weights = place / "trials" / trained.info.chosen / "weights.safetensors"
    tensors = load_file(weights)
    name = sorted(tensors)[-1]
    tensors[name].flat[0] = np.nan
    save_file(tensors, weights)
    sealed = Trained.seal(place, trained.info)
    for key in (folder / "keys").iterdir():
        if trained.digest in key.read_text():
            Store(folder).publish(sealed, key.stem)
    return name


def test_weights_that_are_not_finite_end_with_their_name(bigstep, small_toml, small_run, run_copy):
    name = nan_weights(small_run, run_copy)
    ended = bigstep("compress", small_toml, "--run-dir", run_copy)
    assert ended.code == 2 and name in ended.err and "finite" in ended.err
    assert "Traceback" not in ended.err and "train: unchanged" in ended.err
    with pytest.raises(TrainError):
        run(load(str(small_toml)), run_copy)

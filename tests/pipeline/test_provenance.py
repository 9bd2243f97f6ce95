"""Every record says what decided it and what it was made with, and its digest says nothing of that."""

import json
import platform
import subprocess
from importlib import metadata
from types import SimpleNamespace

import pytest

from bigstep.config_file import load, to_toml
from bigstep.records.bundle import Bundle
from bigstep.records.provenance import FILE, Provenance
from bigstep.records.sealed import digest_of, read_manifest
from pipeline.provenance import commit
from pipeline.run import run
from pipeline.stages import NAMES, STAGES


def test_every_record_says_what_decided_it(small_config, small_run):
    for stage in STAGES:
        record = small_run.records[stage.name]
        made = Provenance.read(record.folder)
        assert made.stage == stage.name and made.python == platform.python_version()
        assert made.begun.endswith("Z") and len(made.code) == 64
        assert made.bigstep == metadata.version("bigstep")
        assert all(metadata.version(name) == version for name, version in made.packages.items())
        section = stage.section(small_config)
        named = {name: value for name, value in made.settings.items() if name in type(section).model_fields}
        assert named and all(json.loads(json.dumps(getattr(section, name))) == value for name, value in named.items())
        assert made.inputs == {name: small_run.records[name].digest for name in NAMES if name in made.inputs}
    assert set(made.inputs) == {"data", "compress", "export"} and "max_p99_ms" not in made.settings


def test_when_and_with_what_a_record_was_made_is_in_no_digest(small_run):
    for record in small_run.records.values():
        files = read_manifest(record.folder).files
        assert FILE in files, "hashed against damage"
        assert digest_of(record.kind, {name: entry for name, entry in files.items() if name != FILE}) == record.digest


def test_the_bundle_has_its_configuration_its_verdict_and_how_all_was_made(small_config, small_run):
    bundle = small_run.records["bundle"]
    assert load(str(bundle.folder / "config.toml")) == small_config
    assert json.loads((bundle.folder / "verdict.json").read_bytes()) == bundle.info.verdict.model_dump(mode="json")
    made = json.loads((bundle.folder / FILE).read_bytes())
    assert set(made) == {small_run.records[name].kind for name in NAMES}
    assert Provenance.model_validate(made["trained"]) == Provenance.read(small_run.records["train"].folder)
    digested = read_manifest(bundle.folder).files
    assert {"config.toml", "verdict.json", FILE} <= set(digested)


def test_a_setting_that_decides_nothing_leaves_the_digest_and_is_kept(small_config, small_run, run_copy):
    other = small_config.model_copy(update={"train": small_config.train.model_copy(update={"store_mb": 99})})
    found = run(other, run_copy).bundle
    assert found.digest == small_run.records["bundle"].digest
    kept = Bundle.open(run_copy / "bundle").folder / "config.toml"
    assert kept.read_text() == to_toml(other) and "store_mb = 99" in kept.read_text()


def test_the_report_tells_date_version_commit_and_packages(small_run):
    made = Provenance.read(small_run.records["verify"].folder)
    for name in ("report.html", "report.md"):
        page = (small_run.folder / name).read_text()
        head = page[: page.index("What it weighs")]
        assert f"judged {made.begun[:10]} {made.begun[11:16]} UTC by bigstep {made.bigstep}" in head
        assert "How it was made" in page and f"torch {metadata.version('torch')}" in page
        assert made.commit is None or made.commit in page


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@example.org")
    folder = tmp_path / "repository"
    (folder / "inside").mkdir(parents=True)
    (folder / "file").write_text("one")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"]):
        subprocess.run(["git", "-C", folder, *command], check=True)
    yield folder
    commit.cache_clear()


def test_the_commit_is_that_of_our_own_source(repository, tmp_path, monkeypatch):
    head = subprocess.run(["git", "-C", repository, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()

    def installed_from(noted):
        monkeypatch.setattr(metadata, "distribution", lambda _name: SimpleNamespace(read_text=lambda _file: noted))

    monkeypatch.setenv("GIT_DIR", str(tmp_path / "of-a-hook"))
    assert commit(repository) == head
    commit.cache_clear()
    (repository / "file").write_text("two")
    assert commit(repository) == f"{head}-dirty"
    installed_from(None)
    assert commit(repository / "inside") is None, "a repository that only holds the environment is another project's"
    commit.cache_clear()
    origin = {"url": "https://example.org/bigstep", "vcs_info": {"vcs": "git", "commit_id": "c" * 40}}
    installed_from(json.dumps(origin))
    assert commit(repository / "inside") == "c" * 40, "as pip notes it (PEP 610)"
    commit.cache_clear()
    monkeypatch.setenv("PATH", "")
    assert commit(repository) == "c" * 40, "without git"

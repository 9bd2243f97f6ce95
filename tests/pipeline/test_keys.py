"""The key of a stage depends on all that decides its record and on nothing else; the oracle is the stage, run."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bigstep import own_packages
from bigstep.config import Config, TrainConfig, storage_only
from pipeline import closure, keys, readings
from pipeline.dry_run import dry_run
from pipeline.stages import DATA, MAP, NAMES, STAGES, TRAIN, VERIFY

STAGE = {stage.name: stage for stage in (*STAGES, MAP)}
READS = {"train": ["data"], "compress": ["data", "train"], "export": ["data", "train", "compress"]}
READS |= {"data": [], "verify": ["data", "compress", "export"], MAP.name: ["data"]}

# Writes down what is loaded when a process ends, workers included, and what is read of the settings.
NOTE = """
import atexit, os, pathlib, sys
atexit.register(lambda: pathlib.Path(os.environ["NOTES"], f"{os.getpid()}.txt").write_text("\\n".join(sys.modules)))
"""
RUN = """
import importlib, json, sys
from pathlib import Path
door, section, records, out, extra = json.loads(sys.argv[1])
class Recorder:
    def __init__(self, section):
        self.section, self.read = section, set()
    def __getattr__(self, name):
        self.read.add(name)
        return getattr(self.section, name)
if __name__ == "__main__":
    from bigstep.config import Config
    config = Config.model_validate_json(sys.argv[2])
    settings = Recorder(getattr(config, section))
    if extra.pop("heeds"):
        from bigstep.rules import Demands
        extra["demands"] = Demands.of(config)
    found = []
    for module, kind, folder in records:
        found.append(getattr(importlib.import_module(module), kind).open(Path(folder)))
    importlib.import_module(door).run(settings, *found, **extra, out=Path(out))
    print(json.dumps(sorted(settings.read)))
"""


@pytest.mark.parametrize("name", [*NAMES, MAP.name])
def test_what_a_stage_loads_and_reads_is_in_its_key(small_run, small_config, tmp_path, name):
    stage, config = STAGE[name], small_config
    given = [(type(r).__module__, type(r).__name__, str(r.folder)) for r in map(small_run.records.get, READS[name])]
    for folder in ("notes", "out", "hooks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "hooks" / "sitecustomize.py").write_text(NOTE)
    (tmp_path / "stage.py").write_text(RUN)
    extra = {"heeds": stage.heeds} | ({"device": "cpu"} if stage.on_device else {})
    arguments = json.dumps([stage.door, stage.reads, given, str(tmp_path / "out"), extra])
    paths = os.pathsep.join([str(tmp_path / "hooks"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "NOTES": str(tmp_path / "notes"), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, str(tmp_path / "stage.py"), arguments, config.model_dump_json()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    code = keys.code_of(stage, config)
    notes = list((tmp_path / "notes").iterdir())
    assert len(notes) > (1 if stage in (TRAIN, MAP) and len(os.sched_getaffinity(0)) > 1 else 0)
    loaded = {module for note in notes for module in note.read_text().splitlines()}
    ours = {m for m in loaded if m.partition(".")[0] in own_packages.NAMES and is_file(m)}
    assert stage.door in ours and ours - code.modules == {"bigstep.config"}
    read = set(json.loads(done.stdout)) - {"model_copy"}
    assert read and read <= {
        *keys.settings(stage.section(config), code.attributes),
        *storage_only(type(stage.section(config))),
    }


def is_file(module):
    return (own_packages.ROOT / f"{module.replace('.', '/')}.py").is_file()


def key(name, config=None, inputs="d", device="cpu"):
    return keys.keys(STAGE[name], config or Config(), dict.fromkeys(READS[name], inputs), device).record


def differing(before, after):
    return {name for name in STAGE if before[name] != after[name]}


def all_keys(**values):
    return {name: key(name, **values) for name in STAGE}


def test_inputs_device_packages_and_code_count(monkeypatch):
    before = all_keys()
    assert all_keys() == before and len(set(before.values())) == 6
    assert differing(before, all_keys(inputs="e")) == {*STAGE} - {"data"}
    assert differing(before, all_keys(device="cuda")) == {"train", "compress", MAP.name}
    assert differing(before, all_keys(config=Config(numerics="portable"))) == {*before} - {"data"}
    for method, value in (("versions", {"python": "99"}), ("digest", "another")):
        with monkeypatch.context() as patch:
            patch.setattr(closure.Closure, method, lambda _, value=value: value)
            assert differing(before, all_keys()) == {*STAGE}


@pytest.mark.parametrize(("name", "value"), [("robust_weight", 0.95), ("rates", [0.1, 0.2])])
def test_what_follows_from_settings_counts_as_they_do(monkeypatch, small_config, small_run, name, value):
    """`priority` says `balanced`, and what that weighs is said by the code of the configuration, which is in no key."""
    before = all_keys()
    monkeypatch.setattr(TrainConfig, name, property(lambda _: value))
    assert "train" in differing(before, all_keys()) <= {"train", MAP.name}
    foreseen = {step.stage: step.action for step in dry_run(small_config, small_run.folder).steps}
    assert foreseen == {"data": "reuse", **dict.fromkeys(NAMES[1:], "run")}


def with_section(config, section, **values):
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


@pytest.mark.parametrize(
    ("section", "values", "stages"),
    [
        ("train", {"store_mb": 300}, set()),
        ("train", {"priority": "small"}, {"train"}),
        ("train", {"stop_loss": 0.1}, {"train", MAP.name}),
        ("data", {"severity": 2}, set()),  # of other sets than the digits
        ("data", {"conflicting": 0.1}, {"data"}),
        ("compress", {"margin": 0.3}, {"compress"}),
        ("export", {"int8_agreement": 0.9}, {"compress", "export"}),  # compression keeps what export and gate let pass
        ("verify", {"margin": 0.3}, {"verify"}),  # compression is stricter
        ("verify", {"margin": 0.01}, {"compress", "verify"}),
        ("verify", {"groups": ("all",)}, {"compress", "verify"}),
    ],
)
def test_a_setting_counts_where_it_is_read(section, values, stages):
    changed = with_section(Config(), section, **values)
    assert differing(all_keys(), all_keys(config=changed)) == stages


def test_a_budget_decides_nothing_that_compression_does():
    assert "compress" not in differing(all_keys(), all_keys(config=with_section(Config(), "verify", max_p99_ms=5.0)))


def test_where_and_how_much_is_stored_counts_nowhere(small_config, small_run):
    changed = with_section(small_config, "train", store_mb=300)
    assert {step.action for step in dry_run(changed, small_run.folder).steps} == {"reuse"}


def test_every_setting_is_read_by_somebody():
    from data.stage import BUILDERS

    for stage in STAGES:
        section = stage.section(Config())
        beside = {DATA: BUILDERS.values(), VERIFY: (readings.DOOR,)}.get(stage, ())
        code = closure.of(stage.door, *beside)
        read = {*keys.settings(section, code.attributes), *storage_only(type(section))}
        properties = [vars(type(section))[name] for name in read if isinstance(vars(type(section)).get(name), property)]
        resolved = " ".join(inspect.getsource(one.fget) for one in properties)
        unread = {*type(section).model_fields} - read
        assert not {name for name in unread if f"self.{name}" not in resolved}


def test_pretrained_weights_count_by_their_content(tmp_path):
    found = []
    for name, content in (("a.pt", b"1"), ("b.pt", b"1"), ("b.pt", b"2")):
        (tmp_path / name).write_bytes(content)
        found.append(key("train", with_section(Config(), "train", weights=str(tmp_path / name))))
    assert found[0] == found[1] != found[2] and found[0] != key("train")


def test_paths_are_those_of_this_checkout():
    assert (
        Path(closure.__file__).is_relative_to(own_packages.ROOT) and closure.of("train.stage").root == own_packages.ROOT
    )

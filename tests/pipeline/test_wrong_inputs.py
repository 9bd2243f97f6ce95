"""One table of wrong inputs over all commands: what is said, the exit code, and that nothing is lost.

Every command runs in an empty folder; `{run}` stands for a finished run folder.
"""
# A table reads best with a line for each row.
# ruff: noqa: E501, ARG005

import hashlib
import json
import os
from typing import NamedTuple

import pytest

from bigstep.records.sealed import read_manifest, to_json


class Wrong(NamedTuple):
    """Hold a command line, what it has to say, its exit code, and how to bring the wrong input about."""

    command: str
    says: str
    code: int = 2
    prepare: object = None


def toml(content):
    return lambda at, run: (at / "wrong.toml").write_bytes(content if isinstance(content, bytes) else content.encode())


def flipped(name):
    def prepare(at, run):
        content = bytearray((run / name).read_bytes())
        content[len(content) // 2] ^= 1
        (run / name).write_bytes(content)

    return prepare


def cut(name):
    return lambda at, run: (run / name).write_bytes((run / name).read_bytes()[:-7])


def gone(name):
    return lambda at, run: (run / name).unlink()


def edited(**values):
    """Change what the bundle says of itself, and seal it again, as somebody with bad intent would."""

    def prepare(at, run):
        path = run / "bundle" / "record.json"
        record = json.loads(path.read_bytes())
        for key, value in values.items():
            *outer, last = key.split("__")
            place = record
            for name in outer:
                place = place[name]
            place[last] = value
        path.write_text(to_json(record))
        _seal_again(run / "bundle")

    return prepare


def _seal_again(bundle):
    from bigstep.records.sealed import FileEntry, Manifest, digest_of

    old = read_manifest(bundle)
    files = {n: FileEntry(sha256=_sha(bundle / n), bytes=(bundle / n).stat().st_size) for n in old.files}
    new = Manifest(format=old.format, kind=old.kind, digest=digest_of(old.kind, files), files=files)
    (bundle / "manifest.json").write_text(to_json(new.model_dump(mode="json")))


def of_another_format(at, run):
    path = run / "bundle" / "manifest.json"
    path.write_text(to_json(json.loads(path.read_bytes()) | {"format": 3}))


def a_file(name):
    return lambda at, run: (at / name).write_text("mine")


def a_folder(name):
    return lambda at, run: (at / name).mkdir()


WRONG = {
    # ---- the configuration ----
    "misspelt key": Wrong("run wrong.toml", "unknown key 'train.num_rate'|did you mean 'num_rates'", 2, toml("[train]\nnum_rate = 3")),
    "misspelt section": Wrong("data wrong.toml", "unknown key 'trian'|did you mean 'train'", 2, toml("[trian]\nnum_rates = 3")),
    "word for a number": Wrong("run wrong.toml", "train.num_rates is not valid|got:      'three'|valid integer", 2, toml("[train]\nnum_rates = 'three'")),
    "no rates": Wrong("train wrong.toml", "train.num_rates is not valid|greater than or equal to 1", 2, toml("[train]\nnum_rates = 0")),
    "rates the wrong way round": Wrong("run wrong.toml", "min_rate must be below max_rate, got 2.0 and 1.0", 2, toml("[train]\nmin_rate = 2.0")),
    "rates that collide": Wrong("run wrong.toml", "too many for this range", 2, toml("[train]\nmin_rate = 0.1\nmax_rate = 0.1001\nnum_rates = 9")),
    "infinite rate": Wrong("run wrong.toml", "train.max_rate is not valid|got:      inf", 2, toml("[train]\nmax_rate = inf")),
    "no width": Wrong("run wrong.toml", "train.widths is not valid", 2, toml("[train]\nwidths = []")),
    "a width of zero": Wrong("run wrong.toml", "train.widths.1 is not valid|got:      0", 2, toml("[train]\nwidths = [8, 0]")),
    "unknown network": Wrong("run wrong.toml", "train.network is not valid|path/to/net.py:function", 2, toml("[train]\nnetwork = 'vit'")),
    "shares that grow": Wrong("compress wrong.toml", "from large to small", 2, toml("[compress]\nkeep_fractions = [0.1, 0.5]")),
    "a share above one": Wrong("run wrong.toml", "compress.keep_fractions.0 is not valid|less than 1", 2, toml("[compress]\nkeep_fractions = [1.5]")),
    "unknown processor": Wrong("run wrong.toml", "compress.target_cpu is not valid|'generic' or 'vnni'", 2, toml("[compress]\ntarget_cpu = 'amx'")),
    "group without a value": Wrong("run wrong.toml", "verify.groups.0 is not valid|terms like label=3,colour=blue", 2, toml("[verify]\ngroups = ['label=']")),
    "no group": Wrong("run wrong.toml", "verify.groups is not valid", 2, toml("[verify]\ngroups = []")),
    "confidence in percent": Wrong("run wrong.toml", "verify.confidence is not valid|got:      95", 2, toml("[verify]\nconfidence = 95")),
    "budget below zero": Wrong("run wrong.toml", "verify.max_p99_ms is not valid|greater than 0", 2, toml("[verify]\nmax_p99_ms = -1")),
    "unknown data": Wrong("data wrong.toml", "data.kind is not valid|got:      'cats'", 2, toml("[data]\nkind = 'cats'")),
    "a biased share above its limit": Wrong("data wrong.toml", "data.conflicting is not valid|less than or equal to 0.8", 2, toml("[data]\nconflicting = 0.9")),
    "not TOML": Wrong("run wrong.toml", "is not valid TOML|line 1", 2, toml("[train\nx = 1")),
    "not text": Wrong("run wrong.toml", "is not valid TOML|utf-8", 2, toml(b"\xff\xfe\x00")),
    "a key twice": Wrong("run wrong.toml", "is not valid TOML", 2, toml("name = 'a'\nname = 'b'")),
    "a name with a slash": Wrong("run wrong.toml", "name is not valid|got:      'a/b'|letters, digits", 2, toml("name = 'a/b'")),
    "a section that is none": Wrong("run wrong.toml", "train is not valid|a section, like [train]", 2, toml("train = 3")),
    "no configuration": Wrong("run nowhere.toml", "no such configuration|nowhere.toml|digits, tiny"),
    "no default configuration": Wrong("run", "no such configuration|bigstep.toml|bigstep init"),
    "a folder for a configuration": Wrong("run folder", "no such configuration|folder", 2, a_folder("folder")),
    # ---- the command line ----
    "unknown command": Wrong("frobnicate", "No such command 'frobnicate'"),
    "unknown option": Wrong("run tiny --fast", "No such option|--fast"),
    "stage without a configuration": Wrong("data", "Missing argument 'CONFIG'"),
    "--set without a value": Wrong("data tiny --set train.num_seeds", "--set wants section.key=value|--set train.num_seeds=1"),
    "--set of a section": Wrong("data tiny --set train=3", "train is not valid|a section"),
    "--set inside a value": Wrong("data tiny --set name.first=x", "name is not a section"),
    "--set of an unknown device": Wrong("data tiny --set device=tpu", "device is not valid|'tpu'|'cuda'"),
    "--set of nothing": Wrong("data tiny --set =3", "unknown key"),
    "init over a file": Wrong("init --output mine.toml", "mine.toml exists already|--output", 2, a_file("mine.toml")),
    "init in no folder": Wrong("init --output no/such/x.toml", "no such folder|mkdir -p no/such"),
    "init from no preset": Wrong("init --preset huge", "no such preset|huge|digits, tiny"),
    "init below a file": Wrong("init --output file/x.toml", "cannot be|Not a directory", 2, a_file("file")),
    "init for images that are not named": Wrong("init --data folder", "wants the path of your images|init --data folder PATH"),
    "init for images that are not there": Wrong("init --data folder nowhere", "nowhere"),
    "init for a folder without images": Wrong("init --data folder empty", "no image can be used", 2, a_folder("empty")),
    "init with a path and no word of data": Wrong("init pictures", "goes with --data folder|--output"),
    "init for unknown data": Wrong("init --data cats", "data.kind is not valid|'cats'"),
    # ---- looking at trainings ----
    "follow nothing": Wrong("follow", "Missing argument"),
    "follow no folder": Wrong("follow nowhere --once", "nowhere"),
    "follow a server": Wrong("follow http://localhost:8000 --once", "http://localhost:8000"),
    "map of unknown data": Wrong("lr-map tiny --set data.kind=cats", "data.kind is not valid"),
    "map of checkpoints that are not there": Wrong("lr-map tiny --checkpoints nowhere", "nowhere"),
    # ---- the run folder ----
    "run folder is a file": Wrong("data tiny --run-dir file", "file cannot be the run folder|--run-dir", 2, a_file("file")),
    "run folder below a file": Wrong("data tiny --run-dir file/deep", "cannot be the run folder", 2, a_file("file")),
    "gc of no folder": Wrong("gc nowhere", "nowhere is not a run folder|no such folder"),
    "gc of somebody's folder": Wrong("gc . --delete", "is not a run folder|no lock and no config.toml", 2, a_file("thesis.txt")),
    "gc with a wrong configuration": Wrong("gc {run} --delete", "unknown key 'nonsense'", 2, lambda at, run: (run / "config.toml").write_text("nonsense = 1")),
    # ---- bundles ----
    "serve nothing": Wrong("serve", "Missing argument 'BUNDLE'"),
    "serve no folder": Wrong("serve nowhere --port 0", "nowhere is not a bundle|no such folder"),
    "serve a run folder": Wrong("serve {run} --port 0", "is not a bundle|no manifest.json"),
    "serve a flipped model": Wrong("serve {run}/bundle --port 0", "compact.int8.onnx was altered|sha256", 2, flipped("bundle/compact.int8.onnx")),
    "serve a cut record": Wrong("serve {run}/bundle --port 0", "record.json was altered", 2, cut("bundle/record.json")),
    "serve without the card": Wrong("serve {run}/bundle --port 0", "card.md is missing", 2, gone("bundle/card.md")),
    "serve a flipped manifest": Wrong("serve {run}/bundle --port 0", "was altered", 2, flipped("bundle/manifest.json")),
    "serve a cut manifest": Wrong("serve {run}/bundle --port 0", "manifest.json cannot be read", 2, cut("bundle/manifest.json")),
    "serve another format": Wrong("serve {run}/bundle --port 0", "unknown format|got:      3|use the version of bigstep", 2, of_another_format),
    "serve what failed": Wrong("serve {run}/bundle --port 0", "did not pass the gate|got:      failed", 1, edited(verdict__outcome="failed")),
    "serve what nobody judged": Wrong("serve {run}/bundle --port 0", "the verdict is not about the bytes", 1, edited(verdict__judged={})),
    "serve a form that is not there": Wrong("serve {run}/bundle --port 0", "does not hold the form it serves", 2, edited(served="other")),
    "serve on no port": Wrong("serve {run}/bundle --port 99999", "--port|65535"),
    "serve on no host": Wrong("serve {run}/bundle --host 203.0.113.7 --port 0", "cannot listen on 203.0.113.7|--host"),
    "serve with no image allowed": Wrong("serve {run}/bundle --max-images 0 --port 0", "max_images is out of range|at least 1"),
    "serve with more threads than cores": Wrong("serve {run}/bundle --threads 4096 --port 0", "threads is out of range|usable cores"),
    "serve on an unknown device": Wrong("serve {run}/bundle --device tpu", "--device|cuda"),
    "bench nothing": Wrong("bench", "Missing argument 'BUNDLE'"),
    "bench no folder": Wrong("bench nowhere", "nowhere is not a bundle"),
    "bench a flipped model": Wrong("bench {run}/bundle", "compact.int8.onnx was altered", 2, flipped("bundle/compact.int8.onnx")),
    "bench for no time": Wrong("bench {run}/bundle --seconds 0", "seconds"),
    "bench without end": Wrong("bench {run}/bundle --seconds inf", "seconds"),
    "bench with a batch of zero": Wrong("bench {run}/bundle --max-batch 0", "max_batch"),
    "bench with a budget that is no number": Wrong("bench {run}/bundle --max-p99-ms nan", "max_p99_ms"),
    "bench into no folder": Wrong("bench {run}/bundle --raw no/such/raw.json", "no/such"),
}  # fmt: skip


def _sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def contents(folder):
    return {p.relative_to(folder).as_posix(): _sha(p) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_input_is_told_and_loses_nothing(bigstep, request, tmp_path, monkeypatch, wrong):
    run = request.getfixturevalue("run_copy") if "{run}" in wrong.command else None
    at = tmp_path / "at"
    at.mkdir()
    monkeypatch.chdir(at)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    if wrong.prepare:
        wrong.prepare(at, run)
    before = contents(tmp_path)
    ended = bigstep(*wrong.command.replace("{run}", str(run)).split())
    assert ended.code == wrong.code, ended.err
    assert ended.out == "" and "Traceback" not in ended.err
    for part in wrong.says.split("|"):
        assert part in ended.err, ended.err
    assert contents(tmp_path) == before


def test_the_table_covers_every_command():
    from pipeline.cli import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    used = {wrong.command.split()[0] for wrong in WRONG.values()}
    assert names - used <= {"doctor", "export", "verify"}, "doctor takes no input; stages share one command"
    assert len(WRONG) >= 40

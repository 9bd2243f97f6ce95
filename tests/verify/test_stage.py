"""The stage on real ONNX files: what it writes, what it refuses, and that it repeats itself byte for byte."""

import logging
import subprocess
import sys

import numpy as np
import pytest

from bigstep.config import VerifyConfig
from bigstep.errors import RecordError
from bigstep.records.exported import Contract, Exported
from bigstep.records.verdict import Verdict
from serve.predictor import Predictor
from verify import stage

CONFIG = VerifyConfig()


def test_run_seals_logits_ids_scores_and_a_passing_verdict(world, tmp_path):
    images, compact, exported = world.records()
    out = tmp_path / "verdict"
    verdict = stage.run(CONFIG, images, compact, exported, out=out)
    assert Verdict.open(out).info == verdict.info
    assert verdict.info.outcome == "passed"
    assert verdict.info.judged == {form.name: form.sha256 for form in exported.info.forms}
    np.testing.assert_array_equal(verdict.array("ids.npy"), images.split("test").ids)
    for form in exported.info.forms:
        expected = Predictor.open(exported.folder / form.file, exported.info.contract).predict_all(
            images.split("test").images
        )
        np.testing.assert_array_equal(verdict.array(f"logits.{form.name}.npy"), expected)
    assert {p.name for p in out.iterdir()}.isdisjoint({"report.md", "report.html", "card.md", "measured.json"})


def test_two_runs_have_one_digest(world, tmp_path):
    records = world.records()
    first = stage.run(CONFIG, *records, out=tmp_path / "a")
    second = stage.run(CONFIG, *records, out=tmp_path / "b")
    assert first.digest == second.digest


def test_budgets_are_no_part_of_the_verdict(world, tmp_path):
    records = world.records()
    without = stage.run(CONFIG, *records, out=tmp_path / "without")
    verdict = stage.run(VerifyConfig(max_p99_ms=1e-6, min_images_per_s=1e12), *records, out=tmp_path / "with")
    assert verdict.info == without.info and verdict.digest == without.digest


def test_nan_model_is_sealed_as_failed_with_no_accuracy(world, tmp_path):
    world.served_bias = (float("nan"),) * 3
    verdict = stage.run(CONFIG, *world.records(), out=tmp_path / "verdict")
    assert verdict.info.outcome == "failed"
    assert {s.accuracy for s in verdict.info.scores if s.form == "compact-int8"} == {None}
    assert all(s.accuracy is not None for s in verdict.info.scores if s.form == "dense-fp32")


def test_altered_file_is_refused(world, tmp_path):
    images, compact, exported = world.records()
    path = exported.folder / exported.info.form("compact-int8").file
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"compact\.int8\.onnx was altered"):
        stage.run(CONFIG, images, compact, exported, out=tmp_path / "verdict")
    assert not (tmp_path / "verdict" / "manifest.json").exists()


def test_files_made_for_other_labels_are_refused(world, tmp_path):
    images, compact, exported = world.records()
    contract = Contract(input=exported.info.contract.input, labels=["dog", "cat", "emu"])
    swapped = Exported(exported.folder, exported.digest, exported.info.model_copy(update={"contract": contract}))
    with pytest.raises(RecordError, match="made for other images"):
        stage.run(CONFIG, images, compact, swapped, out=tmp_path / "verdict")


def test_progress_is_logged_for_every_form(world, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="bigstep.verify"):
        stage.run(CONFIG, *world.records(), out=tmp_path / "verdict")
    steps = [(r.done, r.total) for r in caplog.records if hasattr(r, "done")]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_import_loads_no_torch_and_no_onnx():
    code = "import sys, verify.stage, verify.report; print([m for m in ('torch', 'onnx', 'train') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

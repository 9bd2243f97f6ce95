"""The whole stage: what it lists agrees with the files, and altered weights never ship."""

import dataclasses
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from bigstep.config import ExportConfig
from bigstep.errors import ExportError, TrainError
from bigstep.records.exported import Exported
from bigstep.records.sealed import sha256
from export import stage
from serve.predictor import Predictor


@pytest.fixture
def exported(small_run) -> Exported:
    return small_run.records["export"]


def test_every_network_has_its_forms(exported, small_run):
    trained, compact = small_run.records["train"].info, small_run.records["compress"].info
    baselines = [b.name for b in trained.baselines if b.trial]
    assert len(baselines) >= 2 and compact.baselines
    roles = {form.name: (form.role, form.precision) for form in exported.info.forms}
    expected = {
        "dense-fp32": ("dense", "fp32"),
        "compact-fp32": ("compact", "fp32"),
        "compact-int8": ("compact", "int8"),
    }
    expected |= {f"{name}-fp32": ("baseline", "fp32") for name in baselines}
    expected |= {f"{model.name}-compact-int8": ("compact_baseline", "int8") for model in compact.baselines}
    assert roles == expected and exported.info.served == "compact-int8"


def test_hashes_and_sizes_are_those_of_the_files(exported, small_run):
    for form in exported.info.forms:
        path = exported.folder / form.file
        assert (form.sha256, form.bytes) == (sha256(path), path.stat().st_size)
    assert sorted(f.file for f in exported.info.forms) == sorted(p.name for p in exported.folder.glob("*.onnx"))
    judged = small_run.records["compress"].info.model
    assert exported.info.form("compact-int8").sha256 == judged.sha256


def test_the_ladder_has_its_rungs_and_keeps_its_limits(exported):
    rungs = {(r.network, r.measure): r for r in exported.info.ladder}
    networks = {form.network for form in exported.info.forms}
    assert {n for n, measure in rungs if measure == "max_abs_difference"} == networks
    assert ("compact", "argmax_agreement") in rungs and ("dense", "argmax_agreement") not in rungs
    for rung in exported.info.ladder:
        close = rung.measure == "max_abs_difference"
        assert 0 <= rung.measured <= rung.limit if close else rung.limit <= rung.measured <= 1


def test_the_dense_file_answers_as_the_stored_outputs_do(exported, small_run):
    trained, images = small_run.records["train"], small_run.records["data"]
    predictor = Predictor.open(exported.folder / "dense.fp32.onnx", exported.info.contract)
    found = predictor.predict_all(np.array(images.split("validation_biased").images))
    stored = trained.array(f"trials/{trained.info.chosen}/validation_biased.final.npy")
    np.testing.assert_allclose(found, stored, atol=1e-4)


@pytest.fixture
def altered(small_run, tmp_path):
    """Return a function that changes the compact weights and runs the stage."""

    def run(change):
        compact = small_run.records["compress"]
        shutil.copytree(compact.folder, tmp_path / "compact")
        copy = dataclasses.replace(compact, folder=tmp_path / "compact")
        path = copy.weights("compact")
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)
        (tmp_path / "out").mkdir()
        records = small_run.records
        return stage.run(ExportConfig(), records["data"], records["train"], copy, out=tmp_path / "out")

    return run


def test_altered_weights_are_not_what_was_judged(altered, small_run):
    def nudge(tensors):
        tensors["hidden1.weight"][0] *= -1

    with pytest.raises(ExportError, match="is not the file that was judged") as caught:
        altered(nudge)
    assert f"expected: sha256 {small_run.records['compress'].info.model.sha256}" in str(caught.value)
    assert caught.value.exit_code == 2


def test_weights_that_are_not_finite_are_refused(altered):
    def spoil(tensors):
        tensors["head.bias"][3] = float("nan")

    with pytest.raises(TrainError, match=r"1 of 10 values of head\.bias are NaN") as caught:
        altered(spoil)
    assert caught.value.exit_code == 2

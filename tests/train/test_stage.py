"""The whole stage on a data set without a test split: what it stores, and that nothing disturbs its digest.

The trials run in this process (one core is all it sees), but where a test is about processes.
"""

import json
import shutil

import pytest
import torch

from bigstep.records.trained import Trained, Trial
from train import stage, step, trial
from train.networks.build import load_weights
from train.setup import Job, Setup


def again(rows, out, config):
    return stage.run(config, rows, device="cpu", out=out)


def test_every_rate_seed_and_baseline_has_a_trial(trained):
    names = [t.name for t in trained.info.trials]
    recipes = ["adam-0.001", "sgd-0.01", "sgd-0.05-m0.9", "sgd-0.1", "sgd-10", "sgd-1000"]
    expected = [f"{r}-s{seed}" for r in recipes for seed in (0, 1)]
    assert [n for n in names if not n.endswith("-long")] == sorted(expected)
    assert [p.rate for p in trained.info.points] == [0.1, 10.0, 1000.0]
    assert [b.name for b in trained.info.baselines] == [
        "biased-validation",
        "sgd-0.01",
        "sgd-0.05-momentum-0.9",
        "adam-0.001",
    ]


def test_the_only_usable_rate_is_chosen(trained):
    assert set(trained.info.points[1].statuses) > {"fitted"} and trained.info.points[1].score is None
    assert trained.info.chosen.startswith("sgd-0.1-s") and trained.info.at_edge
    assert trained.info.trial(trained.info.chosen).status == "fitted"
    assert "At 10 not every seed fits" in trained.info.why
    assert trained.info.rule == "groups" and trained.info.search and 0 < trained.info.spent <= 4


def test_a_baseline_out_of_steps_gets_its_own_larger_budget(trained, stage_config):
    adam = trained.info.trial("adam-0.001-s0")
    assert adam.status == "fitted" and 96 < adam.steps <= 400 and adam.train_loss <= stage_config.stop_loss
    assert trained.info.baselines[-1].trial in ("adam-0.001-s0", "adam-0.001-s1")


def test_without_bias_labels_no_unbiased_split_is_opened(blind):
    seeing, unseeing = blind
    assert seeing.digest == unseeing.digest and unseeing.info.rule == "label-free"
    chosen = unseeing.info.trial(unseeing.info.chosen)
    assert chosen.numbers["train_loss_gini"] and not {"conflicting", "unbiased"} & chosen.numbers.keys()
    assert "signals that need no bias label" in unseeing.info.why and not unseeing.info.baselines


def test_the_record_opens_and_leaves_no_scratch_behind(trained):
    assert Trained.open(trained.folder).digest == trained.digest
    assert not (trained.folder / "work").exists()


def test_one_process_and_two_give_the_same_digest(rows, tmp_path, cores, stage_config):
    config = stage_config.model_copy(
        update={"num_rates": 1, "num_seeds": 1, "baseline_max_steps": stage_config.max_steps}
    )
    digests = []
    for n in (1, 2):
        cores(n)
        (tmp_path / str(n)).mkdir()
        digests.append(stage.run(config, rows, device="cpu", out=tmp_path / str(n)).digest)
    assert digests[0] == digests[1]


def test_finished_trials_are_taken_from_the_disk(trained, rows, tmp_path, cores, stage_config):
    out = tmp_path / "out"
    shutil.copytree(trained.folder / "trials", out / "trials")
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted((out / "trials").rglob("*")) if p.is_file()}
    assert again(rows, out, stage_config).digest == trained.digest
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in before} == before


class Killed(BaseException):
    """Stand for a signal that ends the process."""


@pytest.mark.parametrize("epoch", [3, 5, 8])
def test_a_stage_killed_in_mid_trial_goes_on_to_the_same_digest(
    trained, rows, tmp_path, cores, monkeypatch, epoch, stage_config
):
    save = step.save_checkpoint

    def save_and_die(run, path):
        save(run, path)
        if run.epoch == epoch and "s1" in path.parent.name:  # some trials are finished by then
            path.with_suffix(".tmp").write_bytes(b"cut short")
            raise Killed

    monkeypatch.setattr(trial, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(step, "save_checkpoint", save_and_die)
    with pytest.raises(Killed):
        again(rows, tmp_path, stage_config)
    finished = {p.name for p in (tmp_path / "trials").iterdir()}
    [begun] = (path for path in (tmp_path / "work").iterdir() if path.is_dir())
    assert finished and "s1" in begun.name and (begun / "checkpoint.safetensors").is_file()
    monkeypatch.setattr(trial, "CHECKPOINT_SECONDS", 1e9)
    assert again(rows, tmp_path, stage_config).digest == trained.digest


def test_a_search_whose_rounds_are_damaged_starts_again_and_ends_in_the_same_digest(
    trained, rows, tmp_path, cores, caplog, stage_config
):
    out = tmp_path / "out"
    shutil.copytree(trained.folder / "trials", out / "trials")
    [victim, *_] = (out / "trials").iterdir()
    (victim / "trial.json").write_text((victim / "trial.json").read_text().replace('"steps": ', '"steps": 1'))
    (out / "work").mkdir()
    (out / "work" / "rounds.json").write_bytes(bytes(100))
    assert again(rows, out, stage_config).digest == trained.digest
    assert "the search starts again" in caplog.text


def test_beyond_the_byte_budget_only_the_needed_weights_stay(trained, rows, tmp_path, cores, monkeypatch):
    shutil.copytree(trained.folder / "trials", tmp_path / "trials")
    jobs = [t for t in trained.info.trials if t.stored]
    setup = Setup(rows, trained.info.architecture, 16, 0.15, "cpu", tmp_path)
    needed = {trained.info.chosen} | {b.trial for b in trained.info.baselines}
    spare = sorted({t.name for t in jobs} - needed)
    assert len(needed) >= 4 and len(spare) >= 2
    size = trained.weights(trained.info.chosen).stat().st_size
    budget = (len(needed) + 1.5) * size / 1_000_000  # room for one that nobody needs
    for _ in range(2):  # a second time, as after a crash before the record is sealed
        found = [Trial.model_validate_json(p.read_bytes()) for p in sorted(tmp_path.glob("trials/*/trial.json"))]
        kept = stage.keep(setup, found, trained.info.chosen, trained.info.baselines, budget)
        assert {t.name for t in kept if t.stored} == needed | {spare[0]}
        assert {p.parent.name for p in tmp_path.rglob("weights.safetensors")} == needed | {spare[0]}
        read = json.loads((tmp_path / "trials" / spare[1] / "trial.json").read_bytes())
        assert read["stored"] is False and [t.name for t in kept] == sorted(t.name for t in kept)
    none_left = stage.keep(setup, trained.info.trials, trained.info.chosen, trained.info.baselines, 0)
    assert {t.name for t in none_left if t.stored} == needed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_trial_on_the_gpu_resembles_the_one_on_the_cpu(trained, rows, tmp_path, stage_config):
    found = trained.info.trial("adam-0.001-s0")
    setup = Setup(rows, trained.info.architecture, stage_config.batch_size, stage_config.stop_loss, "cuda", tmp_path)
    on_gpu = trial.run_trial(setup, Job(found.name, found.recipe, found.seed, stage_config.max_steps))
    assert (on_gpu.status, on_gpu.steps) == (found.status, found.steps)
    assert on_gpu.train_loss == pytest.approx(found.train_loss, rel=0.02)
    assert on_gpu.numbers["conflicting"] == pytest.approx(found.numbers["conflicting"], abs=0.1)
    assert load_weights(setup.architecture, tmp_path / "trials" / found.name / "weights.safetensors")

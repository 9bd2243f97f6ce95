"""The whole stage on a data set without a test split: what it stores, and that nothing disturbs its digest.

The trials run in this process (one core is all it sees), but where a test is about processes.
"""

import json
import shutil
from dataclasses import replace
from shutil import rmtree as remove

import numpy as np
import pytest
import torch

from bigstep import pool
from bigstep.config import TrainConfig
from bigstep.records.trained import Recipe, Trained, Trial
from train import prepare, stage, step, trial
from train.measure import prunability
from train.measure.activations import outputs
from train.measure.label_free import loss_gini
from train.measure.loss_share import sample_losses
from train.networks.build import load_weights, normalise
from train.networks.predict import predict
from train.setup import Job, Setup

CONFIG = TrainConfig(
    widths=(8,),
    min_rate=0.1,
    max_rate=1000,
    num_rates=3,
    num_seeds=2,
    stop_loss=0.15,
    max_steps=96,
    baseline_max_steps=400,
)


@pytest.fixture
def cores(monkeypatch):
    """Return a function that sets how many cores the stage believes in; one at first."""

    def set_cores(n: int) -> None:
        monkeypatch.setattr(pool.os, "sched_getaffinity", lambda _: set(range(n)))

    set_cores(1)
    return set_cores


@pytest.fixture(scope="module")
def trained(rows, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool.os, "sched_getaffinity", lambda _: {0})
        return stage.run(CONFIG, rows, device="cpu", out=tmp_path_factory.mktemp("trained"))


def again(rows, out):
    return stage.run(CONFIG, rows, device="cpu", out=out)


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


def test_a_baseline_out_of_steps_gets_its_own_larger_budget(trained):
    adam = trained.info.trial("adam-0.001-s0")
    assert adam.status == "fitted" and 96 < adam.steps <= 400 and adam.train_loss <= CONFIG.stop_loss
    assert trained.info.baselines[-1].trial in ("adam-0.001-s0", "adam-0.001-s1")


def test_a_trial_reports_what_its_files_say(trained, rows):
    found = trained.info.trial(trained.info.chosen)
    folder = trained.folder / "trials" / found.name
    assert sorted(p.name for p in folder.iterdir()) == [
        "curve.json",
        "prunability.json",
        "train.early.npy",
        "train.final.npy",
        "trial.json",
        "validation_biased.early.npy",
        "validation_biased.final.npy",
        "weights.safetensors",
    ]
    biased = rows.split("validation_biased")
    correct = np.load(folder / "validation_biased.final.npy").argmax(axis=1) == biased.labels
    assert found.numbers["biased_accuracy"] == pytest.approx(correct.mean())
    curve = json.loads((folder / "prunability.json").read_bytes())["fraction_and_unbiased_accuracy"]
    assert found.numbers["prunability"] == pytest.approx(prunability.area(curve))
    assert curve[0][1] == found.numbers["unbiased"]
    model = load_weights(trained.info.architecture, trained.weights(found.name))
    validation = rows.split("validation")
    logits = predict(model, normalise(validation.images, trained.info.architecture))
    correct = logits.argmax(dim=1).numpy() == validation.labels
    assert found.numbers["conflicting"] == pytest.approx(correct[~validation.aligned].mean())
    assert found.numbers["aligned"] == pytest.approx(correct[validation.aligned].mean())
    steps = [s for s, _ in json.loads((folder / "curve.json").read_bytes())["steps_and_loss"]]
    assert steps == list(range(6, found.steps + 1, 6))


@pytest.fixture(scope="module")
def blind(rows, tmp_path_factory):
    """Return what is chosen where every split but those of the training distribution is gone."""
    folder = tmp_path_factory.mktemp("rows")
    for path in rows.folder.iterdir():
        if not path.name.startswith(("validation.", "test.")):
            shutil.copyfile(path, folder / path.name)
    left = replace(rows, folder=folder)
    config = CONFIG.model_copy(update={"bias_labels": False, "baselines": False})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool.os, "sched_getaffinity", lambda _: {0})
        with pytest.raises(FileNotFoundError):
            left.split("validation")
        seeing, unseeing = (
            stage.run(config, r, device="cpu", out=tmp_path_factory.mktemp("out")) for r in (rows, left)
        )
    return seeing, unseeing


def test_without_bias_labels_no_unbiased_split_is_opened(blind):
    seeing, unseeing = blind
    assert seeing.digest == unseeing.digest and unseeing.info.rule == "label-free"
    chosen = unseeing.info.trial(unseeing.info.chosen)
    assert chosen.numbers["train_loss_gini"] and not {"conflicting", "unbiased"} & chosen.numbers.keys()
    assert "signals that need no bias label" in unseeing.info.why and not unseeing.info.baselines


def test_signals_are_what_the_files_say(blind, rows):
    trained = blind[0]
    found = trained.info.trial(trained.info.chosen)
    folder, split = trained.folder / "trials" / found.name, rows.split("train")
    losses = sample_losses(np.load(folder / "train.early.npy"), split.labels)
    assert found.numbers["train_loss_gini"] == pytest.approx(loss_gini(losses))
    curve = json.loads((folder / "prunability.json").read_bytes())["fraction_and_training_accuracy"]
    assert found.numbers["prunability"] == pytest.approx(prunability.area(curve))
    model = load_weights(trained.info.architecture, trained.weights(found.name))
    z_ND = outputs(model, normalise(split.images, trained.info.architecture))[1]
    assert found.numbers["train_sparsity"] == pytest.approx(float((z_ND == 0).float().mean()))


def test_a_short_trial_goes_on_to_the_bits_of_an_undisturbed_one(rows, tmp_path, cores):
    recipe = Recipe(optimizer="sgd", rate=0.002, momentum=0.5)
    for out, lengths in (("whole", [60]), ("parts", [12, 30, 60])):
        setup = prepare.make_setup(CONFIG, rows, "cpu", tmp_path / out)
        found = [trial.run_trial(setup, Job("t", recipe, 0, n, final=n == 60)) for n in lengths]
        assert [t.steps for t in found] == lengths and found[-1].status == "unfitted"
        assert all(t.status == "stopped" and not t.stored and not t.numbers for t in found[:-1])
    whole, parts = (tmp_path / out / "trials" / "t" for out in ("whole", "parts"))
    assert {p.name: p.read_bytes() for p in whole.iterdir()} == {p.name: p.read_bytes() for p in parts.iterdir()}


class Cut(BaseException):
    """Stand for a signal that ends the process."""


def cut(*_, **__):
    raise Cut


@pytest.mark.parametrize("observe_steps", [0, 20])
@pytest.mark.parametrize("lengths", [[6, 60], [12, 60], [60]], ids=["an epoch", "two epochs", "at once"])
@pytest.mark.parametrize("place", ["flush", "rename"])
def test_a_trial_killed_while_it_is_published_ends_with_the_same_files(
    rows, tmp_path, cores, monkeypatch, lengths, place, observe_steps
):
    recipe = Recipe(optimizer="sgd", rate=0.002)
    config = CONFIG.model_copy(update={"observe_steps": observe_steps})
    jobs = [Job("t", recipe, 0, n, final=n == 60) for n in lengths]
    whole, killed = (prepare.make_setup(config, rows, "cpu", tmp_path / name) for name in ("whole", "killed"))
    for job in jobs:
        expected = trial.run_trial(whole, job)
    for job in jobs:
        with monkeypatch.context() as patch:
            if place == "flush":
                patch.setattr(trial, "flush", cut)
            else:  # after the older folder is gone
                patch.setattr(trial.shutil, "rmtree", lambda path, **_: (remove(path, ignore_errors=True), cut()))
            with pytest.raises(Cut):
                trial.run_trial(killed, job)
        assert trial.run_trial(killed, job).steps == job.max_steps
    assert trial.run_trial(killed, jobs[-1]) == expected

    def files(setup):
        folder = setup.out / "trials" / "t"
        paths = [p for p in folder.rglob("*") if p.is_file() and "tensorboard" not in p.parts]
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}

    assert files(killed) == files(whole)


def test_without_a_conflicting_image_in_validation_the_rate_is_chosen_without_bias_labels(rows, tmp_path, caplog):
    for path in rows.folder.iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    np.save(tmp_path / "validation.bias.npy", np.array(rows.split("validation").labels)[:, None])
    setup = prepare.make_setup(CONFIG, replace(rows, folder=tmp_path), "cpu", tmp_path / "out")
    assert not setup.bias_labels and "no conflicting image" in caplog.text
    assert prepare.make_setup(CONFIG, rows, "cpu", tmp_path / "out").bias_labels


def test_a_short_trial_whose_checkpoint_is_lost_starts_again(rows, tmp_path, cores):
    setup = prepare.make_setup(CONFIG, rows, "cpu", tmp_path)
    recipe = Recipe(optimizer="sgd", rate=0.002)
    trial.run_trial(setup, Job("t", recipe, 0, 12, final=False))
    (tmp_path / "trials" / "t" / "checkpoint.safetensors").write_bytes(b"cut")
    assert trial.run_trial(setup, Job("t", recipe, 0, 60)).steps == 60


def test_early_outputs_are_kept_of_runs_that_last_so_long(trained):
    folder = trained.folder / "trials" / "adam-0.001-s0"
    early, final = np.load(folder / "train.early.npy"), np.load(folder / "train.final.npy")
    assert early.shape == final.shape == (96, 3) and not np.array_equal(early, final)


def test_a_diverged_trial_keeps_no_weights_and_no_numbers(trained):
    diverged = [t for t in trained.info.trials if t.status == "diverged"]
    assert diverged
    for found in diverged:
        assert found.numbers == {} and found.train_loss is None and not found.stored
        assert not trained.weights(found.name).exists()


def test_the_architecture_describes_the_training_pixels(trained, rows):
    pixels = rows.split("train").images.reshape(-1, 3) / 255
    assert trained.info.architecture.mean == pytest.approx(tuple(pixels.mean(axis=0)), abs=1e-6)
    assert trained.info.architecture.std == pytest.approx(tuple(pixels.std(axis=0)), abs=1e-6)
    assert trained.info.architecture.widths == {"hidden1": 8} and trained.info.architecture.classes == 3


def test_a_convolutional_network_is_described_by_channels(rows):
    architecture = prepare.architecture_of(CONFIG.model_copy(update={"network": "cnn", "widths": (4, 8)}), rows)
    assert architecture.family == "cnn" and architecture.widths == {"conv1": 4, "conv2": 8}


def test_the_record_opens_and_leaves_no_scratch_behind(trained):
    assert Trained.open(trained.folder).digest == trained.digest
    assert not (trained.folder / "work").exists()


def test_one_process_and_two_give_the_same_digest(rows, tmp_path, cores):
    config = CONFIG.model_copy(update={"num_rates": 1, "num_seeds": 1, "baseline_max_steps": CONFIG.max_steps})
    digests = []
    for n in (1, 2):
        cores(n)
        (tmp_path / str(n)).mkdir()
        digests.append(stage.run(config, rows, device="cpu", out=tmp_path / str(n)).digest)
    assert digests[0] == digests[1]


def test_finished_trials_are_taken_from_the_disk(trained, rows, tmp_path, cores):
    out = tmp_path / "out"
    shutil.copytree(trained.folder / "trials", out / "trials")
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted((out / "trials").rglob("*")) if p.is_file()}
    assert again(rows, out).digest == trained.digest
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in before} == before


class Killed(BaseException):
    """Stand for a signal that ends the process."""


@pytest.mark.parametrize("epoch", [3, 5, 8])
def test_a_stage_killed_in_mid_trial_goes_on_to_the_same_digest(trained, rows, tmp_path, cores, monkeypatch, epoch):
    save = step.save_checkpoint

    def save_and_die(run, path):
        save(run, path)
        if run.epoch == epoch and "s1" in path.parent.name:  # some trials are finished by then
            path.with_suffix(".tmp").write_bytes(b"cut short")
            raise Killed

    monkeypatch.setattr(trial, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(step, "save_checkpoint", save_and_die)
    with pytest.raises(Killed):
        again(rows, tmp_path)
    finished = {p.name for p in (tmp_path / "trials").iterdir()}
    [begun] = (path for path in (tmp_path / "work").iterdir() if path.is_dir())
    assert finished and "s1" in begun.name and (begun / "checkpoint.safetensors").is_file()
    monkeypatch.setattr(trial, "CHECKPOINT_SECONDS", 1e9)
    assert again(rows, tmp_path).digest == trained.digest


def test_a_search_whose_rounds_are_damaged_starts_again_and_ends_in_the_same_digest(
    trained, rows, tmp_path, cores, caplog
):
    out = tmp_path / "out"
    shutil.copytree(trained.folder / "trials", out / "trials")
    [victim, *_] = (out / "trials").iterdir()
    (victim / "trial.json").write_text((victim / "trial.json").read_text().replace('"steps": ', '"steps": 1'))
    (out / "work").mkdir()
    (out / "work" / "rounds.json").write_bytes(bytes(100))
    assert again(rows, out).digest == trained.digest
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
        kept = stage._keep(setup, found, trained.info.chosen, trained.info.baselines, budget)
        assert {t.name for t in kept if t.stored} == needed | {spare[0]}
        assert {p.parent.name for p in tmp_path.rglob("weights.safetensors")} == needed | {spare[0]}
        read = json.loads((tmp_path / "trials" / spare[1] / "trial.json").read_bytes())
        assert read["stored"] is False and [t.name for t in kept] == sorted(t.name for t in kept)
    none_left = stage._keep(setup, trained.info.trials, trained.info.chosen, trained.info.baselines, 0)
    assert {t.name for t in none_left if t.stored} == needed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_trial_on_the_gpu_resembles_the_one_on_the_cpu(trained, rows, tmp_path):
    found = trained.info.trial("adam-0.001-s0")
    setup = Setup(rows, trained.info.architecture, CONFIG.batch_size, CONFIG.stop_loss, "cuda", tmp_path)
    on_gpu = trial.run_trial(setup, Job(found.name, found.recipe, found.seed, CONFIG.max_steps))
    assert (on_gpu.status, on_gpu.steps) == (found.status, found.steps)
    assert on_gpu.train_loss == pytest.approx(found.train_loss, rel=0.02)
    assert on_gpu.numbers["conflicting"] == pytest.approx(found.numbers["conflicting"], abs=0.1)
    assert load_weights(setup.architecture, tmp_path / "trials" / found.name / "weights.safetensors")

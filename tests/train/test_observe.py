"""Watched runs: the log, what is in it, and that watching changes nothing else."""

import dataclasses
import itertools
import json
import logging
import math
import shutil
import struct

import numpy as np
import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from bigstep import pool
from bigstep.config import TrainConfig
from bigstep.records.sealed import EVENTS
from bigstep.records.trained import LOG, Recipe, read_log
from train import event_files, observe, prepare, stage, step, trial, workers
from train.finish import Finish
from train.networks.build import build
from train.networks.predict import one_thread
from train.readings import Reader
from train.setup import Job, Setup
from train.trial import run_trial

JOB = Job("run", Recipe(optimizer="sgd", rate=0.02), seed=0, max_steps=45)  # 6 steps are an epoch


@pytest.fixture(autouse=True)
def alone():
    with one_thread():
        yield


@pytest.fixture
def setup(rows, tmp_path):
    return Setup(
        rows, prepare.architecture_of(TrainConfig(widths=(6,)), rows), 16, 1e-4, "cpu", tmp_path / "a", observe_steps=20
    )


def log_of(setup, job=JOB):
    return setup.out / "trials" / job.name / LOG


def test_watching_changes_nothing_of_the_run(setup, tmp_path):
    found = run_trial(setup, JOB)
    plain = dataclasses.replace(setup, out=tmp_path / "b", observe_steps=0)
    assert run_trial(plain, JOB) == found
    names = {p.name for p in log_of(plain).parent.iterdir()}
    assert {p.name for p in log_of(setup).parent.iterdir()} - names == {LOG, EVENTS}
    for name in names:
        assert (log_of(plain).parent / name).read_bytes() == (log_of(setup).parent / name).read_bytes()


def test_every_epoch_is_a_line_and_sharpness_is_rare(setup):
    found = run_trial(setup, JOB)
    log = read_log(log_of(setup))
    assert [(m.step, m.epoch) for m in log] == [(min(6 * k, 45), k) for k in range(9)]
    assert [m.step for m in log if "sharpness" in m.numbers] == [0, 24, 42, 45], "begin, past 20, past 40, end"
    assert all(m.numbers["residual"] <= 0.02 for m in log if "sharpness" in m.numbers)
    last = log[-1].numbers
    assert last["stability"] == pytest.approx(last["sharpness"] * 0.02 / 2)
    assert last["train_loss"] == pytest.approx(found.train_loss, rel=1e-5)
    assert last["biased_loss"] == pytest.approx(found.numbers["biased_loss"], rel=1e-5)
    assert log[0].numbers["train_loss"] > last["train_loss"]


def test_runs_that_train_in_one_stack_are_watched_too(setup, tmp_path):
    stacked = dataclasses.replace(setup, out=tmp_path / "b", held={})
    jobs = [JOB, dataclasses.replace(JOB, name="other", recipe=Recipe(optimizer="sgd", rate=0.05))]
    found = {t.name: t for t in workers.run_together(stacked, jobs)}
    for job in jobs:
        alone = run_trial(setup, job)
        logs = read_log(log_of(setup, job)), read_log(log_of(stacked, job))
        assert [m.step for m in logs[0]] == [m.step for m in logs[1]] and found[job.name].steps == alone.steps
        losses = [[m.numbers["train_loss"] for m in log] for log in logs]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3) and losses[0][0] > losses[0][-1]


def test_a_run_that_goes_on_later_goes_on_in_its_log(setup):
    stopped = run_trial(setup, dataclasses.replace(JOB, max_steps=24, final=False))
    assert stopped.status in ("stopped", "stuck") and [m.step for m in read_log(log_of(setup))] == [0, 6, 12, 18, 24]
    run_trial(setup, JOB)
    log = read_log(log_of(setup))
    assert [m.step for m in log] == [0, 6, 12, 18, 24, 30, 36, 42, 45]
    assert steps_in_events(setup) == [m.step for m in log]


def test_alarms_of_a_short_trial_know_the_whole_training(setup, monkeypatch):
    budgets, course = [], observe.alarms.Course
    monkeypatch.setattr(observe.alarms, "Course", lambda *args: budgets.append(args[1]) or course(*args))
    searching = dataclasses.replace(setup, finish=Finish("none", 0.0, 900))
    for given in (searching, setup):
        run_trial(given, Job("short", JOB.recipe, 0, 12, final=False))
        shutil.rmtree(setup.out)
    assert budgets == [900, 12]


def test_without_bias_labels_validation_stays_closed(setup, rows, tmp_path):
    closed = shutil.copytree(rows.folder, tmp_path / "closed")
    for file in closed.glob("validation.*"):
        file.unlink()
    images = dataclasses.replace(rows, folder=closed)
    found = Reader(images, setup.architecture, "cpu", bias_labels=False).read(build(setup.architecture))
    assert found["validation_loss"] is found["bias_following"] is None and found["biased_loss"] > 0


class Killed(Exception):
    """Stand for the end of the process."""


def test_a_resumed_run_writes_the_log_of_an_undisturbed_one(setup, tmp_path, monkeypatch):
    run_trial(setup, JOB)
    monkeypatch.setattr(trial, "CHECKPOINT_SECONDS", -1.0)
    again = dataclasses.replace(setup, out=tmp_path / "b")
    save = step.save_checkpoint

    def killed_at_epoch_5(run, path):
        if run.epoch == 5:
            raise Killed  # the log has this epoch, the checkpoint has not
        save(run, path)

    with monkeypatch.context() as patch:
        patch.setattr(step, "save_checkpoint", killed_at_epoch_5)
        with pytest.raises(Killed):
            run_trial(again, JOB)
    [log] = again.out.glob(f"work/{JOB.name}~*/{LOG}")
    assert [m.step for m in read_log(log)][-1] == 30
    with log.open("a") as file:
        file.write('{"step":36,"epo')
    run_trial(again, JOB)
    assert log_of(again).read_bytes() == log_of(setup).read_bytes()
    assert steps_in_events(again) == steps_in_events(setup), "no step twice"


def events(setup):
    """Read the framed records of a TensorBoard file: length, checksum, content, checksum."""
    [file] = (log_of(setup).parent / EVENTS).iterdir()
    content, found = file.read_bytes(), []
    while content:
        [size] = struct.unpack("<Q", content[:8])
        found.append(Event.FromString(content[12 : 12 + size]))
        content = content[16 + size :]
    return found


def steps_in_events(setup):
    return [event.step for event in events(setup)[1:]]


def test_tensorboard_gets_the_numbers_of_the_log(setup):
    run_trial(setup, JOB)
    first, *rest = events(setup)
    assert first.file_version == "brain.Event:2"
    for event, measurement in itertools.zip_longest(rest, read_log(log_of(setup))):
        numbers = {name: value for name, value in measurement.numbers.items() if value is not None}
        assert event.step == measurement.step
        assert {v.tag: v.simple_value for v in event.summary.value} == pytest.approx(numbers, rel=1e-6)


def test_without_tensorboardx_there_is_the_log_alone_and_it_is_said(setup, rows, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(event_files, "LIBRARY", "no_such_package")
    monkeypatch.setattr(pool, "usable_cores", lambda: 1)  # processes would not know of these
    monkeypatch.setattr(logging.getLogger("bigstep"), "propagate", True)
    config = TrainConfig(
        widths=(4,), min_rate=0.1, max_rate=0.1, num_rates=1, num_seeds=1, stop_loss=0.5, observe_steps=50
    )
    with caplog.at_level(logging.INFO):
        without = stage.run(config, rows, device="cpu", out=tmp_path)
    assert caplog.text.count("no_such_package is not installed") == 1
    folders = list((tmp_path / "trials").iterdir())
    assert len(folders) > 1
    for folder in folders:
        assert read_log(folder / LOG) and not (folder / EVENTS).exists()
    monkeypatch.undo()
    monkeypatch.setattr(pool, "usable_cores", lambda: 1)
    again = stage.run(config, rows, device="cpu", out=tmp_path / "again")
    assert (again.folder / "trials" / again.info.chosen / EVENTS).is_dir() and again.digest == without.digest


def test_alarms_are_kept_with_the_trial_and_told(setup, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bigstep"), "propagate", True)
    job = dataclasses.replace(JOB, recipe=Recipe(optimizer="sgd", rate=3.0), max_steps=200)
    [found] = workers.run_all(setup, [job], logging.getLogger("bigstep.train")).values()
    assert found.alarms and list(found.alarms) == observe.raised(log_of(setup).parent)
    for alarm in found.alarms:
        assert f"warning: run, {alarm}" in caplog.text


def test_stability_compares_with_the_edge():
    sgd = Recipe(optimizer="sgd", rate=0.1)
    assert observe.stability(20.0, sgd) == pytest.approx(1.0), "S = 2 / rate"
    assert observe.stability(38.0, sgd.model_copy(update={"momentum": 0.9})) == pytest.approx(1.0), "2 (1 + m) / rate"
    warming = sgd.model_copy(update={"warmup_steps": 4})
    assert [observe.stability(20.0, warming, steps) for steps in (0, 1, 9)] == pytest.approx([0.25, 0.5, 1.0])
    assert observe.stability(20.0, Recipe(optimizer="adam", rate=0.1)) is None
    assert observe.stability(None, sgd) is None


@pytest.fixture
def reader(rows, setup):
    return Reader(rows, setup.architecture, "cpu")


def test_a_dead_layer_reads_as_one(reader, setup):
    model = build(setup.architecture)
    with torch.no_grad():
        model.hidden1.bias.fill_(-100.0)
        model.hidden1.bias[:2] = 100.0
        model.head.weight[:, :2] = 0.0
        model.head.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    model.train()
    found = reader.read(model)
    assert model.training and all(p.grad is None for p in model.parameters())
    assert (found["dead"], found["spread"]) == (pytest.approx(4 / 6), 0.0)
    assert found["train_loss"] == pytest.approx(math.log(math.e + 2) - 1 / 3), "each class is a third of the images"
    assert reader.chance_loss == pytest.approx(math.log(3))
    # It always says "top"; the bias suggests that in a third of the conflicting images, all of them wrong by that.
    assert found["bias_following"] == pytest.approx(by_hand(setup.images.split("validation"), predicted=0))
    weights = np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])
    assert (found["l1"], found["l2"]) == pytest.approx((np.abs(weights).sum(), np.linalg.norm(weights)), rel=1e-6)


def by_hand(split, predicted):
    conflicting = split.bias[:, 0] != split.labels
    wrong = conflicting & (split.labels != predicted)
    return (split.bias[wrong, 0] == predicted).mean()


def test_the_gradient_is_the_one_of_the_mean_loss(reader, setup):
    model = build(setup.architecture)
    torch.nn.functional.cross_entropy(model(reader.train.x), reader.train.y).backward()
    expected = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
    assert reader.read(model)["gradient"] == pytest.approx(expected, rel=1e-5)


def test_numbers_that_are_not_finite_are_left_out(reader, setup):
    model = build(setup.architecture)
    with torch.no_grad():
        model.head.weight.fill_(math.inf)
    found = reader.read(model)
    assert found["train_loss"] is found["l2"] is None
    assert reader.sharpness(model) == {"sharpness": None, "residual": None}
    assert json.dumps(found, allow_nan=False)


def test_a_network_without_a_linear_head_is_watched_without_counting_dead_units(reader):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 4), torch.nn.Flatten())
    found = reader.read(model)
    assert found["dead"] is None and found["train_loss"] > 0 and reader.sharpness(model)["sharpness"] is not None

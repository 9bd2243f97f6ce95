"""What the search keeps and what it takes back, on a network that is trained in a second."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from bigstep.config import Config, ExportConfig
from bigstep.records.sealed import sha256
from bigstep.records.trained import Recipe
from bigstep.rules import Demands
from compress import search as searching
from compress.prune import prune
from compress.search import Network, Workshop, search
from serve.predictor import Predictor
from train import finish, step
from train.finish import Finish
from train.networks.build import load_weights
from train.networks.feed import inputs

GENEROUS = {"margin": 0.5, "keep_fractions": (0.5, 0.25), "fine_tune_steps": 120, "calibration_images": 96}


@pytest.fixture
def dense(trained):
    """Return the chosen network, to be fine-tuned by its own recipe."""
    chosen = trained.info.trial(trained.info.chosen)
    model = load_weights(trained.info.architecture, trained.weights(chosen.name))
    return Network(model, trained.info.architecture, chosen.recipe, chosen.seed)


@pytest.fixture
def shop(rows, contract, demands, tmp_path, write_plain, monkeypatch):
    """Return a function that makes a workshop with some settings."""
    monkeypatch.setattr(searching.graph, "write_float32", write_plain)

    def make(asked=demands, **settings) -> Workshop:
        config = Config(compress=GENEROUS | settings, verify=asked.verify, export=asked.export)
        return Workshop(
            config.compress, Demands.of(config), rows, contract, "cpu", tmp_path, batch_size=16, stop_loss=0.1
        )

    return make


def steps(candidates):
    return [(c.step, c.kept) for c in candidates]


def test_a_generous_margin_keeps_the_last_share(shop, dense):
    best, candidates = search(shop(), dense)
    assert steps(candidates) == [
        ("all units, INT8", True),
        ("50% of the units, INT8", True),
        ("25% of the units, INT8", True),
    ]
    assert best.model.architecture.widths == {"hidden1": 40, "hidden2": 20} == candidates[-1].widths
    assert best.model.quantisation is not None and best.model.sha256 == candidates[-1].sha256
    sizes = [c.bytes for c in candidates]
    assert sizes == sorted(sizes, reverse=True) and best.model.bytes == sizes[-1]
    assert all(drop.high <= 0.5 for c in candidates for drop in c.drops)


def test_no_margin_takes_everything_back_and_ships_the_dense_file(shop, dense, tmp_path):
    best, candidates = search(shop(margin=0.0), dense)
    assert steps(candidates) == [
        ("all units, INT8", False),
        ("all units, float32", False),
        ("50% of the units, INT8", False),
        ("50% of the units, float32", False),
        ("25% of the units, INT8", False),
        ("25% of the units, float32", False),
    ]
    assert best.network is dense and best.model.quantisation is None
    assert best.model.sha256 == sha256(tmp_path / "dense.fp32.onnx")
    assert all(c.why.startswith("taken back") for c in candidates)
    assert "the limit is a drop of 0.00 points" in candidates[0].why


def test_a_share_after_one_that_was_taken_back_starts_from_the_last_kept(shop, dense, monkeypatch):
    begun = []
    shrink = searching.Workshop.shrink

    def watched(self, network, widths):
        begun.append((network.architecture.widths["hidden1"], widths["hidden1"]))
        return None if widths["hidden1"] == 80 else shrink(self, network, widths)

    monkeypatch.setattr(searching.Workshop, "shrink", watched)
    best, candidates = search(shop(), dense)
    assert begun == [(160, 80), (160, 40)]
    assert steps(candidates)[1] == ("50% of the units", False)
    assert best.model.architecture.widths["hidden1"] == 40


def test_fine_tuning_without_enough_steps_is_remembered(shop, dense):
    fitted, _ = search(shop(fine_tune_steps=2000), dense)
    hurried, _ = search(shop(fine_tune_steps=1, margin=1.0), dense)
    assert fitted.model.fitted and not hurried.model.fitted


def test_a_share_that_hurts_is_taken_back_and_the_one_before_it_ships(shop, dense):
    best, candidates = search(shop(keep_fractions=(0.75, 0.01), fine_tune_steps=0, margin=0.3), dense)
    assert steps(candidates) == [
        ("all units, INT8", True),
        ("75% of the units, INT8", True),
        ("1% of the units, INT8", False),
        ("1% of the units, float32", False),
    ]
    assert best.model.architecture.widths == {"hidden1": 120, "hidden2": 60}
    worst = max(candidates[-1].drops, key=lambda d: d.high)
    assert worst.high > 0.3 and candidates[-1].why.startswith("taken back: ")


def test_the_gate_s_margin_holds_where_it_is_smaller(shop, dense, demands):
    strict = replace(demands, verify=demands.verify.model_copy(update={"margin": 0.0}))
    _, candidates = search(shop(strict), dense)
    assert not any(c.kept for c in candidates)
    assert "the limit is a drop of 0.00 points" in candidates[0].why


def test_a_file_that_would_fail_parity_is_not_kept(shop, dense, demands, monkeypatch):
    """No group loses anything by it, but 96 % of its predictions are those of float32, where 97 % are asked."""
    climb = searching.ladder.climb

    def lower(*args):
        return [
            rung.model_copy(update={"measured": 0.96} if rung.measure == "argmax_agreement" else {})
            for rung in climb(*args)
        ]

    monkeypatch.setattr(searching.ladder, "climb", lower)
    usual = replace(demands, export=ExportConfig())
    _, candidates = search(shop(usual, keep_fractions=(0.5,)), dense)
    assert steps(candidates) == [
        ("all units, INT8", False),
        ("all units, float32", False),
        ("50% of the units, INT8", False),
        ("50% of the units, float32", True),
    ]
    assert "the share of equal predictions (ONNX float32, INT8) on 48 images is 0.96" in candidates[0].why


def test_agreement_is_that_of_the_candidate_with_its_own_float32_file(shop, dense, monkeypatch):
    calibrate = searching.graph.calibrate

    def far_too_wide(*args):
        return {name: (low - 1e6, high + 1e6) for name, (low, high) in calibrate(*args).items()}

    monkeypatch.setattr(searching.graph, "calibrate", far_too_wide)
    workshop = shop()
    workshop.write(dense, "x", int8=True)
    [float32, int8] = workshop.ladder(dense, "x", int8=True)
    assert float32.measured < 1e-5 and float32.n == 48 and int8.measured < 0.5
    assert [rung.measure for rung in workshop.ladder(dense, "x", int8=False)] == ["max_abs_difference"]


def test_where_int8_costs_too_much_float32_is_tried(shop, dense, monkeypatch):
    calibrate = searching.graph.calibrate

    def far_too_wide(*args):
        return {name: (low - 1e6, high + 1e6) for name, (low, high) in calibrate(*args).items()}

    monkeypatch.setattr(searching.graph, "calibrate", far_too_wide)
    best, candidates = search(shop(keep_fractions=(0.5,)), dense)
    assert steps(candidates) == [
        ("all units, INT8", False),
        ("all units, float32", False),
        ("50% of the units, INT8", False),
        ("50% of the units, float32", True),
    ]
    assert "no smaller" in candidates[1].why  # the dense float32 file is no gain over itself
    assert best.model.quantisation is None and best.model.architecture.widths["hidden1"] == 80


def test_a_fine_tuning_that_diverges_is_taken_back_and_said_so(shop, dense):
    wild = Network(dense.model, dense.architecture, Recipe(optimizer="sgd", rate=1e30), dense.seed)
    best, candidates = search(shop(), wild)
    assert steps(candidates) == [
        ("all units, INT8", True),
        ("50% of the units", False),
        ("25% of the units", False),
    ]
    assert candidates[-1].why == "taken back: fine-tuning diverged or collapsed"
    assert candidates[-1].bytes is None and candidates[-1].drops == []
    assert best.model.architecture == dense.architecture and best.model.quantisation is not None


def test_the_shipped_file_can_be_written_again_from_the_numbers(shop, dense, contract, rows, tmp_path):
    workshop = shop(keep_fractions=(0.5,))
    best, _ = search(workshop, dense)
    again, model = workshop.write(best.network, "again", int8=True)
    assert sha256(again) == best.model.sha256 and model == best.model
    logits = Predictor.open(again, contract).predict_all(np.array(rows.split("validation").images))
    assert (logits.argmax(axis=1) == rows.split("validation").labels).mean() > 0.8


@pytest.mark.parametrize(("target_cpu", "reduced"), [("generic", True), ("vnni", False)])
def test_older_processors_get_seven_bits(shop, dense, target_cpu, reduced):
    _, model = shop(target_cpu=target_cpu).write(dense, "x", int8=True)
    assert model.quantisation.reduce_range is reduced


def test_shrinking_leaves_the_network_it_started_from(shop, dense):
    before = {name: tensor.clone() for name, tensor in dense.model.state_dict().items()}
    small = shop().shrink(dense, {"hidden1": 2, "hidden2": 3})
    assert small.architecture.widths == {"hidden1": 2, "hidden2": 3} and not small.model.training
    assert all((tensor == before[name]).all() for name, tensor in dense.model.state_dict().items())


def weights_of(network):
    return {name: tensor.clone() for name, tensor in network.model.state_dict().items()}


def same(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize(
    ("augmentation", "kind"), [("flip-shift", "none"), ("none", "average"), ("none", "fine-tune"), ("flip", "average")]
)
def test_fine_tuning_is_done_as_the_network_was_trained(shop, dense, rows, augmentation, kind):
    """With its augmentation and its second phase: compare with the training loop, told to do the same."""
    workshop = replace(shop(fine_tune_steps=40), augmentation=augmentation, stop_loss=1e-9)
    own = replace(dense, finish=Finish(kind, rate=0.01, whole_steps=6000))
    widths = {"hidden1": 20, "hidden2": 10}
    found = weights_of(workshop.shrink(own, widths))

    model, architecture = prune(dense.model, dense.architecture, widths)
    split = rows.split("train")
    x_NCHW, y_N = inputs(split.images, architecture, "cpu"), torch.from_numpy(np.array(split.labels))
    plan = step.Plan(dense.recipe, 16, 1e-9, 40, dense.seed, augmentation)
    expected = finish.fit(step.start(model, dense.recipe), x_NCHW, y_N, plan, Finish(kind, 0.01, 40)).model
    assert same(found, expected.state_dict())
    plain = replace(workshop, augmentation="none").shrink(dense, widths)
    assert not same(found, weights_of(plain))


@pytest.mark.parametrize("split", ["validation_biased", "test"])
def test_other_splits_than_train_and_validation_change_nothing(shop, dense, rows, tmp_path, split):
    (tmp_path / "rows").mkdir()
    for path in rows.folder.iterdir():
        if not path.name.startswith(split):
            shutil.copyfile(path, tmp_path / "rows" / path.name)
    workshop = shop(keep_fractions=(0.5,), fine_tune_steps=24)
    best, candidates = search(workshop, dense)
    alone, same_candidates = search(replace(workshop, images=replace(rows, folder=tmp_path / "rows")), dense)
    assert same_candidates == candidates and alone.model == best.model
    assert same(weights_of(alone.network), weights_of(best.network))

"""The whole map on small images: what it holds, that it goes on to the same digest, and maps of given networks."""

import shutil

import pytest

from bigstep import pool
from bigstep.config import TrainConfig
from bigstep.errors import ConfigError, TrainError
from bigstep.records.rate_map import Checkpoint, RateMap
from train import prepare
from train.measure import surface
from train.networks.build import build, save_weights
from train.rate_map import numbers, tasks
from train.rate_map import stage as map_stage

CONFIG = TrainConfig(
    widths=(8,),
    min_rate=0.05,
    max_rate=500,
    num_rates=4,
    num_seeds=2,
    stop_loss=0.3,
    max_steps=120,
    baseline_max_steps=120,
)


@pytest.fixture(scope="module", autouse=True)
def one_core():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool.os, "sched_getaffinity", lambda _: {0})
        patch.setattr(tasks, "FLOW_STEPS", 10)
        yield


@pytest.fixture(scope="module")
def found(rows, tmp_path_factory):
    return map_stage.run(CONFIG, rows, device="cpu", out=tmp_path_factory.mktemp("map"))


def test_the_grid_is_there_with_every_seed_and_rates_that_narrow_the_thresholds(found):
    info = found.info
    assert set(CONFIG.rates) < set(info.rates) and info.rates == sorted(info.rates)
    assert [(t.rate, t.seed) for t in info.trials] == [(r, s) for r in info.rates for s in (0, 1)]
    assert [t.name for t in info.thresholds] == ["critical", "sharpness break", "convergence", "2A | 2B", "divergence"]
    convergence = info.thresholds[2]
    ratio = CONFIG.rates[1] / CONFIG.rates[0]
    assert convergence.high is None or convergence.high / (convergence.low or convergence.high) < ratio


def test_every_network_has_every_number(found):
    measured = [t for t in found.info.trials if t.status != "diverged"]
    assert measured and all(not t.missing for t in measured)
    for name in ("unbiased", "conflicting", "worst_group", "prunability", "sharpness", "scale_free_sharpness", "l1"):
        assert all(name in t.numbers for t in measured), name
    for t in measured:
        assert t.numbers["worst_group"] is None or t.numbers["worst_group"] <= t.numbers["unbiased"]
        sharp = t.numbers["sharpness"]
        assert sharp is None or t.numbers["sharpness_eta_half"] == pytest.approx(sharp * t.rate / 2)
        assert t.numbers.get("steps_to_fit") == (t.steps if t.status == "fitted" else None)


def test_diverged_runs_have_none(found):
    diverged = [t for t in found.info.trials if t.status == "diverged"]
    assert diverged and all(t.numbers == {} for t in diverged)


def test_runs_were_watched_at_powers_of_two_and_at_the_end(found):
    fitted = next(t for t in found.info.trials if t.status == "fitted")
    epochs = [m.epoch for m in fitted.moments]
    assert epochs == [2**k for k in range(len(epochs) - 1)] + epochs[-1:] and fitted.moments[-1].step == fitted.steps
    assert all(
        0 <= m.numbers["conflicting_loss_share"] <= 1
        for m in fitted.moments
        if m.numbers["conflicting_loss_share"] is not None
    )


def test_it_keeps_curves_and_no_networks(found):
    assert RateMap.open(found.folder).digest == found.digest
    assert not [p for p in found.folder.rglob("*") if p.suffix in (".npy", ".safetensors")]
    assert (found.folder / "trials" / found.info.trials[0].name / "curve.json").is_file()


def test_a_run_that_was_killed_goes_on_to_the_same_digest(found, rows, tmp_path):
    def killed(*_arguments):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbers, "_scale_free", killed)
        with pytest.raises(KeyboardInterrupt):
            map_stage.run(CONFIG, rows, device="cpu", out=tmp_path)
    assert len(list((tmp_path / "trials").iterdir())) == len(found.info.trials) and list((tmp_path / "flows").iterdir())
    assert map_stage.run(CONFIG, rows, device="cpu", out=tmp_path).digest == found.digest


def test_a_number_that_cannot_be_measured_is_missing_with_a_reason(rows, tmp_path, monkeypatch):
    def no_second_derivative(*_arguments, **_more):
        raise TrainError("the Hessian of this network cannot be computed", got="derivative for x")

    monkeypatch.setattr(surface.Surface, "hessian", no_second_derivative)
    setup = prepare.make_setup(CONFIG, rows, "cpu", tmp_path)
    path = tmp_path / "w.safetensors"
    save_weights(build(setup.architecture, 1), path)
    network = numbers.Network("n", prepare.recipe_of(CONFIG), path, tmp_path / "n")
    measured = numbers.measure_network(setup, network)
    assert "derivative for x" in measured.missing["sharpness"] and "sharpness" not in measured.numbers
    assert measured.numbers["unbiased"] is not None and measured.numbers["l2"] > 0
    assert numbers.measure_network(setup, network) == measured


def test_a_map_is_not_lost_to_one_task(rows, tmp_path, monkeypatch):
    def broken(*_arguments):
        raise RuntimeError("out of memory\nfor this")

    monkeypatch.setattr(surface.Surface, "gradient", broken)
    config = CONFIG.model_copy(update={"num_rates": 1, "num_seeds": 1, "max_steps": 12})
    found = map_stage.run(config, rows, device="cpu", out=tmp_path).info
    assert "The gradient flow of seed 0 failed: RuntimeError, out of memory." in found.notes
    assert found.flows == [] and found.trials[0].numbers["sharpness"] > 0
    assert "no gradient flow" in found.thresholds[0].says


def checkpoints(setup, folder, rates):
    for rate in rates:
        save_weights(build(setup.architecture, round(rate * 10)), folder / f"{rate}.safetensors")
    return [Checkpoint(rate, 0, folder / f"{rate}.safetensors") for rate in rates]


def test_networks_trained_elsewhere_are_measured_and_only_what_can_be_known_is_placed(rows, tmp_path):
    setup = prepare.make_setup(CONFIG, rows, "cpu", tmp_path / "bench")
    given = checkpoints(setup, tmp_path, (0.1, 0.2))
    (tmp_path / "out").mkdir()
    found = map_stage.run(CONFIG, rows, device="cpu", out=tmp_path / "out", checkpoints=given).info
    assert found.start == "given checkpoints" and [t.status for t in found.trials] == ["unfitted"] * 2
    assert all(t.numbers["sharpness"] > 0 and t.steps is None and not t.moments for t in found.trials)
    unknown = {t.name for t in found.thresholds if "needs the training path" in t.says}
    assert not [t for t in found.thresholds if t.steps is not None or "steps" in t.says]
    assert unknown == {"critical", "2A | 2B", "divergence"} and "unknown" in found.answer


def test_a_checkpoint_of_another_network_is_refused_by_name(rows, tmp_path):
    setup = prepare.make_setup(CONFIG.model_copy(update={"widths": (9,)}), rows, "cpu", tmp_path / "bench")
    given = checkpoints(setup, tmp_path, (0.1,))
    with pytest.raises(TrainError, match=r"hidden1\.weight"):
        map_stage.run(CONFIG, rows, device="cpu", out=tmp_path / "out", checkpoints=given)


def test_a_map_from_pretrained_weights_says_so(rows, tmp_path):
    setup = prepare.make_setup(CONFIG, rows, "cpu", tmp_path / "bench")
    path = checkpoints(setup, tmp_path, (0.1,))[0].path
    config = CONFIG.model_copy(update={"weights": str(path), "num_rates": 1, "num_seeds": 1, "max_steps": 12})
    found = map_stage.run(config, rows, device="cpu", out=tmp_path / "out").info
    assert found.start == "pretrained weights" and found.trials[0].moments[0].epoch == 1
    shutil.copy(path, tmp_path / "bad.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    with pytest.raises(ConfigError, match="cannot be read"):
        map_stage.run(
            config.model_copy(update={"weights": str(tmp_path / "bad.safetensors")}), rows, device="cpu", out=tmp_path
        )

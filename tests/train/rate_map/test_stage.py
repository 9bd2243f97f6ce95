"""The whole map on small images: what it holds, that it goes on to the same digest, and maps of given networks."""

import shutil

import pytest

from bigstep.errors import ConfigError, TrainError
from bigstep.records.rate_map import Checkpoint, RateMap
from train import prepare
from train.measure import sharpness, surface
from train.networks.build import build, save_weights
from train.rate_map import stage as map_stage


@pytest.fixture(scope="module")
def found(rows, tmp_path_factory, map_config):
    return map_stage.run(map_config, rows, device="cpu", out=tmp_path_factory.mktemp("map"))


def test_the_grid_is_there_with_every_seed_and_rates_that_narrow_the_thresholds(found, map_config):
    info = found.info
    assert set(map_config.rates) < set(info.rates) and info.rates == sorted(info.rates)
    assert [(t.rate, t.seed) for t in info.trials] == [(r, s) for r in info.rates for s in (0, 1)]
    assert [t.name for t in info.thresholds] == ["critical", "sharpness break", "convergence", "2A | 2B", "divergence"]
    convergence = info.thresholds[2]
    ratio = map_config.rates[1] / map_config.rates[0]
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


def test_a_run_that_was_killed_goes_on_to_the_same_digest(found, rows, tmp_path, map_config):
    def killed(*_arguments):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharpness, "scale_free", killed)
        with pytest.raises(KeyboardInterrupt):
            map_stage.run(map_config, rows, device="cpu", out=tmp_path)
    assert len(list((tmp_path / "trials").iterdir())) == len(found.info.trials) and list((tmp_path / "flows").iterdir())
    assert map_stage.run(map_config, rows, device="cpu", out=tmp_path).digest == found.digest


def test_a_map_is_not_lost_to_one_task(rows, tmp_path, monkeypatch, map_config):
    def broken(*_arguments):
        raise RuntimeError("out of memory\nfor this")

    monkeypatch.setattr(surface.Surface, "gradient", broken)
    config = map_config.model_copy(update={"num_rates": 1, "num_seeds": 1, "max_steps": 12})
    found = map_stage.run(config, rows, device="cpu", out=tmp_path).info
    assert "The gradient flow of seed 0 failed: RuntimeError, out of memory." in found.notes
    assert found.flows == [] and found.trials[0].numbers["sharpness"] > 0
    assert "no gradient flow" in found.thresholds[0].says


def checkpoints(setup, folder, rates):
    for rate in rates:
        save_weights(build(setup.architecture, round(rate * 10)), folder / f"{rate}.safetensors")
    return [Checkpoint(rate, 0, folder / f"{rate}.safetensors") for rate in rates]


def test_networks_trained_elsewhere_are_measured_and_only_what_can_be_known_is_placed(rows, tmp_path, map_config):
    setup = prepare.make_setup(map_config, rows, "cpu", tmp_path / "setup")
    given = checkpoints(setup, tmp_path, (0.1, 0.2))
    (tmp_path / "out").mkdir()
    found = map_stage.run(map_config, rows, device="cpu", out=tmp_path / "out", checkpoints=given).info
    assert found.start == "given checkpoints" and [t.status for t in found.trials] == ["unfitted"] * 2
    assert all(t.numbers["sharpness"] > 0 and t.steps is None and not t.moments for t in found.trials)
    unknown = {t.name for t in found.thresholds if "needs the training path" in t.says}
    assert not [t for t in found.thresholds if t.steps is not None or "steps" in t.says]
    assert unknown == {"critical", "2A | 2B", "divergence"} and "unknown" in found.answer


def test_a_checkpoint_of_another_network_is_refused_by_name(rows, tmp_path, map_config):
    setup = prepare.make_setup(map_config.model_copy(update={"widths": (9,)}), rows, "cpu", tmp_path / "setup")
    given = checkpoints(setup, tmp_path, (0.1,))
    with pytest.raises(TrainError, match=r"hidden1\.weight"):
        map_stage.run(map_config, rows, device="cpu", out=tmp_path / "out", checkpoints=given)


def test_a_map_from_pretrained_weights_says_so(rows, tmp_path, map_config):
    setup = prepare.make_setup(map_config, rows, "cpu", tmp_path / "setup")
    path = checkpoints(setup, tmp_path, (0.1,))[0].path
    config = map_config.model_copy(update={"weights": str(path), "num_rates": 1, "num_seeds": 1, "max_steps": 12})
    found = map_stage.run(config, rows, device="cpu", out=tmp_path / "out").info
    assert found.start == "pretrained weights" and found.trials[0].moments[0].epoch == 1
    shutil.copy(path, tmp_path / "bad.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    with pytest.raises(ConfigError, match="cannot be read"):
        map_stage.run(
            config.model_copy(update={"weights": str(tmp_path / "bad.safetensors")}), rows, device="cpu", out=tmp_path
        )

"""The whole stage: the record, the baselines on the same road, and the same digest twice. There is no test split."""

import logging

import pytest

from bigstep.config import CompressConfig, Config, TrainConfig
from bigstep.errors import TrainError
from bigstep.records.compact import Compact
from bigstep.records.trained import Recipe, Trained
from bigstep.rules import Demands
from compress import search, stage
from train import stage as train_stage
from train.networks.build import load_weights, save_weights

CONFIG = CompressConfig(margin=0.5, keep_fractions=(0.5,), fine_tune_steps=120, calibration_images=96)


@pytest.fixture(autouse=True)
def _fast_writer(write_plain, monkeypatch):
    monkeypatch.setattr(search.graph, "write_float32", write_plain)


@pytest.fixture
def run(rows, trained, demands, tmp_path):
    def run_stage(config=CONFIG, info=trained.info, name="out", source=None) -> Compact:
        (tmp_path / name).mkdir()
        source = source or Trained(trained.folder, trained.digest, info)
        asked = Demands.of(Config(compress=config, verify=demands.verify, export=demands.export))
        return stage.run(config, rows, source, demands=asked, device="cpu", out=tmp_path / name)

    return run_stage


def test_the_record_holds_the_shipped_network_and_every_other_baseline(run, trained):
    compact = Compact.open(run().folder)
    others = {b.name for b in trained.info.baselines if b.trial not in (None, trained.info.chosen)}
    assert len(others) >= 2 and {m.name for m in compact.info.baselines} == others
    assert compact.info.source == trained.info.chosen
    assert sorted(p.name for p in compact.folder.iterdir()) == sorted(
        ["manifest.json", "record.json", "compact.safetensors", *(f"{name}.safetensors" for name in others)]
    )
    for model in (compact.info.model, *compact.info.baselines):
        assert model.architecture.widths == {"hidden1": 80, "hidden2": 40}
        assert model.quantisation is not None
        load_weights(model.architecture, compact.weights(model.name))


def test_twice_the_same_digest(run):
    assert run(name="first").digest == run(name="second").digest


def test_baselines_are_shipped_in_the_form_of_the_shipped_file(run):
    compact = run(CONFIG.model_copy(update={"margin": 0.0}))
    assert compact.info.model.quantisation is None and not any(c.kept for c in compact.info.frontier)
    for model in compact.info.baselines:
        assert model.quantisation is None and model.architecture.widths == {"hidden1": 160, "hidden2": 80}


def test_a_baseline_whose_fine_tuning_diverges_is_left_out_with_a_warning(run, trained, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bigstep"), "propagate", True)
    adam = trained.info.baselines[-1]
    wild = Recipe(optimizer="sgd", rate=1e30)
    trials = [t.model_copy(update={"recipe": wild}) if t.name == adam.trial else t for t in trained.info.trials]
    compact = run(info=trained.info.model_copy(update={"trials": trials}))
    assert adam.name not in {m.name for m in compact.info.baselines}
    assert f"{adam.name} cannot be compressed: its fine-tuning diverges" in caplog.text


def test_weights_that_are_not_finite_stop_the_stage(rows, trained, demands, tmp_path):
    name = trained.info.chosen
    broken = Trained(tmp_path, trained.digest, trained.info)
    broken.weights(name).parent.mkdir(parents=True)
    model = load_weights(trained.info.architecture, trained.weights(name))
    model.hidden2.weight.data[0, 0] = float("nan")
    save_weights(model, broken.weights(name))
    (tmp_path / "out").mkdir()
    with pytest.raises(TrainError, match=r"1 of 12800 values of hidden2\.weight are NaN"):
        stage.run(CONFIG, rows, broken, demands=demands, device="cpu", out=tmp_path / "out")


def test_each_network_is_fine_tuned_as_it_was_trained(run, rows, tmp_path, monkeypatch):
    """The chosen one with the configured finish and augmentation, conventional ones without a second phase."""
    config = TrainConfig(
        widths=(16,), min_rate=0.1, max_rate=0.2, num_rates=2, num_seeds=1, stop_loss=0.1, max_steps=240,
        finish="fine-tune", finish_rate=0.02, augmentation="flip",
    )  # fmt: skip
    (tmp_path / "trained").mkdir()
    own = train_stage.run(config, rows, device="cpu", out=tmp_path / "trained")
    assert own.info.augmentation == "flip"
    shrunk = []
    shrink = search.Workshop.shrink

    def watched(self, network, widths):
        shrunk.append((network.recipe.name, network.finish.kind, network.finish.rate, self.augmentation))
        return shrink(self, network, widths)

    monkeypatch.setattr(search.Workshop, "shrink", watched)
    run(source=own)
    chosen = own.info.trial(own.info.chosen)
    assert (chosen.recipe.name, "fine-tune", 0.02, "flip") in shrunk
    conventional = [one for one in shrunk if one[0] in {"sgd-0.01", "sgd-0.05-m0.9", "adam-0.001"}]
    assert conventional and all(one[1] == "none" and one[3] == "flip" for one in conventional)

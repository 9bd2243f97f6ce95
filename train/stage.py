"""Train over a grid of learning rates and choose one: the public door of this folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bigstep.config import TrainConfig
from bigstep.errors import ConfigError
from bigstep.records import Architecture, Images
from bigstep.sealed import write_json
from bigstep.trained import Baseline, Recipe, Trained, TrainedInfo, Trial
from train import choose, networks, own, pretrained, step
from train.trial import Bench, Job
from train.workers import run_trials

log = logging.getLogger("bigstep.train")
rivals_log = logging.getLogger("bigstep.train.baselines")
PROBES = 16
USUAL_WIDTHS = {"mlp": ("hidden", (256, 256, 256)), "cnn": ("conv", (32, 64, 128))}  # by family: names, sizes


def run(config: TrainConfig, images: Images, *, device: str, out: Path) -> Trained:
    """Train every rate and baseline over every seed, draw the map and choose.

    Args:
        config: the section `train` of the configuration.
        images: training, `validation_biased` and `validation` are read; test is not.
        device: `cpu` or `cuda`.
        out: the folder to fill; what an interrupted run left there is used.

    Raises:
        TrainError: there is no rate at which every seed fitted.
    """
    architecture = describe(config, images)
    _try_out(config, architecture)
    bench = Bench(
        images,
        architecture,
        config.batch_size,
        config.stop_loss,
        device,
        out,
        pretrained=Path(config.weights) if config.weights else None,
    )
    seeds = range(config.num_seeds)
    grid_jobs = [j for rate in config.rates for j in _jobs(Recipe(optimizer="sgd", rate=rate), seeds, config)]
    trials = _run_all(bench, grid_jobs, log)
    points = choose.rate_map(list(trials.values()), config.robust_weight)
    choice = choose.choose(points, list(trials.values()), config.robust_weight)
    unfitted = [j for j in grid_jobs if trials[j.name].status == "unfitted"]
    conventional = {name: _jobs(recipe, seeds, config) for name, recipe in choose.CONVENTIONAL.items()}
    rivals = [j for jobs in conventional.values() for j in jobs if j.name not in trials]
    rivals = [replace(j, max_steps=config.baseline_max_steps) for j in rivals]
    if config.baseline_max_steps > config.max_steps:
        rivals += [replace(j, name=f"{j.name}-long", max_steps=config.baseline_max_steps) for j in unfitted]
    trials |= _run_all(bench, rivals, rivals_log)

    def longest(jobs: Sequence[Job]) -> list[Trial]:
        return [trials.get(f"{j.name}-long", trials[j.name]) for j in jobs]

    baselines = choose.baselines(longest(grid_jobs), {name: longest(jobs) for name, jobs in conventional.items()})
    stored = _keep(bench, [trials[name] for name in sorted(trials)], choice.trial, baselines, config.store_mb)
    _save_probe(bench, choice.trial)
    info = TrainedInfo(
        architecture=bench.architecture,
        batch_size=config.batch_size,
        stop_loss=config.stop_loss,
        chosen=choice.trial,
        why=choice.why,
        at_edge=choice.at_edge,
        map=points,
        trials=stored,
        baselines=baselines,
    )
    log.info("%s", choice.why)
    return Trained.seal(out, info)


def describe(config: TrainConfig, images: Images) -> Architecture:
    """Describe the configured network for these images; mean and deviation are those of the training pixels.

    Raises:
        ConfigError: the images are too small, a batch too small for the network, or its file cannot be read.
        TrainError: a user's network fails.
    """
    pixels = images.split("train").images / np.float64(255)
    own_file = ".py:" in config.network
    architecture = Architecture(
        family="own" if own_file else config.network,
        widths=_widths(config, images),
        classes=len(images.info.labels),
        input=images.info.input,
        mean=tuple(float(m) for m in pixels.mean(axis=(0, 1, 2)).round(6)),
        std=tuple(float(s) for s in np.maximum(pixels.std(axis=(0, 1, 2)), 1e-3).round(6)),
        own=own.find(config.network) if own_file else None,
    )
    return architecture if architecture.widths else networks.describe(architecture)


def _widths(config: TrainConfig, images: Images) -> dict[str, int]:
    """Name the hidden layers of a network of chosen widths; none for one that has its own."""
    if config.network not in USUAL_WIDTHS:
        return {}
    prefix, usual = USUAL_WIDTHS[config.network]
    widths = config.widths or usual
    spec = images.info.input
    if config.network == "cnn" and min(spec.height_px, spec.width_px) >> (len(widths) - 1) < 1:
        raise ConfigError(
            "the network is too deep for these images",
            got=f"{len(widths)} layers, each but the first halving {spec.height_px} x {spec.width_px} pixels",
            do="give fewer train.widths",
        )
    return {f"{prefix}{position}": width for position, width in enumerate(widths, start=1)}


def _try_out(config: TrainConfig, architecture: Architecture) -> None:
    """Find out before any trial begins whether it could start from the pretrained weights, and train by batches."""
    model = networks.build(architecture)
    if config.batch_size == 1 and step.normalises_batches(model):
        raise ConfigError(
            "this network normalises over batches, which takes two images at least",
            got="train.batch_size = 1",
            do="set train.batch_size to 2 or more",
        )
    if config.weights is not None:
        dropped = pretrained.start_from(model, Path(config.weights))
        if dropped:
            log.info("%s has other classes: %s start afresh", config.weights, " and ".join(dropped))


def _jobs(recipe: Recipe, seeds: Sequence[int], config: TrainConfig) -> list[Job]:
    return [Job(f"{recipe.name}-s{seed}", recipe, seed, config.max_steps) for seed in seeds]


def _run_all(bench: Bench, jobs: Sequence[Job], log: logging.Logger) -> dict[str, Trial]:
    trials: dict[str, Trial] = {}
    for trial in run_trials(bench, jobs):
        trials[trial.name] = trial
        place = {"done": len(trials), "total": len(jobs)}
        log.info("%s %s after %d steps", trial.name, trial.status, trial.steps, extra=place)
    return {job.name: trials[job.name] for job in jobs}  # in the order of the jobs, whatever finished first


def _keep(
    bench: Bench, trials: Sequence[Trial], chosen: str, baselines: Sequence[Baseline], store_mb: int
) -> list[Trial]:
    """Drop weights beyond the byte budget, never those of the chosen trial and of the baselines."""
    needed = {chosen} | {b.trial for b in baselines}
    folder = bench.out / "trials"
    left = store_mb * 1_000_000
    size = (folder / chosen / "weights.safetensors").stat().st_size  # all trials are of one architecture
    kept = []
    for trial in sorted(trials, key=lambda t: (t.name not in needed, t.name)):
        if trial.stored:
            left -= size
            if left < 0 and trial.name not in needed:
                (folder / trial.name / "weights.safetensors").unlink(missing_ok=True)
                trial = trial.model_copy(update={"stored": False})
                write_json(folder / trial.name / "trial.json", trial.model_dump(mode="json"))
        kept.append(trial)
    return sorted(kept, key=lambda t: t.name)


def _save_probe(bench: Bench, chosen: str) -> None:
    """Keep a few images with the logits of the chosen network: who rebuilds it can see that it is the same."""
    model = networks.load_weights(bench.architecture, bench.out / "trials" / chosen / "weights.safetensors")
    probe = np.array(bench.images.split("validation").images[:PROBES])
    with step.one_thread():
        logits_NK = step.predict(model, networks.normalise(probe, bench.architecture))
    np.save(bench.out / "probe.images.npy", probe, allow_pickle=False)
    np.save(bench.out / "probe.logits.npy", logits_NK.numpy(), allow_pickle=False)

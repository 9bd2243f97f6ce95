"""Train over a grid of learning rates and choose one: the public door of this folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bigstep.config import TrainConfig
from bigstep.records import Architecture, Baseline, Images, Recipe, Trained, TrainedInfo, Trial
from bigstep.sealed import write_json
from train import choose, networks, step
from train.trial import Bench, Job
from train.workers import run_trials

log = logging.getLogger("bigstep.train")
PROBES = 16


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
    bench = Bench(images, describe(config, images), config.batch_size, config.stop_loss, device, out)
    seeds = range(config.num_seeds)
    grid_jobs = [j for rate in choose.grid(config) for j in _jobs(Recipe(optimizer="sgd", rate=rate), seeds, config)]
    extra = [j for r in choose.CONVENTIONAL.values() for j in _jobs(r, seeds, config) if j not in grid_jobs]
    trials = _run_all(bench, [*grid_jobs, *extra])
    longer = [j for j in _longer(config, seeds) if trials[j.name].status == "unfitted"]
    trials |= _run_all(bench, [Job(f"{j.name}-long", j.recipe, j.seed, j.max_steps) for j in longer])
    on_grid = [trials[j.name] for j in grid_jobs]
    points = choose.rate_map(on_grid, config.robust_weight)
    choice = choose.choose(points, on_grid, config.robust_weight)
    conventional = {
        name: [trials.get(f"{j.name}-long", trials[j.name]) for j in _jobs(recipe, seeds, config)]
        for name, recipe in choose.CONVENTIONAL.items()
    }
    baselines = choose.baselines(on_grid, conventional)
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
    """Describe the configured network for these images; mean and deviation are those of the training pixels."""
    pixels = images.split("train").images / np.float64(255)
    prefix = "hidden" if config.network == "mlp" else "conv"
    return Architecture(
        family=config.network,
        widths={f"{prefix}{position}": width for position, width in enumerate(config.widths, start=1)},
        classes=len(images.info.labels),
        input=images.info.input,
        mean=tuple(float(m) for m in pixels.mean(axis=(0, 1, 2)).round(6)),
        std=tuple(float(s) for s in np.maximum(pixels.std(axis=(0, 1, 2)), 1e-3).round(6)),
    )


def _jobs(recipe: Recipe, seeds: Sequence[int], config: TrainConfig) -> list[Job]:
    momentum = f"-m{recipe.momentum:g}" if recipe.momentum else ""
    stem = f"{recipe.optimizer}-{recipe.rate:g}{momentum}"
    return [Job(f"{stem}-s{seed}", recipe, seed, config.max_steps) for seed in seeds]


def _longer(config: TrainConfig, seeds: Sequence[int]) -> list[Job]:
    """Return the baseline jobs with the step budget of their own, if that is a larger one."""
    if config.baseline_max_steps <= config.max_steps:
        return []
    jobs = [j for recipe in choose.CONVENTIONAL.values() for j in _jobs(recipe, seeds, config)]
    return [Job(j.name, j.recipe, j.seed, config.baseline_max_steps) for j in jobs]


def _run_all(bench: Bench, jobs: Sequence[Job]) -> dict[str, Trial]:
    trials: dict[str, Trial] = {}
    for trial in run_trials(bench, jobs):
        trials[trial.name] = trial
        place = {"done": len(trials), "total": len(jobs)}
        log.info("%s %s after %d steps", trial.name, trial.status, trial.steps, extra=place)
    return trials


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

"""Train over a grid of learning rates and choose one: the public door of this folder."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from bigstep.config import TrainConfig
from bigstep.errors import ConfigError
from bigstep.records.architecture import Architecture
from bigstep.records.images import Images
from bigstep.records.sealed import WORK, write_json
from bigstep.records.trained import Baseline, Recipe, Trained, TrainedInfo, Trial
from train import choose, event_files, step
from train.finish import Finish
from train.measure.activations import outputs
from train.networks import own, pretrained
from train.networks.build import build, describe, load_weights, normalise
from train.networks.predict import one_thread, predict
from train.search import Axis, Search
from train.setup import Job, Setup
from train.trial import CHECKPOINT
from train.workers import run_trials

log = logging.getLogger("bigstep.train")
rivals_log = logging.getLogger("bigstep.train.baselines")
PROBES = 16
PIXEL_CHUNK = 1024  # images
USUAL_WIDTHS = {"mlp": ("hidden", (256, 256, 256)), "cnn": ("conv", (32, 64, 128))}  # by family: names, sizes
RULES = {  # the score in words, by whether it rests on bias labels
    True: "{score:.3f}, from conflicting accuracy {conflicting:.3f} and prunability {prunability:.3f}",
    False: "{score:.3f}, from signals that need no bias label",
}


def run(config: TrainConfig, images: Images, *, device: str, out: Path) -> Trained:
    """Search for the learning rate, choose, and train the baselines.

    Args:
        config: the section `train` of the configuration.
        images: `train`, `validation_biased` and, where bias labels decide, `validation` are read; test is not.
        device: `cpu` or `cuda`.
        out: the folder to fill; what an interrupted run left there is used.

    Raises:
        TrainError: there is no rate at which every seed fitted.
    """
    setup = make_setup(config, images, device, out)
    if config.watch_steps:
        event_files.say_if_missing()
    score = score_of(config, setup)
    found = _search(config, setup, score)
    trials = [trial for seeds in found.trials.values() for trial in seeds.values()]
    points = choose.rate_points(trials, score)
    choice = choose.choose(points, trials, score, RULES[setup.bias_labels], config.rates)
    every = {t.name: t for t in trials}
    baselines = _baselines(config, setup, every) if config.baselines else []
    on_map = [name for name in every if name in {t.name for t in trials} | {j.name for j in _grid(config)}]
    trials = list(every.values())
    for checkpoint in setup.out.glob(f"trials/*/{CHECKPOINT}"):
        checkpoint.unlink()
    info = TrainedInfo(
        architecture=setup.architecture,
        batch_size=config.batch_size,
        stop_loss=config.stop_loss,
        chosen=choice.trial,
        why=choice.why,
        rule="groups" if setup.bias_labels else "label-free",
        search=found.says,
        spent=found.spent_steps() / config.max_steps,
        at_edge=choice.at_edge,
        points=choose.rate_points([every[name] for name in on_map], score),
        trials=_keep(setup, trials, choice.trial, baselines, config.store_mb),
        baselines=baselines,
    )
    _save_probe(setup, choice.trial)
    log.info("%s", choice.why)
    return Trained.seal(out, info)


def make_setup(config: TrainConfig, images: Images, device: str, out: Path) -> Setup:
    """Return what every trial shares; bias labels are used if the configuration and the images allow it."""
    architecture = architecture_of(config, images)
    known = config.bias_labels and bool(images.info.attributes)
    if known and not _has_both_groups(images):
        log.warning("validation has no aligned or no conflicting image: the rate is chosen without bias labels")
        known = False
    _try_out(config, architecture, images, bias_labels=known)
    return Setup(
        images,
        architecture,
        config.batch_size,
        config.stop_loss,
        device,
        out,
        config.augmentation,
        bias_labels=known,
        pretrained=Path(config.weights) if config.weights else None,
        watch_steps=config.watch_steps,
        finish=Finish(config.finish, config.finish_rate or config.min_rate, config.max_steps),
    )


def _has_both_groups(images: Images) -> bool:
    aligned_N = images.split("validation").aligned
    return aligned_N is not None and bool(aligned_N.any()) and not bool(aligned_N.all())


def score_of(config: TrainConfig, setup: Setup) -> choose.Score:
    """Return what the search maximises."""
    if setup.bias_labels:
        return choose.by_groups(config.robust_weight)

    def logits(trial: str) -> NDArray[np.float32]:
        path = setup.out / "trials" / trial / "validation_biased.final.npy"
        found: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return found

    return choose.label_free(config.robust_weight, logits)


def _search(config: TrainConfig, setup: Setup, score: choose.Score) -> Search:
    """Run the search; its finished rounds lie in `work/rounds.json`, so that it goes on as it had begun."""
    y_N = torch.from_numpy(np.array(setup.images.split("train").labels))
    epoch_steps = step.steps_of_epoch(len(y_N), config.batch_size, build(setup.architecture))
    chance_loss = step.chance_loss(y_N)
    axis = Axis(recipe_of(config), config.rates, config.num_seeds, config.max_steps, epoch_steps, chance_loss)
    found = Search(axis, lambda trials: score(trials) or 0.0)
    journal = setup.out / WORK / "rounds.json"
    past = _read_rounds(setup.out, journal)
    done: list[list[Trial]] = []
    rounds = found.rounds()
    trials: list[Trial] | None = None
    while True:
        try:
            jobs = rounds.send(trials) if trials is not None else next(rounds)
        except StopIteration:
            return found
        trials = past[len(done)] if len(done) < len(past) else list(run_all(setup, jobs, log).values())
        done.append(trials)
        if len(done) > len(past):
            journal.parent.mkdir(exist_ok=True)
            write_json(journal.with_suffix(".tmp"), [[t.model_dump(mode="json") for t in round_] for round_ in done])
            journal.with_suffix(".tmp").replace(journal)


def _read_rounds(out: Path, journal: Path) -> list[list[Trial]]:
    """Return the finished rounds; where they are damaged the trials go too, which may have more steps than they had."""
    try:
        return TypeAdapter(list[list[Trial]]).validate_json(journal.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s); the search starts again", journal, error)
        for folder in (out / "trials", out / WORK):
            shutil.rmtree(folder, ignore_errors=True)
        return []


def _baselines(config: TrainConfig, setup: Setup, trials: dict[str, Trial]) -> list[Baseline]:
    """Train the grid with one seed and the conventional recipes with all, and name the best of each; adds to trials.

    What does not fit gets the larger budget of baselines.
    """
    grid = _grid(config)
    failed = {t.name for t in trials.values() if t.status in ("diverged", "collapsed")}
    trials |= run_all(setup, [j for j in grid if j.name not in failed], rivals_log)
    seeds = range(config.num_seeds)
    named = {name: _jobs([r], seeds, config.baseline_max_steps) for name, r in choose.CONVENTIONAL.items()}
    rivals = [job for jobs in named.values() for job in jobs if job.name not in trials]
    known = {job.name: job for job in [*grid, *(j for jobs in named.values() for j in jobs)] if job.name in trials}
    unfitted = [job for name, job in known.items() if trials[name].status == "unfitted"]
    unfitted = [job for job in unfitted if trials[job.name].steps < config.baseline_max_steps]
    rivals += [replace(j, name=f"{j.name}-long", max_steps=config.baseline_max_steps) for j in unfitted]
    # A conventional recipe has no second phase at another rate.
    trials |= run_all(replace(setup, finish=Finish()), rivals, rivals_log)

    def longest(jobs: Sequence[Job]) -> list[Trial]:
        return [trials.get(f"{j.name}-long", trials[j.name]) for j in jobs]

    return choose.baselines(longest(grid), {name: longest(jobs) for name, jobs in named.items()})


def _grid(config: TrainConfig) -> list[Job]:
    """Return the jobs of the whole grid with one seed."""
    return _jobs([recipe_of(config, rate) for rate in config.rates], range(1), config.max_steps)


def recipe_of(config: TrainConfig, rate: float | None = None) -> Recipe:
    """Return the configured recipe at a rate, by default the smallest."""
    return Recipe(
        optimizer="sgd",
        rate=config.min_rate if rate is None else rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        l1=config.l1,
        warmup_steps=config.warmup_steps,
    )


def architecture_of(config: TrainConfig, images: Images) -> Architecture:
    """Describe the configured network for these images; mean and deviation are those of the training pixels.

    Raises:
        ConfigError: the images are too small, a batch too small for the network, or its file cannot be read.
        TrainError: a user's network fails.
    """
    mean, std = _pixel_statistics(images.split("train").images)
    own_file = ".py:" in config.network
    architecture = Architecture(
        family="own" if own_file else config.network,
        widths=_widths(config, images),
        classes=len(images.info.labels),
        input=images.info.input,
        mean=mean,
        std=std,
        own=own.find(config.network) if own_file else None,
    )
    return architecture if architecture.widths else describe(architecture)


def _pixel_statistics(images_NHWC: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel in units of pixels / 255, reading a memory map in parts."""
    channels = images_NHWC.shape[-1]
    sums, squares = np.zeros(channels, dtype=np.int64), np.zeros(channels, dtype=np.int64)  # exact in any order
    for start in range(0, len(images_NHWC), PIXEL_CHUNK):
        pixels = images_NHWC[start : start + PIXEL_CHUNK].reshape(-1, channels).astype(np.int64)
        sums += pixels.sum(axis=0)
        squares += (pixels**2).sum(axis=0)
    count = images_NHWC.size // channels
    mean = sums / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return (
        tuple(float(m) for m in (mean / 255).round(6)),
        tuple(float(s) for s in np.maximum(std / 255, 1e-3).round(6)),
    )


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


def _try_out(config: TrainConfig, architecture: Architecture, images: Images, *, bias_labels: bool) -> None:
    """Find out before any trial begins whether it could start from the weights, train by batches, and be measured."""
    model = build(architecture)
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
    if not bias_labels:
        outputs(model, normalise(images.split("train").images[:1], architecture))


def _jobs(recipes: Sequence[Recipe], seeds: Sequence[int], max_steps: int) -> list[Job]:
    return [Job(f"{recipe.name}-s{seed}", recipe, seed, max_steps) for recipe in recipes for seed in seeds]


def run_all(setup: Setup, jobs: Sequence[Job], log: logging.Logger) -> dict[str, Trial]:
    """Run jobs, logging each as it finishes, and return their trials by name in the order of the jobs."""
    trials: dict[str, Trial] = {}
    for trial in run_trials(setup, jobs):
        trials[trial.name] = trial
        place = {"done": len(trials), "total": len(jobs)}
        log.info("%s %s after %d steps", trial.name, trial.status, trial.steps, extra=place)
        for alarm in trial.alarms:
            log.warning("warning: %s, %s", trial.name, alarm)
    return {job.name: trials[job.name] for job in jobs}


def _keep(
    setup: Setup, trials: Sequence[Trial], chosen: str, baselines: Sequence[Baseline], store_mb: int
) -> list[Trial]:
    """Drop weights beyond the byte budget, never those of the chosen trial and of the baselines."""
    needed = {chosen} | {b.trial for b in baselines}
    folder = setup.out / "trials"
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


def _save_probe(setup: Setup, chosen: str) -> None:
    """Keep a few images with the logits of the chosen network: who rebuilds it can see that it is the same."""
    model = load_weights(setup.architecture, setup.out / "trials" / chosen / "weights.safetensors")
    probe = np.array(setup.images.split("validation_biased").images[:PROBES])
    with one_thread():
        logits_NK = predict(model, normalise(probe, setup.architecture))
    np.save(setup.out / "probe.images.npy", probe, allow_pickle=False)
    np.save(setup.out / "probe.logits.npy", logits_NK.numpy(), allow_pickle=False)

"""Train over a grid of learning rates and choose one: the public door of this folder."""

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
from bigstep.records.images import Images
from bigstep.records.sealed import WORK, write_json
from bigstep.records.trained import FAILED, Baseline, Trained, TrainedInfo, Trial
from train import choose, event_files, step
from train.finish import Finish
from train.networks.build import build, load_weights, normalise
from train.networks.predict import one_thread, predict
from train.prepare import make_setup, recipe_of
from train.search import Axis, Search
from train.setup import Job, Setup, jobs_of
from train.trial import CHECKPOINT, sweep
from train.workers import run_all

log = logging.getLogger("bigstep.train")
rivals_log = logging.getLogger("bigstep.train.baselines")
PROBES = 16
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
    sweep(out)
    setup = make_setup(config, images, device, out)
    if config.observe_steps:
        event_files.say_if_missing()
    score = score_of(config, setup)
    found = _search(config, setup, score)
    trials = [trial for seeds in found.trials.values() for trial in seeds.values()]
    choice = choose.choose(trials, score, RULES[setup.bias_labels], config.rates)
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
        augmentation=config.augmentation,
        chosen=choice.trial,
        why=choice.why,
        rule="groups" if setup.bias_labels else "label-free",
        search=found.says,
        spent=found.spent_steps() / config.max_steps,
        at_edge=choice.at_edge,
        points=choose.rate_points([every[name] for name in on_map], score),
        trials=keep(setup, trials, choice.trial, baselines, config.store_mb),
        baselines=baselines,
    )
    _save_probe(setup, choice.trial)
    log.info("%s", choice.why)
    return Trained.seal(out, info)


def score_of(config: TrainConfig, setup: Setup) -> choose.Score:
    """Return what the search maximises."""
    if setup.bias_labels:
        return choose.by_groups(config.robust_weight)

    def logits(trial: str) -> NDArray[np.float32]:
        path = setup.folder(trial) / "validation_biased.final.npy"
        found: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return found

    return choose.label_free(config.robust_weight, logits)


def _search(config: TrainConfig, setup: Setup, score: choose.Score) -> Search:
    """Run the search; its finished rounds lie in `work/rounds.json`, so that it goes on as it had begun."""
    y_N = torch.from_numpy(np.array(setup.images.split("train").labels))
    epoch_steps = step.steps_of_epoch(len(y_N), config.batch_size, build(setup.architecture))
    chance_loss = step.chance_loss(y_N)
    axis = Axis(recipe_of(config), config.rates, config.num_seeds, config.max_steps, epoch_steps, chance_loss)
    found = Search(axis, lambda groups: choose.comparable(groups, score))
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
            write_json(journal, [[t.model_dump(mode="json") for t in round_] for round_ in done])


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
    failed = {t.name for t in trials.values() if t.status in FAILED}
    trials |= run_all(setup, [j for j in grid if j.name not in failed], rivals_log)
    seeds = range(config.num_seeds)
    named = {name: jobs_of([r], seeds, config.baseline_max_steps) for name, r in choose.CONVENTIONAL.items()}
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
    return jobs_of([recipe_of(config, rate) for rate in config.rates], range(1), config.max_steps)


def keep(
    setup: Setup, trials: Sequence[Trial], chosen: str, baselines: Sequence[Baseline], store_mb: int
) -> list[Trial]:
    """Drop weights beyond the byte budget, never those of the chosen trial and of the baselines."""
    needed = {chosen} | {b.trial for b in baselines}
    left = store_mb * 1_000_000
    size = (setup.folder(chosen) / "weights.safetensors").stat().st_size  # all trials are of one architecture
    kept = []
    for trial in sorted(trials, key=lambda t: (t.name not in needed, t.name)):
        if trial.stored:
            left -= size
            if left < 0 and trial.name not in needed:
                (setup.folder(trial.name) / "weights.safetensors").unlink(missing_ok=True)
                trial = trial.model_copy(update={"stored": False})
                write_json(setup.folder(trial.name) / "trial.json", trial.model_dump(mode="json"))
        kept.append(trial)
    return sorted(kept, key=lambda t: t.name)


def _save_probe(setup: Setup, chosen: str) -> None:
    """Keep a few images with the logits of the chosen network: who rebuilds it can see that it is the same."""
    model = load_weights(setup.architecture, setup.folder(chosen) / "weights.safetensors")
    probe = np.array(setup.images.split("validation_biased").images[:PROBES])
    with one_thread():
        logits_NK = predict(model, normalise(probe, setup.architecture))
    np.save(setup.out / "probe.images.npy", probe, allow_pickle=False)
    np.save(setup.out / "probe.logits.npy", logits_NK.numpy(), allow_pickle=False)

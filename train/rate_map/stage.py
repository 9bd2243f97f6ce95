"""Draw up the learning-rate map: the second public door of this folder.

The whole grid is trained with every seed, not searched; then rates between those of the grid narrow the thresholds
down, every network is measured, and a second phase follows around the threshold of convergence. Whatever is finished
lies in the folder of the unfinished record, so that a run that was killed goes on from there.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bigstep.config import TrainConfig
from bigstep.records.images import Images
from bigstep.records.rate_map import Checkpoint, MapTrial, RateMap, RateMapInfo, SecondPhase, Threshold
from bigstep.records.trained import FAILED, Trial
from train import moments
from train.finish import Finish
from train.networks.build import load_weights
from train.prepare import make_setup, recipe_of
from train.rate_map import regimes, thresholds
from train.rate_map.numbers import Measured, Network, curvature_images, report_split
from train.rate_map.second_phase import Start
from train.rate_map.tasks import FlowStart, Results, Task, flow_steps, work_through
from train.rate_map.thresholds import Ending
from train.setup import Setup, jobs_of
from train.trial import sweep
from train.workers import run_all

log = logging.getLogger("bigstep.lr-map")
NARROWING = 2  # rates between two of the grid that narrow a threshold down: a quarter of the gap is left
FLOW_SEEDS = 3  # a flow takes as long as many trials
SECOND_SEED = 0  # a second phase takes as long as two or three trials
SECOND_RATES = 3  # of each regime that get a second phase, those next to the threshold of convergence


def run(
    config: TrainConfig, images: Images, *, device: str, out: Path, checkpoints: Sequence[Checkpoint] = ()
) -> RateMap:
    """Train the whole grid with every seed, measure everything, and place the thresholds.

    Args:
        config: the section `train` of the configuration; what only a choice or a baseline needs is not read.
        images: all splits; `test` is read for reports alone.
        device: `cpu` or `cuda`.
        out: the folder to fill; what an interrupted run left there is used.
        checkpoints: networks of a user's own training, to measure in place of training.

    Raises:
        TrainError: a checkpoint does not hold weights of the configured network.
    """
    sweep(out)
    if checkpoints:
        return _from_checkpoints(config, images, checkpoints, device, out)
    setup = replace(_setup(config, images, device, out), keeps_moments=True)
    trials = _trials(config, setup)
    rates = sorted({t.recipe.rate for t in trials})
    endings = [Ending(t.recipe.rate, t.seed, t.status) for t in trials]
    second_rates = _second_rates(endings, rates)
    steps = flow_steps(config, len(curvature_images(setup)[1]))
    tasks: list[Task] = [FlowStart(s, config.momentum, steps) for s in range(min(config.num_seeds, FLOW_SEEDS))]
    tasks += _seconds(config, setup, trials, second_rates) if second_rates else []
    tasks += [
        Network(t.name, t.recipe, setup.folder(t.name) / "weights.safetensors", t.numbers) for t in trials if t.stored
    ]
    found = work_through(setup, tasks)
    rows = [_map_trial(setup, t, found.measured.get(t.name)) for t in trials]
    placed, seconds, band = _thresholds(config, found, rows, endings)
    info = RateMapInfo(
        **_about(config, setup),
        start="pretrained weights" if config.weights else "initial weights",
        rates=rates,
        seeds=config.num_seeds,
        trials=rows,
        flows=found.flows,
        second_phase=seconds,
        second_rates=second_rates,
        thresholds=placed,
        band=band,
        answer=thresholds.answer(
            rows, rates, config.num_seeds, seconds, next(t.says for t in placed if t.name == "2A | 2B")
        ),
        notes=[*_notes(images, second_rates), *found.failed],
    )
    _drop_networks(setup, trials)
    return RateMap.seal(out, info)


def _from_checkpoints(
    config: TrainConfig, images: Images, checkpoints: Sequence[Checkpoint], device: str, out: Path
) -> RateMap:
    """Measure networks that a user trained with all that needs no training path."""
    setup = _setup(config, images, device, out)
    for checkpoint in checkpoints:
        load_weights(setup.architecture, checkpoint.path)  # all of them, before the first is measured
    recipe = recipe_of(config)
    tasks: list[Task] = [Network(c.name, recipe.model_copy(update={"rate": c.rate}), c.path) for c in checkpoints]
    found = work_through(setup, tasks)
    rows = [_given_trial(config, c, found.measured[c.name]) for c in checkpoints if c.name in found.measured]
    endings = [Ending(t.rate, t.seed, t.status) for t in rows]
    rates = sorted({t.rate for t in rows})
    seeds = min(sum(t.rate == rate for t in rows) for rate in rates)
    unknown = "It needs the training path, which checkpoints do not show."
    info = RateMapInfo(
        **_about(config, setup),
        start="given checkpoints",
        rates=rates,
        seeds=seeds,
        trials=rows,
        flows=[],
        second_phase=[],
        second_rates=None,
        thresholds=[
            thresholds.convergence(endings, None),
            thresholds.sharpness_break(rows, None),
            *(
                Threshold(name=n, low=None, high=None, steps=None, says=unknown)
                for n in ("critical", "2A | 2B", "divergence")
            ),
        ],
        band=[],
        answer="Band 2A is unknown: a second phase would have to train from these checkpoints.",
        notes=[
            f"Fitted means here that the loss on the training images is at most {config.stop_loss:g}.",
            *_notes(images, None),
            *found.failed,
        ],
    )
    return RateMap.seal(out, info)


def _setup(config: TrainConfig, images: Images, device: str, out: Path) -> Setup:
    """Return what the trials share: a constant rate to the end, so that what follows is another number of its own."""
    setup = make_setup(config, images, device, out)
    return replace(setup, bias_labels=True, finish=Finish(), observe_steps=0)


def _trials(config: TrainConfig, setup: Setup) -> list[Trial]:
    """Run the grid, then rates that narrow down where seeds stop fitting and where they begin to fail."""
    done: dict[str, Trial] = {}

    def train(rates: Sequence[float]) -> list[Trial]:
        jobs = jobs_of([recipe_of(config, rate) for rate in rates], range(config.num_seeds), config.max_steps)
        done.update(run_all(setup, [j for j in jobs if j.name not in done], log))
        return [done[job.name] for job in jobs]

    def narrow(good: Any, rates: Sequence[float]) -> None:
        """Bisect between the last rate of the first block of good ones and the next."""
        verdicts = [all(good(t) for t in train([rate])) for rate in rates]
        if True in verdicts and False in verdicts[verdicts.index(True) :]:
            next_ = verdicts.index(False, verdicts.index(True))

            def is_below(rate: float) -> bool:
                return all(good(t) for t in train([float(f"{rate:.4g}")]))

            regimes.bisect(is_below, rates[next_ - 1], rates[next_], NARROWING)

    train(config.rates)
    narrow(lambda t: t.status == "fitted", config.rates)
    narrow(lambda t: t.status not in FAILED, config.rates)
    return sorted(done.values(), key=lambda t: (t.recipe.rate, t.seed))


def _second_rates(endings: Sequence[Ending], rates: Sequence[float]) -> tuple[float, float] | None:
    """Return the smallest and the largest of the rates at which every seed fits; None unless there are two."""
    fitting = [r for r in rates if all(e.status == "fitted" for e in endings if e.rate == r)]
    return (fitting[0], fitting[-1]) if len(fitting) > 1 else None


def _seconds(config: TrainConfig, setup: Setup, trials: Sequence[Trial], rates: tuple[float, float]) -> list[Start]:
    """Return second phases of the first seed: around the threshold, and at the smallest rate."""
    first = [t for t in trials if t.seed == SECOND_SEED and t.stored]
    fitted = [t for t in first if t.status == "fitted"]
    beyond = [t for t in first if t.status == "unfitted" and t.recipe.rate > rates[1]]
    chosen = {t.name: t for t in [*fitted[:1], *fitted[-SECOND_RATES:], *beyond[:SECOND_RATES]]}
    return [
        Start(
            t.recipe,
            t.seed,
            1 if t.status == "fitted" else 2,
            setup.folder(t.name) / "weights.safetensors",
            rates,
            config.max_steps,
        )
        for t in chosen.values()
    ]


def _thresholds(
    config: TrainConfig,
    results: Results,
    rows: Sequence[MapTrial],
    endings: Sequence[Ending],
) -> tuple[list[Threshold], list[SecondPhase], list[float]]:
    """Return the thresholds, the second phases with what keeps them out of 2A, and the rates of 2A."""
    best = thresholds.best_converged(rows, SECOND_SEED)
    split, band = thresholds.split(results.second, best, config.max_steps)
    judged = [
        r.model_copy(update={"fault": regimes.fault(r, best) if r.regime == 2 and best is not None else None})
        for r in results.second
    ]
    found = [
        thresholds.critical(results.flows),
        thresholds.sharpness_break(rows, config.max_steps),
        thresholds.convergence(endings, config.max_steps),
        split,
        thresholds.divergence(endings, config.max_steps),
    ]
    return found, judged, band


def _map_trial(setup: Setup, trial: Trial, measured: Measured | None) -> MapTrial:
    numbers = dict(measured.numbers) if measured else {}
    if trial.status == "fitted":
        numbers["steps_to_fit"] = float(trial.steps)
    return MapTrial(
        name=trial.name,
        rate=trial.recipe.rate,
        seed=trial.seed,
        status=trial.status,
        steps=trial.steps,
        train_loss=trial.train_loss,
        numbers=numbers,
        moments=moments.read(setup.folder(trial.name)),
        missing=measured.missing if measured else {},
    )


def _given_trial(config: TrainConfig, checkpoint: Checkpoint, measured: Measured) -> MapTrial:
    loss = measured.numbers.get("train_loss")
    return MapTrial(
        name=checkpoint.name,
        rate=checkpoint.rate,
        seed=checkpoint.seed,
        status="fitted" if loss is not None and loss <= config.stop_loss else "unfitted",
        steps=None,
        train_loss=loss,
        numbers=measured.numbers,
        moments=[],
        missing=measured.missing,
    )


def _about(config: TrainConfig, setup: Setup) -> dict[str, Any]:
    return {
        "data": setup.images.info.name,
        "attributes": list(setup.images.info.attributes),
        "architecture": setup.architecture,
        "recipe": recipe_of(config),
        "batch_size": config.batch_size,
        "stop_loss": config.stop_loss,
        "max_steps": config.max_steps,
        "report_split": report_split(setup.images),
    }


def _notes(images: Images, second_rates: tuple[float, float] | None) -> list[str]:
    found = []
    if not images.info.attributes:
        found.append("These images have no bias attribute: there is no aligned, conflicting or worst group to report.")
    if report_split(images) == "validation":
        found.append("There is no test split: accuracies are those of validation.")
    if second_rates is None:
        found.append("No second phase was run: it needs two rates at which every seed fits.")
    return found


def _drop_networks(setup: Setup, trials: Sequence[Trial]) -> None:
    """Leave curves and numbers of the trials: a map keeps no networks, those are what `bigstep train` is for."""
    for trial in trials:
        for path in setup.folder(trial.name).iterdir():
            if path.suffix in (".npy", ".safetensors"):
                path.unlink()

"""The work on a map that is left when the trials are over, done side by side: flows, second phases, measurements."""

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from bigstep import pool
from bigstep.config import TrainConfig
from bigstep.errors import BigstepError
from bigstep.records.rate_map import FlowResult, SecondPhase
from bigstep.records.sealed import WORK, Value, write_json
from train.measure import gradient_flow
from train.measure.sharpness import Lanczos
from train.networks.predict import one_thread
from train.rate_map.numbers import Measured, Network, curvature_images, measure_network
from train.rate_map.second_phase import Start, second_phase
from train.setup import Setup

log = logging.getLogger("bigstep.lr-map")
FLOW_TRAININGS = 20  # trainings' worth of images that one flow may see
FLOW_STEPS = 1000  # the most of one


@dataclass(frozen=True)
class FlowStart:
    """A request for the critical rate from the initial weights of a seed, for steps with some momentum."""

    seed: int
    momentum: float
    max_steps: int


Task = Network | Start | FlowStart
Found = Measured | SecondPhase | FlowResult
V = TypeVar("V", bound=Value)


@dataclass
class Results:
    """What the tasks found: networks by name, the rest in the order of seeds and rates."""

    measured: dict[str, Measured] = field(default_factory=dict)
    flows: list[FlowResult] = field(default_factory=list)
    second: list[SecondPhase] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def work_through(setup: Setup, tasks: Sequence[Task]) -> Results:
    """Do every task, logging each as it ends; what an earlier run finished is taken from the disk."""
    found, most = Results(), None if setup.device == "cpu" else 1
    for done, (title, result) in enumerate(pool.run(setup, tasks, do, most=most), start=1):
        log.info(
            "%s %s",
            title,
            "failed" if isinstance(result, str) else "done",
            extra={"done": done, "total": len(tasks)},
        )
        if isinstance(result, Measured):
            found.measured[result.name] = result
        elif isinstance(result, FlowResult):
            found.flows.append(result)
        elif isinstance(result, SecondPhase):
            found.second.append(result)
        else:
            found.failed.append(f"The {title} failed: {result}.")
    found.flows.sort(key=lambda flow: flow.seed)
    found.second.sort(key=lambda row: row.rate)
    found.failed.sort()
    return found


def do(setup: Setup, task: Task) -> tuple[str, Found | str]:
    """Do one task, and return its title with what it found, or why it failed: a map is not lost to one of them."""
    title = _title(task)
    try:
        with one_thread(), np.errstate(invalid="ignore", over="ignore"):  # outputs of huge weights overflow
            return title, _find(setup, task)
    except BigstepError as error:
        return title, f"{error.what}, {error.got}" if error.got else error.what
    except (RuntimeError, ValueError, ArithmeticError) as error:
        log.warning("%s failed: %s", title, error)
        return title, f"{type(error).__name__}, {str(error).partition(chr(10))[0]}"


def flow_steps(config: TrainConfig, images: int) -> int:
    """Return the steps of a flow, of four gradients each, that see as many images as FLOW_TRAININGS trainings."""
    seen = FLOW_TRAININGS * config.max_steps * config.batch_size
    return max(1, min(FLOW_STEPS, seen // (4 * images)))


def _find(setup: Setup, task: Task) -> Found:
    if isinstance(task, Network):
        file = setup.folder(task.name) / "numbers.json"
        return kept(setup, file, Measured, lambda: measure_network(setup, task))
    if isinstance(task, Start):
        file = setup.out / "second" / f"{task.recipe.rate:g}-s{task.seed}.json"
        return kept(setup, file, SecondPhase, lambda: second_phase(setup, task))
    return kept(setup, setup.out / "flows" / f"s{task.seed}.json", FlowResult, lambda: _flow(setup, task))


def kept(setup: Setup, file: Path, kind: type[V], find: Callable[[], V]) -> V:
    """Return what an earlier run left in a file, or find it and leave it there; another may do so at the same time."""
    if file.is_file():
        return kind.model_validate_json(file.read_bytes())
    found = find()
    mine = setup.out / WORK / f".{secrets.token_hex(8)}.json"
    for folder in (mine.parent, file.parent):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(mine, found.model_dump(mode="json"))
    mine.replace(file)
    return found


def _flow(setup: Setup, start: FlowStart) -> FlowResult:
    flow = gradient_flow.Flow(setup.stop_loss, start.max_steps, lanczos=Lanczos(tolerance=1e-2))
    found = gradient_flow.critical_rate(setup.network(start.seed), *curvature_images(setup), flow)
    return FlowResult(
        seed=start.seed,
        rate=None if found.rate is None else found.rate * (1 + start.momentum),  # see `sharpness.plain_rate`
        max_sharpness=found.max_sharpness,
        reached=found.reached,
        steps=found.steps,
        loss=found.path[-1].loss,
    )


def _title(task: Task) -> str:
    if isinstance(task, FlowStart):
        return f"gradient flow of seed {task.seed}"
    return f"measurement of {task.name}" if isinstance(task, Network) else f"second phase of {task.recipe.rate:g}"

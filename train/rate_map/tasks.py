"""The work on a map that is left when the trials are over, done side by side: flows, second phases, measurements."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from bigstep import pool
from bigstep.config import TrainConfig
from bigstep.errors import BigstepError
from bigstep.records.rate_map import FlowResult, SecondPhase
from bigstep.records.sealed import write_json
from train.measure import gradient_flow
from train.measure.sharpness import Lanczos
from train.networks import pretrained
from train.networks.build import build, place
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


@dataclass(frozen=True)
class Failed:
    """Which task failed and why: a map is not lost to one of them."""

    title: str
    why: str


Task = Network | Start | FlowStart


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
            "failed" if isinstance(result, Failed) else "done",
            extra={"done": done, "total": len(tasks)},
        )
        if isinstance(result, Measured):
            found.measured[result.name] = result
        elif isinstance(result, FlowResult):
            found.flows.append(result)
        elif isinstance(result, SecondPhase):
            found.second.append(result)
        else:
            found.failed.append(f"The {result.title} failed: {result.why}.")
    found.flows.sort(key=lambda flow: flow.seed)
    found.second.sort(key=lambda row: row.rate)
    found.failed.sort()
    return found


def do(setup: Setup, task: Task) -> tuple[str, Measured | SecondPhase | FlowResult | Failed]:
    """Do one task, and return its title with what it found."""
    title = _title(task)
    try:
        with one_thread():
            if isinstance(task, Network):
                return title, measure_network(setup, task)
            return title, second_phase(setup, task) if isinstance(task, Start) else _flow(setup, task)
    except BigstepError as error:
        return title, Failed(title, f"{error.what}, {error.got}" if error.got else error.what)
    except (RuntimeError, ValueError, ArithmeticError) as error:
        log.warning("%s failed: %s", title, error)
        return title, Failed(title, f"{type(error).__name__}, {str(error).partition(chr(10))[0]}")


def flow_steps(config: TrainConfig, images: int) -> int:
    """Return the steps of a flow, of four gradients each, that see as many images as FLOW_TRAININGS trainings."""
    seen = FLOW_TRAININGS * config.max_steps * config.batch_size
    return max(1, min(FLOW_STEPS, seen // (4 * images)))


def _flow(setup: Setup, start: FlowStart) -> FlowResult:
    file = setup.out / "flows" / f"s{start.seed}.json"
    if file.is_file():
        return FlowResult.model_validate_json(file.read_bytes())
    model = build(setup.architecture, start.seed)
    if setup.pretrained is not None:
        pretrained.start_from(model, setup.pretrained)
    flow = gradient_flow.Flow(setup.stop_loss, start.max_steps, lanczos=Lanczos(tolerance=1e-2))
    found = gradient_flow.critical_rate(place(model, setup.device), *curvature_images(setup), flow)
    result = FlowResult(
        seed=start.seed,
        rate=found.rate * (1 + start.momentum),  # see `plain_rate`
        max_sharpness=found.max_sharpness,
        reached=found.reached,
        steps=found.steps,
        loss=found.path[-1].loss,
    )
    file.parent.mkdir(exist_ok=True)
    write_json(file.with_suffix(".tmp"), result.model_dump(mode="json"))
    file.with_suffix(".tmp").replace(file)
    return result


def _title(task: Task) -> str:
    if isinstance(task, FlowStart):
        return f"gradient flow of seed {task.seed}"
    return f"measurement of {task.name}" if isinstance(task, Network) else f"second phase of {task.recipe.rate:g}"

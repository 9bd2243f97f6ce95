"""A user's own network goes the whole road before it is trained: a few images, one rate, every later stage.

What would end a run after hours of training ends it here, within seconds. The doors are those that the run itself goes
through, on the same device; only how much there is of everything differs.
"""

import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from bigstep.config import Config
from bigstep.errors import BigstepError, TrainError
from bigstep.records.compact import Compact
from bigstep.records.exported import Exported
from bigstep.records.images import SPLIT_FIELDS, Images, Split, SplitName
from bigstep.records.sealed import Record
from pipeline.stages import COMPRESS, DATA, EXPORT, TRAIN, Stage

SPLITS: tuple[SplitName, ...] = ("train", "validation_biased", "validation")
IMAGES = 32  # of each split
RATE = 1e-3  # at which whatever can be trained at all does not diverge within an epoch
LATER = "without this trial it would have failed after the whole training"
R = TypeVar("R", bound=Record[Any])


class Enter(Protocol):
    """What goes through the door of a stage as a run does."""

    def __call__(self, stage: Stage[R], config: Config, inputs: Sequence[Any], out: Path) -> R:
        """Return the record that a stage makes of records in an empty folder."""


def rehearse(config: Config, images: Images, enter: Enter, folder: Path) -> None:
    """Train a user's network for an epoch, prune, fine-tune for a step, quantise, export, compare; nothing is kept.

    Args:
        config: that of the run.
        images: a few are taken of each split.
        enter: goes through a door, on the device of the run.
        folder: a place for what is made; it is emptied and in the end removed.

    Raises:
        BigstepError: the network, the settings or the images cannot be used; what fails later than in training is a
            TrainError with the stage and the cause.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with _quiet():
            _go(_shortened(config), images, enter, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _go(config: Config, images: Images, enter: Enter, folder: Path) -> None:
    def go(stage: Stage[R], *inputs: Record[Any]) -> R:
        return _entered(enter, stage, config, inputs, _made(folder / stage.name))

    few = _few(images, _made(folder / DATA.name))
    trained = go(TRAIN, few)
    compact = go(COMPRESS, few, trained)
    _check_compact(config.train.network, compact)
    _check_exported(config.train.network, go(EXPORT, few, trained, compact))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _entered(enter: Enter, stage: Stage[R], config: Config, inputs: Sequence[Any], out: Path) -> R:
    """Run a stage; what is wrong with the disk or the machine is not a fault of the network."""
    try:
        return enter(stage, config, inputs, out)
    except OSError:
        raise
    except BigstepError as error:
        if stage is TRAIN:  # it says what to mend
            raise
        got = "; ".join([error.what, *(f"{text}" for text in error.details.values())])
        raise _failed(config.train.network, stage.name, got) from error
    except Exception as error:  # whatever the user's code makes ours raise
        raise _failed(config.train.network, stage.name, f"{type(error).__name__}: {error}") from error


def _check_compact(network: str, compact: Compact) -> None:
    for candidate in compact.info.frontier:
        if not candidate.drops:
            raise _failed(network, COMPRESS.name, f"{candidate.step}: {candidate.why}")


def _check_exported(network: str, exported: Exported) -> None:
    """Refuse a network that its file does not compute; how well INT8 agrees is for a trained network to show."""
    for rung in exported.info.ladder:
        agrees = rung.measured is not None and rung.measured <= rung.limit
        if rung.measure == "max_abs_difference" and not agrees:
            apart = "numbers that are not finite" if rung.measured is None else f"up to {rung.measured:.3g} apart"
            got = f"{rung.network}: logits of {rung.name} are {apart}, more than {rung.limit:g}"
            raise _failed(network, EXPORT.name, got)


def _failed(network: str, stage: str, got: str) -> TrainError:
    return TrainError(
        f"{network} fails in the stage {stage}",
        got=got,
        expected=f"a network that goes the whole road; {LATER}",
        do="mend the network; docs/networks.md says what it may do",
    )


def _shortened(config: Config) -> Config:
    """Return the settings with as little of everything as shows whether it works; every run counts as fitted."""
    train: dict[str, Any] = {"num_rates": 1, "num_seeds": 1, "min_rate": RATE, "max_rate": RATE, "warmup_steps": 0}
    train |= {"finish": "none", "finish_rate": None, "stop_loss": sys.float_info.max, "baselines": False}
    train |= {"max_steps": IMAGES, "baseline_max_steps": IMAGES}
    shares = config.compress.keep_fractions
    compress: dict[str, Any] = {"keep_fractions": tuple(dict.fromkeys((*shares[:1], *shares[-1:]))), "margin": 1.0}
    compress |= {"fine_tune_steps": min(1, config.compress.fine_tune_steps), "calibration_images": IMAGES}
    return config.model_copy(
        update={
            "train": config.train.model_copy(update=train),
            "compress": config.compress.model_copy(update=compress),
            "export": config.export.model_copy(update={"max_batch": min(IMAGES, config.export.max_batch)}),
        }
    )


def _few(images: Images, folder: Path) -> Images:
    """Seal a few images of each split as a record of their own."""
    counts = {}
    for name in SPLITS:
        split = images.split(name)
        chosen = spread(split)
        counts[name] = len(chosen)
        for field in SPLIT_FIELDS:
            np.save(folder / f"{name}.{field}.npy", np.array(getattr(split, field)[chosen]), allow_pickle=False)
    return Images.seal(folder, images.info.model_copy(update={"counts": counts}))


def spread(split: Split) -> NDArray[np.int64]:
    """Return the places of IMAGES images or fewer: one of each label, aligned and conflicting, before a second one."""
    cells_N = 2 * np.asarray(split.labels) + (0 if split.aligned is None else split.aligned)
    order_N = np.argsort(cells_N, kind="stable")
    starts_N = np.searchsorted(cells_N[order_N], cells_N[order_N])
    turn_N = np.empty(len(cells_N), dtype=np.int64)
    turn_N[order_N] = np.arange(len(cells_N)) - starts_N
    return np.sort(np.argsort(turn_N, kind="stable")[:IMAGES])


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the stages log: it is about a training that nobody asked for."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)

"""The search: quantise, then remove units step by step, and take back every step that costs a group too much."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bigstep.config import CompressConfig
from bigstep.records.architecture import Architecture
from bigstep.records.compact import Candidate, CompactModel, GroupDrop, Quantisation
from bigstep.records.exported import Contract, Rung
from bigstep.records.images import Images
from bigstep.records.sealed import sha256
from bigstep.records.trained import FAILED, Augmentation, Recipe
from bigstep.records.verdict import Check
from bigstep.rules import Demands
from compress.judge import Judge
from compress.prune import prune, scaled_widths
from export import graph, ladder
from serve.predictor import Predictor
from train import finish, step
from train.finish import Finish
from train.networks.feed import inputs
from train.networks.predict import predict_pixels

log = logging.getLogger("bigstep.compress")


@dataclass(frozen=True)
class Network:
    """A network on its way down, with what it was trained and is fine-tuned by, and whether it fitted all the way."""

    model: nn.Module
    architecture: Architecture
    recipe: Recipe
    seed: int
    finish: Finish = field(default_factory=Finish)
    fitted: bool = True


@dataclass(frozen=True)
class Workshop:
    """What every step needs: settings, images, device, and a folder for the files that are judged.

    `demands` is what the gate will ask of the file that ships.
    """

    config: CompressConfig
    demands: Demands
    images: Images
    contract: Contract
    device: str
    folder: Path
    batch_size: int
    stop_loss: float
    augmentation: Augmentation = "none"

    def write(self, network: Network, file: str, *, int8: bool, name: str = "compact") -> tuple[Path, CompactModel]:
        """Write the file that would ship this network, and describe it with the numbers that make it again.

        Args:
            file: what the file is called, without its precision.
            name: what the network is called.
        """
        path, quantisation = self.folder / f"{file}.fp32.onnx", None
        graph.write_float32(network.model, network.architecture, self.contract, path)
        if int8:
            float32, path = path, self.folder / f"{file}.int8.onnx"
            calibration = self.images.split("train").images[: self.config.calibration_images]
            ranges = graph.calibrate(float32, self.contract, calibration)
            quantisation = Quantisation(ranges=ranges, float_nodes=[], reduce_range=self.config.target_cpu == "generic")
            graph.write_int8(float32, quantisation, path)
        return path, CompactModel(
            name=name,
            architecture=network.architecture,
            fitted=network.fitted,
            quantisation=quantisation,
            sha256=sha256(path),
            bytes=path.stat().st_size,
        )

    def ladder(self, network: Network, file: str, *, int8: bool) -> list[Rung]:
        """Return how well the forms of a network that were written under a name agree, as `export` will find."""
        forms = ["fp32", "int8"] if int8 else ["fp32"]
        predictors = [Predictor.open(self.folder / f"{file}.{form}.onnx", self.contract) for form in forms]
        reference = partial(predict_pixels, network.model, network.architecture)
        return ladder.climb(
            self.demands.export, "the candidate", reference, predictors, self.images.split("validation").images
        )

    def shrink(self, network: Network, widths: dict[str, int]) -> Network | None:
        """Prune to the given widths and fine-tune as the network was trained; None if that diverges or collapses.

        That is by its own recipe, on images that are augmented alike, and with its second phase in the last quarter of
        the steps if it has not fitted by then.
        """
        model, architecture = prune(network.model, network.architecture, widths)
        if self.config.fine_tune_steps == 0:
            return replace(network, model=model.eval(), architecture=architecture)
        split = self.images.split("train")
        x_NCHW = inputs(split.images, architecture, self.device)
        y_N = torch.from_numpy(np.array(split.labels)).to(self.device)
        steps = self.config.fine_tune_steps
        plan = step.Plan(network.recipe, self.batch_size, self.stop_loss, steps, network.seed, self.augmentation)
        begun = step.start(model.to(self.device), network.recipe)
        run = finish.fit(begun, x_NCHW, y_N, plan, replace(network.finish, whole_steps=steps))
        if run.status in FAILED:
            return None
        fitted = network.fitted and run.status == "fitted"
        return replace(network, model=run.model.cpu().eval(), architecture=architecture, fitted=fitted)


@dataclass(frozen=True)
class Shipped:
    """A network as its file would ship it."""

    network: Network
    model: CompactModel


def search(shop: Workshop, dense: Network) -> tuple[Shipped, list[Candidate]]:
    """Search for the smallest file that passes what the gate will ask, every group within the margin of the dense file.

    The first step quantises; each further one prunes to the next share of the dense widths, fine-tunes and quantises.
    Where INT8 costs too much, or saves nothing, the step is tried in float32. A step that fails in both is taken back,
    and the next, smaller share starts again from the last network that was kept. What is not decided is not kept.

    Returns:
        The network to ship (the dense one if no step is kept), and every step with its verdict on `validation`.
    """
    path, model = shop.write(dense, "dense", int8=False)
    judge = Judge(shop.demands.verify, shop.images, shop.contract, path)
    best = Shipped(dense, model)
    candidates: list[Candidate] = []
    shares = shop.config.keep_fractions if dense.architecture.widths else ()  # some networks cannot be pruned
    total = 1 + len(shares)
    for done, fraction in enumerate((1.0, *shares), start=1):
        step_name = "all units" if fraction == 1.0 else f"{100 * fraction:g}% of the units"
        widths = scaled_widths(dense.architecture, fraction)
        network = dense if fraction == 1.0 else shop.shrink(best.network, widths)
        tried = _try(shop, judge, network, step_name, best.model.bytes) if network else []
        candidates += [candidate for _, candidate in tried] or [_spoilt(step_name, widths)]
        log.info("%s: %s", step_name, candidates[-1].why, extra={"done": done, "total": total})
        if candidates[-1].kept:
            best = tried[-1][0]
    return best, candidates


def _try(
    shop: Workshop, judge: Judge, network: Network, step_name: str, smallest: int
) -> list[tuple[Shipped, Candidate]]:
    """Judge a network as INT8 and, where that is not kept, as float32; the last entry is the one that counts."""
    tried = []
    for int8 in (True, False):
        path, model = shop.write(network, "candidate", int8=int8)
        checks, drops = judge.judge(path, shop.ladder(network, "candidate", int8=int8))
        kept, why = decide(checks, drops, model.bytes, smallest)
        candidate = Candidate(
            step=f"{step_name}, {'INT8' if int8 else 'float32'}",
            widths=network.architecture.widths,
            bytes=model.bytes,
            sha256=model.sha256,
            drops=drops,
            kept=kept,
            why=why,
        )
        tried.append((Shipped(network, model), candidate))
        if kept:
            break
    return tried


def _spoilt(step_name: str, widths: dict[str, int]) -> Candidate:
    why = "taken back: fine-tuning diverged or collapsed"
    return Candidate(step=step_name, widths=widths, bytes=None, sha256=None, drops=[], kept=False, why=why)


def decide(checks: Sequence[Check], drops: Sequence[GroupDrop], size: int, smallest: int) -> tuple[bool, str]:
    """Say whether a file is kept, and why: it passes every check, and is smaller than what was kept before.

    Args:
        checks: what the gate will ask of the file, asked of it on the validation images.
        drops: of each group.
        size, smallest: bytes of the file, and of the last that was kept.
    """
    against = next((check for check in checks if check.outcome != "passed"), None)
    if against is not None:
        return False, f"taken back: {against.says}"
    if size >= smallest:
        return False, f"taken back: no smaller ({size} bytes, {smallest} before)"
    worst = max(drops, key=lambda d: d.high)
    may = f"may drop by up to {100 * worst.high:.1f}" if worst.high >= 0 else f"gains at least {-100 * worst.high:.1f}"
    return True, f"kept: {worst.group} {may} points, {size} bytes"

"""The search: quantise, then remove units step by step, and take back every step that costs a group too much."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bigstep.config import CompressConfig
from bigstep.records.architecture import Architecture
from bigstep.records.compact import Candidate, CompactModel, GroupDrop, Quantisation
from bigstep.records.exported import Contract
from bigstep.records.images import Images
from bigstep.records.sealed import sha256
from bigstep.records.trained import Recipe
from compress.judge import Judge
from compress.prune import prune, scaled_widths
from export import graph
from train import step
from train.networks.feed import inputs

log = logging.getLogger("bigstep.compress")


@dataclass(frozen=True)
class Network:
    """A network on its way down, with the recipe it is fine-tuned by, and whether it fitted all the way."""

    model: nn.Module
    architecture: Architecture
    recipe: Recipe
    seed: int
    fitted: bool = True


@dataclass(frozen=True)
class Workshop:
    """What every step needs: settings, images, device, and a folder for the files that are judged."""

    config: CompressConfig
    images: Images
    contract: Contract
    device: str
    folder: Path
    batch_size: int
    stop_loss: float

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

    def shrink(self, network: Network, widths: dict[str, int]) -> Network | None:
        """Prune to the given widths and fine-tune by the network's own recipe; None if that diverges or collapses."""
        model, architecture = prune(network.model, network.architecture, widths)
        if self.config.fine_tune_steps == 0:
            return replace(network, model=model.eval(), architecture=architecture)
        split = self.images.split("train")
        x_NCHW = inputs(split.images, architecture, self.device)
        y_N = torch.from_numpy(np.array(split.labels)).to(self.device)
        plan = step.Plan(network.recipe, self.batch_size, self.stop_loss, self.config.fine_tune_steps, network.seed)
        run = step.fit(step.start(model.to(self.device), network.recipe), x_NCHW, y_N, plan)
        if run.status in ("diverged", "collapsed"):
            return None
        fitted = network.fitted and run.status == "fitted"
        return replace(network, model=model.cpu().eval(), architecture=architecture, fitted=fitted)


@dataclass(frozen=True)
class Shipped:
    """A network as its file would ship it."""

    network: Network
    model: CompactModel


def search(shop: Workshop, dense: Network) -> tuple[Shipped, list[Candidate]]:
    """Search for the smallest file whose every group stays within the margin of the dense float32 file.

    The first step quantises; each further one prunes to the next share of the dense widths, fine-tunes and quantises.
    Where INT8 costs too much, or saves nothing, the step is tried in float32. A step that fails in both is taken back,
    and the next, smaller share starts again from the last network that was kept.

    Returns:
        The network to ship (the dense one if no step is kept), and every step with its verdict on `validation`.
    """
    path, model = shop.write(dense, "dense", int8=False)
    judge = Judge(shop.images.split("validation"), shop.contract, path)
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
        drops = judge.drops(path)
        kept, why = _decide(drops, shop.config.margin, model.bytes, smallest)
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


def _decide(drops: list[GroupDrop], margin: float, size: int, smallest: int) -> tuple[bool, str]:
    if not drops:
        return False, "taken back: its logits are not finite"
    worst = max(drops, key=lambda d: d.high)
    may = f"may drop by up to {100 * worst.high:.1f}" if worst.high >= 0 else f"gains at least {-100 * worst.high:.1f}"
    bound = f"{worst.group} {may} points"
    if not worst.high <= margin:
        return False, f"taken back: {bound}, more than {100 * margin:.1f}"
    if size >= smallest:
        return False, f"taken back: no smaller ({size} bytes, {smallest} before)"
    return True, f"kept: {bound}, {size} bytes"

"""From a configuration and images to what the trials share: the network, its normalisation, the stopping rule."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigstep.config import TrainConfig
from bigstep.errors import ConfigError
from bigstep.records.architecture import Architecture
from bigstep.records.images import Images
from bigstep.records.trained import Recipe
from train import step
from train.finish import Finish
from train.measure.activations import outputs
from train.networks import own, pretrained
from train.networks.build import build, describe, normalise
from train.setup import Setup

log = logging.getLogger("bigstep.train")
PIXEL_CHUNK = 1024  # images
USUAL_WIDTHS = {"mlp": ("hidden", (256, 256, 256)), "cnn": ("conv", (32, 64, 128))}  # by family: names, sizes


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
        observe_steps=config.observe_steps,
        finish=Finish(config.finish, config.finish_rate or config.min_rate, config.max_steps),
    )


def _has_both_groups(images: Images) -> bool:
    aligned_N = images.split("validation").aligned
    return aligned_N is not None and bool(aligned_N.any()) and not bool(aligned_N.all())


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

"""Corrupted CIFAR-10: each picture has a corruption that gives its label away in training.

Source: Nam et al. 2020, "Learning from Failure", arXiv:2007.02561, section 4, and their make_dataset.py: corruptions,
their order and the label rule are theirs. The corruptions are re-implemented (see data/corruptions.py), from the seed;
the hold-out of 5,000 is ours. (Lee et al. 2021, DFA, call a set with other corruptions by the same name.)
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigstep.config import DataConfig
from bigstep.errors import DataError
from bigstep.records.images import SplitName
from data.bias.corruptions import corrupt
from data.bias.milestones import evenly, milestones
from data.files.built import Built, Part
from data.files.sources import source_folder
from data.sets import cifar

log = logging.getLogger("bigstep.data.corruptions")
CLASSES = 10
TEST_ALIGNED = 0.1  # every corruption equally often: the test corruptions say nothing about the picture
SEVERITIES = 4
UNTOUCHED = "original"
VARIANTS = {  # the corruption of each class, in the order of the classes
    "type0": (
        *("snow", "frost", "fog", "brightness", "contrast"),
        *("spatter", "elastic_transform", "jpeg_compression", "pixelate", "saturate"),
    ),
    "type1": (
        *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "gaussian_blur"),
        *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", UNTOUCHED),
    ),
}


def files(config: DataConfig) -> list[Path]:
    """Return the source files; a DataError names what is missing."""
    return cifar.files(config.model_copy(update={"kind": "cifar10"}))


def build(config: DataConfig) -> Built:
    """Corrupt CIFAR-10: training by LfF's rule with the share `config.conflicting`, test with its share of nine tenths.

    The rule runs over all 50,000 pictures in their order (250 / 500 / 1,000 / 2,500 conflicting at 0.5 / 1 / 2 / 5 %).
    Then 5,000, stratified by label and the same at every share and severity, leave training and are corrupted twice:
    as the rule has it (`validation_biased`) and, drawn anew, by every corruption equally often (`validation`).
    `config.severity`, 1 to 4, is named as LfF does: it stands for the level of CIFAR-10-C above it, 2 to 5.
    ids and sources are places in the files; test pictures are counted on from the last one of train.

    Raises:
        DataError: no such variant or severity, or the files of CIFAR-10 are missing or damaged.
    """
    variant = config.variant or "type0"
    if variant not in VARIANTS:
        raise DataError(
            "corrupted-cifar10 has no such variant", got=variant, expected=" or ".join(VARIANTS), do="set data.variant"
        )
    if config.severity > SEVERITIES:
        raise DataError(
            "corrupted-cifar10 has no such severity", got=config.severity, expected="1 to 4", do="set data.severity"
        )
    source = cifar.read(source_folder(config), cifar.RELEASES["cifar10"])
    rng = np.random.default_rng(config.seed)
    labels, test_labels = source.train.labels, source.test.labels
    held = cifar.held_out(labels, rng)
    recipe = milestones(labels, CLASSES, 1 - config.conflicting)
    unbiased = milestones(test_labels, CLASSES, TEST_ALIGNED)
    # In the order of the files the first pictures of every label have the first corruption; who takes the first images
    # of a split for a sample (a contact sheet, the ranges of INT8) would see no other, so that every split is shuffled.
    rest, again = (rng.permutation(np.flatnonzero(which)) for which in (~held, held))
    test = rng.permutation(len(test_labels))
    chosen: dict[SplitName, tuple[cifar.Numbers, cifar.Numbers]] = {  # places in the files, and corruptions
        "train": (rest, recipe[rest]),
        "validation_biased": (again, recipe[again]),
        "validation": (again, evenly(labels[again], CLASSES, rng)),
        "test": (len(labels) + test, unbiased[test]),
    }
    places, bias = (np.concatenate(some) for some in zip(*chosen.values(), strict=True))
    pictures = np.concatenate([source.train.images, source.test.images])
    labels = np.concatenate([labels, test_labels])
    images = _corrupted(pictures[places], bias, VARIANTS[variant], config.severity + 1, rng)
    ends = np.cumsum([len(where) for where, _ in chosen.values()])
    return Built(
        name=f"Corrupted {source.name} {variant}, severity {config.severity}",
        labels=list(cifar.CIFAR10),
        attributes={"corruption": list(VARIANTS[variant])},
        input=cifar.SPEC,
        parts={
            name: Part(own, labels[where], value[:, None], ids=where, sources=where)
            for (name, (where, value)), own in zip(chosen.items(), np.split(images, ends[:-1]), strict=True)
        },
        findings=source.findings,
    )


def _corrupted(
    images_NHWC: NDArray[np.uint8], bias_N: cifar.Numbers, names: tuple[str, ...], level: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Corrupt each image by the corruption that its bias value names, one corruption after the other."""
    for value, name in enumerate(names):
        chosen = bias_N == value
        if name != UNTOUCHED:
            images_NHWC[chosen] = corrupt(images_NHWC[chosen], name, level, rng)
        log.info("%s", name, extra={"done": value + 1, "total": len(names)})
    return images_NHWC

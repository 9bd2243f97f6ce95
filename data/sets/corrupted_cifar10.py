"""Corrupted CIFAR-10: each picture has a corruption that gives its label away in training.

Source: Nam et al. 2020, "Learning from Failure", arXiv:2007.02561, section 4, and their make_dataset.py: corruptions,
their order and the label rule are theirs. The corruptions are re-implemented (data/bias/corruptions.py), from the seed;
the hold-out of 5,000 is ours. (Lee et al. 2021, DFA, call a set with other corruptions by the same name.)
"""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigstep.config import DataConfig
from bigstep.errors import ConfigError
from data.bias.conflicts import evenly
from data.bias.corruptions import corrupt
from data.bias.milestones import CLASSES, shuffled_splits
from data.files.builder import Built, Part, variant
from data.files.sources import source_folder
from data.sets import cifar
from data.sets.cifar_classes import CIFAR10

log = logging.getLogger("bigstep.data.corruptions")
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
files = cifar.files


def build(config: DataConfig, _work: Path | None = None) -> Built:
    """Corrupt CIFAR-10: training by LfF's rule with the share `config.conflicting`, test with its share of nine tenths.

    The rule runs over all 50,000 pictures in their order (250 / 500 / 1,000 / 2,500 conflicting at 0.5 / 1 / 2 / 5 %).
    Then 5,000, stratified by label and the same at every share and severity, leave training and are corrupted twice:
    as the rule has it (`validation_biased`) and, drawn anew, by every corruption equally often (`validation`).
    `config.severity`, 1 to 4, is named as LfF does: it stands for the level of CIFAR-10-C above it, 2 to 5.
    ids and sources are places in the files; test pictures are counted on from the last one of train.

    Raises:
        ConfigError: no such variant or severity.
        DataError: the files of CIFAR-10 are missing or damaged.
    """
    kind, names = variant(config, VARIANTS)
    if config.severity > SEVERITIES:
        raise ConfigError(
            "corrupted-cifar10 has no such severity", got=config.severity, expected="1 to 4", do="set data.severity"
        )
    source = cifar.read(source_folder(config), cifar.LAYOUTS["cifar10"])
    rng = np.random.default_rng(config.seed)
    pictures, labels = source.both()
    places, rule = shuffled_splits(source, len(source.train.labels) // cifar.HELD_OUT_OF, config.conflicting, rng)
    bias = {name: evenly(labels[at], CLASSES, rng) if name == "validation" else rule[at] for name, at in places.items()}
    every, value = (np.concatenate(list(some.values())) for some in (places, bias))
    images = _corrupted(pictures[every], value, names, config.severity + 1, rng)
    ends = np.cumsum([len(at) for at in places.values()])
    return Built(
        name=f"Corrupted {source.name} {kind}, severity {config.severity}",
        labels=list(CIFAR10),
        attributes={"corruption": list(names)},
        input=cifar.SPEC,
        parts={
            name: Part.at(at, own, labels[at], bias[name][:, None])
            for (name, at), own in zip(places.items(), np.split(images, ends[:-1]), strict=True)
        },
        findings=source.findings,
    )


def _corrupted(
    images_NHWC: NDArray[np.uint8],
    bias_N: NDArray[np.int64],
    names: tuple[str, ...],
    level: int,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Corrupt each image by the corruption that its bias value names, one corruption after the other."""
    for value, name in enumerate(names):
        chosen = bias_N == value
        if name != UNTOUCHED:
            images_NHWC[chosen] = corrupt(images_NHWC[chosen], name, level, rng)
        log.info("%s", name, extra={"done": value + 1, "total": len(names)})
    return images_NHWC

"""ImageNet, or any set of photographs in its layout: train/<class>/* and val/<class>/*, no bias known.

Russakovsky et al. 2015, arXiv:1409.0575 (ILSVRC 2012). The released test split has no labels, so `val` is our test,
and validation and validation_biased are both drawn from train.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bigstep.config import DataConfig
from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec
from bigstep.records.images import SplitName
from data.files.built import Built
from data.files.released import Entries, differences, existing, find, image_names, in_files
from data.files.sources import source_folder

SIZE_PX = 224  # 1,331,167 photographs take 200 GB then, and 16 GB at 64
CLASSES, TRAIN, VAL = 1000, 1_281_167, 50_000
SHARES: dict[SplitName, int] = {"train": 90, "validation_biased": 5, "validation": 5}  # per cent of `train`
PLACES = ("", "imagenet/", "ILSVRC2012/", "ILSVRC/Data/CLS-LOC/")
DO = (
    "get ILSVRC2012_img_train.tar (138 GB, md5 1d675b47d978889d74fa0da5fadfb00e) and ILSVRC2012_img_val.tar (6.3 GB, "
    "md5 29b22e2961454d5413ddabcf34fc5622) from https://image-net.org, and unpack them there into one folder per class"
)


def files(config: DataConfig) -> list[Path]:
    """Return every image; a DataError names what is missing."""
    root, _, train, test = release(config)
    return list(existing(root, [*train.files, *test.files]))


def build(config: DataConfig, work: Path | None = None) -> Built:
    """Read `train` and `val`, with twice 5 % of every class of train as `validation` and `validation_biased`."""
    root, classes, train, test = release(config)
    size_px = config.size_px or SIZE_PX
    spec = InputSpec(height_px=size_px, width_px=size_px, fit=config.fit)
    findings = differences("labels", [len(classes)], [CLASSES], "classes")
    findings += differences("train", [len(train.labels)], [TRAIN], "images")
    findings += differences("val", [len(test.labels)], [VAL], "images")
    splits = train.split(train.labels, SHARES, config.seed) | {"test": test}
    return Built(
        name="ImageNet",
        labels=classes,
        attributes={},
        input=spec,
        parts=in_files(root, splits, spec, work),
        findings=findings,
    )


def release(config: DataConfig) -> tuple[Path, list[str], Entries, Entries]:
    """Return the folder of both, the names of the classes, sorted, and the images of `train` and `val`, sorted by path.

    Raises:
        DataError: a folder is missing, an image of `val` lies in no class folder, or in one that train does not have.
    """
    train = find(source_folder(config), [f"{place}train" for place in PLACES], DO)
    val = find(train.parent, ["val"], DO)
    names = image_names(train)
    classes = sorted({_class(name) for name in names} - {""})
    return (
        train.parent,
        classes,
        _entries(train, names, classes, 0),
        _entries(val, image_names(val), classes, len(names)),
    )


def _class(name: str) -> str:
    """Return the first folder of a path, "" if there is none."""
    return name.rpartition("/")[0].partition("/")[0]


def _entries(folder: Path, names: list[str], classes: list[str], first_id: int) -> Entries:
    codes = {name: code for code, name in enumerate(classes)}
    if strange := [name for name in names if _class(name) not in codes]:
        raise DataError(
            f"{folder} holds images that are in no class of train",
            got=f"{len(strange):,} images, {strange[0]} first",
            expected=f"{folder.name}/<class>/<image>",
            do="move every image into the folder of its class",
        )
    labels = np.array([codes[_class(name)] for name in names], dtype=np.int64)
    no_bias = np.zeros((len(names), 0), dtype=np.int64)
    ids = np.arange(first_id, first_id + len(names))
    return Entries([f"{folder.name}/{name}" for name in names], labels, no_bias, ids)

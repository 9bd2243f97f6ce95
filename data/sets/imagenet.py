"""ImageNet, or any set of photographs in its layout: train/<class>/* and val/<class>/*, no bias known.

Russakovsky et al. 2015, arXiv:1409.0575 (ILSVRC 2012). The released test split has no labels, so `val` is our test,
and validation and validation_biased are both drawn from train.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigstep.config import DataConfig
from bigstep.errors import DataError
from bigstep.records.images import SplitName
from data.files.builder import Built, square
from data.files.released import Release, differences
from data.files.sources import find, image_names, source_folder

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
    return release(config)[0].source_files()


def build(config: DataConfig, work: Path | None = None) -> Built:
    """Read `train` and `val`, with twice 5 % of every class of train as `validation` and `validation_biased`."""
    found, classes = release(config)
    spec = square(config, SIZE_PX)
    return Built(
        name="ImageNet",
        labels=classes,
        attributes={},
        input=spec,
        parts=found.carved(found.labels, config.seed, SHARES).parts(spec, work),
        findings=[
            *differences("labels", [len(classes)], [CLASSES], "classes"),
            *differences("train", [len(found.splits["train"])], [TRAIN], "images"),
            *differences("val", [len(found.splits["test"])], [VAL], "images"),
        ],
    )


def release(config: DataConfig) -> tuple[Release, list[str]]:
    """Return the images of `train` and `val`, each sorted by path, and the names of the classes, sorted.

    Raises:
        DataError: a folder is missing, an image of `val` lies in no class folder, or in one that train does not have.
    """
    train = find(source_folder(config), [f"{place}train" for place in PLACES], DO)
    val = find(train.parent, ["val"], DO)
    names = {folder: image_names(folder) for folder in (train, val)}
    classes = sorted({_class(name) for name in names[train]} - {""})
    codes = {name: code for code, name in enumerate(classes)}
    for folder, images in names.items():
        if strange := [name for name in images if _class(name) not in codes]:
            raise DataError(
                f"{folder} holds images that are in no class of train",
                got=f"{len(strange):,} images, {strange[0]} first",
                expected=f"{folder.name}/<class>/<image>",
                do="move every image into the folder of its class",
            )
    labels = np.array([codes[_class(name)] for images in names.values() for name in images], dtype=np.int64)
    files = [f"{folder.name}/{name}" for folder, images in names.items() for name in images]
    ids = np.arange(len(files))
    splits: dict[SplitName, NDArray[np.int64]] = {"train": ids[: len(names[train])], "test": ids[len(names[train]) :]}
    return Release(train.parent, files, labels, np.zeros((len(files), 0), dtype=np.int64), ids, splits), classes


def _class(name: str) -> str:
    """Return the first folder of a path, "" if there is none."""
    return name.rpartition("/")[0].partition("/")[0]

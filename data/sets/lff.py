"""The arrays that the code of LfF writes: Colored MNIST and Corrupted CIFAR-10, types 0 and 1.

Nam et al. 2020, arXiv:2007.02561. `attr_names.pkl` beside them is never opened. LfF has one held-out split, `valid`, on
which it reports; bias is independent of the label there. One fifth of it becomes validation, so that nothing is chosen
on images of the test, and the rest is test.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bigstep.config import DataConfig
from bigstep.errors import DataError
from bigstep.records.images import SplitName
from data.files.builder import Built, Part, square, variant
from data.files.released import CARVED, differences
from data.files.sources import find, source_folder
from data.files.splits import draw
from data.sets.cifar_classes import CIFAR10

HELD_OUT: dict[SplitName, int] = {"validation": 20, "test": 80}  # per cent of `valid`
DIGITS = [str(digit) for digit in range(10)]
TYPE0 = ["snow", "frost", "fog", "brightness", "contrast", "spatter", "elastic", "JPEG", "pixelate", "saturate"]
TYPE1 = [
    *("Gaussian noise", "shot noise", "impulse noise", "speckle noise", "Gaussian blur"),
    *("defocus blur", "glass blur", "motion blur", "zoom blur", "original"),
]
VARIANTS = {  # by how the folder begins: names of the labels, the bias, names of its values
    "ColoredMNIST": (DIGITS, "colour", DIGITS),
    "CorruptedCIFAR10-Type0": (list(CIFAR10), "corruption", TYPE0),
    "CorruptedCIFAR10-Type1": (list(CIFAR10), "corruption", TYPE1),
}
MNIST = {0.005: (59700, 300), 0.01: (59402, 598), 0.02: (58801, 1199), 0.05: (57000, 3000)}  # rounded class by class
CIFAR = {0.005: (49750, 250), 0.01: (49500, 500), 0.02: (49000, 1000), 0.05: (47500, 2500)}
COUNTS = {"ColoredMNIST": MNIST, "CorruptedCIFAR10-Type0": CIFAR, "CorruptedCIFAR10-Type1": CIFAR}
DO = (
    "make it with make_dataset.py of https://github.com/alinlab/LfF, or choose another set with data.variant, "
    "data.conflicting and data.severity"
)


def files(config: DataConfig) -> list[Path]:
    """Return the four arrays; a DataError names what is missing."""
    name, _ = variant(config, VARIANTS)
    folder = find(source_folder(config), [f"{name}-Skewed{config.conflicting:g}-Severity{config.severity}"], DO)
    return [find(folder, [f"{split}/{array}.npy"], DO) for split in ("train", "valid") for array in ("images", "attrs")]


def build(config: DataConfig, _work: Path | None = None) -> Built:
    """Read one set, with 5 % of train, aligned and conflicting alike, as `validation_biased`.

    `data.variant` is ColoredMNIST (default), CorruptedCIFAR10-Type0 or CorruptedCIFAR10-Type1; with `data.conflicting`
    and `data.severity` it names the folder, for example ColoredMNIST-Skewed0.05-Severity4.

    Raises:
        ConfigError: there is no such variant.
        DataError: a file is missing or is not what their code writes.
    """
    kind, (labels, attribute, values) = variant(config, VARIANTS)
    images_file, attrs_file, valid_images_file, valid_attrs_file = files(config)
    train = _read(images_file, attrs_file, first_id=0)
    valid = _read(valid_images_file, valid_attrs_file, first_id=len(train.labels))
    rng = np.random.default_rng(config.seed)
    conflicting_N = (train.labels != train.bias[:, 0]).astype(np.int64)
    rows = draw(train.labels, conflicting_N, train.ids, CARVED, rng)
    held = draw(valid.labels, valid.bias[:, 0], valid.ids, HELD_OUT, rng)
    spec = square(config, train.images.shape[1])
    findings = ["test is 80 % of the images on which LfF reports; the others are validation"]
    if released := COUNTS[kind].get(config.conflicting):
        findings += differences(
            "train", np.bincount(conflicting_N, minlength=2), released, "images aligned / conflicting"
        )
    return Built(
        name=f"{kind} (LfF)",
        labels=labels,
        attributes={attribute: values},
        input=spec,
        parts={name: _take(train, rows[name], spec.width_px) for name in rows}
        | {name: _take(valid, held[name], spec.width_px) for name in held},
        findings=findings,
    )


def _read(images_file: Path, attrs_file: Path, first_id: int) -> Part:
    """Open the arrays of one split; the pixels stay on the disk until some are taken."""
    images, attrs = _load(images_file), _load(attrs_file)
    n, side = images.shape[:2] if images.ndim == 4 else (0, 0)
    for file, array, fits, expected in (
        (images_file, images, n * side and images.shape == (n, side, side, 3), "uint8, (N, side, side, 3), N > 0"),
        (attrs_file, attrs, attrs.shape == (n, 2), f"uint8, ({n}, 2)"),
    ):
        if array.dtype != np.uint8 or not fits:
            raise DataError(
                f"{file} is not what LfF writes", got=f"{array.dtype}, {array.shape}", expected=expected, do=DO
            )
    if (top := int(attrs.max())) > 9:
        raise DataError(f"{attrs_file} has a wrong value", got=top, expected="labels and bias values of 0 to 9", do=DO)
    ids = np.arange(first_id, first_id + n)
    codes = attrs.astype(np.int64)
    return Part.at(ids, images, codes[:, 0], codes[:, 1:])


def _load(file: Path) -> NDArray[np.uint8]:
    try:
        array: NDArray[np.uint8] = np.lib.format.open_memmap(file, mode="r")  # unlike np.load it reads nothing else
    except (OSError, ValueError) as error:  # truncated, not a .npy file, empty, or an array of Python objects
        raise DataError(f"{file} is not an array", got=error, do=DO) from error
    return array


def _take(part: Part, rows: NDArray[np.int64], size_px: int) -> Part:
    """Return some images, scaled as `bigstep.decode` does where they have another size."""
    taken = part.take(rows)
    if taken.images.shape[1] == size_px:
        return taken
    size = (size_px, size_px)
    scaled = [Image.fromarray(image).resize(size, Image.Resampling.BILINEAR) for image in np.asarray(taken.images)]
    return replace(taken, images=np.stack([np.asarray(image) for image in scaled]))

"""CelebA: faces of celebrities whose hair colour goes with their sex.

Liu et al. 2015, arXiv:1411.7766; as a test of robustness Sagawa et al. 2020, arXiv:1911.08731. Read as released, from
text files (the original), or from CSV files (Kaggle, group DRO, WILDS). No released split is unbiased: validation and
test have the bias of train. Pictures of one person lie in one split, but count as independent.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from bigstep.config import DataConfig
from bigstep.errors import DataError
from bigstep.records.images import SplitName
from data.files.builder import Built, square
from data.files.released import Release, numbered_splits
from data.files.sources import find, source_folder
from data.files.tables import Table, read_table

SIZE_PX = 64  # 202,599 faces take 2.5 GB; at 224, the size of published figures, they take 30.5 GB
TARGET, BIAS = "Blond_Hair", "Male"
COUNTS: dict[SplitName, tuple[int, ...]] = {  # of Blond_Hair x Male: not blond women, men, blond women, men
    "train": (71629, 66874, 22880, 1387),
    "validation": (8535, 8276, 2874, 182),
    "test": (9767, 7535, 2480, 180),
}
PLACES = ("", "celeba/", "data/", "celebA/data/", "celebA_v1.0/")
ATTRIBUTES = ("list_attr_celeba.csv", "list_attr_celeba.txt", "Anno/list_attr_celeba.txt")
PARTITION = ("list_eval_partition.csv", "list_eval_partition.txt", "Eval/list_eval_partition.txt")
PARTITION_COLUMNS = ["image_id", "partition"]
PICTURES = ("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba")
DO = (
    "get img_align_celeba.zip (1.4 GB, md5 00d2c5bc6d35e252742224ab0c1e8fcb), list_attr_celeba.txt (md5 "
    "75e246fa4810816ffd6ee81facbd244c) and list_eval_partition.txt (md5 d32c9cbf5e040fd4025c592c306e6668) from "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, and unpack them there"
)


def files(config: DataConfig) -> list[Path]:
    """Return both tables and every image; a DataError names what is missing."""
    return release(config).source_files()


def build(config: DataConfig, work: Path | None = None) -> Built:
    """Read CelebA as released, with 5 % of train, drawn evenly from its groups, as `validation_biased`.

    `data.variant` names the attribute to learn, Blond_Hair by default; `data.bias` those that bias it, Male by default.
    """
    found, spec = release(config), square(config, SIZE_PX)
    target, biases = _columns(config)
    groups_N = found.labels
    for values_N in found.bias.T:
        groups_N = 2 * groups_N + values_N
    findings = ["validation and test are as released: neither is unbiased"]
    if (target, biases) == (TARGET, (BIAS,)):
        findings += found.differences(groups_N, COUNTS, f"images per {TARGET} x {BIAS}")
    return Built(
        name="CelebA",
        labels=[f"not {target}", target],
        attributes={name: ["no", "yes"] for name in biases},
        input=spec,
        parts=found.carved(groups_N, config.seed).parts(spec, work),
        findings=findings,
    )


def release(config: DataConfig) -> Release:
    """Read the two tables of the release, in the order of the pictures' numbers.

    Raises:
        DataError: one is missing or has a wrong value, or they do not list the same pictures.
    """
    root, (target, biases) = source_folder(config), _columns(config)
    table = _table(root, ATTRIBUTES, ["image_id", target, *biases], _attribute_rows, first_line=3)
    partition = _table(root, PARTITION, PARTITION_COLUMNS, _partition_rows, first_line=1)
    pictures = find(root, _anywhere(PICTURES), DO)
    names = table.columns["image_id"]
    ids = table.numbers("image_id", (name.removesuffix(".jpg") for name in names))
    listed = partition.columns["image_id"]
    split_of = dict(zip(listed, partition.codes("partition", {"0": 0, "1": 1, "2": 2}), strict=True))
    if (unlisted := set(names) ^ set(split_of)) or len(split_of) < len(listed):
        raise DataError(
            f"{partition.file} does not fit {table.file}",
            got=f"{len(unlisted):,} pictures are in one only, {min(unlisted)} first" if unlisted else "a picture twice",
            expected="the same pictures",
            do=DO,
        )
    flags = {"-1": 0, "1": 1}
    return Release(
        root=pictures,
        files=names,
        labels=table.codes(target, flags),
        bias=np.stack([table.codes(name, flags) for name in biases], axis=1),
        ids=ids,
        splits=numbered_splits(ids, np.array([split_of[name] for name in names])),
        tables=[table.file, partition.file],
    )


def _columns(config: DataConfig) -> tuple[str, tuple[str, ...]]:
    return config.variant or TARGET, config.bias or (BIAS,)


def _anywhere(names: tuple[str, ...]) -> list[str]:
    return [place + name for place in PLACES for name in names]


def _table(
    root: Path,
    names: tuple[str, ...],
    wanted: list[str],
    text_rows: Callable[[TextIO], Iterator[list[str]]],
    first_line: int,
) -> Table:
    """Read a table in either form: as CSV with a header, or as text in a form of its own."""
    file = find(root, _anywhere(names), DO)
    return read_table(file, wanted) if file.suffix == ".csv" else read_table(file, wanted, text_rows, first_line)


def _attribute_rows(lines: TextIO) -> Iterator[list[str]]:
    """Yield the rows of the text form, which has the number of pictures in line 1, and no name for the first column."""
    next(lines, "")
    yield ["image_id", *next(lines, "").split()]
    yield from (line.split() for line in lines)


def _partition_rows(lines: TextIO) -> Iterator[list[str]]:
    """Yield the rows of the text form, which has no header."""
    yield PARTITION_COLUMNS
    yield from (line.split() for line in lines)

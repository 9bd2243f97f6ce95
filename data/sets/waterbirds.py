"""Waterbirds: photographs of birds pasted on backgrounds that give most of them away.

Sagawa et al. 2020, arXiv:1911.08731. Read as released, from the authors' archive or from WILDS, which share one table.
In the released validation and test splits the background is independent of the bird.
"""

from pathlib import Path, PurePosixPath

from bigstep.config import DataConfig
from bigstep.errors import DataError
from bigstep.records.images import SplitName
from data.files.builder import Built, square
from data.files.released import Release, numbered_splits
from data.files.sources import find, source_folder
from data.files.tables import read_table

SIZE_PX = 224  # the side at which results are published
BIRDS, PLACES = ["landbird", "waterbird"], ["land", "water"]
TABLES = ("metadata.csv", "waterbird_complete95_forest2water2/metadata.csv", "waterbirds_v1.0/metadata.csv")
COUNTS: dict[SplitName, tuple[int, ...]] = {  # landbird on land, on water, waterbird on land, on water
    "train": (3498, 184, 56, 1057),
    "validation": (467, 466, 133, 133),
    "test": (2255, 2255, 642, 642),
}
DO = (
    "get waterbird_complete95_forest2water2.tar.gz (about 0.5 GB) from https://nlp.stanford.edu/data/dro/, or the data "
    "set waterbirds of WILDS, and unpack it there"
)


def files(config: DataConfig) -> list[Path]:
    """Return the table and every image; a DataError names what is missing."""
    return release(config).source_files()


def build(config: DataConfig, work: Path | None = None) -> Built:
    """Read Waterbirds as released, with 5 % of train, drawn evenly from its four groups, as `validation_biased`."""
    found, spec = release(config), square(config, SIZE_PX)
    return Built(
        name="Waterbirds",
        labels=BIRDS,
        attributes={"place": PLACES},
        input=spec,
        parts=found.carved(found.bias[:, 0], config.seed).parts(spec, work),
        findings=found.differences(2 * found.labels + found.bias[:, 0], COUNTS, "images per label x place"),
    )


def release(config: DataConfig) -> Release:
    """Read the table of the release.

    Raises:
        DataError: it is missing or has a wrong value, or a path leads out of its folder.
    """
    table = read_table(find(source_folder(config), TABLES, DO), ["img_id", "img_filename", "y", "place", "split"])
    names = table.columns["img_filename"]
    if astray := [name for name in names if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]:
        raise DataError(f"{table.file} names a file outside its folder", got=astray[0], do="take the table as released")
    ids = table.numbers("img_id")
    return Release(
        root=table.file.parent,
        files=names,
        labels=table.codes("y", {"0": 0, "1": 1}),
        bias=table.codes("place", {"0": 0, "1": 1})[:, None],
        ids=ids,
        splits=numbered_splits(ids, table.codes("split", {"0": 0, "1": 1, "2": 2})),
        tables=[table.file],
    )

"""Build the images of a run: the public door of this folder."""

import csv
import hashlib
import importlib
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from bigstep.config import DataConfig
from bigstep.groups import over_represented
from bigstep.records.images import FILES, FILES_HEADER, SPLIT_FIELDS, Images, ImagesInfo, SplitName
from bigstep.records.sealed import WORK, stamp
from data.bias.plant import plant
from data.bias.rebalance import rebalance
from data.contact_sheet import draw
from data.files.builder import Built, Part
from data.files.deferred import Deferred
from data.files.writing import write

log = logging.getLogger("bigstep.data")
TICK_NS = 20_000_000  # kernels count change times in steps of up to 10 ms
BUILDERS = {  # modules with `build(config, work)` and, where there are source files, `files(config)`
    "digits": "data.sets.digits",
    "parity": "data.sets.parity",
    "moon-star": "data.sets.moon_star",
    "colored-mnist": "data.sets.colored_mnist",
    "double-mnist": "data.sets.double_mnist",
    "corrupted-cifar10": "data.sets.corrupted_cifar10",
    "mnist-cifar": "data.sets.mnist_cifar",
    "folder": "data.sets.folder",
    "waterbirds": "data.sets.waterbirds",
    "celeba": "data.sets.celeba",
    "cifar10": "data.sets.cifar",
    "cifar100": "data.sets.cifar",
    "imagenet": "data.sets.imagenet",
    "lff": "data.sets.lff",
    "dfa": "data.sets.dfa",
}


def run(config: DataConfig, *, out: Path) -> Images:
    """Build the images that the configuration names, and seal them as `Images`.

    Args:
        config: the section `data` of the configuration.
        out: an empty folder, or what a killed call of the same configuration left of one.

    Raises:
        DataError: the source files are missing or cannot be used; the message names them.
    """
    builder = importlib.import_module(BUILDERS[config.kind])
    built: Built = builder.build(config, out / WORK)
    if config.rebalance:  # before planting, which would cross its attribute with the others
        built = rebalance(built, config.seed)
    if config.plant:
        built = plant(built, config.plant, config.seed)
    parts, train = built.parts, built.parts["train"]
    if not built.mixed:  # files come sorted by class, and INT8 ranges are read off the first images
        order = np.random.default_rng([config.seed, len(train.labels)]).permutation(len(train.labels))
        parts = {**parts, "train": train.take(order)}
    written = write(parts, out, judged=built.judge is not None)
    judged = built.judge(written.seen) if built.judge and written.seen else []
    info = ImagesInfo(
        name=built.name,
        labels=built.labels,
        attributes=built.attributes,
        aligned={
            name: over_represented(train.labels, train.bias[:, column], len(built.labels), len(values)).tolist()
            for column, (name, values) in enumerate(built.attributes.items())
        },
        input=built.input,
        counts={name: len(part.labels) for name, part in parts.items()},
        findings=[*judged, *built.findings],
    )
    for name, part in parts.items():
        for field in SPLIT_FIELDS[1:]:  # the first, the pixels, are written
            np.save(out / f"{name}.{field}.npy", getattr(part, field), allow_pickle=False)
    _list_files(parts, out / FILES)
    for region, mask in (("core", built.core), ("spurious", built.spurious)):
        if mask is not None:
            np.save(out / f"test.{region}.npy", mask, allow_pickle=False)
    pixels = np.load(out / "train.images.npy", mmap_mode="r", allow_pickle=False)
    draw(pixels, parts["train"].labels, out / "contact_sheet.png")
    images = Images.seal(out, info, hashed=written.hashed)
    log.info("%s", "\n".join([f"{info.name}: {sum(info.counts.values()):,} images", *info.findings]))
    return images


def sources(config: DataConfig) -> str | None:
    """Return a hash of the names and stamps of the source files (see `bigstep.records.sealed.stamp`).

    Whatever is written into a file, or put in its place, is noticed, also where it has the same size and time. None for
    data that bigstep makes itself. The stamps decide only whether the images are built again: equal pixels give the
    same record, whatever their files' stamps.

    Raises:
        DataError: the source files are missing.
    """
    builder = importlib.import_module(BUILDERS[config.kind])
    if not hasattr(builder, "files"):
        return None
    digest, newest_ns = _stamps(builder.files(config))
    if time.time_ns() - newest_ns < TICK_NS:  # whoever writes there once more now would leave the stamp as it is
        time.sleep(TICK_NS / 1e9)
        digest, _ = _stamps(builder.files(config))
    return digest


def _stamps(files: Iterable[Path | str]) -> tuple[str, int]:
    """Return a hash of names and stamps, and the latest change time in ns."""
    digest, newest_ns = hashlib.sha256(), 0
    for path in files:
        found = path.stat() if isinstance(path, Path) else None
        newest_ns = max(newest_ns, found.st_ctime_ns) if found else newest_ns
        digest.update(f"{str(path)!r} {found and stamp(found)}\n".encode())
    return digest.hexdigest(), newest_ns


def _list_files(parts: Mapping[SplitName, Part], path: Path) -> None:
    """Say which file each image was made from; nothing is written where images come from no files of their own."""
    if not isinstance(parts["train"].images, Deferred):
        return
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(FILES_HEADER)
        for name, part in parts.items():
            assert isinstance(part.images, Deferred)
            sources = part.images.sources
            for row, number in zip(part.images.rows, part.ids.tolist(), strict=True):
                table.writerow([name, number, sources.paths[row], sources.sha256[row].tobytes().hex()])

"""CIFAR-10 and CIFAR-100, from their binary releases or from folders of images; no bias is known.

Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images", and https://www.cs.toronto.edu/~kriz/
cifar.html: each record is one label (CIFAR-100: coarse, then fine) and 32x32 red, green and blue bytes. The Python
release is a pickle, which could run code, and is not read; torchvision reads no other.
"""

import hashlib
import logging
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigstep.config import DataConfig
from bigstep.decode import open_image, to_pixels
from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec
from data.files.builder import Built, Part
from data.files.labelled import Pictures, Source
from data.files.parallel import read_all
from data.files.sources import read_bytes, source_folder
from data.files.splits import hold_out
from data.sets.cifar_classes import CIFAR10, CIFAR100

log = logging.getLogger("bigstep.data")
SIZE_PX = 32
SPEC = InputSpec(height_px=SIZE_PX, width_px=SIZE_PX)
PIXEL_BYTES = 3 * SIZE_PX * SIZE_PX
TRAIN, TEST = 50_000, 10_000
HELD_OUT_OF = 10  # one in ten: 5,000 of the 50,000
MAX_MEMBER_BYTES = 200_000_000  # train.bin of CIFAR-100 has 154 MB; what unpacks to more is not ours
SUFFIXES = (".jpg", ".jpeg", ".png")
URL = "https://www.cs.toronto.edu/~kriz/cifar.html"
COPY = "copy it again"
BINARY, BINARY_100 = "cifar-10-binary.tar.gz", "cifar-100-binary.tar.gz"
JPEG = "CIFAR-10-images-jpeg.tar.gz"  # a copy of all 60,000 as JPEG: labels exact, pixels not


class Layout(NamedTuple):
    """The files of a data set, and where they may lie: places are tried in this order, MD5s are of the archives."""

    name: str
    classes: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    record_labels: int
    places: tuple[str, ...]
    md5: dict[str, str]


LAYOUTS = {
    "cifar10": Layout(
        name="CIFAR-10",
        classes=CIFAR10,
        train=tuple(f"data_batch_{part}.bin" for part in range(1, 6)),
        test=("test_batch.bin",),
        record_labels=1,
        places=("cifar-10-batches-bin", BINARY, "cifar10", JPEG, f"cifar10_jpeg/{JPEG}", "."),
        md5={BINARY: "c32a1d4ab5d03f1284b67883e8d87530", JPEG: "47f8e2a069ce8820ff6f18b949c5277b"},
    ),
    "cifar100": Layout(
        name="CIFAR-100",
        classes=CIFAR100,
        train=("train.bin",),
        test=("test.bin",),
        record_labels=2,
        places=("cifar-100-binary", BINARY_100, "cifar100", "."),
        md5={BINARY_100: "03b5dce01913d631647c71ecec9e9cb8"},
    ),
}


def files(config: DataConfig) -> list[Path]:
    """Return the source files, those of CIFAR-10 for a set made from it; a DataError names what is missing."""
    layout = LAYOUTS.get(config.kind, LAYOUTS["cifar10"])
    path = locate(source_folder(config), layout)
    return [path] if path.is_file() else sorted(_listed(path, layout).values())


def build(config: DataConfig, _work: Path | None = None) -> Built:
    """Read CIFAR-10 or CIFAR-100: test as given, 5,000 of train as `validation`, a tenth of the rest as the other.

    Both are stratified by label; no bias is known, so that `validation_biased` is one more split of the same kind.
    Every split is shuffled. ids and sources are places in the files; test pictures are counted on from the last of
    train.

    Raises:
        DataError: the files are missing or damaged.
    """
    layout = LAYOUTS[config.kind]
    source = read(source_folder(config), layout)
    rng = np.random.default_rng(config.seed)
    images, labels = source.both()
    rest, validation = map(rng.permutation, hold_out(source.train.labels, len(source.train.labels) // HELD_OUT_OF, rng))
    train, biased = (rest[rows] for rows in hold_out(labels[rest], len(rest) // HELD_OUT_OF, rng))
    places = source.places(train, validation, rng.permutation(len(source.test.labels))) | {"validation_biased": biased}
    no_bias = np.empty((len(labels), 0), dtype=np.int64)
    return Built(
        name=source.name,
        labels=list(layout.classes),
        attributes={},
        input=SPEC,
        parts={name: Part.at(at, images[at], labels[at], no_bias[at]) for name, at in places.items()},
        findings=source.findings,
    )


def read(folder: Path, layout: Layout) -> Source:
    """Read a release from the first of its places in a folder that holds it.

    An archive is read in memory, and only its members of the right names: nothing is unpacked.

    Raises:
        DataError: a file is missing, damaged, of another format, or holds an unknown label.
    """
    path = locate(folder, layout)
    findings = []
    log.info("reading %s", path)
    if path.is_file():
        content = dict(_members(path, layout))
        md5 = layout.md5[path.name]
        with path.open("rb") as archive:
            found = hashlib.file_digest(archive, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != md5:
            findings.append(f"{path} is not the known archive: its MD5 is {found}, that one's is {md5}")
    else:
        content = {name: read_bytes(file) for name, file in _listed(path, layout).items()}
    binary = any(name in content for name in (*layout.train, *layout.test))
    load = _records if binary else _decoded
    train, test = load(path, content, "train", layout), load(path, content, "test", layout)
    for split, pictures, size in (("train", train, TRAIN), ("test", test, TEST)):
        if len(pictures.labels) != size:
            findings.append(f"{split} holds {len(pictures.labels):,} pictures, {layout.name} has {size:,}")
    lossy = any(name.endswith((".jpg", ".jpeg")) for name in content)
    return Source(train, test, layout.name + (" (JPEG copy)" if lossy else ""), findings)


def locate(folder: Path, layout: Layout) -> Path:
    """Return the first place in a folder that holds the release: an archive, or a folder of records or of images.

    Raises:
        DataError: there is none; the message names the files, their MD5 where known, and the places.
    """
    for place in layout.places:
        path = folder / place
        # The name of a class tells its images from other sets, which may lie beside it.
        telling = (*layout.train, *layout.test, f"train/{layout.classes[0]}")
        if path.is_file() or any((path / name).exists() for name in telling):
            return path
    known = "".join(f"\n            {name} (MD5 {md5})" for name, md5 in layout.md5.items())
    raise DataError(
        f"{layout.name} is not in {folder}",
        got=f"nothing in {', '.join(layout.places)}",
        expected=f"{', '.join((*layout.train, *layout.test))}; or train/<class>/*.png and test/<class>/*.png "
        f"(or .jpg); or an archive of either:{known}",
        do=f"put the archive of the binary release there, from {URL} (the Python release is a pickle and is not read)",
    )


def _name(path: PurePath, layout: Layout) -> str | None:
    """Return what a file is known by, `train.bin` or `train/<class>/<picture>`; None if it is none of ours."""
    if path.name in (*layout.train, *layout.test):
        return path.name
    split = path.parts[-3:-2]
    of_images = split in (("train",), ("test",)) and path.suffix.lower() in SUFFIXES and path.name[0] != "."
    return "/".join(path.parts[-3:]) if of_images else None


def _listed(folder: Path, layout: Layout) -> dict[str, Path]:
    """Return the records in a folder or, without any, its images, by their names."""
    records = {name: folder / name for name in (*layout.train, *layout.test) if (folder / name).is_file()}
    images = (file for file in folder.glob("t*/*/*") if file.is_file())
    return records or {name: file for file in images if (name := _name(file, layout))}


def _members(path: Path, layout: Layout) -> Iterator[tuple[str, bytes]]:
    """Read the members of an archive that are regular files with names of ours; whatever else it holds is passed over.

    Only their names' last parts are used, and only as keys: a path that leads elsewhere leads nowhere.
    """
    seen = set()
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = _name(PurePosixPath(member.name), layout) if member.isfile() else None
                content = archive.extractfile(member) if name else None
                if name is None or content is None:
                    continue
                if name in seen or member.size > MAX_MEMBER_BYTES:
                    why = "is there twice" if name in seen else f"has {member.size:,} bytes"
                    raise DataError(f"{path} is not {layout.name}", got=f"{member.name} {why}", do=COPY)
                seen.add(name)
                yield name, content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read", got=error, do="remove it or copy it again") from error


def _records(path: Path, content: dict[str, bytes], split: str, layout: Layout) -> Pictures:
    """Take binary records apart."""
    names = layout.train if split == "train" else layout.test
    if missing := [name for name in names if name not in content]:
        raise DataError(f"{path} does not hold all of {layout.name}", got=f"{', '.join(missing)} missing", do=COPY)
    record = layout.record_labels + PIXEL_BYTES
    for name in names:
        if not content[name] or len(content[name]) % record:
            raise DataError(
                f"{name} in {path} is truncated or not {layout.name}",
                got=f"{len(content[name]):,} bytes",
                expected=f"a multiple of {record:,}",
                do=COPY,
            )
    rows = np.frombuffer(b"".join(content[name] for name in names), dtype=np.uint8).reshape(-1, record)
    labels = rows[:, layout.record_labels - 1].astype(np.int64)  # of two labels the second is the fine one
    if labels.max() >= len(layout.classes):
        raise DataError(
            f"{path} is not {layout.name}",
            got=f"label {labels.max()} in record {labels.argmax():,} of {split}",
            expected=f"0 to {len(layout.classes) - 1}",
            do=COPY,
        )
    planes_NCHW = rows[:, layout.record_labels :].reshape(-1, 3, SIZE_PX, SIZE_PX)
    return Pictures(np.ascontiguousarray(planes_NCHW.transpose(0, 2, 3, 1)), labels)


def _decoded(path: Path, content: dict[str, bytes], split: str, layout: Layout) -> Pictures:
    """Decode images in the order of their classes, and of their names in each."""
    names = sorted(name for name in content if name.startswith(f"{split}/"))
    found = {name.split("/")[1] for name in names}
    if found != set(layout.classes):
        missing, strange = sorted(set(layout.classes) - found), sorted(found - set(layout.classes))
        raise DataError(
            f"{path} has other classes in {split} than {layout.name}",
            got="; ".join(
                f"{what} {', '.join(some[:5])}" for what, some in (("no", missing), ("but", strange)) if some
            ),
            expected=f"a folder for each class, {', '.join(layout.classes[:3])}, ...",
        )
    labels = np.array([layout.classes.index(name.split("/")[1]) for name in names])
    images = read_all(lambda name: _small(content[name], f"{name} in {path}"), names, split)
    return Pictures(np.stack(list(images)), labels)


def _small(content: bytes, name: str) -> NDArray[np.uint8]:
    try:
        picture = open_image(content)
        if picture.size != (SIZE_PX, SIZE_PX):
            raise DataError(
                "a picture of CIFAR has another size",
                got=f"{picture.width} x {picture.height} px",
                expected=f"{SIZE_PX} x {SIZE_PX} px",
            )
        return to_pixels(picture, SPEC)
    except DataError as error:
        raise DataError(f"{name}: {error.what}", got=error.got, expected=error.expected, do=COPY) from error

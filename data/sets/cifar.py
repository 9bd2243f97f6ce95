"""CIFAR-10 and CIFAR-100, from their binary releases or from folders of images; no bias is known.

Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images", and https://www.cs.toronto.edu/~kriz/
cifar.html: each record is one label (CIFAR-100: coarse, then fine) and 32x32 red, green and blue bytes. The Python
release is a pickle, which could run code, and is not read; torchvision reads no other.
"""

from __future__ import annotations

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
from data.bias.milestones import hold_out
from data.files.built import Built, Part
from data.files.decoding import read_all
from data.files.sources import source_folder

log = logging.getLogger("bigstep.data")
Numbers = NDArray[np.int64]
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
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100 = tuple(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm""".split()  # noqa: SIM905  # a list would take 100 lines
)


class Release(NamedTuple):
    """Say where a data set may lie in a folder; places are tried in this order, MD5s are those of the archives."""

    name: str
    classes: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    record_labels: int
    places: tuple[str, ...]
    md5: dict[str, str]


RELEASES = {
    "cifar10": Release(
        name="CIFAR-10",
        classes=CIFAR10,
        train=tuple(f"data_batch_{part}.bin" for part in range(1, 6)),
        test=("test_batch.bin",),
        record_labels=1,
        places=("cifar-10-batches-bin", BINARY, "cifar10", JPEG, f"cifar10_jpeg/{JPEG}", "."),
        md5={BINARY: "c32a1d4ab5d03f1284b67883e8d87530", JPEG: "47f8e2a069ce8820ff6f18b949c5277b"},
    ),
    "cifar100": Release(
        name="CIFAR-100",
        classes=CIFAR100,
        train=("train.bin",),
        test=("test.bin",),
        record_labels=2,
        places=("cifar-100-binary", BINARY_100, "cifar100", "."),
        md5={BINARY_100: "03b5dce01913d631647c71ecec9e9cb8"},
    ),
}


class Pictures(NamedTuple):
    """Hold pictures in the order of their files: uint8 (N, 32, 32, 3) and int64 labels (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


class Cifar(NamedTuple):
    """Hold both splits, the name to call figures by, and what is worth knowing about the files."""

    train: Pictures
    test: Pictures
    name: str
    findings: list[str]


def files(config: DataConfig) -> list[Path]:
    """Return the source files; a DataError names what is missing."""
    release = RELEASES[config.kind]
    path = locate(source_folder(config), release)
    return [path] if path.is_file() else sorted(_listed(path, release).values())


def build(config: DataConfig) -> Built:
    """Read CIFAR-10 or CIFAR-100: test as given, 5,000 of train as `validation`, a tenth of the rest as the other.

    Both are stratified by label; no bias is known, so that `validation_biased` is one more split of the same kind.
    Every split is shuffled. ids and sources are places in the files; test pictures are counted on from the last of
    train.

    Raises:
        DataError: the files are missing or damaged.
    """
    release = RELEASES[config.kind]
    cifar = read(source_folder(config), release)
    rng = np.random.default_rng(config.seed)
    labels = cifar.train.labels
    held = held_out(labels, rng)
    rest, validation = (rng.permutation(np.flatnonzero(which)) for which in (~held, held))
    biased = held_out(labels[rest], rng)
    test = rng.permutation(len(cifar.test.labels))

    def part(pictures: Pictures, chosen: Numbers, first: int = 0) -> Part:
        no_bias = np.empty((len(chosen), 0), dtype=np.int64)
        places = first + chosen
        return Part(pictures.images[chosen], pictures.labels[chosen], no_bias, ids=places, sources=places)

    return Built(
        name=cifar.name,
        labels=list(release.classes),
        attributes={},
        input=SPEC,
        parts={
            "train": part(cifar.train, rest[~biased]),
            "validation_biased": part(cifar.train, rest[biased]),
            "validation": part(cifar.train, validation),
            "test": part(cifar.test, test, first=len(labels)),
        },
        findings=cifar.findings,
    )


def held_out(labels_N: Numbers, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose the tenth of the training pictures that leaves training, stratified by label: bool (N,)."""
    return hold_out(labels_N, len(labels_N) // HELD_OUT_OF, rng)


def read(folder: Path, release: Release) -> Cifar:
    """Read a release from the first of its places in a folder that holds it.

    An archive is read in memory, and only its members of the right names: nothing is unpacked.

    Raises:
        DataError: a file is missing, damaged, of another format, or holds an unknown label.
    """
    path = locate(folder, release)
    findings = []
    log.info("reading %s", path)
    if path.is_file():
        content = dict(_members(path, release))
        md5 = release.md5[path.name]
        with path.open("rb") as archive:
            found = hashlib.file_digest(archive, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != md5:
            findings.append(f"{path} is not the known archive: its MD5 is {found}, that one's is {md5}")
    else:
        content = {name: _content(file) for name, file in _listed(path, release).items()}
    binary = any(name in content for name in (*release.train, *release.test))
    load = _records if binary else _decoded
    train, test = load(path, content, "train", release), load(path, content, "test", release)
    for split, pictures, size in (("train", train, TRAIN), ("test", test, TEST)):
        if len(pictures.labels) != size:
            findings.append(f"{split} holds {len(pictures.labels):,} pictures, {release.name} has {size:,}")
    lossy = any(name.endswith((".jpg", ".jpeg")) for name in content)
    return Cifar(train, test, release.name + (" (JPEG copy)" if lossy else ""), findings)


def locate(folder: Path, release: Release) -> Path:
    """Return the first place in a folder that holds the release: an archive, or a folder of records or of images.

    Raises:
        DataError: there is none; the message names the files, their MD5 where known, and the places.
    """
    for place in release.places:
        path = folder / place
        # The name of a class tells its images from other sets, which may lie beside it.
        telling = (*release.train, *release.test, f"train/{release.classes[0]}")
        if path.is_file() or any((path / name).exists() for name in telling):
            return path
    known = "".join(f"\n            {name} (MD5 {md5})" for name, md5 in release.md5.items())
    raise DataError(
        f"{release.name} is not in {folder}",
        got=f"nothing in {', '.join(release.places)}",
        expected=f"{', '.join((*release.train, *release.test))}; or train/<class>/*.png and test/<class>/*.png "
        f"(or .jpg); or an archive of either:{known}",
        do=f"put the archive of the binary release there, from {URL} (the Python release is a pickle and is not read)",
    )


def _name(path: PurePath, release: Release) -> str | None:
    """Return what a file is known by, `train.bin` or `train/<class>/<picture>`; None if it is none of ours."""
    if path.name in (*release.train, *release.test):
        return path.name
    split = path.parts[-3:-2]
    of_images = split in (("train",), ("test",)) and path.suffix.lower() in SUFFIXES and path.name[0] != "."
    return "/".join(path.parts[-3:]) if of_images else None


def _listed(folder: Path, release: Release) -> dict[str, Path]:
    """Return the records in a folder or, without any, its images, by their names."""
    records = {name: folder / name for name in (*release.train, *release.test) if (folder / name).is_file()}
    images = (file for file in folder.glob("t*/*/*") if file.is_file())
    return records or {name: file for file in images if (name := _name(file, release))}


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read", got=error, do=COPY) from error


def _members(path: Path, release: Release) -> Iterator[tuple[str, bytes]]:
    """Read the members of an archive that are regular files with names of ours; whatever else it holds is passed over.

    Only their names' last parts are used, and only as keys: a path that leads elsewhere leads nowhere.
    """
    seen = set()
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = _name(PurePosixPath(member.name), release) if member.isfile() else None
                content = archive.extractfile(member) if name else None
                if name is None or content is None:
                    continue
                if name in seen or member.size > MAX_MEMBER_BYTES:
                    why = "is there twice" if name in seen else f"has {member.size:,} bytes"
                    raise DataError(f"{path} is not {release.name}", got=f"{member.name} {why}", do=COPY)
                seen.add(name)
                yield name, content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read", got=error, do="remove it or copy it again") from error


def _records(path: Path, content: dict[str, bytes], split: str, release: Release) -> Pictures:
    """Take binary records apart."""
    names = release.train if split == "train" else release.test
    if missing := [name for name in names if name not in content]:
        raise DataError(f"{path} does not hold all of {release.name}", got=f"{', '.join(missing)} missing", do=COPY)
    record = release.record_labels + PIXEL_BYTES
    for name in names:
        if not content[name] or len(content[name]) % record:
            got, expected = f"{len(content[name]):,} bytes", f"a multiple of {record:,}"
            raise DataError(f"{name} in {path} is truncated or not {release.name}", got=got, expected=expected, do=COPY)
    rows = np.frombuffer(b"".join(content[name] for name in names), dtype=np.uint8).reshape(-1, record)
    labels = rows[:, release.record_labels - 1].astype(np.int64)  # of two labels the second is the fine one
    if labels.max() >= len(release.classes):
        got = f"label {labels.max()} in record {labels.argmax():,} of {split}"
        raise DataError(f"{path} is not {release.name}", got=got, expected=f"0 to {len(release.classes) - 1}", do=COPY)
    planes_NCHW = rows[:, release.record_labels :].reshape(-1, 3, SIZE_PX, SIZE_PX)
    return Pictures(np.ascontiguousarray(planes_NCHW.transpose(0, 2, 3, 1)), labels)


def _decoded(path: Path, content: dict[str, bytes], split: str, release: Release) -> Pictures:
    """Decode images in the order of their classes, and of their names in each."""
    names = sorted(name for name in content if name.startswith(f"{split}/"))
    found = {name.split("/")[1] for name in names}
    if found != set(release.classes):
        missing, strange = sorted(set(release.classes) - found), sorted(found - set(release.classes))
        got = "; ".join(f"{what} {', '.join(some[:5])}" for what, some in (("no", missing), ("but", strange)) if some)
        expected = f"a folder for each class, {', '.join(release.classes[:3])}, ..."
        raise DataError(f"{path} has other classes in {split} than {release.name}", got=got, expected=expected)
    labels = np.array([release.classes.index(name.split("/")[1]) for name in names])

    def pixels(name: Path) -> NDArray[np.uint8]:
        return _small(content[name.as_posix()], f"{name} in {path}")

    return Pictures(np.stack(list(read_all(pixels, [Path(name) for name in names], split))), labels)


def _small(content: bytes, name: str) -> NDArray[np.uint8]:
    try:
        picture = open_image(content)
        if picture.size != (SIZE_PX, SIZE_PX):
            got = f"{picture.width} x {picture.height} px"
            raise DataError("a picture of CIFAR has another size", got=got, expected=f"{SIZE_PX} x {SIZE_PX} px")
        return to_pixels(picture, SPEC)
    except DataError as error:
        raise DataError(f"{name}: {error.what}", got=error.got, expected=error.expected, do=COPY) from error

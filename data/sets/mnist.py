"""MNIST from its four idx files, plain or gzipped; `data.fetch` downloads them where they are missing.

Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits"; idx is a big-endian magic number, the
sizes, and the bytes.
"""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigstep.config import DataConfig
from bigstep.errors import DataError
from data.files.labelled import Pictures, Source
from data.files.sources import read_bytes, source_folder

SIZE_PX = 28
IMAGES, LABELS = 0x0803, 0x0801  # unsigned bytes in three dimensions, and in one
PLACES = (".", "MNIST/raw", "mnist/MNIST/raw")  # torchvision's layout, and the same in a folder of several sets
FILES = {  # the MD5 of each file, unpacked
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
HELD_OUT_OF = 12  # one training digit in twelve is held out: 5,000 of the 60,000


def files(config: DataConfig) -> list[Path]:
    """Return the four files, for every set that is made from MNIST; a DataError names what is missing."""
    return locate(source_folder(config))


def read(folder: Path) -> Source:
    """Read MNIST from a folder, or from MNIST/raw or mnist/MNIST/raw in it.

    Digits are (N, 28, 28), 255 is ink. Other files in the same format and size (Fashion-MNIST, a subset) are read too,
    and named in the findings.

    Raises:
        DataError: a file is missing, or is not an idx file of 28x28 digits with labels 0 to 9.
    """
    paths = locate(folder)
    contents = [_bytes(path) for path in paths]
    findings = []
    for content, (name, md5) in zip(contents, FILES.items(), strict=True):
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != md5:
            findings.append(f"{name} is not MNIST as published: its MD5 is {found}, that of MNIST is {md5}")
    return Source(_digits(paths[:2], contents[:2]), _digits(paths[2:], contents[2:]), "MNIST", findings)


def locate(folder: Path) -> list[Path]:
    """Return the paths of the four files, in the order of `FILES`.

    Raises:
        DataError: a file is missing.
    """
    if missing(folder):
        raise not_there(folder, "and nothing was downloaded")
    place = _place(folder)
    return [_file(place, name) for name in FILES]


def missing(folder: Path) -> list[str]:
    """Return the names of the files that are not there."""
    return _missing(_place(folder))


def not_there(folder: Path, why: str) -> DataError:
    """Return the error that names what is missing, and why it is."""
    place = _place(folder)
    wanted = "\n".join(f"            {name}  (MD5 {md5} unpacked)" for name, md5 in FILES.items())
    return DataError(
        f"MNIST is not in {folder}",
        got=f"{', '.join(_missing(place))} missing in {place}, {why}",
        expected=f"four files, plain or .gz, in one of {', '.join(str(folder / p) for p in PLACES)}\n{wanted}",
        do="copy the files there, or run once with torchvision installed and a network",
    )


def parse(content: bytes, magic: int, name: str) -> NDArray[np.uint8]:
    """Return the array of an idx file of unsigned bytes, whose number of dimensions is the magic number's last byte.

    Raises:
        DataError: another magic number, or not as many bytes as the sizes say; the message says `name`.
    """
    dimensions = magic & 0xFF
    start = 4 + 4 * dimensions
    found = int.from_bytes(content[:4], "big")
    if len(content) < start or found != magic:
        raise DataError(
            f"{name} is not an idx file of MNIST",
            got=f"{len(content)} bytes that begin with {content[:4].hex() or 'nothing'}",
            expected=f"magic number {magic:08x}, {dimensions} sizes and the bytes",
        )
    shape = [int.from_bytes(content[4 * k : 4 * k + 4], "big") for k in range(1, dimensions + 1)]
    size = math.prod(shape)
    if len(content) != start + size:
        raise DataError(
            f"{name} is truncated or not MNIST",
            got=f"{len(content) - start:,} bytes after the header",
            expected=f"{size:,}, for {shape}",
            do="copy it again",
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _digits(paths: list[Path], contents: list[bytes]) -> Pictures:
    """Return the digits of a pair of files, images and labels."""
    images = parse(contents[0], IMAGES, str(paths[0]))
    labels = parse(contents[1], LABELS, str(paths[1]))
    if images.shape != (len(labels), SIZE_PX, SIZE_PX) or not len(labels):
        raise DataError(
            f"{paths[0]} and {paths[1].name} do not hold MNIST",
            got=f"images {images.shape}, {len(labels):,} labels",
            expected="(N, 28, 28) and N",
        )
    if labels.max() > 9:
        raise DataError(
            f"{paths[1]} holds a label that is not a digit",
            got=f"{labels[labels > 9][0]} at place {np.argmax(labels > 9):,}",
            expected="0 to 9",
        )
    return Pictures(images, labels.astype(np.int64))


def _place(folder: Path) -> Path:
    """Return the place that holds most of the files, the folder itself if none does."""
    return min((folder / place for place in PLACES), key=lambda place: len(_missing(place)))


def _missing(place: Path) -> list[str]:
    return [name for name in FILES if not _file(place, name).is_file()]


def _file(place: Path, name: str) -> Path:
    """Return the path of a file, the plain one if it is there."""
    return place / name if (place / name).is_file() else place / f"{name}.gz"


def _bytes(path: Path) -> bytes:
    content = read_bytes(path)
    try:
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read", got=error, do="remove it or copy it again") from error

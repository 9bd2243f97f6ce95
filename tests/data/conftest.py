"""Tiny source files in the layouts of the released data sets."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bigstep.config import DataConfig
from bigstep.errors import DataError
from data.files.writing import write
from data.sets import folder


def write_mnist(folder, train_labels, test_labels):
    """Write the four idx files of MNIST with noise for digits, from a fixed seed."""
    rng = np.random.default_rng(0)
    for prefix, labels in (("train", train_labels), ("t10k", test_labels)):
        images = rng.integers(0, 256, size=(len(labels), 28, 28), dtype=np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", np.asarray(labels, dtype=np.uint8))):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            header = bytes([0, 0, 8, array.ndim]) + sizes
            (folder / f"{prefix}-{kind}-ubyte").write_bytes(header + array.tobytes())


@pytest.fixture(scope="session")
def mnist_folder(tmp_path_factory) -> Path:
    """Return a source folder with 600 training and 200 test digits, as torchvision lays them out. Read-only."""
    folder = tmp_path_factory.mktemp("sources")
    raw = folder / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(1)
    counts = [59, 67, 60, 61, 58, 54, 59, 63, 59, 60]  # a hundredth of MNIST's
    write_mnist(raw, rng.permutation(np.repeat(np.arange(10), counts)), rng.permutation(200) % 10)
    return folder


@pytest.fixture(scope="session")
def digest_of():
    """Return a function that hashes every array of a data set in memory."""

    def digest(built):
        found = hashlib.sha256()
        arrays = [getattr(p, f) for p in built.parts.values() for f in ("images", "labels", "bias", "ids", "sources")]
        for array in [*arrays, *(mask for mask in (built.core, built.spurious) if mask is not None)]:
            found.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    return digest


@pytest.fixture(scope="session")
def decoded(tmp_path_factory):
    """Return a function that decodes a set's image files as the stage does, and returns the set with all in memory."""

    def decode(built):
        out = tmp_path_factory.mktemp("decoded")
        seen = write(built.parts, out, judged=built.judge is not None).seen
        findings = [*(built.judge(seen) if built.judge and seen else []), *built.findings]
        pixels = {name: np.load(out / f"{name}.images.npy", allow_pickle=False) for name in built.parts}
        parts = {name: replace(part, images=pixels[name]) for name, part in built.parts.items()}
        return replace(built, parts=parts, findings=findings, judge=None)

    return decode


@pytest.fixture
def build_folder(decoded):
    """Return a function that builds a user's own images as squares of 8 pixels, with all in memory."""

    def build(path, **settings):
        return decoded(folder.build(DataConfig(kind="folder", path=str(path), **{"size_px": 8, **settings})))

    return build


@pytest.fixture
def refused_folder(build_folder):
    """Return a function that builds a user's own images, which must fail, and returns what is said."""

    def refused(path, **settings):
        with pytest.raises(DataError) as caught:
            build_folder(path, **settings)
        return str(caught.value)

    return refused


@pytest.fixture(scope="session")
def cifar_folder(mnist_folder, tmp_path_factory) -> Path:
    """Return a source folder with MNIST and 400 training and 200 test pictures of CIFAR-10, all noise. Read-only."""
    folder = tmp_path_factory.mktemp("pictures")
    shutil.copytree(mnist_folder / "mnist", folder / "mnist")
    (folder / "cifar-10-batches-bin").mkdir()
    rng = np.random.default_rng(2)
    labels = np.concatenate([rng.permutation(np.arange(400) % 10), rng.permutation(np.arange(200) % 10)])
    records = np.concatenate([labels[:, None].astype(np.uint8), rng.integers(0, 256, (600, 3072), np.uint8)], axis=1)
    names = [*(f"data_batch_{part}.bin" for part in range(1, 6)), "test_batch.bin"]
    for name, rows in zip(names, np.split(records, [80, 160, 240, 320, 400]), strict=True):
        (folder / "cifar-10-batches-bin" / name).write_bytes(rows.tobytes())
    return folder

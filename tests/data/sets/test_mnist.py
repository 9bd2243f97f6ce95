"""The four files of MNIST: where they are found, and what is refused."""

import gzip
import shutil

import numpy as np
import pytest

from bigstep.errors import DataError
from data.sets import mnist

RAW = "mnist/MNIST/raw"
IMAGES, LABELS = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.fixture
def raw(mnist_folder, tmp_path):
    """Return a folder of the test's own with the four files in it."""
    shutil.copytree(mnist_folder / RAW, tmp_path / "raw")
    return tmp_path / "raw"


def test_images_and_labels_come_in_the_order_of_the_files(mnist_folder):
    train, test, *_ = mnist.read(mnist_folder)
    content = (mnist_folder / RAW / "t10k-images-idx3-ubyte").read_bytes()
    assert train.images.shape == (600, 28, 28) and test.images.shape == (200, 28, 28)
    assert train.images.dtype == np.uint8 and train.labels.dtype == np.int64
    assert test.images[7].tobytes() == content[16 + 7 * 784 : 16 + 8 * 784]
    assert test.labels.tolist() == list((mnist_folder / RAW / "t10k-labels-idx1-ubyte").read_bytes()[8:])


@pytest.mark.parametrize("place", mnist.PLACES)
@pytest.mark.parametrize("zipped", [0, 2, 4])
def test_files_are_found_in_three_places_plain_or_gzipped(place, zipped, raw, tmp_path):
    for file in sorted(raw.iterdir())[:zipped]:
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), compresslevel=1))
        file.unlink()
    folder = tmp_path / "sources"
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    raw.rename(folder / place)
    assert len(mnist.read(folder).train.labels) == 600


def test_other_files_than_the_published_ones_are_named(mnist_folder):
    findings = mnist.read(mnist_folder).findings
    assert len(findings) == 4
    for finding, (name, md5) in zip(findings, mnist.FILES.items(), strict=True):
        assert f"{name} is not MNIST as published" in finding and md5 in finding


def test_the_files_are_named_in_the_order_of_the_table_whatever_their_form(raw):
    assert mnist.locate(raw) == [raw / name for name in mnist.FILES]
    (raw / IMAGES).rename(raw / f"{IMAGES}.gz")
    assert mnist.locate(raw)[0] == raw / f"{IMAGES}.gz"


def replace(name, change):
    def spoil(raw):
        (raw / name).write_bytes(change((raw / name).read_bytes()))

    return spoil


BROKEN = {
    "empty": (replace(IMAGES, lambda _: b""), "not an idx file of MNIST.*0 bytes that begin with nothing"),
    "short header": (replace(IMAGES, lambda b: b[:10]), "not an idx file of MNIST.*10 bytes that begin with 00000803"),
    "labels for images": (replace(IMAGES, lambda b: b[:3] + b"\1" + b[4:]), "begin with 00000801.*magic.*00000803"),
    "no idx": (replace(LABELS, lambda b: b"<htm" + b[4:]), "begin with 3c68746d"),
    "truncated": (replace(IMAGES, lambda b: b[:-1]), r"truncated.*470,399 bytes.*470,400, for \[600, 28, 28\]"),
    "too long": (replace(IMAGES, lambda b: b + b"\0"), "truncated or not MNIST.*470,401 bytes"),
    "sizes beyond 64 bits": (replace(IMAGES, lambda b: b[:4] + b"\xff" * 12 + b[16:]), "470,400 bytes after"),
    "other size": (replace(IMAGES, lambda b: b[:8] + bytes([0, 0, 0, 14, 0, 0, 0, 56]) + b[16:]), "14, 56.*28, 28"),
    "a label too few": (replace(LABELS, lambda b: b[:7] + b"\xc7" + b[8:-1]), "200, 28, 28.*199 labels"),
    "label 10": (replace(LABELS, lambda b: b[:13] + b"\x0a" + b[14:]), "10 at place 5"),
    "no gzip": (lambda raw: (raw / LABELS).rename(raw / f"{LABELS}.gz"), "cannot be read.*[Nn]ot a gzipped file"),
    "a folder": (lambda raw: ((raw / LABELS).unlink(), (raw / LABELS).mkdir()), "missing in.*nothing was downloaded"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_files_are_refused_by_name(what, raw):
    spoil, message = BROKEN[what]
    spoil(raw)
    with pytest.raises(DataError, match=f"(?s){message}") as error:
        mnist.read(raw)
    assert str(raw) in str(error.value) and "-ubyte" in str(error.value)


def test_a_gzipped_file_that_ends_early_is_refused(raw):
    content = (raw / IMAGES).read_bytes()
    (raw / IMAGES).unlink()
    (raw / f"{IMAGES}.gz").write_bytes(gzip.compress(content, compresslevel=1)[:-100])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz cannot be read"):
        mnist.read(raw)


def test_no_digits_at_all_are_refused(raw):
    for prefix in ("t10k-images-idx3", "t10k-labels-idx1"):
        file = raw / f"{prefix}-ubyte"
        head = file.read_bytes()[:16] if "images" in prefix else file.read_bytes()[:8]
        file.write_bytes(head[:4] + bytes(4) + head[8:])
    with pytest.raises(DataError, match="0 labels"):
        mnist.read(raw)


def test_missing_files_are_listed_with_their_md5_and_the_folder(tmp_path):
    with pytest.raises(DataError) as error:
        mnist.read(tmp_path)
    for name, md5 in mnist.FILES.items():
        assert f"{name}  (MD5 {md5} unpacked)" in str(error.value)
    assert str(tmp_path) in str(error.value) and "nothing was downloaded" in str(error.value)


def test_a_file_that_is_missing_is_the_one_that_is_named(raw):
    (raw / LABELS).unlink()
    with pytest.raises(DataError, match=f"got: *{LABELS} missing in {raw}"):
        mnist.read(raw)

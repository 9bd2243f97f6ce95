"""CIFAR-10 and CIFAR-100: binary releases and image folders, plain or in archives; damaged ones are named."""

import io
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from bigstep.config import DataConfig
from bigstep.errors import DataError
from data import stage
from data.sets import cifar
from data.sets.cifar import LAYOUTS
from data.sets.cifar_classes import CIFAR10

# Of the tiny source files of the tests. If it changes, so does every set that anybody has built: only on purpose.
DIGEST = "6b116ebb686b0bf34e372e7d0d10a596e10f587890e448a8630be6d306ef4bdd"
COUNTS = {"train": 324, "validation_biased": 36, "validation": 40, "test": 200}
TEN, HUNDRED = LAYOUTS["cifar10"], LAYOUTS["cifar100"]


def config(folder, kind="cifar10", **changes):
    return DataConfig(kind=kind, path=str(folder), **changes)


def records(folder, names=(*TEN.train, *TEN.test)):
    """Return the records of some files, one row each."""
    raw = b"".join((folder / "cifar-10-batches-bin" / name).read_bytes() for name in names)
    return np.frombuffer(raw, np.uint8).reshape(-1, 3073)


def png(value, size=(32, 32)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, 2 * value, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(classes=CIFAR10, per_class=2):
    """Return the content of an image folder, by path, a colour for each class."""
    paths = [
        (split, k, number) for split in ("train", "test") for k in range(len(classes)) for number in range(per_class)
    ]
    return {f"{split}/{classes[k]}/{number:04}.png": png(k + 10 * number) for split, k, number in paths}


def write(folder, content):
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def write_tar(path, content, prefix="root"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(f"{prefix}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def test_the_bytes_are_pinned(cifar_folder, digest_of):
    assert digest_of(cifar.build(config(cifar_folder))) == DIGEST
    assert digest_of(cifar.build(config(cifar_folder))) == DIGEST
    assert digest_of(cifar.build(config(cifar_folder, seed=1))) != DIGEST


def test_splits_are_stratified_and_hold_every_picture_once(cifar_folder):
    built = cifar.build(config(cifar_folder))
    assert {name: len(part.labels) for name, part in built.parts.items()} == COUNTS
    rows = records(cifar_folder)
    for part in built.parts.values():
        counts = np.bincount(part.labels, minlength=10)
        assert counts.max() - counts.min() <= 1
        assert part.bias.shape == (len(part.labels), 0) and part.bias.dtype == np.int64
        np.testing.assert_array_equal(part.labels, rows[part.ids, 0])
        np.testing.assert_array_equal(
            part.images.transpose(0, 3, 1, 2).reshape(len(part.labels), -1), rows[part.ids, 1:]
        )
        np.testing.assert_array_equal(part.ids, part.sources)
    everything = np.concatenate([part.ids for part in built.parts.values()])
    assert sorted(everything.tolist()) == list(range(600))
    assert (built.parts["test"].ids >= 400).all()
    assert built.attributes == {} and built.labels == list(CIFAR10) and built.name == "CIFAR-10"
    assert built.findings == [
        "train holds 400 pictures, CIFAR-10 has 50,000",
        "test holds 200 pictures, CIFAR-10 has 10,000",
    ]


def test_pictures_are_shuffled(cifar_folder):
    ids = cifar.build(config(cifar_folder)).parts["train"].ids
    assert (np.diff(ids) < 0).mean() > 0.3


def test_the_record_can_be_sealed_without_any_bias(cifar_folder, tmp_path):
    images = stage.run(config(cifar_folder), out=tmp_path)
    assert images.info.attributes == {} and images.split("train").aligned is None
    assert images.info.counts == COUNTS


@pytest.mark.parametrize("inside", ["cifar-10-binary.tar.gz", "."])
def test_the_binary_release_may_be_an_archive_or_lie_in_the_folder_itself(cifar_folder, inside, tmp_path):
    batches = cifar_folder / "cifar-10-batches-bin"
    content = {file.name: file.read_bytes() for file in sorted(batches.iterdir(), reverse=True)}
    if inside == ".":
        write(tmp_path, content)
    else:
        write_tar(tmp_path / inside, {"batches.meta.txt": b"airplane\n"} | content, "cifar-10-batches-bin")
    expected, found = cifar.read(cifar_folder, TEN), cifar.read(tmp_path, TEN)
    np.testing.assert_array_equal(found.train.images, expected.train.images)
    np.testing.assert_array_equal(found.test.labels, expected.test.labels)
    assert any("its MD5 is" in line and TEN.md5[cifar.BINARY] in line for line in found.findings) == (inside != ".")
    assert cifar.files(config(tmp_path)) == sorted(tmp_path / name for name in (content if inside == "." else [inside]))


def test_cifar100_has_fine_labels(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (500, 3074), np.uint8)
    rows[:, 0], rows[:, 1] = 7, np.arange(500) % 100
    write(tmp_path / "cifar-100-binary", {"train.bin": rows[:400].tobytes(), "test.bin": rows[400:].tobytes()})
    built = cifar.build(config(tmp_path, "cifar100"))
    assert built.name == "CIFAR-100" and len(built.labels) == len(set(built.labels)) == 100
    assert built.labels == sorted(built.labels)
    test = built.parts["test"]
    np.testing.assert_array_equal(test.labels, rows[test.ids, 1])
    np.testing.assert_array_equal(test.images[:, 0, 0], rows[test.ids][:, [2, 2 + 1024, 2 + 2048]])
    assert len(built.parts["validation"].labels) == 40 and len(built.parts["train"].labels) == 324


@pytest.mark.parametrize("place", ["cifar10", ".", cifar.JPEG, f"cifar10_jpeg/{cifar.JPEG}"])
def test_images_may_lie_in_folders_or_in_an_archive(place, tmp_path):
    content = pictures() | {"README.md": b"not one", "train/cat/._0000.png": b"of a Mac", "train/notes.txt": b""}
    if place.endswith(".gz"):
        write_tar(tmp_path / place, content)
    else:
        write(tmp_path / place, content)
    found = cifar.read(tmp_path, TEN)
    assert found.train.labels.tolist() == [k for k in range(10) for _ in range(2)]
    np.testing.assert_array_equal(found.train.images[:, 5, 9, 1], [2 * k + 20 * n for k in range(10) for n in range(2)])
    assert found.name == "CIFAR-10" and found.test.images.shape == (20, 32, 32, 3)
    assert len(cifar.files(config(tmp_path))) == (1 if place.endswith(".gz") else 40)


def test_jpeg_pictures_are_called_a_copy(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (9, 9, 9)).save(buffer, "JPEG")
    write(tmp_path, {name.replace(".png", ".jpg"): buffer.getvalue() for name in pictures()})
    assert cifar.read(tmp_path, TEN).name == "CIFAR-10 (JPEG copy)"


def test_an_archive_is_never_unpacked_and_its_links_are_passed_over(tmp_path):
    path = tmp_path / "sources" / cifar.JPEG
    content = {f"../../../{name}": data for name, data in pictures().items()}
    write_tar(path, content, prefix="/etc")
    with tarfile.open(path, "r:gz") as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive]
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("root/train/cat/9999.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    assert len(cifar.read(path.parent, TEN).train.labels) == 20
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == [cifar.JPEG]


def test_a_member_that_is_there_twice_or_too_large_is_refused(tmp_path, monkeypatch):
    path = tmp_path / cifar.JPEG
    write_tar(path, {f"{root}/{name}": data for root in "ab" for name, data in pictures().items()})
    with pytest.raises(DataError, match="is there twice"):
        cifar.read(tmp_path, TEN)
    write_tar(path, pictures())
    monkeypatch.setattr(cifar, "MAX_MEMBER_BYTES", 50)
    with pytest.raises(DataError, match=r"has \d+ bytes"):
        cifar.read(tmp_path, TEN)


@pytest.mark.parametrize("keep", [0, 20, 500])
def test_a_truncated_archive_is_named(keep, tmp_path):
    path = tmp_path / cifar.JPEG
    write_tar(path, pictures())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=cifar.JPEG):
        cifar.read(tmp_path, TEN)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "data_batch_3.bin").unlink(), "data_batch_3.bin missing"),
        (lambda folder: (folder / "test_batch.bin").unlink(), "test_batch.bin missing"),
        (lambda folder: (folder / "data_batch_2.bin").write_bytes(b"\x01" * 3072), "data_batch_2.bin in .* truncated"),
        (lambda folder: (folder / "data_batch_2.bin").write_bytes(b""), "data_batch_2.bin in .* truncated"),
        (lambda folder: (folder / "test_batch.bin").write_bytes(b"\x0a" * 3073), "label 10 in record 0 of test"),
    ],
)
def test_damaged_records_are_named(damage, message, cifar_folder, tmp_path):
    shutil.copytree(cifar_folder / "cifar-10-batches-bin", tmp_path / "cifar-10-batches-bin")
    damage(tmp_path / "cifar-10-batches-bin")
    with pytest.raises(DataError, match=message):
        cifar.read(tmp_path, TEN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train/lynx/0000.png": png(1)}, "but lynx"),
        ({"train/cat/0000.png": png(1, (33, 32))}, r"train/cat/0000.png in .*another size"),
        ({"train/cat/0000.png": b"nothing"}, "train/cat/0000.png in .*not an image"),
        ({"train/cat/0000.png": png(1)[:60]}, "train/cat/0000.png in "),
    ],
)
def test_wrong_pictures_are_named(change, message, tmp_path):
    write(tmp_path, pictures() | change)
    with pytest.raises(DataError, match=message):
        cifar.read(tmp_path, TEN)


def test_another_set_beside_it_is_passed_over(cifar_folder, tmp_path):
    shutil.copytree(cifar_folder / "cifar-10-batches-bin", tmp_path / "cifar-10-batches-bin")
    write(tmp_path, {"train/lynx/1.png": png(1), "test/lynx/2.png": png(1)})
    assert cifar.locate(tmp_path, TEN) == tmp_path / "cifar-10-batches-bin"
    with pytest.raises(DataError, match="CIFAR-100 is not in"):
        cifar.locate(tmp_path, HUNDRED)


def test_a_missing_class_is_named(tmp_path):
    write(tmp_path, {name: data for name, data in pictures().items() if "test/ship" not in name})
    with pytest.raises(DataError, match=r"other classes in test(.|\n)*no ship"):
        cifar.read(tmp_path, TEN)


@pytest.mark.parametrize("kind", ["cifar10", "cifar100"])
def test_without_files_the_message_says_which_and_where_from(kind, tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError) as caught:
        cifar.files(config(tmp_path, kind))
    message = str(caught.value)
    for text in (str(tmp_path), *LAYOUTS[kind].train, *LAYOUTS[kind].md5.values(), "cs.toronto.edu"):
        assert text in message

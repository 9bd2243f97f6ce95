"""The arrays of LfF, as tiny releases: labels, bias, splits, and arrays that are something else."""

import pickle

import numpy as np
import pytest
from PIL import Image

from bigstep.config import DataConfig
from bigstep.errors import ConfigError, DataError
from data.sets import lff

PIXELS = "b87ca453"  # how the digest of all arrays begins
PER_LABEL = 60  # in train, of which 3 conflicting, as at 5 %


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was opened",))


def write(root, folder="ColoredMNIST-Skewed0.05-Severity4", side=6):
    """Write one set: pixels say label, bias and row."""
    labels = np.repeat(np.arange(10), PER_LABEL)
    bias = labels.copy()
    bias[::20] = (labels[::20] + 1 + np.arange(len(labels[::20])) % 9) % 10
    valid = np.stack(np.divmod(np.arange(500) % 100, 10), axis=1)
    for split, attrs in (("train", np.stack([labels, bias], axis=1)), ("valid", valid)):
        images = np.zeros((len(attrs), side, side, 3), dtype=np.uint8)
        images[..., :2] = 20 * attrs[:, None, None, :]
        images[:, :, side // 2 :, 2] = (np.arange(len(attrs)) % 256)[:, None, None]
        (root / folder / split).mkdir(parents=True)
        np.save(root / folder / split / "images.npy", images)
        np.save(root / folder / split / "attrs.npy", attrs.astype(np.uint8))
    (root / folder / "attr_names.pkl").write_bytes(pickle.dumps(Bomb()))
    return root / folder


def config(root, **settings):
    return DataConfig.model_validate({"kind": "lff", "path": str(root)} | settings)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lff")
    write(folder)
    return folder


def test_bytes_are_pinned_and_the_pickle_beside_them_stays_closed(root, digest_of):
    assert digest_of(lff.build(config(root)))[:8] == PIXELS


def test_the_pickle_beside_them_would_have_been_noticed(root):
    with pytest.raises(pytest.fail.Exception, match="the pickle was opened"):
        pickle.loads((root / "ColoredMNIST-Skewed0.05-Severity4" / "attr_names.pkl").read_bytes())


def test_pixels_labels_and_bias_belong_together(root):
    built = lff.build(config(root))
    assert built.attributes == {"colour": [str(value) for value in range(10)]} and len(built.labels) == 10
    assert (built.input.height_px, built.input.width_px) == (6, 6)
    for name, part in built.parts.items():
        np.testing.assert_array_equal(part.images[:, 0, 0, 0], 20 * part.labels)
        np.testing.assert_array_equal(part.images[:, 5, 5, 1], 20 * part.bias[:, 0])
        row = part.ids - (0 if name in ("train", "validation_biased") else 600)
        np.testing.assert_array_equal(part.images[:, 5, 5, 2], row % 256)
        assert not isinstance(part.images, np.memmap)  # it would keep the source files open


def test_a_part_of_train_has_its_bias_and_a_fifth_of_valid_none(root):
    parts = lff.build(config(root)).parts
    assert {name: len(part.labels) for name, part in parts.items()} == {
        "train": 570,
        "validation_biased": 30,
        "validation": 100,
        "test": 400,
    }
    biased = parts["validation_biased"]
    assert np.bincount(biased.labels).tolist() == [3] * 10
    conflicting = biased.labels[biased.labels != biased.bias[:, 0]]
    assert np.bincount(conflicting, minlength=10).max() <= 1  # 3 of each label's 60 conflict: 0.15 of 3, within one
    for name, per_cell in (("validation", 1), ("test", 4)):
        cells = np.bincount(10 * parts[name].labels + parts[name].bias[:, 0], minlength=100)
        assert (cells == per_cell).all()
    ids = np.concatenate([part.ids for part in parts.values()])
    assert sorted(ids) == list(range(1100))


@pytest.mark.parametrize(
    ("variant", "settings", "folder", "value"),
    [
        ("CorruptedCIFAR10-Type0", {"conflicting": 0.005, "severity": 1}, "Skewed0.005-Severity1", "saturate"),
        ("CorruptedCIFAR10-Type1", {"conflicting": 0.02}, "Skewed0.02-Severity4", "original"),
    ],
)
def test_the_folder_is_chosen_by_variant_ratio_and_severity(tmp_path, variant, settings, folder, value):
    write(tmp_path, f"{variant}-{folder}", side=4)
    built = lff.build(config(tmp_path, variant=variant, **settings))
    assert built.name == f"{variant} (LfF)" and built.labels[9] == "truck"
    assert built.attributes["corruption"][9] == value
    with pytest.raises(DataError, match=rf"(?s){variant}-{folder}.*Skewed0\.01.*make_dataset"):
        lff.build(config(tmp_path, variant=variant, **settings | {"conflicting": 0.01}))


def test_images_are_scaled_as_the_server_does(root):
    plain, large = lff.build(config(root)), lff.build(config(root, size_px=9))
    assert large.input.height_px == 9 and large.parts["test"].images.shape == (400, 9, 9, 3)
    expected = Image.fromarray(plain.parts["test"].images[3]).resize((9, 9), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(large.parts["test"].images[3], np.asarray(expected))


def test_findings_say_what_test_is_and_which_counts_are_not_theirs(root):
    assert lff.build(config(root)).findings == [
        "test is 80 % of the images on which LfF reports; the others are validation",
        "train: 570 / 30 images aligned / conflicting, where the release has 57,000 / 3,000",
    ]


def test_the_official_counts_add_up():
    assert {sum(counts) for counts in lff.MNIST.values()} == {60000}
    assert {sum(counts) for counts in lff.CIFAR.values()} == {50000}


def test_an_unknown_variant_is_refused(root):
    with pytest.raises(ConfigError, match=r"(?s)'type0'.*CorruptedCIFAR10-Type0"):
        lff.build(config(root, variant="type0"))


@pytest.mark.parametrize("name", ["train/images.npy", "valid/attrs.npy"])
def test_a_missing_file_is_named(tmp_path, name):
    (write(tmp_path) / name).unlink()
    with pytest.raises(DataError, match=rf"(?s)expected: {name}"):
        lff.files(config(tmp_path))


def test_files_are_the_four_arrays(root):
    base = root / "ColoredMNIST-Skewed0.05-Severity4"
    assert sorted(lff.files(config(root))) == sorted(base.rglob("*.npy"))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("train/images.npy", np.zeros((600, 6, 6, 3), np.float32)),
        ("train/images.npy", np.zeros((600, 6, 5, 3), np.uint8)),
        ("train/images.npy", np.zeros((600, 3, 6, 6), np.uint8)),
        ("train/images.npy", np.zeros((600, 6, 6), np.uint8)),
        ("train/images.npy", np.uint8(1)),
        ("train/images.npy", np.zeros((0, 6, 6, 3), np.uint8)),
        ("train/attrs.npy", np.zeros((599, 2), np.uint8)),
        ("train/attrs.npy", np.zeros(600, np.uint8)),
        ("train/attrs.npy", np.zeros((600, 2), np.int64)),
        ("valid/attrs.npy", np.full((500, 2), 10, np.uint8)),
        ("valid/attrs.npy", np.array([Bomb()], dtype=object)),
    ],
)
def test_arrays_of_another_form_are_refused_by_name(tmp_path, name, array):
    np.save(write(tmp_path) / name, array, allow_pickle=True)
    with pytest.raises(DataError, match=name):
        lff.build(config(tmp_path))


@pytest.mark.parametrize("content", [b"", b"no array", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_files_that_hold_no_array_are_refused(tmp_path, content):
    (write(tmp_path) / "train" / "images.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"images\.npy is not an array"):
        lff.build(config(tmp_path))


def test_a_truncated_array_is_refused(tmp_path):
    file = write(tmp_path) / "train" / "images.npy"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"images\.npy is not an array"):
        lff.build(config(tmp_path))

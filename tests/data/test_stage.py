"""The sealed record of coloured digits: the same bytes for ever, exact counts, independent test colours."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from bigstep.config import DataConfig
from bigstep.records.images import Images
from bigstep.records.sealed import read_manifest
from data import stage
from verify.report.group_table import group_table

# Over the hashes of all files but the contact sheet, whose compression belongs to Pillow. If it changes, every number
# in docs and reports changes: do so only on purpose.
DEFAULT_CONTENT = "e7b538be6b5827ceb86c56bb73f680fc2457ed38ed1bc2d8ad8924919115aa58"
SPLITS = ("train", "validation_biased", "validation", "test")


def test_the_default_record_has_the_pinned_content(images):
    files = read_manifest(images.folder).files
    lines = [f"{files[name].sha256} {name}" for name in sorted(files) if not name.endswith(".png")]
    assert len(lines) == 4 * 5 + 1
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == DEFAULT_CONTENT


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(images, tmp_path):
    (tmp_path / "same").mkdir()
    (tmp_path / "other").mkdir()
    same = stage.run(DataConfig(), out=tmp_path / "same")
    other = stage.run(DataConfig(seed=1), out=tmp_path / "other")
    for file in sorted(images.folder.iterdir()):
        assert (same.folder / file.name).read_bytes() == file.read_bytes(), file.name
    assert other.digest != images.digest
    assert not np.array_equal(other.split("train").images, images.split("train").images)


def test_the_record_opens_again_from_the_disk(images):
    opened = Images.open(images.folder)
    assert opened.digest == images.digest and opened.info == images.info


def test_counts_by_split_and_group(images):
    assert images.info.counts == {"train": 1007, "validation_biased": 100, "validation": 3300, "test": 3600}
    conflicting = {name: int((~images.split(name).aligned).sum()) for name in SPLITS}
    assert conflicting == {"train": 50, "validation_biased": 5, "validation": 2970, "test": 3240}


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_is_well_formed(images, name):
    split = images.split(name)
    n = images.info.counts[name]
    assert split.images.shape == (n, 16, 16, 3) and split.images.dtype == np.uint8
    assert split.labels.shape == split.ids.shape == split.sources.shape == (n,)
    assert split.bias.shape == (n, 1)
    assert len(np.unique(split.ids)) == n
    assert split.labels.dtype == split.bias.dtype == split.ids.dtype == split.sources.dtype == np.int64


@pytest.mark.parametrize("name", ["validation", "test"])
def test_held_out_digits_appear_in_all_ten_colours(images, name):
    split = images.split(name)
    sources, counts = np.unique(split.sources, return_counts=True)
    assert (counts == 10).all()
    for source in sources[:20]:
        mask = split.sources == source
        assert sorted(split.bias[mask, 0].tolist()) == list(range(10))
        assert len(np.unique(split.labels[mask])) == 1
        brightness = split.images[mask].max(axis=3)  # the brightest channel is the grey picture
        assert (brightness == brightness[0]).all()


def test_no_digit_is_in_two_splits(images):
    seen: set[int] = set()
    for name in SPLITS:
        sources = set(images.split(name).sources.tolist())
        assert not seen & sources
        seen |= sources
    assert len(seen) == 1797


def test_labels_are_in_the_pictures_not_only_in_the_colours(images):
    from sklearn.datasets import load_digits

    split = images.split("test")
    np.testing.assert_array_equal(split.labels, load_digits().target[split.sources])


@pytest.mark.parametrize(("share", "train", "biased"), [(0.0, 0, 0), (0.2, 201, 20), (0.8, 806, 80)])
def test_the_share_of_conflicting_images_is_what_was_asked(share, train, biased, tmp_path):
    record = stage.run(DataConfig(conflicting=share), out=tmp_path)
    for name, expected in [("train", train), ("validation_biased", biased)]:
        split = record.split(name)
        assert (split.bias[:, 0] != split.labels).sum() == expected


def test_aligned_means_the_colour_that_training_shows_more_often(images):
    assert images.info.aligned["colour"] == np.eye(10, dtype=bool).tolist()
    assert images.value_names() == {"label": [str(i) for i in range(10)], "colour": images.info.attributes["colour"]}


def test_the_group_table_counts_what_is_there(images):
    lines = group_table(images).splitlines()
    rows = {line.split()[0]: [int(n.replace(",", "")) for n in line.split()[1:]] for line in lines[1:]}
    assert lines[0].split() == ["split", "images", "aligned", "conflicting", "smallest", "cell"]
    assert rows["train"][:3] == [1007, 957, 50]
    assert rows["validation_biased"][:3] == [100, 95, 5]
    assert rows["validation"][:3] == [3300, 330, 2970]
    assert rows["test"][:3] == [3600, 360, 3240]
    for name, row in rows.items():
        split = images.split(name)
        cells = np.bincount(split.labels * 10 + split.bias[:, 0], minlength=100)
        assert row[3] == cells.min()


def test_the_contact_sheet_shows_the_first_training_images(images):
    with Image.open(images.folder / "contact_sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape == (10 * 50 + 2, 24 * 50 + 2, 3)
    train = images.split("train")
    first_of_label_1 = train.images[np.flatnonzero(train.labels == 1)[0]]
    np.testing.assert_array_equal(pixels[52 : 52 + 48 : 3, 2 : 2 + 48 : 3], first_of_label_1)


def test_training_images_that_come_sorted_are_mixed_and_stay_whole(tmp_path):
    """INT8 ranges are read off the first images: they must not all be of one class."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for label in ("cat", "dog", "owl"):
        (tmp_path / "images" / label).mkdir()
        for n in range(30):
            pixels = rng.integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
            pixels[0, 0] = len(label), ord(label[0]), 0
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{n}.png")
    (tmp_path / "out").mkdir()
    made = stage.run(DataConfig(kind="folder", path=str(tmp_path / "images"), size_px=8), out=tmp_path / "out")
    train = made.split("train")
    assert set(train.labels[:12]) == {0, 1, 2}
    marks = {label: ord(name[0]) for label, name in enumerate(made.info.labels)}
    assert [marks[label] for label in train.labels.tolist()] == train.images[:, 0, 0, 1].tolist()
    assert made.info.attributes == {} and train.aligned is None
    assert group_table(made).splitlines()[1].split()[2:4] == ["-", "-"]

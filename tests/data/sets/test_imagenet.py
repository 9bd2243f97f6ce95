"""ImageNet's class folders, as a tiny release: classes, splits without any bias, and misplaced images."""

import numpy as np
import pytest
from PIL import Image

from bigstep.config import DataConfig
from bigstep.errors import DataError
from bigstep.records.images import Images
from data import stage
from data.sets import imagenet
from verify.report.group_table import group_table

CLASSES = ["n01440764", "n01443537", "n02"]
TRAIN, VAL = [40, 20, 10], [3, 2, 4]
PIXELS = "092d3a89"  # how the digest of all arrays begins


def write(root, place=""):
    """Write class folders, the last class first; red is the class, green tells val from train, blue is the number."""
    for split, counts in (("val", VAL), ("train", TRAIN)):
        for code, count in reversed(list(enumerate(counts))):
            folder = root / place / split / CLASSES[code]
            folder.mkdir(parents=True)
            for number in reversed(range(count)):
                image = Image.new("RGB", (7, 5), (60 * code, 200 * (split == "val"), number))
                image.save(folder / f"{CLASSES[code]}_{number:02}.JPEG", "PNG")


def config(root, **settings):
    return DataConfig.model_validate({"kind": "imagenet", "path": str(root), "size_px": 4} | settings)


@pytest.fixture
def build(decoded):
    return lambda config: decoded(imagenet.build(config))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagenet")
    write(folder)
    return folder


@pytest.fixture
def own(tmp_path):
    write(tmp_path)
    return tmp_path


@pytest.mark.parametrize("place", ["", "imagenet", "ILSVRC/Data/CLS-LOC"])
def test_every_place_gives_the_same_pinned_bytes(place, tmp_path, digest_of, build):
    write(tmp_path, place)
    assert digest_of(build(config(tmp_path)))[:8] == PIXELS


def test_test_is_val_and_three_parts_of_train_share_no_picture(root, build):
    built = build(config(root))
    assert built.labels == CLASSES and built.attributes == {}
    counts = {name: np.bincount(part.labels, minlength=3).tolist() for name, part in built.parts.items()}
    assert counts == {"train": [36, 18, 8], "validation_biased": [2, 1, 1], "validation": [2, 1, 1], "test": VAL}
    ids = np.concatenate([part.ids for part in built.parts.values()])
    assert sorted(ids) == list(range(sum(TRAIN) + sum(VAL)))
    for name, part in built.parts.items():
        assert part.bias.shape == (len(part.labels), 0) and part.bias.dtype == np.int64
        np.testing.assert_array_equal(part.images[:, 0, 0, 0], 60 * part.labels)
        assert set(part.images[:, 1, 2, 1]) == ({200} if name == "test" else {0})


def test_the_record_has_no_aligned_images_and_its_table_can_be_counted(root, tmp_path, monkeypatch):
    monkeypatch.setitem(stage.BUILDERS, "imagenet", "data.sets.imagenet")
    images = stage.run(config(root), out=tmp_path)
    assert isinstance(images, Images) and images.split("test").aligned is None
    assert images.info.aligned == {}
    assert "train" in group_table(images)


def test_counts_that_are_not_those_of_the_release_are_findings(root, build):
    assert build(config(root)).findings == [
        "labels: 3 classes, where the release has 1,000",
        "train: 70 images, where the release has 1,281,167",
        "val: 9 images, where the release has 50,000",
    ]


def test_files_are_all_images_and_nothing_hidden(own):
    (own / "train" / "n02" / "._n02_00.JPEG").write_bytes(b"what macOS leaves behind")
    (own / "train" / "LOC_synset_mapping.txt").write_text("n02 animal")
    expected = [file for split in ("train", "val") for file in sorted((own / split).rglob("n*.JPEG"))]
    assert imagenet.files(config(own)) == expected


@pytest.mark.parametrize("missing", ["train", "val"])
def test_a_missing_folder_is_named(own, missing, build):
    (own / missing).rename(own / "elsewhere")
    with pytest.raises(DataError, match=rf"(?s)elsewhere.*expected: {missing}.*ILSVRC2012_img_val\.tar"):
        build(config(own))


def test_val_without_class_folders_is_refused_with_the_remedy(own, build):
    (own / "val" / "n02" / "n02_00.JPEG").rename(own / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(DataError, match=r"(?s)1 images, ILSVRC2012_val_0.*move every image into the folder"):
        build(config(own))


def test_a_class_that_train_lacks_is_refused(own, build):
    (own / "val" / "n02").rename(own / "val" / "n03")
    with pytest.raises(DataError, match=r"(?s)val holds images that are in no class of train.*n03/n02_00"):
        build(config(own))


def test_empty_folders_are_refused(tmp_path, build):
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match="has no images"):
        build(config(tmp_path))


def test_a_damaged_image_is_named(own, build):
    damaged = own / "train" / "n02" / "n02_03.JPEG"
    damaged.write_bytes(damaged.read_bytes()[:50])
    with pytest.raises(DataError, match=str(damaged)):
        build(config(own))


def test_the_default_side_is_224(own, build):
    assert build(config(own, size_px=None)).input.width_px == 224

"""The folders of DFA, as tiny releases: labels from file names, both spellings, and every place of valid and test."""

import numpy as np
import pytest
from PIL import Image

from bigstep.config import DataConfig
from bigstep.errors import ConfigError, DataError
from data.sets import dfa

PIXELS = "9c5d5c4d"  # how the digest of all arrays begins


def write(root, name="cmnist", ratio="5pct", conflict="conflict", classes=10):
    """Write a set as its authors lay it out: valid is flat for cmnist, and for bffhq beside the ratio, like test."""
    base = root / name
    aligned = [(label, label) for label in range(classes)]
    crossed = [(label, (label + 1) % classes) for label in range(classes)]
    everywhere = [(label, bias) for label in range(classes) for bias in range(classes)]
    valid = base / "valid" if name == "bffhq" else base / ratio / "valid"
    flat = name == "bffhq"
    number = 0
    for folder, pairs, by_class in (
        (base / ratio / "align", aligned * 38, True),
        (base / ratio / conflict, crossed * 2, True),
        (valid, aligned + crossed, name == "cifar10c"),
        (base / "test", everywhere, not flat),
    ):
        for label, bias in pairs:
            place = folder / str(label) if by_class else folder
            place.mkdir(parents=True, exist_ok=True)
            number += 1
            image = Image.new("RGB", (5, 5), (20 * label, 20 * bias, 7))
            image.save(place / f"{number}_{label}_{bias}.png")
    return base


def config(root, **settings):
    return DataConfig.model_validate({"kind": "dfa", "path": str(root), "size_px": 5} | settings)


@pytest.fixture
def build(decoded):
    return lambda config: decoded(dfa.build(config))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dfa")
    write(folder)
    return folder


@pytest.mark.parametrize(("conflict", "place"), [("conflict", ""), ("conlict", ""), ("conflict", "dataset")])
def test_both_spellings_and_places_give_the_same_pinned_bytes(conflict, place, tmp_path, digest_of, build):
    write(tmp_path / place, conflict=conflict)
    assert digest_of(build(config(tmp_path)))[:8] == PIXELS


@pytest.mark.parametrize(
    ("name", "settings", "classes", "attribute"),
    [
        ("cmnist", {}, 10, "colour"),
        ("cifar10c", {"conflicting": 0.02}, 10, "corruption"),
        ("bffhq", {"conflicting": 0.005}, 2, "gender"),
    ],
)
def test_labels_and_bias_are_those_of_the_file_names(tmp_path, name, settings, classes, attribute, build):
    write(tmp_path, name, f"{100 * settings.get('conflicting', 0.05):g}pct", classes=classes)
    built = build(config(tmp_path, variant=name, **settings))
    assert len(built.labels) == classes and [len(values) for values in built.attributes.values()] == [classes]
    assert list(built.attributes) == [attribute]
    for part in built.parts.values():
        np.testing.assert_array_equal(part.images[:, 2, 2, 0], 20 * part.labels)
        np.testing.assert_array_equal(part.images[:, 2, 2, 1], 20 * part.bias[:, 0])
    counts = {key: len(part.labels) for key, part in built.parts.items()}
    assert counts == {
        "train": 38 * classes,
        "validation_biased": 2 * classes,
        "validation": 2 * classes,
        "test": classes**2,
    }
    ids = np.concatenate([part.ids for part in built.parts.values()])
    assert sorted(ids) == list(range(42 * classes + classes**2))


def test_held_out_images_are_a_twentieth_of_every_label(root, build):
    parts = build(config(root)).parts
    assert np.bincount(parts["validation_biased"].labels).tolist() == [2] * 10
    conflicting = sum(
        int((parts[name].labels != parts[name].bias[:, 0]).sum()) for name in ("train", "validation_biased")
    )
    assert conflicting == 20


@pytest.mark.parametrize(("variant", "side"), [("cmnist", 28), ("cifar10c", 32), ("bffhq", 128)])
def test_the_default_side_is_that_of_the_release(tmp_path, variant, side, build):
    classes = 2 if variant == "bffhq" else 10
    write(tmp_path, variant, classes=classes)
    assert build(config(tmp_path, variant=variant, size_px=None)).input.width_px == side


def test_findings_count_validation_and_what_differs_from_the_release(root, build):
    assert build(config(root)).findings == [
        "validation is as released: 10 aligned and 10 conflicting images",
        "train: 380 / 20 images aligned / conflicting, where the release has 52,551 / 2,449",
    ]


def test_the_official_counts_of_digits_and_faces_add_up():
    assert {sum(counts) for counts in dfa.CMNIST.values()} == {55000}
    assert sum(dfa.VARIANTS["bffhq"].counts["0.5pct"]) == 19200


def test_files_are_all_images(root):
    assert sorted(dfa.files(config(root))) == sorted((root / "cmnist").rglob("*.png"))


def test_a_ratio_that_is_not_there_lists_those_that_are(root, build):
    with pytest.raises(DataError, match=r"(?s)5pct, test.*expected: 1pct.*data\.conflicting"):
        build(config(root, conflicting=0.01))


@pytest.mark.parametrize("folder", ["align", "conflict", "valid"])
def test_a_missing_folder_is_named(tmp_path, folder, build):
    (write(tmp_path) / "5pct" / folder).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=rf"(?s)source files are missing.*{folder}.*Google Drive"):
        build(config(tmp_path))


def test_a_set_that_is_not_there_is_named(root, build):
    with pytest.raises(DataError, match=r"(?s)cmnist.*bffhq or dataset/bffhq"):
        build(config(root, variant="bffhq"))


def test_an_unknown_variant_is_refused(root, build):
    with pytest.raises(ConfigError, match=r"(?s)'mnist'.*one of cmnist, cifar10c, bffhq"):
        build(config(root, variant="mnist"))


@pytest.mark.parametrize(
    "name", ["digit.png", "3_4.png", "1_10_0.png", "1_0_10.png", "1_0_-1.png", "1_0_.png", "1_²_0.png"]
)
def test_a_file_name_without_label_and_bias_is_refused(tmp_path, name, build):
    Image.new("RGB", (5, 5)).save(write(tmp_path) / "5pct" / "align" / "0" / name)
    with pytest.raises(DataError, match=r"(?s)says no label and bias.*<label below 10>_<bias below 10>"):
        build(config(tmp_path))


def test_a_damaged_image_is_named(tmp_path, build):
    damaged = write(tmp_path) / "test" / "0" / next((tmp_path / "cmnist" / "test" / "0").iterdir()).name
    damaged.write_bytes(b"")
    with pytest.raises(DataError, match=str(damaged)):
        build(config(tmp_path))

"""Waterbirds in both layouts, as tiny releases: labels, places, splits, and what is said of a wrong table."""

import numpy as np
import pytest
from PIL import Image

from bigstep.config import DataConfig
from bigstep.errors import DataError
from data.sets import waterbirds

LAYOUTS = {"archive": "waterbird_complete95_forest2water2", "wilds": "waterbirds_v1.0", "the folder itself": "."}
HEADER = "img_id,img_filename,y,split,place,place_filename\n"
TRAIN = {(0, 0): 41, (0, 1): 3, (1, 0): 2, (1, 1): 20}
HELD_OUT = {(0, 0): 2, (0, 1): 2, (1, 0): 1, (1, 1): 1}
PIXELS = "ff82ccae"  # how the digest of all arrays begins


def rows():
    """Yield (y, place, split) of a tiny release, interleaved so that neither sorts by row."""
    for split, cells in ((2, HELD_OUT), (0, TRAIN), (1, HELD_OUT)):
        for (y, place), count in cells.items():
            yield from [(y, place, split)] * count


def write(root, folder):
    """Write a release whose ids run against the order of its rows; red is the label, green the place, blue the id."""
    base = root / folder
    lines = []
    for number, (y, place, split) in enumerate(rows()):
        img_id = 500 - number
        name = f"{y:03}.Some_bird/Some_bird_{img_id:04}.jpg"
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (200 * y, 200 * place, img_id % 256)).save(base / name, "PNG")
        lines.append(f'{img_id},{name},{y},{split},{place},/o/ocean/"{number}".jpg'.replace('"', ""))
    (base / "metadata.csv").write_text(HEADER + "\n".join(lines) + "\n")
    return base


def config(root, **settings):
    return DataConfig.model_validate({"kind": "waterbirds", "path": str(root), "size_px": 8} | settings)


@pytest.fixture
def build(decoded):
    return lambda config: decoded(waterbirds.build(config))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("waterbirds")
    write(folder, LAYOUTS["archive"])
    return folder


@pytest.fixture
def own(tmp_path):
    write(tmp_path, ".")
    return tmp_path


def change(root, old, new):
    table = root / "metadata.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_pinned_bytes(layout, tmp_path, digest_of, build):
    write(tmp_path, LAYOUTS[layout])
    assert digest_of(build(config(tmp_path)))[:8] == PIXELS


def test_pictures_labels_and_places_belong_together(root, build):
    built = build(config(root))
    assert built.labels == ["landbird", "waterbird"] and built.attributes == {"place": ["land", "water"]}
    assert (built.input.height_px, built.input.width_px, built.input.fit) == (8, 8, "stretch")
    for part in built.parts.values():
        assert part.images.shape == (len(part.labels), 8, 8, 3)
        np.testing.assert_array_equal(part.images[:, 0, 0, 0], 200 * part.labels)
        np.testing.assert_array_equal(part.images[:, 4, 4, 1], 200 * part.bias[:, 0])
        np.testing.assert_array_equal(part.images[:, 7, 7, 2], part.ids % 256)
        assert (np.diff(part.ids) > 0).all()


def test_held_out_splits_are_as_released_and_a_part_of_train_is_validation_biased(root, build):
    built = build(config(root))
    cells = {
        name: [int(((part.labels == y) & (part.bias[:, 0] == place)).sum()) for y, place in TRAIN]
        for name, part in built.parts.items()
    }
    assert cells["validation"] == cells["test"] == list(HELD_OUT.values())
    assert np.add(cells["train"], cells["validation_biased"]).tolist() == list(TRAIN.values())
    assert [sum(cells["validation_biased"][:2]), sum(cells["validation_biased"][2:])] == [2, 1]
    ids = np.concatenate([part.ids for part in built.parts.values()])
    assert len(np.unique(ids)) == len(ids) == sum(TRAIN.values()) + 2 * sum(HELD_OUT.values())


def test_the_seed_decides_only_what_is_held_out_of_train(root, digest_of, build):
    built, other = build(config(root)), build(config(root, seed=1))
    assert digest_of(built) != digest_of(other)
    np.testing.assert_array_equal(built.parts["test"].images, other.parts["test"].images)


def test_counts_that_are_not_those_of_the_release_are_findings(root, monkeypatch, build):
    findings = build(config(root)).findings
    assert (
        findings[0] == "train: 41 / 3 / 2 / 20 images per label x place, where the release has 3,498 / 184 / 56 / 1,057"
    )
    assert len(findings) == 3
    monkeypatch.setitem(waterbirds.COUNTS, "train", tuple(TRAIN.values()))
    assert len(build(config(root)).findings) == 2


def test_the_official_counts_add_up():
    assert {name: sum(counts) for name, counts in waterbirds.COUNTS.items()} == {
        "train": 4795,
        "validation": 1199,
        "test": 5794,
    }


def test_files_are_the_table_and_every_picture(root):
    files = waterbirds.files(config(root))
    base = root / LAYOUTS["archive"]
    assert files[0] == base / "metadata.csv"
    assert set(files[1:]) == set(base.rglob("*.jpg"))


def test_without_the_table_the_message_says_where_to_get_it(tmp_path, build):
    (tmp_path / "holiday").mkdir()
    with pytest.raises(DataError, match=r"(?s)holiday.*metadata\.csv or waterbird_complete95.*nlp\.stanford\.edu"):
        build(config(tmp_path))


@pytest.mark.parametrize("do", [waterbirds.files, waterbirds.build])
def test_missing_pictures_are_counted_and_named(own, do):
    gone = sorted(own.rglob("*.jpg"))[:7]
    for file in gone:
        file.unlink()
    with pytest.raises(DataError, match=r"7 of \d+ are not there.*and 2 more"):
        do(config(own))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("place,place_filename", "where,place_filename", "lacks columns(?s:.*)expected: place"),
        ("500,", "501,501,", "line 2: wrong number of fields"),
        (",0,2,0,", ",2,2,0,", r"line 2: wrong value(?s:.*)y = '2'(?s:.*)one of 0, 1"),
        (",0,2,0,", ",0,3,0,", r"line 2: wrong value(?s:.*)split = '3'"),
        ("499,", "500,", r"line 3: wrong value(?s:.*)img_id: 500 a second time"),
        ("499,", "x,", r"line 3: wrong value(?s:.*)img_id: 'x'"),
        ("000.Some_bird/Some_bird_0500", "../secret", "outside its folder"),
        ("000.Some_bird/Some_bird_0500", "/etc/secret", "outside its folder"),
        ("500", "5\xe900", "whole number"),
    ],
)
def test_a_wrong_table_is_refused_by_line(own, old, new, message, build):
    change(own, old, new)
    with pytest.raises(DataError, match=message):
        build(config(own))


def test_a_folder_in_place_of_the_table_is_refused(own, build):
    (own / "metadata.csv").unlink()
    (own / "metadata.csv").mkdir()
    with pytest.raises(DataError, match=r"metadata\.csv is not a table that can be read"):
        build(config(own))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00y", b"\x00" * 90])
def test_a_table_that_is_none_is_refused(own, content, build):
    (own / "metadata.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"metadata\.csv"):
        build(config(own))


def test_a_byte_order_mark_and_a_last_empty_line_do_no_harm(own, digest_of, build):
    table = own / "metadata.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert digest_of(build(config(own)))[:8] == PIXELS


def test_a_split_without_pictures_is_refused(own, build):
    table = own / "metadata.csv"
    table.write_text(HEADER)
    with pytest.raises(DataError, match="split train has no images"):
        build(config(own))

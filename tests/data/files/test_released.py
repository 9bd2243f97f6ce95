"""Releases before they are decoded: rows by split, parts carved out of train, counts against those released."""

from dataclasses import replace

import numpy as np
import pytest

from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec
from data.files.released import Release, differences, numbered_splits


@pytest.fixture
def release(tmp_path):
    """Return forty images to train on, two to validate and one to test with, all of them files with bytes."""
    files = [f"{row:02}.png" for row in range(43)]
    for file in files:
        (tmp_path / file).write_bytes(file.encode())
    rows = np.arange(43)
    splits = {"train": rows[:40], "validation": rows[40:42], "test": rows[42:]}
    return Release(tmp_path, files, rows % 2, rows[:, None] // 2 % 2, 100 + rows, splits, tables=[tmp_path / "t.csv"])


def test_numbered_splits_follow_the_ids():
    splits = numbered_splits(np.array([30, 10, 20, 40]), np.array([0, 0, 2, 1]))
    assert {name: rows.tolist() for name, rows in splits.items()} == {"train": [1, 0], "validation": [3], "test": [2]}


def test_a_twentieth_of_train_is_carved_out_and_the_rest_stays(release):
    carved = release.carved(release.bias[:, 0], seed=0)
    assert {name: len(rows) for name, rows in carved.splits.items()} == {
        "train": 38,
        "validation_biased": 2,
        "validation": 2,
        "test": 1,
    }
    both = np.concatenate([carved.splits["train"], carved.splits["validation_biased"]])
    assert sorted(both) == list(range(40))
    assert release.labels[carved.splits["validation_biased"]].tolist() in ([0, 1], [1, 0])


def test_parts_hold_what_belongs_to_a_file(release):
    parts = release.parts(InputSpec(height_px=4, width_px=4), None)
    validation = parts["validation"]
    assert validation.ids.tolist() == validation.sources.tolist() == [140, 141]
    assert [validation.images.sources.paths[row] for row in validation.images.rows] == ["40.png", "41.png"]
    assert (validation.labels.tolist(), validation.bias.tolist()) == ([0, 1], [[0], [0]])


def test_an_empty_split_and_a_missing_file_are_named(release):
    spec = InputSpec(height_px=4, width_px=4)
    with pytest.raises(DataError, match="split test has no images"):
        replace(release, splits={**release.splits, "test": np.array([], dtype=np.int64)}).parts(spec, None)
    (release.root / "07.png").unlink()
    for refuse in (lambda: release.parts(spec, None), release.source_files):
        with pytest.raises(DataError, match=r"1 of 43 are not there: .*07\.png"):
            refuse()


def test_source_files_are_the_tables_and_the_images(release):
    assert [path.name for path in release.source_files()] == ["t.csv", *release.files]


def test_counts_are_told_where_they_are_not_those_of_the_release(release):
    cells = release.bias[:, 0]
    assert release.differences(cells, {"train": (20, 20), "test": (0, 1)}, "images") == []
    told = release.differences(cells, {"train": (20, 1020), "test": (0, 1)}, "images per place")
    assert told == ["train: 20 / 20 images per place, where the release has 20 / 1,020"]
    assert differences("val", [3], [3], "images") == []

"""Class folders: layouts, what lies about in them, and links."""

import pytest

from bigstep.errors import DataError
from data.files.class_folders import read_listing


def make(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return root


def rows(root):
    return [(row.path, row.label, row.split) for row in read_listing(root).rows]


def found(root):
    return {finding.what: list(finding.concerns) for finding in read_listing(root).findings}


def test_a_folder_is_a_class_and_paths_are_in_order(tmp_path):
    make(tmp_path, "dog/b.JPEG", "dog/a.Tif", "cat 1/x.png", "né/y.webp")
    assert rows(tmp_path) == [
        ("cat 1/x.png", "cat 1", None),
        ("dog/a.Tif", "dog", None),
        ("dog/b.JPEG", "dog", None),
        ("né/y.webp", "né", None),
    ]
    assert found(tmp_path) == {}


@pytest.mark.parametrize("validation", ["val", "valid", "Validation", "dev"])
def test_folders_named_like_splits_give_the_splits(tmp_path, validation):
    make(tmp_path, "Train/cat/a.png", f"{validation}/cat/b.png", "test/cat/c.png")
    assert sorted(rows(tmp_path), key=lambda row: row[2]) == [
        ("test/cat/c.png", "cat", "test"),
        ("Train/cat/a.png", "cat", "train"),
        (f"{validation}/cat/b.png", "cat", "validation"),
    ]


@pytest.mark.parametrize("names", [("train", "car", "boat"), ("test", "validation"), ("0", "1", "2")])
def test_labels_named_like_splits_stay_labels(tmp_path, names):
    """A train is a vehicle, and 0, 1 and 2 are digits."""
    make(tmp_path, *(f"{name}/a.png" for name in names))
    assert {label for _, label, _ in rows(tmp_path)} == set(names)
    assert {split for _, _, split in rows(tmp_path)} == {None}


def test_folders_beside_the_splits_are_an_error(tmp_path):
    make(tmp_path, "train/cat/a.png", "test/cat/b.png", "more/cat/c.png")
    assert found(tmp_path) == {"images beside the folders train, validation and test": ["more/cat/c.png"]}


def test_what_lies_about_is_left_out_and_counted(tmp_path):
    make(tmp_path, "cat/a.png", "logo.png", "cat/deep/b.png", "cat/notes.txt", "cat/Thumbs.db", ".git/x.png")
    make(tmp_path, "cat/._a.png", "__MACOSX/cat/c.png", "dog.png/d.png")
    assert [path for path, _, _ in rows(tmp_path)] == ["cat/a.png", "cat/deep/b.png", "dog.png/d.png"]
    assert found(tmp_path) == {
        "images in no class folder, left out": ["logo.png"],
        "files whose names end in no image format, left out": ["cat/notes.txt"],
        "images in folders below a class folder, which count for its class": ["cat/deep/b.png"],
        "hidden files and folders, left out": [".git", "__MACOSX", "cat/._a.png", "cat/Thumbs.db"],
    }


def test_images_directly_in_a_split_have_no_label(tmp_path):
    make(tmp_path, "train/a.png", "train/cat/a.png", "test/cat/b.png")
    assert found(tmp_path) == {"images in no class folder, left out": ["train/a.png"]}


def test_links_are_read_only_inside_and_never_in_circles(tmp_path):
    root = make(tmp_path / "set", "cat/a.png")
    make(tmp_path, "outside/x.png")
    (root / "cat" / "copy.png").symlink_to(root / "cat" / "a.png")
    (root / "cat" / "out.png").symlink_to(tmp_path / "outside" / "x.png")
    (root / "cat" / "nothing.png").symlink_to(root / "nowhere.png")
    (root / "dog").symlink_to(tmp_path / "outside")
    (root / "cat" / "again").symlink_to(root)
    assert [path for path, _, _ in rows(root)] == ["cat/a.png", "cat/copy.png"]
    assert found(root) == {
        "symbolic links that lead out of the data folder": ["cat/out.png", "dog"],
        "links to nothing, and other things that are not files": ["cat/nothing.png"],
        "symbolic links to folders, not followed": ["cat/again"],
    }


def test_a_root_that_is_itself_a_link_is_read(tmp_path):
    make(tmp_path / "set", "cat/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert rows(tmp_path / "link") == [("cat/a.png", "cat", None)]


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_listing(tmp_path / "nowhere")

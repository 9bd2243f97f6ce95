"""Class folders: layouts, what lies about in them, and links."""

import io

import pytest
from PIL import Image

from bigstep.errors import DataError
from data.files.class_folders import read_listing


def make(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return root


def rows(root):
    return [(row.path, row.label, row.split) for row in read_listing(root).rows]


def levels(root):
    return {finding.what: (finding.level, list(finding.concerns)) for finding in read_listing(root).findings}


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
        "files that are not images, left out": ["cat/notes.txt"],
        "images in folders below a class folder, which count for its class": ["cat/deep/b.png"],
        "hidden files and folders, run folders, and what storage and tools left behind, left out": [
            ".git",
            "__MACOSX",
            "cat/._a.png",
            "cat/Thumbs.db",
        ],
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
    (root / "eel").symlink_to(root / "cat")
    assert [path for path, _, _ in rows(root)] == ["cat/a.png", "cat/copy.png"]
    assert found(root) == {
        "symbolic links that lead out of the data folder": ["cat/out.png", "dog"],
        "links to nothing, and other things that are not files": ["cat/nothing.png"],
        "symbolic links to folders, not followed": ["cat/again"],
        "class folders without an image": ["eel"],
    }


def test_a_root_that_is_itself_a_link_is_read(tmp_path):
    make(tmp_path / "set", "cat/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert rows(tmp_path / "link") == [("cat/a.png", "cat", None)]


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_listing(tmp_path / "nowhere")


# ---- Splits under the names that people use --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("training_set", "validation_set", "test_set"),
        ("TrainData", "ValData", "TestData"),
        ("seg_train", "seg_val", "seg_test"),
        ("train2017", "val2017", "test2017"),
        ("images-train", "images-dev", "images-testing"),
        ("TRAINSET", "Eval", "holdout"),
        ("1_train", "2_valid", "3_tests"),
    ],
)
def test_splits_may_have_the_names_that_people_give_them(tmp_path, train, validation, test):
    make(tmp_path, f"{train}/cat/a.png", f"{validation}/cat/b.png", f"{test}/cat/c.png")
    assert {split: (path, label) for path, label, split in rows(tmp_path)} == {
        "train": (f"{train}/cat/a.png", "cat"),
        "validation": (f"{validation}/cat/b.png", "cat"),
        "test": (f"{test}/cat/c.png", "cat"),
    }
    assert sorted(found(tmp_path)["folders taken for a split by their names"]) == sorted(
        [f"{train} for train", f"{validation} for validation", f"{test} for test"]
    )


@pytest.mark.parametrize("names", [("train_station", "test_tube"), ("trainers", "boots"), ("train", "train_wreck")])
def test_labels_in_which_a_split_is_one_word_of_several_stay_labels(tmp_path, names):
    make(tmp_path, *(f"{name}/a.png" for name in names))
    assert {(label, split) for _, label, split in rows(tmp_path)} == {(name, None) for name in names}


def test_a_split_folder_in_a_split_folder_is_passed_over(tmp_path):
    """As Kaggle's archives unpack."""
    make(tmp_path, "seg_train/seg_train/sea/a.png", "seg_train/seg_train/ice/b.png", "seg_test/images/sea/c.png")
    assert [row[1:] for row in rows(tmp_path)] == [("sea", "test"), ("ice", "train"), ("sea", "train")]
    assert found(tmp_path)["folders that hold one folder alone, passed over"] == [
        "seg_test/images",
        "seg_train/seg_train",
    ]


def test_one_class_in_a_split_is_a_class_though_it_is_alone(tmp_path):
    make(tmp_path, "train/cat/a.png", "train/dog/b.png", "test/cat/deep/c.png")
    assert ("test/cat/deep/c.png", "cat", "test") in rows(tmp_path)


def test_splits_below_the_classes_are_given_too(tmp_path):
    make(tmp_path, "cat/train/a.png", "cat/test/b.png", "dog/train/c.png", "dog/Validation_set/d.png")
    assert [row[1:] for row in rows(tmp_path)] == [
        ("cat", "test"),
        ("cat", "train"),
        ("dog", "validation"),
        ("dog", "train"),
    ]
    assert found(tmp_path) == {"folders taken for a split by their names": ["dog/Validation_set for validation"]}
    make(tmp_path, "eel/notes.txt")
    assert found(tmp_path)["class folders without an image"] == ["eel"]


@pytest.mark.parametrize(
    "paths",
    [
        ("test/cat/a.png", "test/dog/b.png", "val/cat/c.png"),
        ("test/cat/a.png", "test/dog/b.png", "more/cat/c.png"),
        ("val/a/x.png", "apples/b/y.png"),
    ],
)
def test_splits_without_train_are_no_classes(tmp_path, paths):
    """The classes would be lost: `test` and `val` would be learnt instead."""
    make(tmp_path, *paths)
    assert "folders named like a split, where the others are not, or none is for train" in found(tmp_path)


def test_split_folders_of_which_one_has_no_labels(tmp_path):
    """As competitions publish them: the images of test lie flat."""
    make(tmp_path, "train/cat/a.png", "train/dog/b.png", "test/1.png")
    assert {row[1:] for row in rows(tmp_path)} == {("cat", "train"), ("dog", "train")}
    assert found(tmp_path) == {"images in no class folder, left out": ["test/1.png"]}


def test_split_folders_without_class_folders_are_no_classes(tmp_path):
    make(tmp_path, "train/cat.1.png", "train/dog.1.png", "test/1.png")
    assert rows(tmp_path) == []


@pytest.mark.parametrize(
    ("names", "found_in"),
    [
        (("cats_train", "dogs_train", "cats_test", "dogs_test"), 4),
        (("train_station", "bus_station"), 0),
        (("train_station", "pencil_test", "bus"), 2),
        (("test_tube", "flask"), 0),
    ],
)
def test_class_folders_with_splits_in_their_names_are_a_warning(tmp_path, names, found_in):
    make(tmp_path, *(f"{name}/a.png" for name in names))
    level, concerns = levels(tmp_path).get("class folders with splits in their names", ("warning", []))
    assert level == "warning" and len(concerns) == found_in
    assert {row[1] for row in rows(tmp_path)} == set(names)


# ---- Folders above and between ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("above", ["photos", "archive/photos", "train", "Photos 2024/my data"])
def test_folders_that_hold_one_folder_alone_are_passed_over(tmp_path, above):
    make(tmp_path, f"{above}/cat/a.png", f"{above}/dog/b.png", "__MACOSX/photos/cat/._a.png", "@eaDir/x/y.jpg")
    assert {row[1] for row in rows(tmp_path)} == {"cat", "dog"}
    assert found(tmp_path)["folders that hold one folder alone, passed over"][-1] == above
    assert found(tmp_path)[
        "hidden files and folders, run folders, and what storage and tools left behind, left out"
    ] == [
        "@eaDir",
        "__MACOSX",
    ]


def test_folders_of_the_same_names_in_every_class_folder_are_a_warning(tmp_path):
    """images/cat and masks/cat: the classes may be one folder deeper; cat/indoors and dog/indoors: they are not."""
    make(tmp_path, "images/cat/a.png", "images/dog/b.png", "masks/cat/a.png", "masks/dog/b.png")
    assert levels(tmp_path)["class folders that hold folders of the same names"] == ("warning", ["images", "masks"])
    make(tmp_path, "images/c.png")
    assert "class folders that hold folders of the same names" not in found(tmp_path)


@pytest.mark.parametrize("inner", ["2023", "images"])
def test_inner_folders_whose_names_say_nothing_are_no_classes(tmp_path, inner):
    make(tmp_path, f"cat/{inner}/a.png", f"dog/{inner}/b.png")
    assert set(found(tmp_path)) == {"images in folders below a class folder, which count for its class"}


def test_a_single_class_is_not_passed_over(tmp_path):
    make(tmp_path, "cat/a.png", "cat/deep/b.png")
    assert {row[1] for row in rows(tmp_path)} == {"cat"}


@pytest.mark.parametrize(
    "litter", ["@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "#recycle/a.png", ".ipynb_checkpoints/a.png", "$RECYCLE.BIN/a.png"]
)
@pytest.mark.parametrize("place", ["", "cat/"])
def test_what_storage_and_tools_leave_is_no_class_and_no_image(tmp_path, place, litter):
    make(tmp_path, "cat/a.png", "dog/b.png", place + litter)
    assert [row[:2] for row in rows(tmp_path)] == [("cat/a.png", "cat"), ("dog/b.png", "dog")]
    assert sum(map(len, found(tmp_path).values())) == 1


@pytest.mark.parametrize("place", ["runs/photos", "runs", "out"])
def test_run_folders_among_the_images_are_no_class(tmp_path, place):
    """Who is in the folder of the images, and says `bigstep init --data folder .`, makes one there."""
    make(
        tmp_path,
        "cat/a.png",
        "dog/b.png",
        f"{place}/lock",
        f"{place}/config.toml",
        f"{place}/records/i/contact_sheet.png",
    )
    assert [row[:2] for row in rows(tmp_path)] == [("cat/a.png", "cat"), ("dog/b.png", "dog")]
    assert [len(concerns) for concerns in found(tmp_path).values()] == [1]


def test_a_class_may_be_called_runs(tmp_path):
    make(tmp_path, "runs/a.png", "runs/deep/b.png", "walks/c.png")
    assert {row[1] for row in rows(tmp_path)} == {"runs", "walks"}


# ---- Classes that would be lost --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [None, "notes.txt", "deep/deeper/notes.txt", "clip.mp4", ".hidden.png", "@eaDir/a.jpg"]
)
def test_a_class_without_an_image_is_an_error(tmp_path, content):
    make(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / "fox").mkdir()
    if content:
        make(tmp_path / "fox", content)
    assert levels(tmp_path)["class folders without an image"] == ("error", ["fox"])


def test_a_class_that_another_split_has_is_not_lost(tmp_path):
    make(tmp_path, "train/cat/a.png", "train/fox/b.png", "test/cat/c.png", "test/eel/notes.txt")
    (tmp_path / "test" / "fox").mkdir()
    assert levels(tmp_path)["class folders without an image"] == ("error", ["test/eel"])


@pytest.mark.parametrize("name", ["a.HEIC", "a.jp2", "a.NEF", "a.dng", "a.ppm", "a.svg"])
def test_images_in_formats_that_are_not_read_are_an_error(tmp_path, name):
    make(tmp_path, "cat/a.png", f"dog/{name}", "dog/b.png")
    assert levels(tmp_path)["images in formats that are not read"] == ("error", [f"dog/{name}"])


def test_what_has_no_usual_name_is_told_by_its_content(tmp_path):
    make(tmp_path, "cat/a.png", "dog/b.png")
    stream = io.BytesIO()
    Image.new("RGB", (3, 3)).save(stream, "JPEG")
    (tmp_path / "cat" / "photo").write_bytes(stream.getvalue())
    (tmp_path / "cat" / "photo.jpg_large").write_bytes(stream.getvalue())
    (tmp_path / "dog" / "phone").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    (tmp_path / "dog" / "LICENSE").write_text("Do what you like.")
    assert [row[0] for row in rows(tmp_path)] == ["cat/a.png", "cat/photo", "cat/photo.jpg_large", "dog/b.png"]
    assert levels(tmp_path) == {
        "images known by their content, not by their names": ("note", ["cat/photo", "cat/photo.jpg_large"]),
        "images in formats that are not read": ("error", ["dog/phone"]),
        "files that are not images, left out": ("warning", ["dog/LICENSE"]),
    }

"""A user's own images: splits, pixels and the whole report of what is wrong, from sets of a few pictures."""

import io
import os
import shutil
import time
import unicodedata
import zlib

import numpy as np
import pytest
from PIL import Image

from bigstep.config import DataConfig
from bigstep.decode import decode
from bigstep.errors import DataError
from bigstep.records.architecture import InputSpec
from data import stage
from data.sets import folder

HUES = ("red", "green")


def picture(seed, height=9, width=12, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def csv_set(root, n=80, columns="path,label,hue", line="{path},{label},{hue}", **more):
    """Write n pictures of two classes and a CSV file; one in ten has the hue of the other class."""
    lines = [columns]
    for k in range(n):
        label, conflicting = k % 2, k % 20 >= 18
        save(root / "im" / f"{k:03}.png", picture(k))
        cells = {"path": f"im/{k:03}.png", "label": ("cat", "dog")[label], "hue": HUES[label ^ conflicting], "k": k}
        lines.append(line.format(**cells, **{name: value(k) for name, value in more.items()}))
    (root / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    return root / "list.csv"


def class_set(root, n=6, labels=("cat", "dog"), splits=("",)):
    for s, split in enumerate(splits):
        for c, label in enumerate(labels):
            for k in range(n):
                save(root / split / label / f"{k}.png", picture((s * 10 + c) * 100 + k))
    return root


def add_lines(path, *lines):
    path.write_text(path.read_text() + "\n" + "\n".join(lines))


# ---- What comes out --------------------------------------------------------------------------------------------------


def test_the_bytes_of_a_small_set_are_pinned(tmp_path, digest_of, build_folder):
    """If it changes, every record made from users' images changes: do so only on purpose."""
    built = build_folder(csv_set(tmp_path), bias=("hue",))
    assert digest_of(built) == "391dd9f90deb269eb50e4283d61ba663c11602aece9b88fcefd0d45b2094ca9b"
    assert digest_of(build_folder(tmp_path, bias=("hue",), seed=1)) != digest_of(built)


def test_counts_and_groups_are_exact(tmp_path, build_folder):
    built = build_folder(csv_set(tmp_path), bias=("hue",))
    assert built.labels == ["cat", "dog"] and built.attributes == {"hue": ["green", "red"]}
    cells = {name: np.bincount(p.labels * 2 + p.bias[:, 0], minlength=4).tolist() for name, p in built.parts.items()}
    assert {name: sum(n) for name, n in cells.items()} == {
        "train": 56,
        "validation_biased": 4,
        "validation": 8,
        "test": 12,
    }
    assert [sum(n[k] for n in cells.values()) for k in range(4)] == [4, 36, 36, 4]
    for name, share in {"train": 0.7, "validation": 0.1, "test": 0.15}.items():
        assert np.abs(np.array(cells[name]) - share * np.array([4, 36, 36, 4])).max() <= 1, name
    ids = np.concatenate([part.ids for part in built.parts.values()])
    assert sorted(ids.tolist()) == list(range(80))


def test_the_pixels_are_those_of_the_server(tmp_path, build_folder):
    built = build_folder(csv_set(tmp_path, n=12), bias=("hue",), fit="crop")
    assert built.input == InputSpec(height_px=8, width_px=8, fit="crop")
    for part in built.parts.values():
        for pixels, number in zip(part.images, part.ids, strict=True):
            content = (tmp_path / "im" / f"{number:03}.png").read_bytes()
            assert np.array_equal(pixels, decode(content, built.input))


def test_the_order_of_lines_and_files_does_not_matter(tmp_path, digest_of, build_folder):
    path = csv_set(tmp_path, n=20)
    first = digest_of(build_folder(path, bias=("hue",)))
    header, *lines = path.read_text().split("\n")
    path.write_text("\n".join([header, *reversed(lines)]))
    assert digest_of(build_folder(path, bias=("hue",))) == first


def test_a_csv_file_without_bias_and_class_folders_give_the_same_images(tmp_path, digest_of, build_folder):
    root = class_set(tmp_path / "folders")
    lines = [f"{p.relative_to(tmp_path)},{p.parent.name}" for p in sorted(root.rglob("*.png"))]
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(lines))
    built = build_folder(root)
    assert digest_of(built) == digest_of(build_folder(tmp_path / "list.csv"))
    assert built.attributes == {} and built.parts["train"].bias.shape == (len(built.parts["train"].labels), 0)


def test_the_stage_seals_it(tmp_path, monkeypatch):
    monkeypatch.setitem(stage.BUILDERS, "folder", "data.sets.folder")
    (tmp_path / "out").mkdir()
    csv_set(tmp_path / "set")
    config = DataConfig(kind="folder", path=str(tmp_path / "set"), bias=("hue",), size_px=8)
    record = stage.run(config, out=tmp_path / "out")
    assert record.info.aligned == {"hue": [[False, True], [True, False]]}
    assert record.info.counts["test"] == 12


def test_default_size_and_the_environment_variable(tmp_path, monkeypatch):
    class_set(tmp_path)
    monkeypatch.setenv("BIGSTEP_DATA", str(tmp_path))
    assert folder.build(DataConfig(kind="folder")).parts["train"].images.shape[1:] == (64, 64, 3)


def test_labels_that_are_numbers_are_in_their_order(tmp_path, build_folder):
    assert build_folder(class_set(tmp_path, n=4, labels=("10", "9", "2"))).labels == ["2", "9", "10"]


@pytest.mark.parametrize(("ids", "kept"), [("{k}7", True), ("p{k}", False)])
def test_ids_of_the_csv_file_are_kept_if_they_are_numbers(tmp_path, ids, kept, build_folder):
    built = build_folder(csv_set(tmp_path, n=12, columns="path,label,hue,id", line="{path},{label},{hue}," + ids))
    found = sorted(np.concatenate([part.ids for part in built.parts.values()]).tolist())
    assert found == [10 * k + 7 if kept else k for k in range(12)]


# ---- Splits ----------------------------------------------------------------------------------------------------------


def test_given_splits_are_kept_and_validation_biased_is_taken_from_train(tmp_path, build_folder):
    def word(k):
        return ("train", "train", "Valid", "2")[k // 2 % 4]

    path = csv_set(tmp_path, columns="path,label,split", line="{path},{label},{split}", split=word)
    built = build_folder(path)
    assert {name: len(p.ids) for name, p in built.parts.items()} == {
        "train": 38,
        "validation_biased": 2,
        "validation": 20,
        "test": 20,
    }
    assert {k // 2 % 4 for k in built.parts["validation"].ids.tolist()} == {2}
    assert {k // 2 % 4 for k in built.parts["test"].ids.tolist()} == {3}
    assert not [f for f in built.findings if "drawn" in f]


@pytest.mark.parametrize("lacking", ["val", "test"])
def test_a_split_that_is_not_given_is_drawn_from_train_with_a_warning(tmp_path, lacking, build_folder):
    given = {"train", "val", "test"} - {lacking}
    built = build_folder(class_set(tmp_path, n=20, splits=sorted(given)))
    assert len(built.parts[{"val": "validation", "test": "test"}[lacking]].ids) == {"val": 4, "test": 6}[lacking]
    assert any("drawn from the images of train" in finding for finding in built.findings)


def test_copies_of_a_picture_stay_in_one_split(tmp_path, build_folder):
    class_set(tmp_path, n=8)
    for k in range(8):
        (tmp_path / "cat" / f"copy{k}.png").write_bytes((tmp_path / "cat" / f"{k}.png").read_bytes())
    built = build_folder(tmp_path)
    splits_of = [set(part.sources.tolist()) for part in built.parts.values()]
    assert sum(map(len, splits_of)) == len(set.union(*splits_of)) == 16
    assert "note: the same picture more than once, all in one split (8): cat/0.png = cat/copy0.png" in str(
        built.findings
    )


def test_the_same_picture_in_train_and_test_as_given_is_refused(tmp_path, refused_folder):
    class_set(tmp_path, n=4, splits=("train", "val", "test"))
    (tmp_path / "test" / "dog" / "x.png").write_bytes((tmp_path / "train" / "dog" / "1.png").read_bytes())
    says = refused_folder(tmp_path)
    assert "error: the same picture in several splits (1): test/dog/x.png (test) = train/dog/1.png (train)" in says


def test_one_picture_with_two_labels_is_a_warning(tmp_path, build_folder):
    class_set(tmp_path)
    (tmp_path / "dog" / "x.png").write_bytes((tmp_path / "cat" / "1.png").read_bytes())
    findings = build_folder(tmp_path).findings
    assert any("several labels (1): cat/1.png (cat) = dog/x.png (dog)" in finding for finding in findings)


def test_a_held_out_picture_that_looks_like_one_of_train_is_a_warning(tmp_path, build_folder):
    class_set(tmp_path, n=4, splits=("train", "val", "test"))
    smooth = picture(7, 3, 4).resize((90, 70), Image.Resampling.BICUBIC)
    save(tmp_path / "train" / "cat" / "smooth.png", smooth)
    save(tmp_path / "test" / "cat" / "again.jpg", smooth, quality=60)
    findings = build_folder(tmp_path, size_px=32).findings
    assert any("look like one of train (1): test/cat/again.jpg ~ train/cat/smooth.png" in f for f in findings)


# ---- Findings --------------------------------------------------------------------------------------------------------


def bomb():
    """Return a PNG that declares 90,000 x 90,000 pixels and holds none."""
    side = (90_000).to_bytes(4, "big")
    chunks = (b"IHDR" + side + side + bytes([8, 2, 0, 0, 0]), b"IDAT", b"IEND")
    framed = ((len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def test_everything_that_is_wrong_is_in_one_report(tmp_path, refused_folder):
    path = csv_set(tmp_path / "set", n=12, columns="id,path,label,hue", line="{k},{path},{label},{hue}")
    root = tmp_path / "set"
    save(tmp_path / "outside.png", picture(99))
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "cut.png").write_bytes(save(root / "whole.png", picture(98)).read_bytes()[:200])
    (root / "text.png").write_text("hello")
    (root / "bomb.png").write_bytes(bomb())
    (root / "folder.png").mkdir()
    names = ("gone.png", "link.png", "cut.png", "text.png", "bomb.png", "folder.png", "../outside.png", "/etc/passwd")
    lines = [f"{100 + k},{name},cat,red" for k, name in enumerate(names)]
    add_lines(path, *lines, "100,whole.png,cat,red", "300,whole.png,,red", "301,whole.png,dog,", "302,whole.png")
    says = refused_folder(path, bias=("hue", "shape", "label"))
    for line in (
        "columns of data.bias that are absent (1): shape; columns that could be one: hue",
        "columns of data.bias that mean something else (1): label",
        "lines without exactly 4 cells, as the header has (1): line 25 has 2",
        "lines without a label (1): line 23",
        "lines without a hue (1): line 24",
        "ids that occur more than once (1): 100",
        "paths that lead out of the data folder (3): link.png, ../outside.png, /etc/passwd",
        "images that are missing, or are not files (2): gone.png, folder.png",
        "the content is not an image (1): text.png (5 bytes)",
        "the image cannot be decoded (1): cut.png",
        "the image cannot be opened (1): bomb.png",
    ):
        assert line in says, line


@pytest.mark.parametrize(
    ("mode", "options", "says"),
    [
        ("L", {}, "greyscale, made RGB"),
        ("P", {}, "palette, made RGB"),
        ("CMYK", {"format": "TIFF"}, "CMYK, made RGB"),
        ("RGBA", {}, "transparency, laid over white"),
        ("I;16", {}, "16 bits per channel, made 8"),
    ],
)
def test_what_was_converted_is_counted(tmp_path, mode, options, says, build_folder):
    class_set(tmp_path)
    image = Image.fromarray(np.full((8, 8), 40_000, np.uint16)) if mode == "I;16" else picture(50, mode=mode)
    save(tmp_path / "cat" / "odd.tif" if options else tmp_path / "cat" / "odd.png", image, **options)
    assert any(f"note: images converted: {says} (1): cat/odd" in finding for finding in build_folder(tmp_path).findings)


def test_pictures_turned_by_exif_and_animations_are_counted(tmp_path, build_folder):
    class_set(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "cat" / "turned.jpg", picture(60), exif=exif)
    save(tmp_path / "cat" / "moves.gif", picture(61), save_all=True, append_images=[picture(62)])
    findings = "\n".join(build_folder(tmp_path).findings)
    assert "turned upright as EXIF says (1): cat/turned.jpg" in findings
    assert "several frames, the first taken (1): cat/moves.gif" in findings


@pytest.mark.parametrize("flat", ["cat", "all", "one"])
def test_nearly_constant_pictures_are_found(tmp_path, flat, build_folder, refused_folder):
    """12 bits in a file of 16, masks of 0 and 1, black on black: whatever the cause, nothing is left to see."""
    class_set(tmp_path, n=30)
    rng = np.random.default_rng(1)
    for label in {"cat": ("cat",), "all": ("cat", "dog"), "one": ("cat",)}[flat]:
        for k in range(1 if flat == "one" else 30):
            twelve = Image.fromarray(rng.integers(0, 4096, (40, 40)).astype(np.uint16))
            mask = Image.fromarray(rng.integers(0, 2, (40, 40)).astype(np.uint8))
            drawing = Image.fromarray(
                rng.integers(0, 256, (40, 40, 4), dtype=np.uint8) | np.array([255, 255, 255, 0], np.uint8)
            )
            save(tmp_path / label / f"{k}.png", (twelve, mask, drawing)[k % 3])
    if flat == "all":
        assert "error: nearly constant pictures (60)" in refused_folder(tmp_path)
        return
    findings = "\n".join(build_folder(tmp_path).findings)
    assert f"warning: nearly constant pictures ({1 if flat == 'one' else 30}): cat/0.png" in findings
    assert ("labels of which every picture is nearly constant (1): cat" in findings) == (flat == "cat")


def test_a_picture_with_one_bright_spot_is_not_constant(tmp_path, build_folder):
    """The first look takes every eighth pixel."""
    class_set(tmp_path, n=30)
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[13, 11, 2] = 17
    save(tmp_path / "cat" / "spot.png", Image.fromarray(pixels))
    pixels[13, 11, 2] = 16
    save(tmp_path / "cat" / "none.png", Image.fromarray(pixels))
    findings = "\n".join(build_folder(tmp_path, size_px=32).findings)
    assert "nearly constant pictures (1): cat/none.png" in findings


@pytest.mark.parametrize(("bits", "found"), [(13, True), (14, True), (16, False)])
def test_sixteen_bits_of_which_the_highest_are_not_used_are_warned_of(tmp_path, bits, found, build_folder):
    class_set(tmp_path)
    values = np.random.default_rng(0).integers(0, 2**bits, (20, 20)).astype(np.uint16)
    save(tmp_path / "cat" / "dim.png", Image.fromarray(values))
    findings = "\n".join(build_folder(tmp_path, size_px=20).findings)
    assert ("warning: images converted: 16 bits per channel, of which the highest are not used" in findings) == found
    assert "note: images converted: 16 bits per channel, made 8 (1)" in findings


def test_a_clean_set_has_nothing_to_report(tmp_path, build_folder):
    assert build_folder(class_set(tmp_path, n=30)).findings == []


def test_labels_that_train_has_not_seen_are_refused(tmp_path, refused_folder):
    class_set(tmp_path, n=4, splits=("train", "test"))
    class_set(tmp_path, n=4, splits=("test",), labels=("eel",))
    assert "labels that occur in validation or test and never in train (1): eel" in refused_folder(tmp_path)


@pytest.mark.parametrize(("n", "labels"), [(6, ("cat",)), (1, ("cat", "dog")), (3, ("cat", "dog"))])
def test_one_class_or_too_few_images_are_refused(tmp_path, n, labels, refused_folder):
    says = refused_folder(class_set(tmp_path, n=n, labels=labels))
    assert ("classes, where a classifier needs two (1): cat" in says) == (len(labels) == 1)
    assert ("splits without images" in says) == (n < 4)


def test_groups_and_classes_without_test_images_are_warnings(tmp_path, build_folder):
    path = csv_set(tmp_path, n=18)  # no conflicting image at all: one in twenty begins at 18
    lines = [line.replace("red", "green") if "002" in line else line for line in path.read_text().split("\n")]
    path.write_text("\n".join(lines))
    findings = "\n".join(build_folder(path, bias=("hue",)).findings)
    assert "groups without test images (2): label=cat,hue=green, label=dog,hue=red" in findings
    assert "classes with fewer than 20 images in train (2): cat: 6, dog: 6" in findings


def test_a_bias_with_one_value_is_refused(tmp_path, refused_folder):
    path = csv_set(tmp_path)
    path.write_text(path.read_text().replace("red", "green"))
    assert "columns of data.bias with one value alone (1): hue" in refused_folder(path, bias=("hue",))


def test_names_that_need_care_are_warned_of(tmp_path, build_folder):
    findings = "\n".join(build_folder(class_set(tmp_path, labels=("a=b", "Cat", "cat", "bell\x07"))).findings)
    assert "names with = or a comma, which verify.groups cannot name (1): a=b" in findings
    assert "values of label that differ in spelling alone (1): Cat / cat" in findings
    assert r"names with characters that cannot be shown (1): 'bell\x07'" in findings


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("Golden Retriever", "golden_retriever"), True),
        (("01", "1"), True),
        (("1.0", "1", "1.5"), True),
        (("1", "-1", "10", "1a"), False),
        (("1000000000000000001", "1000000000000000002", "1000000", "1000001"), False),
        (("a", "b", "a b"), False),
        (("-", "_"), False),
    ],
)
def test_names_that_differ_in_spelling_alone(tmp_path, names, found, build_folder):
    findings = "\n".join(build_folder(class_set(tmp_path, labels=names)).findings)
    assert ("values of label that differ in spelling alone (1)" in findings) == found


def test_names_that_are_not_utf8_are_refused_readably(tmp_path, refused_folder):
    class_set(tmp_path)
    (tmp_path / "cat").rename(tmp_path / os.fsdecode(b"c\xff"))
    says = refused_folder(tmp_path)
    assert r"names that are not UTF-8 (1): 'c\udcff'" in says
    says.encode()


def test_a_label_in_two_forms_of_unicode_is_one_label(tmp_path, build_folder):
    for form in ("NFC", "NFD"):
        class_set(tmp_path, labels=(unicodedata.normalize(form, "né"), "dog"))
    save(tmp_path / unicodedata.normalize("NFD", "né") / "extra.png", picture(77))
    assert build_folder(tmp_path).labels == ["dog", "né"]


def test_a_path_in_another_form_of_unicode_is_found(tmp_path, build_folder):
    path = csv_set(tmp_path, n=12)
    save(tmp_path / unicodedata.normalize("NFD", "né, 1\n.PNG"), picture(70))
    add_lines(path, '"né, 1\n.PNG",cat,red')
    assert sum(len(part.ids) for part in build_folder(path).parts.values()) == 13


def test_a_file_that_is_cut_short_between_listing_and_reading_is_refused(tmp_path, monkeypatch, refused_folder):
    path = csv_set(tmp_path, n=12)
    victim, hash_files = tmp_path / "im" / "003.png", folder.hash_files

    def cut(*given):
        victim.write_bytes(victim.read_bytes()[:90])
        return hash_files(*given)

    monkeypatch.setattr(folder, "hash_files", cut)
    assert "(1): im/003.png" in refused_folder(path)


def test_no_image_at_all_is_refused(tmp_path, build_folder, refused_folder):
    assert "no image can be used" in refused_folder(tmp_path)
    (tmp_path / "list.csv").write_text("path,label\n")
    assert "no image can be used" in refused_folder(tmp_path)
    with pytest.raises(DataError, match=r"no data.path|folder"):
        build_folder(tmp_path / "nowhere")


def test_several_csv_files_must_be_told_apart(tmp_path, build_folder, refused_folder):
    csv_set(tmp_path, n=12)
    (tmp_path / "other.TSV").write_text("")
    assert "holds several CSV files" in refused_folder(tmp_path)
    assert build_folder(tmp_path / "list.csv").labels == ["cat", "dog"]


def test_what_is_named_like_a_file_and_is_none_is_not_read(tmp_path, build_folder, refused_folder):
    """Reading a pipe would wait for ever; a folder may have any name."""
    os.mkfifo(class_set(tmp_path) / "list.csv")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    class_set(tmp_path, labels=("eel.csv",))
    assert "things that are not files (1): cat/pipe.png" in refused_folder(tmp_path)
    (tmp_path / "cat" / "pipe.png").unlink()
    assert build_folder(tmp_path).labels == ["cat", "dog", "eel.csv"]


def test_class_folders_have_no_bias_columns(tmp_path, refused_folder):
    assert "class folders, which know no bias" in refused_folder(class_set(tmp_path), bias=("hue",))


def test_files_names_the_csv_file_and_every_image_there_is(tmp_path):
    path = csv_set(tmp_path, n=4)
    add_lines(path, "gone.png,cat,red")
    found = folder.files(DataConfig(kind="folder", path=str(tmp_path)))
    assert list(found) == [path, *(tmp_path / "im" / f"{k:03}.png" for k in range(4))]
    assert len([*folder.files(DataConfig(kind="folder", path=str(class_set(tmp_path / "c", n=3))))]) == 6


@pytest.mark.parametrize("how", ["in place", "replaced", "swapped", "list"])
def test_other_content_of_the_same_size_and_time_is_noticed(tmp_path, how):
    """`cp -p`, rsync and tar restore size and time; no tool restores the ctime."""
    table = csv_set(tmp_path, n=4)
    a, b = (tmp_path / "im" / f"00{k}.png" for k in range(2))
    for file in (a, b, table):
        os.utime(file, ns=(0, 0))
    config = DataConfig(kind="folder", path=str(tmp_path))
    before = stage.sources(config)
    assert stage.sources(config) == before
    if how == "in place":
        a.write_bytes(a.read_bytes()[::-1])
    elif how == "replaced":
        shutil.copy(a, tmp_path / "new")
        (tmp_path / "new").replace(a)
    elif how == "swapped":
        b.write_bytes(a.read_bytes())
        os.utime(b, ns=(0, 0))
        before = stage.sources(config)
        a.rename(tmp_path / "aside")
        b.rename(a)
        (tmp_path / "aside").rename(b)
    else:
        text = table.read_text()
        table.write_text(text.replace("im/000.png,cat", "im/000.png,dog"))
        assert len(text) == table.stat().st_size
    for file in (a, b, table):
        os.utime(file, ns=(0, 0))
    assert stage.sources(config) != before


def test_stamps_of_files_that_were_just_written_are_taken_again(tmp_path, monkeypatch):
    """Change times have the steps of the kernel's clock: a second write within one leaves them as they are."""
    config = DataConfig(kind="folder", path=str(class_set(tmp_path, n=1)))
    file, waited = tmp_path / "cat" / "0.png", []

    def write_meanwhile(seconds):
        waited.append(seconds)
        file.write_bytes(b"other")

    file.write_bytes(b"first")
    with monkeypatch.context() as patch:
        patch.setattr(stage.time, "sleep", write_meanwhile)
        found = stage.sources(config)
    assert waited == [stage.TICK_NS / 1e9]
    time.sleep(2 * stage.TICK_NS / 1e9)
    assert stage.sources(config) == found, "that of the second content"


@pytest.mark.parametrize("new", ["fox/", "fox/1.heic", "cat/notes.txt", "cat/1.heic", "logo.png"])
def test_what_is_left_out_is_noticed_too(tmp_path, new):
    """Else the record of before would be reused, and nothing said of a class that came later."""
    config = DataConfig(kind="folder", path=str(class_set(tmp_path)))
    before = stage.sources(config)
    if new.endswith("/"):
        (tmp_path / new).mkdir()
    else:
        (tmp_path / new).parent.mkdir(exist_ok=True)
        (tmp_path / new).write_bytes(b"")
    after = stage.sources(config)
    assert after != before
    (tmp_path / new / "notes.txt" if new.endswith("/") else tmp_path / new).write_text("more")
    assert (stage.sources(config) == after) == (not new.endswith("/")), "by its name alone: a bigstep.toml is edited"


def test_every_example_in_the_report_is_shortened_to_five(tmp_path, refused_folder):
    path = csv_set(tmp_path, n=12)
    add_lines(path, *(f"gone{k}.png,cat,red" for k in range(1200)))
    assert "(1,200): gone0.png, gone1.png, gone2.png, gone3.png, gone4.png and 1,195 more" in refused_folder(path)


def test_the_content_is_read_in_order_by_threads(tmp_path, build_folder):
    stream = io.BytesIO()
    picture(3).save(stream, "PNG")
    built = build_folder(csv_set(tmp_path, n=40))
    order = {int(k): pixels for p in built.parts.values() for k, pixels in zip(p.ids, p.images, strict=True)}
    assert np.array_equal(order[3], decode(stream.getvalue(), built.input))

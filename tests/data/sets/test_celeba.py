"""CelebA from text and from CSV files, as tiny releases: attributes, splits, and what is said of wrong tables."""

import numpy as np
import pytest
from PIL import Image

from bigstep.config import DataConfig
from bigstep.errors import DataError
from data.sets import celeba

N = 90
NAMES = ["5_o_Clock_Shadow", "Blond_Hair", "Male", "Young"]
FOLDERS = {  # by layout: where tables, partition and pictures lie
    "text": ("Anno/list_attr_celeba.txt", "Eval/list_eval_partition.txt", "Img/img_align_celeba"),
    "torchvision": (
        "celeba/list_attr_celeba.txt",
        "celeba/list_eval_partition.txt",
        "celeba/img_align_celeba",
    ),
    "kaggle": ("list_attr_celeba.csv", "list_eval_partition.csv", "img_align_celeba/img_align_celeba"),
    "dro": ("celebA/data/list_attr_celeba.csv", "celebA/data/list_eval_partition.csv", "celebA/data/img_align_celeba"),
}
PIXELS = "4cc56900"  # how the digest of all arrays begins


def values(number):
    """Return the four attributes of a picture: blond is every third, and mostly not male."""
    blond = number % 3 == 0
    return [1, 1 if blond else -1, 1 if number % (9 if blond else 2) == 0 else -1, 1 if number % 5 else -1]


def write(root, layout):
    attributes, partition, pictures = (root / name for name in FOLDERS[layout])
    for folder in (attributes.parent, partition.parent, pictures):
        folder.mkdir(parents=True, exist_ok=True)
    numbers = list(range(1, N + 1))
    for number in numbers:
        _, blond, male, young = (value > 0 for value in values(number))
        colour = (100 * blond + 50 * male + 20 * young, number, 0)
        Image.new("RGB", (9, 11), colour).save(pictures / f"{number:06}.jpg", "PNG")
    separator = "," if attributes.suffix == ".csv" else " "
    flags = [separator.join([f"{n:06}.jpg", *map(str, values(n))]) for n in numbers]
    splits = [f"{n:06}.jpg{separator}{(n > 60) + (n > 75)}" for n in numbers]
    if separator == ",":
        flags.insert(0, "image_id," + ",".join(NAMES))
        splits.insert(0, "image_id,partition")
    else:
        flags[:0] = [str(N), " ".join(NAMES) + " "]
        flags = [line.replace(" 1", "  1") for line in flags]  # as the release aligns them
    attributes.write_text("\n".join(flags) + "\n")
    partition.write_text("\n".join(splits) + "\n")


def config(root, **settings):
    return DataConfig.model_validate({"kind": "celeba", "path": str(root), "size_px": 6} | settings)


@pytest.fixture
def build(decoded):
    return lambda config: decoded(celeba.build(config))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("celeba")
    write(folder, "text")
    return folder


@pytest.fixture(params=["text", "kaggle"])
def own(request, tmp_path):
    """Return the files of a release that a test may change: attributes, partition, pictures, and the root."""
    write(tmp_path, request.param)
    return [*(tmp_path / name for name in FOLDERS[request.param]), tmp_path]


@pytest.mark.parametrize("layout", FOLDERS)
def test_every_layout_gives_the_same_pinned_bytes(layout, tmp_path, digest_of, build):
    write(tmp_path, layout)
    assert digest_of(build(config(tmp_path)))[:8] == PIXELS


def test_pictures_and_attributes_belong_together(root, build):
    built = build(config(root))
    assert built.labels == ["not Blond_Hair", "Blond_Hair"] and built.attributes == {"Male": ["no", "yes"]}
    for part in built.parts.values():
        assert part.images.shape == (len(part.ids), 6, 6, 3)
        np.testing.assert_array_equal(part.images[:, 0, 0, 1], part.ids)
        np.testing.assert_array_equal(part.images[:, 0, 0, 0] // 50, 2 * part.labels + part.bias[:, 0])
    expected = [values(number) for number in built.parts["test"].ids]
    np.testing.assert_array_equal(2 * built.parts["test"].labels - 1, [row[1] for row in expected])
    np.testing.assert_array_equal(2 * built.parts["test"].bias[:, 0] - 1, [row[2] for row in expected])


def test_splits_are_those_of_the_partition_and_a_part_of_train_is_held_out(root, build):
    parts = build(config(root)).parts
    assert parts["validation"].ids.tolist() == list(range(61, 76))
    assert parts["test"].ids.tolist() == list(range(76, 91))
    assert sorted([*parts["train"].ids, *parts["validation_biased"].ids]) == list(range(1, 61))
    assert np.bincount(parts["validation_biased"].labels).tolist() == [2, 1]  # 5 % of 40 and of 20


def test_other_targets_and_several_biases_can_be_named(root, build):
    built = build(config(root, variant="Young", bias=("Male", "Blond_Hair")))
    test = built.parts["test"]
    assert built.labels == ["not Young", "Young"] and list(built.attributes) == ["Male", "Blond_Hair"]
    np.testing.assert_array_equal(2 * test.labels - 1, [values(n)[3] for n in test.ids])
    np.testing.assert_array_equal(2 * test.bias - 1, [[values(n)[2], values(n)[1]] for n in test.ids])
    assert len(built.findings) == 1  # official counts are known for blond hair only


def test_counts_that_are_not_those_of_the_release_are_findings(root, build):
    note, train, validation, test = build(config(root)).findings
    assert "neither is unbiased" in note
    assert train == (
        "train: 20 / 20 / 14 / 6 images per Blond_Hair x Male, where the release has 71,629 / 66,874 / 22,880 / 1,387"
    )
    assert validation.startswith("validation: ") and test.startswith("test: ")


def test_the_official_counts_add_up():
    assert [sum(counts) for counts in celeba.COUNTS.values()] == [162770, 19867, 19962]


def test_the_default_side_keeps_all_faces_in_memory(root, build):
    assert build(config(root, size_px=None)).input.height_px == 64


def test_files_are_the_tables_and_every_picture(own):
    attributes, partition, pictures, root = own
    assert celeba.files(config(root)) == [attributes, partition, *(pictures / f"{n:06}.jpg" for n in range(1, N + 1))]


@pytest.mark.parametrize(("which", "name"), [(0, "list_attr_celeba"), (1, "list_eval_partition")])
def test_a_missing_table_is_named_with_its_md5(own, which, name, build):
    own[which].unlink()
    with pytest.raises(DataError, match=rf"(?s){name}\.csv or {name}\.txt.*md5 75e246fa.*d32c9cbf"):
        build(config(own[3]))


def test_missing_pictures_are_named(own, build):
    (own[2] / "000050.jpg").unlink()
    with pytest.raises(DataError, match=r"(?s)1 of \d+ are not there.*000050\.jpg"):
        build(config(own[3]))


@pytest.mark.parametrize(
    ("which", "old", "new", "message"),
    [
        (0, "Blond_Hair", "Blonde", "lacks columns(?s:.*)expected: Blond_Hair"),
        (0, "000002.jpg", "000003.jpg", "a second time"),
        (0, "000002.jpg", "second.jpg", "'second'(?s:.*)whole number"),
        (0, "000002.jpg", "000200.jpg", "000002.jpg first(?s:.*)the same pictures"),
        (1, "000002.jpg", "000003.jpg", "000002.jpg first"),
        (1, "000090.jpg", "000091.jpg", "2 pictures are in one only, 000090.jpg first"),
    ],
)
def test_wrong_tables_are_refused(own, which, old, new, message, build):
    text = own[which].read_text()
    assert old in text
    own[which].write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        build(config(own[3]))


def test_values_outside_are_named_by_line(own, build):
    attributes, partition, _, root = own
    lines = partition.read_text().splitlines()
    lines[-1] = lines[-1][:-1] + "3"
    partition.write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"line {len(lines)}: wrong value(?s:.*)partition = '3'"):
        build(config(root))
    lines[-1] = lines[-1][:-1] + "2"
    partition.write_text("\n".join(lines))
    lines = attributes.read_text().splitlines()
    lines[-1] = lines[-1].replace("-1", "0")
    attributes.write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"line {len(lines)}: wrong value(?s:.*)'0'(?s:.*)one of -1, 1"):
        build(config(root, bias=("Male", "Young")))


def test_a_picture_listed_twice_in_the_partition_is_refused(own, build):
    lines = own[1].read_text().splitlines()
    own[1].write_text("\n".join([*lines, lines[-1]]))
    with pytest.raises(DataError, match="a picture twice"):
        build(config(own[3]))


@pytest.mark.parametrize("content", [b"", b"90\n", b"\xff\xfe\n\xff\xff\n"])
def test_a_table_that_is_none_is_refused(own, content, build):
    own[0].write_bytes(content)
    with pytest.raises(DataError, match="list_attr_celeba"):
        build(config(own[3]))

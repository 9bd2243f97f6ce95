"""What is inferred from a user's images, and that the configuration it makes is valid."""

import numpy as np
import pytest
from PIL import Image

from bigstep.config import Config
from bigstep.errors import DataError
from data.inspect_folder import infer
from data.sets import folder


def csv_set(root, n=40, size=(48, 30)):
    lines = ["path,label,hue,class name,camera,note,site"]
    for k in range(n):
        pixels = np.random.default_rng(k).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{k}.png")
        label = "ab"[k % 2]
        hue = "ab"[k % 2 ^ (k % 20 > 17)]
        lines.append(f"{k}.png,{label},{hue},class {label},one,{k},{'' if k == 3 else k % 4 // 2}")
    (root / "list.csv").write_text("\n".join(lines))
    return root / "list.csv"


def test_a_csv_file_with_a_bias(tmp_path):
    settings, says = infer(csv_set(tmp_path))
    assert settings["data"] == {
        "kind": "folder",
        "path": str(tmp_path / "list.csv"),
        "size_px": 32,
        "bias": ["hue"],
    }
    assert settings["verify"] == {"groups": ["aligned", "conflicting"]}
    for sentence in (
        f"CSV file {tmp_path / 'list.csv'}: 40 images of 2 classes (a, b)",
        "splits are drawn from data.seed: train 70 %, validation_biased 5 %, validation 10 %, test 15 %",
        "column class name is not taken as a bias: the label decides it, so no image contradicts it",
        "column camera is not taken as a bias: its values number 1, not 2 to 20",
        "column note is not taken as a bias: its values number 40, not 2 to 20",
        "column site is not taken as a bias: some of its cells are empty",
        "images are scaled to 32 px: the shorter side of 40 of them has 30 px (median)",
        "test images that contradict the bias: about 1, fewer than the 30 that the gate needs to decide"
        " (verify.min_group)",
    ):
        assert sentence in says
    config = Config.model_validate(settings)
    assert folder.build(config.data).attributes == {"hue": ["a", "b"]}


def columns_set(root, n, **columns):
    """Write n lines of one image, with labels of equal shares, and columns by functions of the label."""
    Image.new("RGB", (9, 9)).save(root / "a.png")
    rng = np.random.default_rng(0)
    rows = [(k % 4, [str(of(rng, k % 4)) for of in columns.values()]) for k in range(n)]
    lines = [",".join(["a.png", f"c{label}", *cells]) for label, cells in rows]
    (root / "list.csv").write_text("\n".join([",".join(["path", "label", *columns]), *lines]))
    return root / "list.csv"


@pytest.mark.parametrize("n", [40, 400, 20_000])
def test_columns_that_have_nothing_to_do_with_the_label_are_no_bias(tmp_path, n):
    """Five columns drawn at random: each cell of their crossing with the label would be a group."""
    random = {f"r{values}": lambda rng, _, values=values: rng.integers(values) for values in (2, 3, 5, 9, 20)}
    settings, says = infer(columns_set(tmp_path, n, **random))
    assert settings["data"]["bias"] == [] and settings["verify"] == {"groups": ["all"]}
    assert sum("hardly goes with the label (p = " in sentence for sentence in says) == 5


def test_a_bias_is_found_among_columns_that_are_none(tmp_path):
    """The slightest association is significant in 20,000 images, and no bias that a network would rely on."""
    settings, says = infer(
        columns_set(
            tmp_path,
            20_000,
            random=lambda rng, _: rng.integers(4),
            place=lambda rng, label: label if rng.random() < 0.5 else rng.integers(4),
            slight=lambda rng, label: label if rng.random() < 0.05 else rng.integers(4),
        )
    )
    assert settings["data"]["bias"] == ["place"] and settings["verify"] == {"groups": ["aligned", "conflicting"]}
    assert any(s.startswith("column slight") and "Cramer's V = 0.0" in s for s in says)


@pytest.mark.parametrize(("side", "size_px"), [(10, 32), (47, 32), (50, 64), (100, 128), (300, 224)])
def test_class_folders_of_any_size(tmp_path, side, size_px):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for k in range(2):
            Image.new("RGB", (side, side + 9)).save(tmp_path / label / f"{k}.png")
    settings, says = infer(tmp_path)
    assert settings["data"]["size_px"] == size_px
    assert settings["data"]["bias"] == [] and settings["verify"] == {"groups": ["all"]}
    assert any("no bias attribute is known" in sentence for sentence in says)
    assert Config.model_validate(settings).data.kind == "folder"


def test_given_splits_are_counted_not_estimated(tmp_path):
    path = csv_set(tmp_path)
    header, *lines = path.read_text().split("\n")
    words = ("train", "val", "test", "test")
    given = [f"{line},{words[k // 2 % 4]}" for k, line in enumerate(lines)]
    path.write_text("\n".join([f"{header},split", *given]))
    _, says = infer(path)
    assert "splits are as given" in says
    listed = [line.split(",") for line in path.read_text().split("\n")[1:]]
    expected = sum(cells[1] != cells[2] for cells in listed if cells[-1] == "test")
    assert any(f"test images that contradict the bias: {expected}" in sentence for sentence in says)


@pytest.mark.parametrize("content", [None, "path,label\n", "path,label\ngone.png,cat\n", "photo,kind\na,b\n"])
def test_nothing_to_look_at_is_refused(tmp_path, content):
    if content:
        (tmp_path / "list.csv").write_text(content)
    with pytest.raises(DataError, match=r"no image can be used|no columns"):
        infer(tmp_path)


def test_images_that_cannot_be_opened_are_refused(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_text("hello")
    with pytest.raises(DataError, match="none of 1 images can be opened"):
        infer(tmp_path)

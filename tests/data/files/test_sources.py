"""Where source files lie: the configuration first, the environment second, and errors that name both."""

import pytest

from bigstep.config import DataConfig
from bigstep.errors import DataError
from data.files.sources import image_names, source_folder


def test_the_configuration_comes_before_the_environment(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.setenv("BIGSTEP_DATA", str(tmp_path / "b"))
    assert source_folder(DataConfig(kind="colored-mnist", path=str(tmp_path / "a"))) == tmp_path / "a"
    assert source_folder(DataConfig(kind="colored-mnist")) == tmp_path / "b"


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert source_folder(DataConfig(path="~")) == tmp_path


@pytest.mark.parametrize("value", [None, ""])
def test_without_either_both_are_explained(value, monkeypatch):
    monkeypatch.delenv("BIGSTEP_DATA", raising=False)
    with pytest.raises(DataError, match=r"(?s)celeba is made from source files.*data\.path.*BIGSTEP_DATA"):
        source_folder(DataConfig(kind="celeba", path=value))


@pytest.mark.parametrize(("by_path", "named"), [(True, "data.path = "), (False, "BIGSTEP_DATA = ")])
def test_what_is_no_folder_is_named_with_its_origin(by_path, named, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("BIGSTEP_DATA", str(file))
    with pytest.raises(DataError, match=named + str(file)):
        source_folder(DataConfig(kind="celeba", path=str(file) if by_path else None))


def test_images_are_those_that_nobody_left_behind(tmp_path):
    """The thumbnails of a network storage lie in folders called as the photographs, and end in .jpg."""
    names = ["b/1.JPG", "a/2.png", "a/@eaDir/2.png/THUMB.jpg", ".ipynb_checkpoints/3.png", "a/._2.png", "a/notes.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert image_names(tmp_path) == ["a/2.png", "b/1.JPG"]

"""What is downloaded before a run, by whom, and how it is told where that fails."""

import shutil
import socket
from types import SimpleNamespace

import pytest

from bigstep import vision
from bigstep.config import Config, DataConfig
from bigstep.errors import DataError
from data import fetch, stage
from data.sets import mnist
from pipeline import closure
from pipeline.dry_run import dry_run


@pytest.fixture
def asked(monkeypatch, mnist_folder):
    """Replace the download by a copy of small files; return the timeouts under which it was asked for."""
    timeouts = []

    def download(*, root, download):
        assert download
        timeouts.append(socket.getdefaulttimeout())
        shutil.copytree(mnist_folder / "mnist/MNIST/raw", f"{root}/MNIST/raw")

    monkeypatch.setattr(vision, "load", lambda: SimpleNamespace(datasets=SimpleNamespace(MNIST=download)))
    return timeouts


def config(folder, kind="colored-mnist"):
    return DataConfig(kind=kind, path=str(folder))


@pytest.mark.parametrize("kind", fetch.FROM_MNIST)
def test_missing_files_are_downloaded_where_they_are_looked_for(asked, tmp_path, kind):
    fetch.fetch(config(tmp_path, kind))
    assert asked == [fetch.TIMEOUT_S] and socket.getdefaulttimeout() is None
    assert len(mnist.read(tmp_path).test.labels) == 200
    fetch.fetch(config(tmp_path, kind))
    assert len(asked) == 1, "what is there is not fetched again"


def test_other_data_ask_for_nothing(asked, tmp_path):
    for kind in ("digits", "folder", "cifar10", "waterbirds"):
        fetch.fetch(DataConfig(kind=kind, path=str(tmp_path) if kind != "digits" else None))
    assert asked == []


def test_who_only_looks_downloads_nothing(asked, tmp_path):
    """Not even the names of files are asked for over the network: a dry run writes nothing."""
    source = tmp_path / "sources"
    source.mkdir()
    with pytest.raises(DataError, match="MNIST is not in"):
        stage.sources(config(source))
    with pytest.raises(DataError, match="nothing was downloaded"):
        dry_run(Config(device="cpu", data=config(source)), tmp_path / "run")
    assert asked == [] and list(source.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError("Error\ndownloading"), TimeoutError("timed out"), OSError("read-only")])
def test_a_download_that_fails_is_told(error, tmp_path, monkeypatch):
    def download(**_):
        raise error

    monkeypatch.setattr(vision, "load", lambda: SimpleNamespace(datasets=SimpleNamespace(MNIST=download)))
    with pytest.raises(DataError, match="no download: " + " ".join(str(error).split())):
        fetch.fetch(config(tmp_path))
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("builder", ["data.sets.colored_mnist", "data.sets.double_mnist", "data.sets.mnist_cifar"])
def test_no_version_of_torch_decides_what_the_digits_are(builder):
    assert not closure.of("data.stage", builder).packages & {"torch", "torchvision"}

"""The command line called in this process, and run folders that a test may change."""

import shutil
import sys
from typing import NamedTuple

import pytest

from pipeline.cli import main


class Ended(NamedTuple):
    """Hold how a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def bigstep(monkeypatch, capfd):
    """Return a function that runs `bigstep ARGUMENTS` as the console script does."""
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # main sets it; this takes it back after the test
    monkeypatch.setenv("COLUMNS", "200")  # so that boxes do not break a message in two

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["bigstep", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return Ended(ended.value.code or 0, out, err)

    return call


@pytest.fixture
def run_copy(small_run, tmp_path):
    """Return a copy of the small run's folder, free to change, as `cp -r` makes one: a link stays a link."""
    return shutil.copytree(small_run.folder, tmp_path / "run", symlinks=True)


@pytest.fixture
def small_toml(small_config, tmp_path):
    """Return the file of the small configuration, named like it."""
    from bigstep.config_file import to_toml

    path = tmp_path / "small.toml"
    path.write_text(to_toml(small_config))
    return path

"""A user's own packages on PYTHONPATH do not stand in for ours, in the command nor in its workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bigstep.own_packages import NAMES, ROOT


@pytest.fixture
def theirs(tmp_path):
    """Return a folder with packages of all our names but the ground's, each of which ends the program."""
    for name in NAMES - {"bigstep"}:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('somebody else\\'s {name}')")
    return tmp_path


def run(theirs, *arguments):
    path = os.pathsep.join([str(theirs), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, cwd="/")


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "nowhere"], ["data", "nowhere.toml"]])
def test_the_command_finds_ours(theirs, arguments):
    module = run(theirs, "-m", "bigstep", *arguments)
    assert "somebody else" not in module.stdout + module.stderr
    assert module.returncode == (0 if arguments == ["--help"] else 2)


def test_a_worker_finds_ours(theirs, tmp_path):
    """What is set up in it may be the first thing that names a package of ours."""
    script = tmp_path / "script.py"
    script.write_text(
        "import bigstep.own_packages\n"
        "if __name__ == '__main__':\n"
        "    from bigstep import pool\n"
        "    from serve.limits import Limits\n"
        "    pool.usable_cores = lambda: 2\n"
        "    print(sorted(pool.run(Limits(max_images=7), ['max_images', 'max_batch_images'], getattr)))\n"
    )
    ended = run(theirs, str(script))
    assert ended.stdout == "[7, 32]\n", ended.stderr


def test_the_entry_point_goes_through_it():
    declared = (ROOT / "pyproject.toml").read_text()
    assert 'bigstep = "bigstep.__main__:main"' in declared
    assert Path(sys.modules["bigstep.own_packages"].__file__).parents[1] == ROOT

"""Which rate and seed each file of a user's own training has, and what is said where that cannot be known."""

import pytest

from bigstep.errors import ConfigError
from pipeline.checkpoints import find


@pytest.fixture
def folder(tmp_path):
    for name in ("0.1", "0.1-s1", "1e-2-s0", "0.3-s12"):
        (tmp_path / f"{name}.safetensors").touch()
    return tmp_path


def places(found):
    return [(c.rate, c.seed, c.path.name) for c in found]


IN_ORDER = [
    (0.01, 0, "1e-2-s0.safetensors"),
    (0.1, 0, "0.1.safetensors"),
    (0.1, 1, "0.1-s1.safetensors"),
    (0.3, 12, "0.3-s12.safetensors"),
]


def test_names_of_files_give_rate_and_seed(folder):
    assert places(find([folder])) == IN_ORDER == places(find(sorted(folder.iterdir())))
    assert find([]) == []


def test_a_table_gives_them_with_paths_of_its_own(folder):
    table = folder / "runs.csv"
    table.write_text("seed,path,rate,note\n3,0.1.safetensors,0.25,x\n0,0.1-s1.safetensors,5e-3,y\n")
    assert places(find([table])) == [(0.005, 0, "0.1-s1.safetensors"), (0.25, 3, "0.1.safetensors")]
    assert all(c.path.parent == folder for c in find([table]))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("rate,path\n0.1,0.1.safetensors\n", "no column seed"),
        ("", "no column rate and no column seed and no column path"),
        ("rate,seed,path\n", "names no checkpoint"),
        ("rate,seed,path\nfast,0,0.1.safetensors\n", "line 2: no learning rate above 0"),
        ("rate,seed,path\n-1,0,0.1.safetensors\n", "line 2: no learning rate above 0"),
        (
            "rate,seed,path\n0.1,0,0.1.safetensors\n0.1,first,0.1.safetensors\n",
            "line 3: the seed is not a whole number",
        ),
        ("rate,seed,path\n0.1,0,gone.safetensors\n", "a checkpoint is missing"),
        ("rate,seed,path\n0.1,0,0.1.safetensors\n0.10,0,0.1-s1.safetensors\n", "rate 0.1 and seed 0 are named twice"),
    ],
)
def test_what_is_wrong_with_a_table(folder, rows, says):
    (folder / "runs.csv").write_text(rows)
    with pytest.raises(ConfigError, match=says):
        find([folder / "runs.csv"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fast.safetensors", "no learning rate above 0"),
        ("0-s1.safetensors", "no learning rate above 0"),
        ("0.1.pt", "no checkpoint, folder or table"),
        ("none", "no checkpoint, folder or table"),
        ("gone.csv", "table of checkpoints is missing"),
        ("0.2.safetensors", "a checkpoint is missing"),
    ],
)
def test_what_is_wrong_with_a_path(tmp_path, name, says):
    with pytest.raises(ConfigError, match=says):
        find([tmp_path / name])


def test_a_folder_without_checkpoints(tmp_path):
    with pytest.raises(ConfigError, match="holds no checkpoints"):
        find([tmp_path])

"""A user's own network: found by its path, bound to its bytes, and refused with the reason if it cannot be used."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bigstep.config import TrainConfig
from bigstep.errors import ConfigError, TrainError
from bigstep.machine import installed_version
from pipeline.dry_run import dry_run
from train import prepare
from train.networks import own, user_files
from train.networks.build import build, load_weights, save_weights
from train.networks.user_files import sources

NET = """
from dataclasses import dataclass
from torch import nn

@dataclass
class Sizes:
    hidden: int = 12

def make(classes, channels, height, width):
    return nn.Sequential(
        nn.Conv2d(channels, Sizes().hidden, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Dropout(0.5),
        nn.Flatten(), nn.Linear(12 * height * width, classes),
    )
"""


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


def described(path, rows, function="make"):
    return prepare.architecture_of(TrainConfig(network=f"{path}:{function}"), rows)


def test_it_is_built_from_its_file_as_seeded_as_any_other(net, rows):
    before = list(sys.path)
    architecture = described(net, rows)
    assert architecture.family == "own" and architecture.widths == {"0": 12}
    assert (architecture.own.path, architecture.own.function) == (str(net), "make")
    first, again, other = (build(architecture, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])
    assert sys.path == before and not (net.parent / "__pycache__").exists()


def test_a_smaller_one_is_built_again_and_loaded(net, rows, tmp_path):
    architecture = described(net, rows).model_copy(update={"widths": {"0": 5}})
    model = build(architecture, seed=1).eval()
    save_weights(model, tmp_path / "w.safetensors")
    again = load_weights(architecture, tmp_path / "w.safetensors")
    x_NCHW = torch.randn(3, 3, 4, 4)
    assert again(x_NCHW).shape == (3, 3) and torch.equal(again(x_NCHW), model(x_NCHW))


def test_an_edited_file_is_noticed(net, rows):
    architecture, before = described(net, rows), sources(TrainConfig(network=f"{net}:make"))
    net.write_text(NET.replace("ReLU", "GELU"))
    assert sources(TrainConfig(network=f"{net}:make")) != before
    with pytest.raises(TrainError, match="was changed after this network was made from it"):
        build(architecture)


def test_nothing_of_a_user_is_hashed_where_nothing_is_named():
    assert sources(TrainConfig(network="resnet18")) is None


@pytest.mark.parametrize("layout", ["one file", "package"])
def test_modules_that_the_file_imports_count_by_their_bytes(tmp_path, monkeypatch, layout):
    """They decide the network as the file does; of those on PYTHONPATH or installed to be edited no version tells."""
    (tmp_path / "lib" / "own_blocks").mkdir(parents=True)
    (tmp_path / "lib" / "own_sizes.py").write_text("HIDDEN = 12")
    block = tmp_path / "lib" / ("own_blocks.py" if layout == "one file" else "own_blocks/deep.py")
    block.write_text("import own_sizes, math")
    (tmp_path / "lib" / "own_blocks" / "__init__.py").touch() if layout == "package" else (
        block.parent / "own_blocks"
    ).rmdir()
    (tmp_path / "net.py").write_text("def make(*sizes):\n    from own_blocks import deep\n    import torch, absent_one")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    config = TrainConfig(network=f"{tmp_path / 'net.py'}:make")
    seen = [sources(config)]
    for file, text in ((block, "import own_sizes, math, json"), (tmp_path / "lib" / "own_sizes.py", "HIDDEN = 13")):
        file.write_text(text)
        importlib.invalidate_caches()
        seen.append(sources(config))
    assert seen[0] != seen[1] != seen[2]
    assert set(seen[0]) == {
        "network",
        *(f"import {name}" for name in ("own_blocks", "own_sizes", "torch", "absent_one")),
    }
    assert seen[0]["import torch"] == f"torch {installed_version('torch')}" and "own_blocks" not in sys.modules


def test_versions_of_installed_packages_count(net, monkeypatch):
    config = TrainConfig(network=f"{net}:make")
    before = sources(config)
    monkeypatch.setattr(user_files, "installed_version", lambda _: "99")
    assert before["import torch"] != sources(config)["import torch"] == "torch 99"


MAKE = """
import sys
from bigstep.records.architecture import Architecture, InputSpec
from train.networks.own import find, make

spec = InputSpec(height_px=4, width_px=4)
own = find(sys.argv[1] + ":make")
make(Architecture(family="own", widths={}, classes=3, input=spec, mean=(0.5,) * 3, std=(0.1,) * 3, own=own))
print("ours")
"""


def test_files_beside_it_do_not_stand_in_for_ours(net, rows):
    (net.parent / "bigstep").mkdir()
    (net.parent / "bigstep" / "__init__.py").write_text("raise SystemExit('the wrong package')")
    net.write_text("import bigstep.errors\n" + NET)
    command = [sys.executable, "-P", "-c", MAKE, str(net)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(own.__file__).parents[2], timeout=60)
    assert done.stdout == "ours\n", done.stderr


LAZY = "from torch import nn\ndef make(*a): return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))"
BRANCH = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.last = nn.Linear(48, classes)

    def forward(self, x):
        x = x.flatten(1)
        return self.last(x if float(x.sum()) > 0 else -x)

def make(classes, channels, height, width):
    return Net(classes)
"""
STEP = "x = x.flatten(1)\n        return self.last(x if float(x.sum()) > 0 else -x)"


def answering(lines):
    return BRANCH.replace(STEP, lines)


def noisy(noise, more="pass"):
    """Return a network whose last layer begins at zero, so that its first logits show nothing of what is added."""
    return f"""
import numpy
import torch
from torch import nn

RNG = numpy.random.default_rng(0)

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.last = nn.Linear(48, classes)
        nn.init.zeros_(self.last.weight)
        {more}

    def forward(self, x):
        x = x.flatten(1)
        return self.last(x + {noise})

def make(classes, channels, height, width):
    return Net(classes)
"""


DRAWS = (TrainError, "draws random numbers in evaluation mode")
UNSTORED = (TrainError, "draws numbers that are not stored with its weights")
WRONG = {
    "no function": ("x = 1", ConfigError, "has no function make"),
    "no module": ("import nowhere_to_be_found", TrainError, "ModuleNotFoundError: No module named"),
    "no Python": ("def make(:", TrainError, "the file fails"),
    "too few arguments": ("def make(classes): ...", TrainError, r"make\(3, 3, ...\) fails"),
    "no network": ("def make(*a): return 3", TrainError, "returned no network"),
    "lazy layers": (LAZY, TrainError, "has lazy layers"),
    "no weights": (LAZY.replace("nn.LazyLinear(3)", "nn.ReLU()"), TrainError, "has no weights to train"),
    "another shape": (NET.replace("width, classes", "width, 7"), TrainError, r"\(1, 7\) torch.float32"),
    "fails on images": (NET.replace("12 * height", "13 * height"), TrainError, "the network on images"),
    "shared weights": (
        "from torch import nn\ndef make(k, c, h, w):\n    a, b = nn.Linear(48, 48), nn.Linear(48, 48)\n"
        "    a.weight = b.weight\n    return nn.Sequential(nn.Flatten(), a, b, nn.Linear(48, k))",
        TrainError,
        "shares weights",
    ),
    "one batch size alone": (BRANCH.replace("flatten(1)", "reshape(2, 48)"), TrainError, r"on images \(1, 3, ...\)"),
    "an auxiliary head in training": (
        answering("y = self.last(x.flatten(1)); return (y, y) if self.training else y"),
        TrainError,
        "in training mode returns no logits",
    ),
    "dropout that never stops": (answering("return self.last(torch.dropout(x.flatten(1), 0.3, True))"), *DRAWS),
    "noise of PyTorch": (noisy("torch.randn_like(x)"), *DRAWS),
    "noise of numpy": (noisy("float(numpy.random.rand())"), *DRAWS),
    "noise of its own generator": (noisy("float(RNG.random())"), *DRAWS),
    "a draw that hardly ever shows": (noisy("float(torch.rand(()) > 0.9999)"), *DRAWS),
    "images beside it": (noisy("x.mean(dim=0)"), TrainError, "answers an image by the images beside it"),
    "statistics of the batch": (
        noisy("self.norm(x)", "self.norm = nn.BatchNorm1d(48, track_running_stats=False)"),
        TrainError,
        r"on images \(1, 3, ...\)|by the images beside it",
    ),
    "a mask that is not stored": (noisy("self.mask", "self.mask = torch.randn(48)"), *UNSTORED),
    "a buffer that is not stored": (
        noisy("self.mask", "self.register_buffer('mask', torch.randn(48), persistent=False)"),
        *UNSTORED,
    ),
    "weights of numpy": (
        noisy("self.shift", "self.shift = nn.Parameter(torch.tensor(numpy.random.rand(48)).float())"),
        TrainError,
        "makes other weights at every call",
    ),
    "a state that is not a tensor": (
        noisy("0").replace("    def forward", "    def get_extra_state(self):\n        return 1\n\n    def forward"),
        TrainError,
        "has a state that is not a tensor",
    ),
    "weights that are parts of others": (
        noisy("0", "self.register_buffer('part', self.last.weight.detach()[1:])"),
        TrainError,
        "shares weights",
    ),
    "not finite": (noisy("1 / (0 * x)"), TrainError, "returns logits that are not finite"),
    "a path that depends on a batch": (BRANCH, TrainError, "answers an image by the images beside it"),
    "a path that depends on weights": (
        BRANCH.replace("x.sum()", "self.last.bias.sum()"),
        TrainError,
        "exporting the network fails",
    ),
}


@pytest.mark.parametrize(("source", "error", "says"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_used_is_refused_with_the_reason(net, rows, source, error, says):
    net.write_text(source)
    with pytest.raises(error, match=says) as caught:
        described(net, rows)
    assert str(net) in str(caught.value) and caught.value.exit_code == 2


def test_a_module_beside_it_is_named_with_the_way_out(net, rows):
    net.with_name("blocks.py").write_text("")
    net.write_text("from blocks import block\n" + NET)
    with pytest.raises(TrainError, match="move what it needs of blocks into it, or install blocks as a package"):
        described(net, rows)


def test_an_edited_file_is_another_key_of_the_cache(net, small_config, small_run):
    def key():
        train = small_config.train.model_copy(update={"network": f"{net}:make", "widths": None})
        config = small_config.model_copy(update={"train": train})
        steps = {step.stage: step for step in dry_run(config, small_run.folder, "train").steps}
        assert (steps["data"].action, steps["train"].action) == ("reuse", "run")
        return steps["train"].key

    before = key()
    assert key() == before
    net.write_text(NET + "# edited\n")
    assert key() != before


def test_the_example_of_the_documentation_can_be_used_and_pruned(net, images):
    page = Path(__file__).parents[3] / "docs" / "networks.md"
    net.write_text(re.search(r"^```python\n(.*?)^```", page.read_text(), flags=re.M | re.S)[1])
    assert described(net, images).widths == {"0": 32}


def test_a_missing_file_is_a_user_error(tmp_path, rows):
    for read in (
        lambda n: prepare.architecture_of(TrainConfig(network=n), rows),
        lambda n: sources(TrainConfig(network=n)),
    ):
        with pytest.raises(ConfigError, match=r"nowhere\.py: No such file"):
            read(f"{tmp_path}/nowhere.py:make")

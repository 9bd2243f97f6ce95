"""The closure of a module under import, on a small house of its own and on ours."""

import importlib.metadata
import shutil

import numpy
import pytest

from bigstep.errors import ConfigError
from bigstep.own_packages import NAMES, ROOT
from pipeline import closure
from pipeline.stages import DATA, EXPORT, MAP, STAGES

HOUSE = {
    "train/stage.py": "import json\nfrom train import step\nfrom bigstep.config import Config\n",
    "train/step.py": "import torch.nn\nfrom data.files.reader import read\nloss = settings.stop_loss\n",
    "train/other.py": "import captum\n",
    "data/files/reader.py": "def f():\n    import PIL\n    importlib.import_module('bigstep.late')\n",
    "bigstep/late.py": "import importlib\nimportlib.import_module('sklearn.datasets')\nfrom train.step import loss\n",
    "bigstep/config.py": "import pydantic\n",
    "verify/page.py": "TEMPLATES = ('page.html', 'page.md')\n",
    "verify/page.html": "<p>\n",
    "verify/page.md": "# p\n",
    "verify/other.html": "<b>\n",
}


@pytest.fixture
def house(tmp_path):
    for name, text in HOUSE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_it_holds_what_is_imported_anywhere_and_nothing_else(house):
    found = closure.of("train.stage", root=house)
    assert found.modules == {"train.stage", "train.step", "data.files.reader", "bigstep.late"}  # round in a circle
    assert found.packages == {"torch", "PIL", "sklearn"}  # neither json nor captum, nor what the configuration imports
    assert {"stop_loss", "nn"} - found.attributes == {"nn"}
    assert not found.templates and closure.of("train.other", root=house).packages == {"captum"}


def test_templates_are_those_that_a_module_declares(house):
    found = closure.of("verify.page", root=house)
    assert {path.name for path in found.templates} == {"page.html", "page.md"}
    before = found.digest()
    (house / "verify" / "other.html").write_text("<i>\n")
    assert found.digest() == before
    (house / "verify" / "page.md").write_text("# q\n")
    assert found.digest() != before


def test_a_package_that_is_not_installed_is_named(house):
    (house / "train" / "stage.py").write_text("import numpy, surely_missing\n")
    found = closure.of("train.stage", root=house / ".")
    assert found.missing() == ["surely-missing"]
    with pytest.raises(ConfigError, match="surely-missing is not installed") as caught:
        found.versions()
    assert "pip install" in caught.value.do


def test_versions_are_those_installed():
    found = closure.of("bigstep.groups").versions()
    assert found.keys() == {"python", "numpy"} and found["numpy"] == numpy.__version__


def test_every_package_that_is_imported_is_found_under_the_name_it_is_installed_by():
    wanted = frozenset().union(*(closure.of(stage.door).packages for stage in (*STAGES, MAP)))
    wanted |= closure.of("data.sets.digits", "verify.report.page", "verify.report.map_page").packages
    named = importlib.metadata.packages_distributions()
    assert {"PIL", "sklearn", "onnxruntime", "torch_pruning"} < wanted
    known = {name.lower() for name in closure.of(*(stage.door for stage in STAGES), "data.sets.digits").versions()}
    for package in wanted - {"captum", "jinja2", "matplotlib"}:
        assert known & {name.lower() for name in named[package]}, package


def copied(tmp_path):
    for package in NAMES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


DOORS = {
    **{stage.name: (stage.door,) for stage in (*STAGES, MAP)},
    "data": (DATA.door, "data.sets.digits"),
    "report": ("verify.report.page",),
}
FIVE = {stage.name for stage in STAGES}


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("pipeline/cli.py", set()),
        ("bigstep/config.py", set()),
        ("bigstep/records/sealed.py", {*FIVE, MAP.name, "report"}),
        ("data/sets/digits.py", {"data"}),
        ("data/sets/imagenet.py", set()),
        ("data/files/csv_listing.py", set()),
        ("train/step.py", {"train", "compress", MAP.name}),
        ("train/networks/build.py", {"train", "compress", EXPORT.name, MAP.name}),
        ("train/search.py", {"train"}),
        ("train/rate_map/thresholds.py", {MAP.name}),
        ("compress/search.py", {"compress"}),
        ("export/graph.py", {"compress", "export"}),
        ("export/ladder.py", {"compress", "export"}),
        ("serve/predictor.py", {"compress", "export", "verify"}),
        ("serve/app.py", set()),
        ("bigstep/rules.py", {"compress", "verify"}),
        ("verify/gate.py", {"verify"}),
        ("verify/report/junit.py", set()),
        ("verify/report/plots.py", {"report"}),
        ("verify/report/report.html", {"report"}),
    ],
)
def test_whose_code_changes_with_a_comment_in_a_file(tmp_path, file, stages):
    root = copied(tmp_path)
    before = {name: closure.of(*doors, root=root).digest() for name, doors in DOORS.items()}
    with (root / file).open("a") as text:
        text.write("<!-- changed -->" if file.endswith("html") else "# changed\n")
    after = {name: closure.of(*doors, root=root).digest() for name, doors in DOORS.items()}
    assert {name for name in DOORS if after[name] != before[name]} == stages


@pytest.mark.parametrize("door", ["compress.stage", "export.stage"])
def test_what_others_load_for_us_is_counted(door):
    """PyTorch exports by onnxscript: without it a run would fail after training, another version writes otherwise."""
    assert {"torch", "onnx", "onnxruntime", "onnxscript"} <= closure.of(door).packages

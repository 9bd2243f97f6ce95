"""The dependency table of the design, executed: who may import whom, and who must never load torch."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GROUND = {"bigstep", "bigstep.records"}
LOOP = {"train.step", "train.finish", "train.averaging", "train.batch_norm", "train.augment"}
ROOMS = {  # who may import whom: rooms, and single modules that are doors of a room
    "bigstep.records": {"bigstep.errors", "bigstep.groups", "bigstep.intervals", "bigstep.numerics"},
    "bigstep": {"bigstep.records"},
    "data.files": GROUND,
    "data.bias": GROUND | {"data.files"},
    "data.sets": GROUND | {"data.files", "data.bias"},
    "data": GROUND | {"data.files", "data.bias", "data.sets"},
    "train.networks": GROUND,
    "train.measure": GROUND | {"train.networks"},
    "train": GROUND | {"train.networks", "train.measure"},
    "train.rate_map": GROUND | {"train.networks", "train.measure", "train"},
    "serve": GROUND,
    "export": GROUND | {"train.networks", "serve.predictor"},
    "compress": GROUND
    | LOOP
    | {"train.networks", "train.measure.prunability"}
    | {"export.graph", "export.ladder", "serve.predictor"},
    "verify": GROUND | {"serve.predictor", "serve.bench", "data.bias.corruptions"},
    "verify.report": GROUND,
    "pipeline.doctor": GROUND | {"serve.app"},
    "pipeline.follow": GROUND,
    "pipeline": {*GROUND, "data", "train", "compress", "export", "serve", "verify", "verify.report"}
    | {"train.rate_map", "train.networks.user_files", "pipeline.doctor", "pipeline.follow"},
}
SIDEWAYS = {"bigstep.records": ROOMS["bigstep.records"]}  # one ground, in two folders
ROOF = {"bigstep.__main__": {"pipeline.cli"}}  # `python -m bigstep` has to be where its name is
PACKAGES = tuple(sorted({room.partition(".")[0] for room in ROOMS}))
WITHOUT_TORCH = ("serve", "verify", "bigstep", "data", "pipeline")
HEAVY = {"torch", "torchvision", "torch_pruning", "captum", "onnx", "onnxscript", "onnx_ir"}


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path):
    """Return every module that a file imports, inside functions too; `from a import b` gives a.b if that is a file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                assert alias.name != "*", f"{path}: star import"
                inner = f"{node.module}.{alias.name}"
                found.add(inner if (ROOT / (inner.replace(".", "/") + ".py")).is_file() else node.module)
    return found


def room_of(module):
    return module.rpartition(".")[0]


def ours(path):
    """Return the modules and rooms of ours that a file imports, and those that it names for `import_module`.

    What is named must be named whole: a name put together while the program runs would be seen by no test and no key.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__"):
            name = ast.unparse(node.args[0]).removeprefix("f").strip("'")
            put_together = isinstance(node.args[0], ast.JoinedStr | ast.BinOp)
            assert not put_together or name.startswith("{LIBRARY}."), f"{path}: imports a name put together: {name}"
    named = {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and is_module(node.value)
    }
    return {m for m in imports(path) | named if m.partition(".")[0] in PACKAGES}


def is_module(name):
    return "." in name and (ROOT / (name.replace(".", "/") + ".py")).is_file()


def test_every_folder_of_code_is_a_room():
    folders = {path.parent for package in PACKAGES for path in modules(package)}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_keep_to_the_table(room):
    for path in sorted((ROOT / room.replace(".", "/")).glob("*.py")):
        name = module_name(path)
        allowed = ROOMS[room] | ROOF.get(name, set())
        foreign = {m for m in ours(path) if room_of(m) != room and not {m, room_of(m)} & allowed}
        assert not foreign, f"{path.relative_to(ROOT)} may not import {sorted(foreign)}"


def test_no_arrow_of_the_table_leads_back_up():
    """Every room stands below those that may import it, doors that are modules counted by their room."""
    order = {room: place for place, room in enumerate(ROOMS)}
    for room, allowed in ROOMS.items():
        for other in allowed - SIDEWAYS.get(room, set()):
            below = other if other in ROOMS else room_of(other)
            assert order[below] < order[room], f"{room} may not import {other}, which stands above it"


def test_there_is_no_cycle():
    graph = {module_name(path): ours(path) for package in PACKAGES for path in modules(package)}
    done, open_ = set(), []

    def visit(module):
        assert module not in open_, f"import cycle: {[*open_, module]}"
        if module in done:
            return
        open_.append(module)
        for other in sorted(graph.get(module, ())):
            visit(other)
        open_.pop()
        done.add(module)

    for module in graph:
        visit(module)
    assert done >= set(graph)


@pytest.mark.parametrize("package", WITHOUT_TORCH)
def test_packages_that_must_not_load_torch_do_not_name_it(package):
    for path in modules(package):
        tops = {m.split(".")[0] for m in imports(path)}
        assert not tops & HEAVY, f"{path.relative_to(ROOT)} imports {sorted(tops & HEAVY)}"


def loaded_by(code, folder=ROOT):
    script = f"import sys\n{code}\nprint(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, cwd=folder, check=True)
    return set(done.stdout.split("\n")[-2].split())


HELP = """
from typer.testing import CliRunner
from pipeline.cli import app
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
"""


def test_nothing_reports_to_anybody(tmp_path):
    """onnxruntime writes a device id and a queue of events at its import, unless it was told not to before."""
    every = [path for package in PACKAGES for path in modules(package)]
    users = [path for path in every if any(name.partition(".")[0] == "onnxruntime" for name in imports(path))]
    assert {module_name(path) for path in users} == {"serve.predictor", "serve.bench", "export.graph"}
    for path in users:
        first = next(node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import))
        assert first.names[0].name == "bigstep.telemetry", f"{path} imports onnxruntime before it is told to be silent"
        code = f"import os; os.environ.pop('ORT_DISABLE_TELEMETRY', None); import {module_name(path)}"
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "HOME": str(tmp_path)}, check=True, cwd=ROOT)
    assert list(tmp_path.iterdir()) == []


def test_help_loads_neither_torch_nor_onnxruntime():
    loaded = loaded_by(HELP)
    assert "typer" in loaded
    assert not loaded & (HEAVY | {"onnxruntime"})


@pytest.mark.parametrize("module", ["serve.app", "serve.bench", "verify.stage", "verify.report.page"])
def test_server_and_gate_load_no_torch(module):
    loaded = loaded_by(f"import {module}")
    assert "numpy" in loaded
    assert not loaded & HEAVY


def test_what_the_server_installs_brings_no_torch(brought_in):
    names = brought_in(["bigstep[cpu]"])
    assert {"fastapi", "onnxruntime", "numpy"} <= names
    assert not names & {"torch", "torchvision", "onnx", "scikit-learn", "matplotlib"}


def test_code_of_the_working_directory_does_not_stand_in_for_ours(tmp_path):
    for name in ("train.py", "data.py", "serve.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module was imported')")
    (tmp_path / "verify").mkdir()
    (tmp_path / "verify" / "__init__.py").write_text("raise SystemExit('the wrong package was imported')")
    command = [sys.executable, "-m", "bigstep", "data", "tiny", "--run-dir", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "\nimages " in done.stdout

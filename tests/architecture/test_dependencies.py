"""The dependency table of the design, executed: who may import whom, and who must never load torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bigstep", "data", "train", "compress", "export", "serve", "verify")
OPEN = {
    f"bigstep.{m}"
    for m in ("records", "trained", "sealed", "config", "errors", "groups", "intervals", "decode", "machine", "vision")
} | {"bigstep.rate_map"}
ALLOWED = {
    "data": OPEN,
    "train": OPEN,
    "compress": OPEN
    | {
        "train.networks",
        "train.channels",
        "train.step",
        "train.feed",
        "train.prunability",
        "export.graph",
        "serve.predictor",
    },
    "export": OPEN | {"train.networks", "train.step", "serve.predictor"},
    "serve": OPEN,
    "verify": OPEN | {"serve.predictor", "serve.bench"},
}
TOP_OF_BIGSTEP = {
    *("bigstep.pipeline", "bigstep.store", "bigstep.cli", "bigstep.summary", "bigstep.progress", "bigstep.sweep"),
    *("bigstep.ci", "bigstep.job_summary", "bigstep.benchmark", "bigstep.doctor.examine", "bigstep.watch"),
    "bigstep.map_summary",
}
WITHOUT_TORCH = ("serve", "verify", "bigstep", "data")
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


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_keep_to_the_table(package):
    for path in modules(package):
        ours = {m for m in imports(path) if m.split(".")[0] in PACKAGES}
        inside = {m for m in ours if m.split(".")[0] == package}
        if package == "bigstep":
            inside = ours if module_name(path) in TOP_OF_BIGSTEP | {"bigstep.__main__"} else inside - TOP_OF_BIGSTEP
        foreign = ours - inside - ALLOWED.get(package, set())
        assert not foreign, f"{path.relative_to(ROOT)} may not import {sorted(foreign)}"


def test_there_is_no_cycle():
    graph = {
        module_name(p): {m for m in imports(p) if m.split(".")[0] in PACKAGES} for k in PACKAGES for p in modules(k)
    }
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
from bigstep.cli import app
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
"""


def test_help_loads_neither_torch_nor_onnxruntime():
    loaded = loaded_by(HELP)
    assert "typer" in loaded
    assert not loaded & (HEAVY | {"onnxruntime"})


@pytest.mark.parametrize("module", ["serve.app", "serve.bench", "verify.stage", "verify.report"])
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

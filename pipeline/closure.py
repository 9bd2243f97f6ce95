"""What code a module depends on, read off its source: modules of ours, packages of others, templates, settings.

Nothing is kept by hand and nothing is imported: a stage that is reused is never loaded. What is named for
`importlib.import_module` counts as imported; a module whose name is found at run time is named to `of` by whoever
chooses it. `bigstep.config` is outside: a stage depends on the values in its section, not on the code that holds them.
"""

import ast
import hashlib
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bigstep.errors import ConfigError
from bigstep.machine import installed_version
from bigstep.own_packages import NAMES, ROOT

OUTSIDE = frozenset({"bigstep.config"})
TEMPLATES = "TEMPLATES"  # the constant of a module that names the files beside it that it fills in
# Distributions that are not called as they are imported. To look through what is installed takes 0.3 s.
DISTRIBUTIONS = {"PIL": ("Pillow",), "sklearn": ("scikit-learn",), "onnxruntime": ("onnxruntime", "onnxruntime-gpu")}


@dataclass(frozen=True)
class Closure:
    """Everything that some modules depend on.

    Attributes:
        root: the folder of our packages.
        modules: names of modules of ours.
        templates: files that they fill in.
        packages: top-level names of packages of others that they import, without the standard library.
        attributes: names of all attributes that they read of anything, settings among them.
    """

    root: Path
    modules: frozenset[str]
    templates: frozenset[Path]
    packages: frozenset[str]
    attributes: frozenset[str]

    def digest(self) -> str:
        """Return the SHA-256 of the files by their names below the root."""
        found = hashlib.sha256()
        for file in sorted({_file(self.root, module) for module in self.modules} | self.templates):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            found.update(f"{file.relative_to(self.root).as_posix()} {content}\n".encode())
        return found.hexdigest()

    def versions(self) -> dict[str, str]:
        """Return the versions of Python and of the packages, by the names of their distributions.

        Raises:
            ConfigError: a package is not installed.
        """
        if missing := self.missing():
            raise ConfigError(
                f"the package {missing[0]} is not installed",
                do="install what the pipeline needs: pip install '.[cpu,train,report]', or make install",
            )
        return {
            "python": ".".join(platform.python_version_tuple()[:2]),
            **{
                name: version
                for package in sorted(self.packages)
                for name in _distributions(package)
                if (version := installed_version(name)) is not None
            },
        }

    def missing(self) -> list[str]:
        """Return the names of the distributions that are not installed."""
        wanted = [_distributions(package) for package in sorted(self.packages)]
        return [names[0] for names in wanted if not any(map(installed_version, names))]


def of(*modules: str, root: Path = ROOT) -> Closure:
    """Return the closure of some modules of ours under import."""
    seen: dict[str, _Source] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in seen and module not in OUTSIDE:
            seen[module] = _source(root, module)
            waiting += seen[module].modules
    return Closure(
        root=root,
        modules=frozenset(seen),
        templates=frozenset(_file(root, m).with_name(name) for m, one in seen.items() for name in one.templates),
        packages=frozenset[str]().union(*(one.packages for one in seen.values())),
        attributes=frozenset[str]().union(*(one.attributes for one in seen.values())),
    )


def _distributions(package: str) -> tuple[str, ...]:
    """Return what a package may be called where it is installed from, the usual name first."""
    return DISTRIBUTIONS.get(package, (package.replace("_", "-"),))


@dataclass(frozen=True)
class _Source:
    """What one file says."""

    modules: frozenset[str]
    packages: frozenset[str]
    templates: tuple[str, ...]
    attributes: frozenset[str]


@cache
def _source(root: Path, module: str) -> _Source:
    tree = ast.parse(_file(root, module).read_bytes())
    nodes = list(ast.walk(tree))
    named = {name for node in nodes for name in _named(node)}
    return _Source(
        modules=frozenset(n for n in named if n.partition(".")[0] in NAMES and _file(root, n).is_file()),
        packages=frozenset({name.partition(".")[0] for name in named} - NAMES - sys.stdlib_module_names),
        templates=tuple(name for statement in tree.body for name in _templates(statement)),
        attributes=frozenset(node.attr for node in nodes if isinstance(node, ast.Attribute)),
    )


def _named(node: ast.AST) -> Iterator[str]:
    """Yield the modules that a node imports; `from a import b` may mean a.b, or b of a."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.module is not None and not node.level  # a test sees to it that no import is relative
        yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "import_module":
        yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def _templates(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == [TEMPLATES]:
        yield from ast.literal_eval(statement.value)


def _file(root: Path, module: str) -> Path:
    return root / f"{module.replace('.', '/')}.py"

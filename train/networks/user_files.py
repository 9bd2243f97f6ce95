"""The files of a user that training reads. No torch: the cache asks for their hashes before it decides to train."""

import ast
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from bigstep.config import TrainConfig
from bigstep.errors import ConfigError
from bigstep.machine import installed_version

INSTALLED = frozenset(("site-packages", "dist-packages"))


def sources(config: TrainConfig) -> dict[str, str] | None:
    """Return the SHA-256 of the user's network and of the pretrained weights, so that a changed file is noticed.

    Also what the network's file imports, and so on: the versions of installed packages, and the SHA-256 of modules that
    lie elsewhere (on PYTHONPATH, or installed to be edited). None where the configuration names neither.

    Raises:
        ConfigError: a file cannot be read.
    """
    files = {}
    if ".py:" in config.network:
        files["network"] = config.network.rpartition(":")[0]
    if config.weights is not None:
        files["weights"] = config.weights
    found = {name: file_sha256(path, f"train.{name}") for name, path in files.items()}
    return found | (_imported(Path(files["network"])) if "network" in files else {}) or None


def file_sha256(path: str, setting: str) -> str:
    """Return the SHA-256 of a file that a setting names.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        do = f"mend {setting}; paths are relative to the folder that bigstep runs in"
        raise ConfigError(f"the file of {setting} cannot be read", got=f"{path}: {error.strerror}", do=do) from error


def _imported(file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    waiting = [file]
    while waiting:
        for name in _names(waiting.pop()):
            if f"import {name}" not in found:
                installed, files = _located(name)
                found[f"import {name}"] = installed or _sha256_of_all(files)
                waiting += [] if installed else files
    return found


def _names(file: Path) -> Iterator[str]:
    """Yield the packages that a file imports anywhere in it; none of the standard library, none if it is not Python."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError):  # the network's own file is run before training, and says what is wrong with it
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        else:
            continue
        yield from {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def _located(name: str) -> tuple[str | None, list[Path]]:
    """Return the version of an installed package, or the files of one that lies elsewhere; nothing is imported."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return None, []
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    origin = [Path(spec.origin)] if spec.origin and not folders else []
    if INSTALLED & {part for place in [*folders, *origin] for part in place.parts}:
        distributions = importlib.metadata.packages_distributions().get(name, [name])
        return " ".join(f"{one} {installed_version(one)}" for one in sorted({*distributions})), []
    return None, origin + sorted(file for folder in folders for file in folder.rglob("*.py"))


def _sha256_of_all(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()

"""The key of a stage: a hash of everything that decides its record, computed from the stage's own code.

key = sha256(name, values of settings, digests of inputs, code, the user's own files, versions, kind of device)

Code, packages and settings are those of the import closure of the stage's door; for images also of the builder that is
chosen. A setting counts as read where the closure reads an attribute of its name, of whatever: one too many makes a
stage run again, one too few would reuse what the present code and settings do not make.
"""

import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bigstep.config import Config, Section, storage_only
from pipeline import closure
from pipeline.closure import Closure
from pipeline.stages import Stage


@dataclass(frozen=True)
class Keys:
    """The two keys of a stage: `record` of what it makes, `work` of the folder in which it works, and what `decides`.

    They differ for the images: when one of a million files was mended, the others need not be decoded again, and the
    stage itself sees to it that what it finds there was made from the present files.
    """

    record: str
    work: str
    decides: Mapping[str, Any]


def keys(stage: Stage[Any], config: Config, inputs: Mapping[str, str], device: str) -> Keys:
    """Return the keys of a stage.

    Args:
        config: the whole configuration, of which the stage reads its own section, and what later ones ask of it.
        inputs: digests of what it reads beside, by name.
        device: `cpu` or `cuda`, which counts where the stage computes on it.

    Raises:
        ConfigError: a package that the stage imports is not installed, or a file of the user cannot be read.
        DataError: source files are missing.
    """
    section, code = stage.section(config), code_of(stage, config)
    demands = stage.demands(config)
    decides = {
        "stage": stage.name,
        "settings": settings(section, code.attributes),
        "demands": {name: settings(later, code.attributes) for name, later in vars(demands).items()} if demands else {},
        "inputs": dict(inputs),
        "code": code.digest(),
        "sources": importlib.import_module(stage.sources).sources(section) if stage.sources else None,
        "versions": code.versions(),
        "device": device if stage.on_device else None,
        "numerics": config.numerics if stage.rounds else None,
    }
    work = {**decides, "sources": None} if stage.keeps_work else decides
    return Keys(_hash(decides), _hash(work), decides)


def code_of(stage: Stage[Any], config: Config) -> Closure:
    """Return the code that a stage runs, with what its settings choose."""
    return closure.of(stage.door, *stage.chosen(stage.section(config)))


def settings(section: Section, read: frozenset[str]) -> dict[str, Any]:
    """Return what a section says of the names that are read: fields and properties, resolved, as JSON values.

    A setting that only says where or how much is stored is left out. A section inside the section counts whole.
    """
    names = {*type(section).model_fields, *_properties(section)} & read
    return {name: _plain(getattr(section, name)) for name in sorted(names - storage_only(type(section)))}


def _properties(section: Section) -> list[str]:
    kinds = [kind for kind in type(section).__mro__ if issubclass(kind, Section)]
    return [name for kind in kinds for name, value in vars(kind).items() if isinstance(value, property)]


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return {name: _plain(getattr(value, name)) for name in [*type(value).model_fields, *_properties(value)]}
    return value


def _hash(decides: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

"""The configuration as a file: TOML in and out, presets, and errors that name the key and suggest the right one."""

import difflib
import hashlib
import json
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from bigstep.config import FAMILIES, Config, Section
from bigstep.errors import ConfigError


def digits() -> Config:
    """Return the preset of `make run`: coloured digits, the whole grid, five seeds."""
    return Config(name="digits")


def tiny() -> Config:
    """Return the preset of CI: the network, test split and gate of `digits`, three rates, one seed."""
    full = digits()
    return full.model_copy(
        update={
            "name": "tiny",
            "train": full.train.model_copy(update={"min_rate": 0.1, "max_rate": 0.5, "num_rates": 3, "num_seeds": 1}),
        }
    )


PRESETS = {"digits": digits, "tiny": tiny}
RENAMED = {  # what older files and run folders still have
    "train.watch_steps": "train.observe_steps",
    "data.plant.rho": "data.plant.conflicting",
}
EXPECTED = {  # where pydantic's own words do not help
    "model_type": "a section, like [train]",
}
PATTERNS = {  # a pattern in words, by the key that has it
    "name": "letters, digits, dots, dashes and underscores, the first a letter or digit",
    "network": f"mlp, cnn, {', '.join(FAMILIES)}, or path/to/net.py:function",
    "groups": "all, aligned, conflicting, or terms like label=3,colour=blue",
}


def load(source: str, overrides: Iterable[str] = ()) -> Config:
    """Read a preset or a TOML file and apply `section.key=value` overrides.

    Args:
        source: the name of a preset or the path of a TOML file.
        overrides: like `train.min_rate=0.03`; the value is read as TOML, or as a string if it is none.

    Raises:
        ConfigError: no such preset or file, no valid TOML, an unknown key, or a value out of range.
    """
    values = PRESETS[source]().model_dump() if source in PRESETS else _read_toml(Path(source))
    for override in overrides:
        _override(values, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise _explain(error, source) from None


def to_toml(config: Config) -> str:
    """Write a configuration as commented TOML: every key with its value and its help."""
    lines: list[str] = []
    for name, field in Config.model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Section):
            lines += ["", f"[{name}]"]
            for key, leaf in type(value).model_fields.items():
                lines += _toml_line(key, getattr(value, key), leaf.description)
        else:
            lines += _toml_line(name, value, field.description)
    return "\n".join(lines) + "\n"


def _toml_line(key: str, value: object, help_text: str | None) -> list[str]:
    if value is None:
        return [f"# {help_text}", f"# {key} ="]
    return [f"# {help_text}", f"{key} = {_toml_literal(value)}"]


def _toml_literal(value: object) -> str:
    if isinstance(value, Section):
        return "{" + ", ".join([f"{key} = {_toml_literal(inner)}" for key, inner in value if inner is not None]) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml_literal(v) for v in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    # A TOML string is a JSON string, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else repr(value)


def name_of(path: Path) -> str:
    """Return what a configuration is called that does not name itself: its file name, in letters that any place takes.

    What says less than the file name does (letters outside ASCII are left out, or all that is left is the name of a
    preset, or nothing) ends in a part of its hash, so that the runs do not share a folder.
    """
    stem = unicodedata.normalize("NFC", path.stem)
    ascii_only = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", ascii_only).strip("._-")
    if name == stem or (stem.isascii() and name and name not in PRESETS):
        return name
    return "-".join([*filter(None, [name]), hashlib.sha256(stem.encode("utf-8", "surrogateescape")).hexdigest()[:8]])


def _read_toml(path: Path) -> dict[str, Any]:
    try:  # Windows editors begin a file with a mark of its encoding
        return {"name": name_of(path)} | tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, IsADirectoryError):
        known = ", ".join(PRESETS)
        raise ConfigError(
            "no such configuration", got=path, expected=f"a TOML file or a preset ({known})", do="bigstep init"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not valid TOML",
            got=error,
            expected="text in UTF-8",
            do="save it as UTF-8 (PowerShell: -Encoding utf8)",
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML", got=error) from error


def _override(values: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign:
        raise ConfigError("--set wants section.key=value", got=override, do="for example --set train.num_seeds=1")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, leaf = key.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: {section} is not a section")
    values[leaf] = value


def _explain(error: ValidationError, source: str) -> ConfigError:
    """Turn pydantic's first complaint into one message with a suggestion."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        if key in RENAMED:
            return ConfigError(f"{source}: {key!r} has another name now", do=f"call it {RENAMED[key]!r}")
        names = list(_fields_at(path[:-1]))
        close = difflib.get_close_matches(path[-1], names, n=1)
        return ConfigError(
            f"{source}: unknown key {key!r}",
            do=f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(names)}",
        )
    if first["type"] == "value_error":
        where = f"{source}: {key}" if key else source  # a rule about two sections has no key
        return ConfigError(f"{where}: {str(first['msg']).removeprefix('Value error, ')}")
    expected = EXPECTED.get(first["type"], str(first["msg"]).removeprefix("Input should be "))
    if first["type"] == "string_pattern_mismatch":
        expected = next(text for name, text in PATTERNS.items() if name in path)
    return ConfigError(f"{source}: {key} is not valid", got=repr(first["input"]), expected=expected)


def _fields_at(path: list[str]) -> Mapping[str, object]:
    section: type[BaseModel] = Config
    for part in path:
        inner = section.model_fields[part].annotation
        kinds = [kind for kind in (inner, *get_args(inner)) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        section = kinds[0]
    return section.model_fields

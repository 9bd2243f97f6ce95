"""What builders of many kinds read of the configuration in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from bigstep.config import DataConfig
from bigstep.errors import ConfigError
from bigstep.records.architecture import InputSpec

T = TypeVar("T")


def square(config: DataConfig, default_px: int) -> InputSpec:
    """Return the input of images that become squares of `data.size_px` pixels, or else of the default side."""
    side = config.size_px or default_px
    return InputSpec(height_px=side, width_px=side, fit=config.fit)


def variant(config: DataConfig, variants: Mapping[str, T]) -> tuple[str, T]:
    """Return the name that `data.variant` gives, by default the first one, and what it stands for.

    Raises:
        ConfigError: there is no such variant.
    """
    name = config.variant or next(iter(variants))
    if name not in variants:
        raise ConfigError(
            f"{config.kind} has no such variant",
            got=repr(name),
            expected=f"one of {', '.join(variants)}",
            do="set data.variant",
        )
    return name, variants[name]

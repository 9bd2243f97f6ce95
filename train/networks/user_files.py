"""The files of a user that training reads. No torch: the cache asks for their hashes before it decides to train."""

import hashlib
from pathlib import Path

from bigstep.config import TrainConfig
from bigstep.errors import ConfigError


def sources(config: TrainConfig) -> dict[str, str] | None:
    """Return the SHA-256 of the user's network and of the pretrained weights, so that a changed file is noticed.

    None where the configuration names neither.

    Raises:
        ConfigError: a file cannot be read.
    """
    files = {}
    if ".py:" in config.network:
        files["network"] = config.network.rpartition(":")[0]
    if config.weights is not None:
        files["weights"] = config.weights
    return {name: file_sha256(path, f"train.{name}") for name, path in files.items()} or None


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

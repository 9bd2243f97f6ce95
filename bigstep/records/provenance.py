"""What decided a record, and when and with what it was made: for whoever asks later, and outside of every digest."""

from pathlib import Path
from typing import Any, Self

from bigstep.records.sealed import Value, write_json

FILE = "provenance.json"


class Provenance(Value):
    """How one record was made.

    Attributes:
        stage: what made it.
        begun: when that began, UTC, like 2026-11-28T11:20:00Z.
        bigstep: our version; None where bigstep is not installed.
        commit: of our source, with `-dirty` where files differed from it; None where nobody knows.
        code: SHA-256 of the modules that the stage runs.
        python: the version of Python.
        packages: versions of the packages that the stage imports, by distribution.
        device: `cpu` or `cuda`, of a stage that computes on it.
        settings: what the stage reads of the configuration, resolved.
        inputs: digests of the records that it reads, and of networks that were given to it.
        sources: what stands for the user's own files, if it reads any.
    """

    stage: str
    begun: str
    bigstep: str | None
    commit: str | None
    code: str
    python: str
    packages: dict[str, str]
    device: str | None
    settings: dict[str, Any]
    inputs: dict[str, str]
    sources: Any

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read what a record says of how it was made; None where it says nothing, as records of older versions."""
        path = folder / FILE
        return cls.model_validate_json(path.read_bytes()) if path.is_file() else None

    def write(self, folder: Path) -> None:
        """Write it into the folder of a record that is not sealed yet."""
        write_json(folder / FILE, self.model_dump(mode="json"))

"""What is shipped: the ONNX files of one network with the verdict on them, a card and a report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from bigstep.errors import RecordError
from bigstep.records.exported import Contract, Form
from bigstep.records.sealed import Record, Value
from bigstep.records.verdict import VerdictInfo


class BundleInfo(Value):
    """What a server needs to know: the file to serve, its contract, and the verdict on it."""

    name: str
    contract: Contract
    forms: list[Form]
    served: str
    verdict: VerdictInfo
    made_from: dict[str, str]


@dataclass(frozen=True)
class Bundle(Record[BundleInfo]):
    """What is shipped: ONNX files, verdict, card and report."""

    kind: ClassVar[str] = "bundle"
    Info: ClassVar[type[Any]] = BundleInfo

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a bundle, which people name by hand, unlike other records; see `Record.open`."""
        if not (folder / "manifest.json").is_file():
            raise RecordError(
                f"{folder} is not a bundle",
                got="no manifest.json" if folder.is_dir() else "no such folder",
                expected="the folder `bundle` of a run",
                do="name it, or make one: bigstep run CONFIG",
            )
        return super().open(folder)

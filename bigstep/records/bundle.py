"""What is shipped: the ONNX files of one network with the verdict on them, a card and a report."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field

from bigstep.errors import RecordError
from bigstep.records.exported import Contract, Form
from bigstep.records.sealed import Record, Value, read_manifest
from bigstep.records.verdict import Outcome, VerdictInfo

MANIFEST = "manifest.json"


class BundleInfo(Value):
    """What a server needs to know: the file to serve, its contract, the verdict on it, and what became of budgets.

    `budgets` are about the machine that judged, and hinder nobody from serving elsewhere.
    """

    name: str
    contract: Contract
    forms: list[Form]
    served: str
    verdict: VerdictInfo
    budgets: dict[str, Outcome] = Field(default_factory=dict)
    made_from: dict[str, str]

    @property
    def headline(self) -> str:
        """Return the sentence that its card and report begin with."""
        return self.verdict.headline(self.served, self.budgets.values())


@dataclass(frozen=True)
class Bundle(Record[BundleInfo]):
    """What is shipped: ONNX files, verdict, card and report."""

    kind: ClassVar[str] = "bundle"
    Info: ClassVar[type[Any]] = BundleInfo

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a bundle, which people name by hand, unlike other records; see `Record.open`.

        Of a link, what it points to now is read to the end, and named by the record: a run may move it meanwhile.
        """
        found = None
        if not (folder / MANIFEST).is_file():
            found = f"no {MANIFEST} in it" if folder.is_dir() else "no such folder"
        elif (kind := read_manifest(folder).kind) != cls.kind:
            found = f"a record of kind {kind}"
        if found:
            raise RecordError(
                f"{folder} is not a bundle",
                got=found,
                expected="the folder `bundle` of a run that passed",
                do="name it, or make one: bigstep run CONFIG",
            )
        return super().open(folder.resolve() if folder.is_symlink() else folder)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Tell the other processes of this machine that the bundle is in use: nobody then clears it away."""
        with (self.folder / MANIFEST).open("rb") as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_SH)
            yield


def is_held(folder: Path) -> bool:
    """Tell whether a process of this machine uses the bundle in a folder; see `Bundle.held`."""
    with (folder / MANIFEST).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False

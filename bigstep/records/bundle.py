"""What is shipped: the ONNX files of one network with the verdict on them, a card and a report."""

from dataclasses import dataclass
from typing import Any, ClassVar

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

"""What export writes: the ONNX files, what goes into them and comes out, and how well their numbers agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from bigstep.errors import RecordError
from bigstep.records.architecture import InputSpec
from bigstep.records.sealed import Record, Value


class Contract(Value):
    """Say what goes into and comes out of a served file: raw uint8 NHWC pixels in, float32 logits (N, K) out."""

    input: InputSpec
    labels: list[str]
    input_name: str = "images"
    output_name: str = "logits"


class Form(Value):
    """Name one ONNX file: `role` says which network it is, `precision` how its weights are stored."""

    name: str
    role: Literal["compact", "dense", "baseline", "compact_baseline"]
    precision: Literal["fp32", "int8"]
    file: str
    sha256: str
    bytes: int


class Rung(Value):
    """Compare two forms of one network on held-out images; `limit` bounds `measured` from above or below.

    `measured` is None where a form returned numbers that are not finite.
    """

    network: str
    name: str
    measure: Literal["max_abs_difference", "argmax_agreement"]
    measured: float | None
    limit: float
    n: int


class ExportedInfo(Value):
    """List the ONNX files, which of them is served, and how well their numbers agree."""

    contract: Contract
    forms: list[Form]
    served: str
    ladder: list[Rung]

    def form(self, name: str) -> Form:
        """Return the form of that name."""
        return next(f for f in self.forms if f.name == name)

    def dense(self) -> Form:
        """Return the uncompressed float32 file to compare with; raises a RecordError unless there is exactly one."""
        found = [form for form in self.forms if (form.role, form.precision) == ("dense", "fp32")]
        if len(found) != 1:
            raise RecordError(
                "the gate needs one uncompressed float32 file to compare with",
                got=[form.name for form in found],
                expected="one form of role dense and precision fp32",
                do="bigstep export CONFIG",
            )
        return found[0]


@dataclass(frozen=True)
class Exported(Record[ExportedInfo]):
    """Hold ONNX files."""

    kind: ClassVar[str] = "exported"
    Info: ClassVar[type[Any]] = ExportedInfo

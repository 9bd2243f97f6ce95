"""What export writes: the ONNX files, what goes into them and comes out, and how well their numbers agree."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from bigstep.errors import RecordError
from bigstep.records.architecture import InputSpec
from bigstep.records.sealed import Record, Value

Role = Literal["compact", "dense", "baseline", "compact_baseline"]
Precision = Literal["fp32", "int8"]


class Contract(Value):
    """What goes into and comes out of a served file: raw uint8 NHWC pixels in, float32 logits (N, K) out."""

    input: InputSpec
    labels: list[str]
    input_name: str = "images"
    output_name: str = "logits"


class Form(Value):
    """One ONNX file of a network.

    Attributes:
        network: `compact`, `dense`, a baseline's name, or that name and `-compact`.
        role: what the network is for.
        precision: how its weights are stored.
    """

    network: str
    role: Role
    precision: Precision
    file: str
    sha256: str
    bytes: int

    @property
    def name(self) -> str:
        """Return what tells this file from all others of a run, like `compact-int8`."""
        return f"{self.network}-{self.precision}"


class Rung(Value):
    """Two forms of one network compared on `n` held-out images; `limit` bounds `measured` from above or below.

    `measured` is None where a form returned numbers that are not finite. `batch_sizes` are those at which the first of
    these images were tried, where that was more than one.
    """

    network: str
    name: str
    measure: Literal["max_abs_difference", "argmax_agreement"]
    measured: float | None
    limit: float
    n: int
    batch_sizes: tuple[int, ...] = ()


class ExportedInfo(Value):
    """The ONNX files, role by role, the name of the served one, and how well their numbers agree."""

    contract: Contract
    forms: list[Form]
    served: str
    ladder: list[Rung]

    def form(self, name: str) -> Form:
        """Return the form of that name."""
        return next(f for f in self.forms if f.name == name)

    @property
    def dense(self) -> Form:
        """Return the uncompressed float32 file to compare with.

        Raises:
            RecordError: there is not exactly one.
        """
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
    """ONNX files."""

    kind: ClassVar[str] = "exported"
    Info: ClassVar[type[Any]] = ExportedInfo

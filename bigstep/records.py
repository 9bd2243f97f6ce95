"""What flows between the stages, as frozen values (see `bigstep.sealed` for how they lie on the disk).

Images -> Trained -> Compact -> Exported -> Verdict;   Bundle = what of Exported is served + Verdict + card + report
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bigstep.errors import RecordError
from bigstep.groups import aligned_members
from bigstep.sealed import Record, Value


class InputSpec(Value):
    """Say what pixels a network takes: uint8, NHWC, RGB or grey; how files become these is `bigstep.decode`."""

    height_px: int
    width_px: int
    channels: Literal[1, 3] = 3
    resize: Literal["bilinear"] = "bilinear"
    fit: Literal["stretch", "crop"] = "stretch"


class UserNetwork(Value):
    """Name the function of a user's file that makes a network, and the SHA-256 of that file."""

    path: str
    function: str
    sha256: str


Family = Literal[
    "mlp",
    "cnn",
    "resnet18",
    "resnet50",
    "wide_resnet101_2",
    "swin_t",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "own",
]


class Architecture(Value):
    """Describe a network completely, so that it can be built again without any code of the run that made it.

    `widths` gives every hidden layer's number of units or channels by name, in order; layers whose channels can only
    leave together are named once, by the first of them. `blocks` is the largest number of blocks in a stage, None for
    the family's own. `own` names a user's network, which alone needs a file beside the record. `mean` and `std` are
    the normalisation inside the network, per channel, in units of pixels / 255.
    """

    family: Family
    widths: dict[str, int]
    classes: int
    input: InputSpec
    mean: tuple[float, ...]
    std: tuple[float, ...]
    blocks: int | None = None
    own: UserNetwork | None = None


# ---- Images ----------------------------------------------------------------------------------------------------------


class ImagesInfo(Value):
    """Describe a data set: names of labels and bias attributes, which cells training over-represents, findings.

    `attributes` maps each bias attribute, in column order, to the names of its values (possibly no attribute);
    `aligned[attribute][label][value]` is true where training shows the value more often in the class than overall.
    """

    name: str
    labels: list[str]
    attributes: dict[str, list[str]]
    aligned: dict[str, list[list[bool]]]
    input: InputSpec
    counts: dict[str, int]
    findings: list[str]


@dataclass(frozen=True)
class Split:
    """Hold one split: pixels uint8 (N, H, W, C), labels int64 (N,), bias int64 (N, A), ids and sources int64 (N,).

    Images of one `source` (one digit in several colours) are not independent: intervals are clustered by it.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    bias: NDArray[np.int64]
    ids: NDArray[np.int64]
    sources: NDArray[np.int64]
    aligned: NDArray[np.bool_] | None


SplitName = Literal["train", "validation_biased", "validation", "test"]
SPLIT_FIELDS = ("images", "labels", "bias", "ids", "sources")
FILES, FILES_HEADER = "files.csv", ("split", "id", "path", "sha256")


class SourceFile(NamedTuple):
    """Name the file that an image was made from: its path below the source folder, and the SHA-256 of its bytes."""

    id: int
    path: str
    sha256: str


@dataclass(frozen=True)
class Images(Record[ImagesInfo]):
    """Hold a data set. The same configuration and seed give the same bytes."""

    kind: ClassVar[str] = "images"
    Info: ClassVar[type[Any]] = ImagesInfo

    def split(self, name: SplitName) -> Split:
        """Return one split, memory-mapped."""
        arrays = {field: self.array(f"{name}.{field}.npy") for field in SPLIT_FIELDS}
        tables = [np.array(self.info.aligned[a], dtype=np.bool_) for a in self.info.attributes]
        aligned = aligned_members(arrays["labels"], arrays["bias"], tables) if tables else None
        return Split(**arrays, aligned=aligned)

    def source_files(self, name: SplitName) -> list[SourceFile] | None:
        """Return the file of every image of a split, in order; None if images were not made from files of their own."""
        if not (self.folder / FILES).exists():
            return None
        with (self.folder / FILES).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.DictReader(file)
            return [SourceFile(int(r["id"]), r["path"], r["sha256"]) for r in rows if r["split"] == name]

    def mask(self, region: Literal["core", "spurious"]) -> NDArray[np.bool_] | None:
        """Return which pixels of each test image carry the label (core) or the bias (spurious), bool (N, H, W).

        None where that is not known, or no matter of place.
        """
        name = f"test.{region}.npy"
        return self.array(name) if (self.folder / name).exists() else None

    def value_names(self) -> Mapping[str, list[str]]:
        """Return the names of the values of `label` and of every attribute, as `groups.members` takes them."""
        return {"label": self.info.labels, **self.info.attributes}


# ---- Compact ---------------------------------------------------------------------------------------------------------


class Quantisation(Value):
    """Hold everything INT8 needs as numbers: the range of each tensor, and the nodes left in float."""

    ranges: dict[str, tuple[float, float]]
    float_nodes: list[str]
    reduce_range: bool


class GroupDrop(Value):
    """Report the drop of one group's accuracy against the dense file, with its one-sided bounds."""

    group: str
    before: float
    after: float
    drop: float
    low: float
    high: float


class Candidate(Value):
    """Report one step of the search: what was tried, how large its file is, and what it did to each group.

    A step whose fine-tuning did not end well has no file: its `bytes` and `sha256` are None.
    """

    step: str
    widths: dict[str, int]
    bytes: int | None
    sha256: str | None
    drops: list[GroupDrop]
    kept: bool
    why: str


class CompactModel(Value):
    """Describe one compact network; its weights lie in `<name>.safetensors`. No quantisation means float32.

    `fitted` says whether every fine-tuning on the way reached the stopping rule of training.
    """

    name: str
    architecture: Architecture
    fitted: bool
    quantisation: Quantisation | None
    sha256: str
    bytes: int


class CompactInfo(Value):
    """Hold the chosen compact network, the search that led to it, and baselines sent down the same road."""

    source: str
    model: CompactModel
    frontier: list[Candidate]
    baselines: list[CompactModel]


@dataclass(frozen=True)
class Compact(Record[CompactInfo]):
    """Hold compact networks: `<name>.safetensors` each."""

    kind: ClassVar[str] = "compact"
    Info: ClassVar[type[Any]] = CompactInfo

    def weights(self, name: str) -> Path:
        """Return the weights file of a compact network."""
        return self.folder / f"{name}.safetensors"


# ---- Exported --------------------------------------------------------------------------------------------------------


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


# ---- Verdict and Bundle ----------------------------------------------------------------------------------------------

Outcome = Literal["passed", "failed", "undecided"]
SEVERITY: tuple[Outcome, ...] = ("failed", "undecided", "passed")


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the worst of some outcomes; passed if there is none."""
    return min(outcomes, key=SEVERITY.index, default="passed")


class Check(Value):
    """Report one check: the inequality `bound relation limit` decides, `measured` is the point estimate."""

    name: str
    outcome: Outcome
    measured: float | None
    bound: float | None
    relation: Literal["<=", ">=", ">", "=="]
    limit: float | None
    n: int
    says: str


class GroupScore(Value):
    """Report one form's accuracy on one group with one-sided bounds; None where the group is empty."""

    form: str
    group: str
    n: int
    accuracy: float | None
    low: float | None
    high: float | None


class VerdictInfo(Value):
    """Hold the decision, every check behind it, and the group accuracies of every judged form."""

    outcome: Outcome
    checks: list[Check]
    scores: list[GroupScore]
    comparisons: list[Check]
    judged: dict[str, str]
    notes: list[str]


@dataclass(frozen=True)
class Verdict(Record[VerdictInfo]):
    """Hold a verdict about bytes: `judged` maps each form to the SHA-256 of what was run."""

    kind: ClassVar[str] = "verdict"
    Info: ClassVar[type[Any]] = VerdictInfo


class BundleInfo(Value):
    """Hold what a server needs to know: the file to serve, its contract, and the verdict on it."""

    name: str
    contract: Contract
    forms: list[Form]
    served: str
    verdict: VerdictInfo
    made_from: dict[str, str]


@dataclass(frozen=True)
class Bundle(Record[BundleInfo]):
    """Hold what is shipped: ONNX files, verdict, card and report."""

    kind: ClassVar[str] = "bundle"
    Info: ClassVar[type[Any]] = BundleInfo

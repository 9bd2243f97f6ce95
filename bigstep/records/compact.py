"""What compression makes: a smaller network, the numbers of its INT8 form, and the search that led to it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bigstep.records.architecture import Architecture
from bigstep.records.sealed import Record, Value


class Quantisation(Value):
    """Everything that INT8 needs, as numbers: the range of each tensor, and the nodes left in float."""

    ranges: dict[str, tuple[float, float]]
    float_nodes: list[str]
    reduce_range: bool


class GroupDrop(Value):
    """The drop of one group's accuracy against the dense file, with its one-sided bounds."""

    group: str
    before: float
    after: float
    drop: float
    low: float
    high: float


class Candidate(Value):
    """One step of the search: what was tried, how large its file is, and what it did to each group.

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
    """One compact network; its weights lie in `<name>.safetensors`. No quantisation means float32.

    `fitted` says whether every fine-tuning on the way reached the stopping rule of training.
    """

    name: str
    architecture: Architecture
    fitted: bool
    quantisation: Quantisation | None
    sha256: str
    bytes: int


class CompactInfo(Value):
    """The chosen compact network, the search that led to it, and baselines sent down the same road."""

    source: str
    model: CompactModel
    frontier: list[Candidate]
    baselines: list[CompactModel]


@dataclass(frozen=True)
class Compact(Record[CompactInfo]):
    """Compact networks: `<name>.safetensors` each."""

    kind: ClassVar[str] = "compact"
    Info: ClassVar[type[Any]] = CompactInfo

    def weights(self, name: str) -> Path:
        """Return the weights file of a compact network."""
        return self.folder / f"{name}.safetensors"

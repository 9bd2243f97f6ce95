"""What a compression step costs each group, read off the ONNX file that the step would ship."""

from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from bigstep.errors import CompressError
from bigstep.groups import ALIGNED, CONFLICTING
from bigstep.intervals import drop_interval
from bigstep.records.compact import GroupDrop
from bigstep.records.exported import Contract
from bigstep.records.images import Split
from bigstep.scores import ALL, Outputs
from serve.predictor import Predictor

CONFIDENCE = 0.95


@final
class Judge:
    """A dense file, with which others are compared on the validation images, group by group.

    Raises:
        CompressError: the dense file returns logits that are not finite.
    """

    def __init__(self, split: Split, contract: Contract, dense_file: Path) -> None:
        self.split = split
        self.contract = contract
        before = self._correct(dense_file)
        if before is None:
            raise CompressError(f"{dense_file.name} returns logits that are not finite", do="train at a smaller rate")
        self.before = before

    def drops(self, file: Path) -> list[GroupDrop]:
        """Return the drop of each group's accuracy from the dense file to this one; none if logits are not finite."""
        after = self._correct(file)
        if after is None:
            return []
        aligned = self.split.aligned
        groups = {ALL: np.ones(len(after), np.bool_)} if aligned is None else {ALIGNED: aligned, CONFLICTING: ~aligned}
        return [self._drop(name, mask, after) for name, mask in groups.items() if mask.any()]

    def _drop(self, name: str, mask: NDArray[np.bool_], after: NDArray[np.bool_]) -> GroupDrop:
        before = self.before[mask]
        drop = drop_interval(before, after[mask], self.split.sources[mask], CONFIDENCE)
        return GroupDrop(
            group=name,
            before=float(before.mean()),
            after=float(after[mask].mean()),
            drop=drop.estimate,
            low=drop.low,
            high=drop.high,
        )

    def _correct(self, file: Path) -> NDArray[np.bool_] | None:
        logits_NK = Predictor.open(file, self.contract).predict_all(self.split.images)
        return Outputs.of(logits_NK, self.split.labels).correct

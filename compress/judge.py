"""What a compression step costs, read off the ONNX file that the step would ship, by the rules of the gate."""

from dataclasses import replace
from pathlib import Path
from typing import final

from bigstep import rules
from bigstep.config import VerifyConfig
from bigstep.errors import CompressError
from bigstep.records.compact import GroupDrop
from bigstep.records.exported import Contract, Rung
from bigstep.records.images import Images
from bigstep.records.verdict import Check
from bigstep.scores import Evidence, Outputs
from serve.predictor import Predictor

DENSE, CANDIDATE = "the dense file", "the candidate"


@final
class Judge:
    """A dense file, with which others are compared on the validation images as the gate will do on those of test.

    Args:
        asked: the settings of the gate, with the margin of the search.

    Raises:
        CompressError: the dense file returns logits that are not finite.
    """

    def __init__(self, asked: VerifyConfig, images: Images, contract: Contract, dense_file: Path) -> None:
        self.asked = asked
        self.contract = contract
        logits_NK = Predictor.open(dense_file, contract).predict_all(images.split("validation").images)
        self.evidence = Evidence.of(images, {DENSE: logits_NK}, "validation")
        if self.evidence.forms[DENSE].non_finite:
            raise CompressError(f"{dense_file.name} returns logits that are not finite", do="train at a smaller rate")

    def judge(self, file: Path, ladder: list[Rung]) -> tuple[list[Check], list[GroupDrop]]:
        """Return the checks that decide whether a file is kept, and how far each group's accuracy drops by it.

        Args:
            ladder: how well the forms of the file's network agree.
        """
        split = self.evidence.split
        outputs = Outputs.of(Predictor.open(file, self.contract).predict_all(split.images), split.labels)
        evidence = replace(self.evidence, forms={**self.evidence.forms, CANDIDATE: outputs})
        checks = [rules.finite(CANDIDATE, outputs), rules.not_constant(CANDIDATE, outputs)]
        checks += [rules.parity(rung) for rung in ladder]
        checks += rules.on_groups(self.asked, evidence, DENSE, CANDIDATE)
        groups = dict.fromkeys((*self.asked.groups, rules.hardest(evidence)))
        return checks, [drop for group in groups if (drop := self._drop(evidence, group))]

    def _drop(self, evidence: Evidence, group: str) -> GroupDrop | None:
        pair = rules.compare(self.asked, evidence, group, DENSE, CANDIDATE)
        if pair is None:
            return None
        return GroupDrop(
            group=group,
            before=float(pair.before.mean()),
            after=float(pair.after.mean()),
            drop=pair.drop.estimate,
            low=pair.drop.low,
            high=pair.drop.high,
        )

"""What is wrong with a data set, collected first and reported all at once."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bigstep.errors import DataError
from bigstep.groups import cell_counts

SHOWN = 5
Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing about a data set: how bad it is, what it is, everything that it concerns, and what to do.

    error: training would be meaningless, or data would be left out silently. warning: read this before you trust a
    number. note: what was done to the images.
    """

    level: Level
    what: str
    concerns: Sequence[str]
    do: str = ""

    def __str__(self) -> str:
        """Return one line: the number of things concerned and the first of them."""
        shown = shortened(list(map(quoted, self.concerns)))
        return f"{self.level}: {self.what} ({len(self.concerns):,}): {shown}" + (self.do and f"; {self.do}")


def present(*findings: Finding) -> list[Finding]:
    """Return those findings that concern anything."""
    return [finding for finding in findings if finding.concerns]


def empty_cells(
    columns: Mapping[str, Sequence[str]], labels_N: NDArray[np.int64], bias_NA: NDArray[np.int64]
) -> list[str]:
    """Name the cells of label and one attribute that hold no image, like `label=3,colour=gold`."""
    attributes = [name for name in columns if name != "label"]
    return [
        f"label={columns['label'][k]},{name}={columns[name][b]}"
        for column, name in enumerate(attributes)
        for k, b in np.argwhere(
            cell_counts(labels_N, bias_NA[:, column], len(columns["label"]), len(columns[name])) == 0
        )
    ]


def quoted(name: str) -> str:
    """Return a name as it can be printed: nothing, control characters and bytes that are not UTF-8 are spelled out."""
    return name if name and name.isprintable() else repr(name)


def shortened(names: Sequence[str], count: int | None = None) -> str:
    """Return the first few names and how many more there are, of `count` in all (default: as many as are given)."""
    rest = (len(names) if count is None else count) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")


def report(findings: Iterable[Finding]) -> list[str]:
    """Return one line per finding, the worst first."""
    return [str(finding) for finding in sorted(findings, key=lambda f: get_args(Level).index(f.level))]


def refuse_errors(name: str, findings: Sequence[Finding]) -> None:
    """Raise a DataError whose message is the whole report if any finding is an error."""
    counts = Counter(finding.level for finding in findings)
    if counts["error"]:
        lines = "".join(f"\n  - {line}" for line in report(findings))
        raise DataError(
            f"{quoted(name)} cannot be trained on as it is{lines}", do="mend every error; warnings may stay"
        )

"""The numbers of a network, the same value wherever they are measured, stored, compared or drawn."""

import math
from collections.abc import Mapping

# Numbers by name, like `conflicting` or `l2`; `verify.report.map_metrics` defines each. None: there is nothing to
# measure, or the number is not finite. A name that is missing was not measured.
Numbers = dict[str, float | None]


def finite(numbers: Mapping[str, float | None]) -> Numbers:
    """Return numbers with None in place of what is not finite."""
    return {name: None if value is None or not math.isfinite(value) else value for name, value in numbers.items()}

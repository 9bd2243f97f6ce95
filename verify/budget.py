"""Budgets on a clock: three-way checks of the served file's speed, kept apart from the verdict, which is about bytes.

They hold for the machine that measured. Like the gate's checks they are written so that NaN never passes.
"""

from bigstep.records.measured import Latency
from bigstep.records.verdict import Check, three_way
from bigstep.text import format_rate
from serve.bench import CONFIDENCE, MIN_FOR_P99, MIN_FOR_THROUGHPUT

ENDS = {"passed": "so it is kept", "failed": "so it is not kept", "undecided": "so these queries cannot tell"}


def checks(
    served: str, alone: Latency, best: Latency, *, max_p99_ms: float | None, min_images_per_s: float | None
) -> list[Check]:
    """Return one check per budget that is set.

    Args:
        served: the name of the served form.
        alone: its latency at batch 1.
        best: its latency at its best batch.
        max_p99_ms: budget of the 99th percentile at batch 1, above 0.
        min_images_per_s: budget of the throughput at the best batch, above 0.
    """
    found = [] if max_p99_ms is None else [_p99(served, alone, max_p99_ms)]
    return found + ([] if min_images_per_s is None else [_throughput(served, best, min_images_per_s)])


def _p99(served: str, latency: Latency, limit: float) -> Check:
    low, high = latency.p99_low_ms, latency.p99_high_ms
    enough = latency.p99_ms is not None
    passes = enough and high is not None and high <= limit
    outcome = three_way(passes=passes, fails=low is not None and not low <= limit)
    told = [f"is {latency.p99_ms:.3f} ms" if latency.p99_ms is not None else f"needs {MIN_FOR_P99} queries"]
    told += [f"at least {low:.3f} ms"] if low is not None else []
    told += [f"at most {high:.3f} ms"] if high is not None else []
    return Check(
        rule="latency budget",
        form=served,
        outcome=outcome,
        measured=latency.p99_ms,
        bound=high,
        relation="<=",
        limit=limit,
        n=latency.n,
        says=f"{served}: the 99th percentile of {_queries(latency)} of one image {', '.join(told)} {_sure()}; the "
        f"budget is at most {limit:,.10g} ms, {ENDS[outcome]}.",
    )


def _throughput(served: str, latency: Latency, limit: float) -> Check:
    low, high = latency.images_per_s_low, latency.images_per_s_high
    outcome = three_way(passes=low is not None and low >= limit, fails=high is not None and not high >= limit)
    told = [f"{format_rate(latency.images_per_s)} images per second"]
    told += [f"at least {format_rate(low)}"] if low is not None else [f"bounds need {MIN_FOR_THROUGHPUT} queries"]
    told += [f"at most {format_rate(high)}"] if high is not None else []
    return Check(
        rule="throughput budget",
        form=served,
        outcome=outcome,
        measured=latency.images_per_s,
        bound=low,
        relation=">=",
        limit=limit,
        n=latency.n,
        says=f"{served} answered, in {_queries(latency)} of {latency.batch}, {', '.join(told)} {_sure()}; the budget "
        f"is at least {limit:,.10g}, {ENDS[outcome]}.",
    )


def _queries(latency: Latency) -> str:
    return f"{latency.n:,} {'query' if latency.n == 1 else 'queries'}"


def _sure() -> str:
    return f"({100 * CONFIDENCE:g}% confidence each)"

"""Break the code on purpose, one line at a time, and see whether the tests notice.

    .venv/bin/python benchmarks/mutants.py [NAME...] [--list]

Each mutant is a text of one file and what stands there instead. It is put into a copy of the tree, where only the tests
that are named for it run. Exits with 1 if one survives, or if a text is not found exactly once any more.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT_S = 900.0
FAILED = 1  # pytest's code for tests that failed; the others are no tests, a wrong command line, an interrupt
LEFT_OUT = (
    ".git",
    ".venv",
    "runs",
    "build",
    "__pycache__",
    "*.egg-info",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
)


@dataclass(frozen=True)
class Mutant:
    """A change of one place in one file, and the tests of which one must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


CHOOSE, SEARCH, STEP = "tests/train/test_choose.py", "tests/train/test_search.py", "tests/train/test_step.py"
RULES, SCORES, COMPRESS = "tests/bigstep/test_rules.py", "tests/bigstep/test_scores.py", "tests/compress/test_search.py"
PRUNE, LADDER = "tests/compress/test_prune.py", "tests/export/test_ladder.py"
MUTANTS = [
    Mutant("priority: robust", "bigstep/config.py", '"robust": 0.8', '"robust": 0.7', (CHOOSE,)),
    Mutant("priority: small", "bigstep/config.py", '"small": 0.2', '"small": 0.3', (CHOOSE,)),
    Mutant("priority: balanced", "bigstep/config.py", '"balanced": 0.5', '"balanced": 0.6', (CHOOSE,)),
    Mutant("floor: at it is above it", "bigstep/rules.py", "found.low > limit", "found.low >= limit", (RULES,)),
    Mutant("MOST_SOURCES", "bigstep/rules.py", "MOST_SOURCES = 100", "MOST_SOURCES = 50", (RULES,)),
    Mutant("MOST_SOURCES, more", "bigstep/rules.py", "MOST_SOURCES = 100", "MOST_SOURCES = 200", (RULES,)),
    Mutant("EVEN_CELLS", "bigstep/scores.py", "EVEN_CELLS = 1.25", "EVEN_CELLS = 1.5", (SCORES,)),
    Mutant(
        "EVEN_CELLS, fewer",
        "bigstep/scores.py",
        "EVEN_CELLS = 1.25",
        "EVEN_CELLS = 1.1",
        (SCORES,),
    ),
    Mutant("OVERSHOT", "train/search.py", "OVERSHOT = 1 / 2", "OVERSHOT = 1 / 4", (SEARCH,)),
    Mutant("OVERSHOT, stricter", "train/search.py", "OVERSHOT = 1 / 2", "OVERSHOT = 3 / 4", (SEARCH,)),
    Mutant("PATIENCE", "train/search.py", "PATIENCE = 2.0", "PATIENCE = 20.0", (SEARCH,)),
    Mutant("HALVE_FROM", "train/search.py", "HALVE_FROM = 3", "HALVE_FROM = 2", (SEARCH,)),
    Mutant("HALVE_FROM, later", "train/search.py", "HALVE_FROM = 3", "HALVE_FROM = 4", (SEARCH,)),
    Mutant("LOST", "train/search.py", "LOST = 0.1", "LOST = 0.5", (SEARCH,)),
    Mutant("LOST, less", "train/search.py", "LOST = 0.1", "LOST = 0.02", (SEARCH,)),
    Mutant("DIVERGED_LOSS", "train/step.py", "DIVERGED_LOSS = 5.0", "DIVERGED_LOSS = 50.0", (STEP,)),
    Mutant("DIVERGED_LOSS, stricter", "train/step.py", "DIVERGED_LOSS = 5.0", "DIVERGED_LOSS = 2.5", (STEP,)),
    Mutant("COLLAPSE_LOSS", "train/step.py", "COLLAPSE_LOSS = 0.98", "COLLAPSE_LOSS = 1.5", (STEP,)),
    Mutant("COLLAPSE_LOSS, less", "train/step.py", "COLLAPSE_LOSS = 0.98", "COLLAPSE_LOSS = 0.5", (STEP,)),
    Mutant(
        "importance p",
        "train/networks/channels.py",
        "Importance(p=2)",
        "Importance(p=1)",
        (PRUNE,),
    ),
    Mutant(
        "fine-tuning on validation_biased",
        "compress/search.py",
        'split = self.images.split("train")',
        'split = self.images.split("validation_biased")',
        (COMPRESS,),
    ),
    Mutant(
        "INT8 agreement limit",
        "bigstep/config.py",
        "int8_agreement: Fraction = Field(0.97",
        "int8_agreement: Fraction = Field(0.0",
        (LADDER,),
    ),
    Mutant(
        "averaged at the end: old statistics of BatchNorm",
        "train/finish.py",
        "batch_norm.renew(self.averaged.module, x_NCHW)",
        "self.averaged.module",
        ("tests/train/test_finish.py",),
    ),
    Mutant(
        "averaged for the map: old statistics of BatchNorm",
        "train/averaging.py",
        "batch_norm.renew(averaged.module, x_NCHW)",
        "averaged.module",
        ("tests/train/test_averaging.py",),
    ),
    Mutant(
        "critical rate without momentum",
        "train/rate_map/tasks.py",
        "found.rate * (1 + start.momentum)",
        "found.rate",
        ("tests/train/rate_map/test_tasks.py",),
    ),
    Mutant(
        "second phase in the first phase's order",
        "train/rate_map/second_phase.py",
        "job.seed + 1,",
        "job.seed,",
        ("tests/train/rate_map/test_second_phase.py",),
    ),
]


def judge(mutant: Mutant) -> tuple[bool, str]:
    """Return whether the tests of a mutant fail because of it, and how that went."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        path = copy / mutant.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if text.count(mutant.old) != 1:
            return False, f"the text is {text.count(mutant.old)} times in {mutant.file}"
        if (whole := sound(mutant.tests)) is not None:
            return False, f"its tests do not pass without it: {whole}"
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        start_s = time.monotonic()
        code, last = run(copy, mutant.tests)
        said = f"{time.monotonic() - start_s:.0f} s"
        return code == FAILED, said if code in (0, FAILED) else last


@cache
def sound(tests: tuple[str, ...]) -> str | None:
    """Run tests on the code as it is; return what is wrong, None if they pass."""
    code, last = run(ROOT, tests)
    return None if code == 0 else last


def run(tree: Path, tests: tuple[str, ...]) -> tuple[int | None, str]:
    """Run tests of a tree on its own code; return pytest's code, None if it did not end, and its last words."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    # The tree stands before an installed bigstep; else the unbroken code would be tested.
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return None, f"no end within {LIMIT_S:g} s"
    *_, last = ["", *(done.stdout + done.stderr).strip().splitlines()]
    return done.returncode, last


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="mutants whose name begins so; default: all")
    parser.add_argument("--list", action="store_true", help="name them and end")
    arguments = parser.parse_args()
    chosen = [m for m in MUTANTS if not arguments.names or m.name.startswith(tuple(arguments.names))]
    if not chosen:
        parser.error(f"no mutant begins with {' or '.join(arguments.names)}")
    alive = 0
    for mutant in chosen:
        if arguments.list:
            print(f"{mutant.name}: {mutant.file}: {mutant.old!r} -> {mutant.new!r}")
            continue
        dead, said = judge(mutant)
        alive += not dead
        print(f"{'killed' if dead else 'SURVIVED'}  {mutant.name} ({said})", flush=True)
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())

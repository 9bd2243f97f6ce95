"""Print constraints that install the lowest versions that pyproject.toml allows; a CI job runs a short road on them."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

EXTRAS = ("cpu", "train", "report")


def lowest(project: Path) -> Iterator[str]:
    """Yield NAME==VERSION for each direct requirement of the road from images to a report."""
    declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    for requirement in [*declared["dependencies"], *(r for e in EXTRAS for r in declared["optional-dependencies"][e])]:
        name, version = re.match(r"([\w.-]+)(?:\[.*?\])?.*?>=([\w.]+)", requirement).groups()
        yield f"{name}=={version}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(lowest(Path(__file__).parents[1] / "pyproject.toml")) + "\n")

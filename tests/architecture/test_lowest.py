"""The lowest versions that are declared: generated, for each requirement, and not above those tested together."""

import re
import runpy
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOWEST = runpy.run_path(str(ROOT / ".ci" / "lowest.py"))["lowest"]


def numbers(version):
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_of_the_road_has_a_bound_that_the_pinned_version_keeps():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    found = dict(line.split("==") for line in LOWEST(ROOT / "pyproject.toml"))
    assert len(found) == sum(map(len, [project["dependencies"], extras["cpu"], extras["train"], extras["report"]]))
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    pinned = {canonical(name): version for name, _, version in (line.partition("==") for line in lines)}
    for name, version in found.items():
        assert numbers(version) <= numbers(pinned[canonical(name)]), name
    for name in ("torch", "torchvision"):
        assert numbers(pinned[name])[:2] == numbers(found[name])[:2], "other versions of it are not tried"


def test_a_job_installs_them_and_runs_the_whole_road():
    job = (ROOT / ".github/workflows/ci.yml").read_text().partition("  lowest:\n")[2].partition("  containers:\n")[0]
    order = [".ci/lowest.py > lowest.txt", "pip install -c lowest.txt", "bigstep run tiny"]
    assert [job.find(step) for step in order] == sorted(job.find(step) for step in order) and order[0] in job

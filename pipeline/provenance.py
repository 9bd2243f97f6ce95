"""Gather what decides a record and what it is made with, before a stage begins."""

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from bigstep.machine import installed_version
from bigstep.own_packages import ROOT
from bigstep.records.provenance import Provenance


def provenance(decides: Mapping[str, Any]) -> Provenance:
    """Return how a record is made that is begun now.

    Args:
        decides: what its key was computed from, see `pipeline.keys`.
    """
    packages = {name: version for name, version in decides["versions"].items() if name != "python"}
    return Provenance(
        begun=now(),
        bigstep=installed_version("bigstep"),
        commit=commit(ROOT),
        python=platform.python_version(),
        packages=packages,
        **{name: decides[name] for name in ("stage", "code", "device", "settings", "inputs", "sources")},
    )


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def commit(root: Path) -> str | None:
    """Return the commit of our source: of the working tree that it is run from, or that pip installed it from.

    A repository that merely holds the environment into which bigstep is installed is another project's.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str | None:
        command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
        try:
            done = subprocess.run(  # noqa: S603 - arguments of our own
                command, capture_output=True, text=True, env=environment, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    top = git("rev-parse", "--show-toplevel")
    if top and Path(top) == root.resolve():
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        origin = json.loads(metadata.distribution("bigstep").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return None
    found: str | None = origin.get("vcs_info", {}).get("commit_id")
    return found

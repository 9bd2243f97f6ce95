"""Our packages are ours: somebody's own `serve/` or `data/`, on PYTHONPATH for example, cannot stand in for them.

PYTHONPATH comes before what is installed, and our packages have ordinary names. Importing this module is enough; each
process that starts with our code does so first.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
NAMES = frozenset({"bigstep", "data", "train", "compress", "export", "serve", "verify", "pipeline"})


class OwnPackages(PathFinder):
    """A finder that looks for our packages beside this one, and for nothing else."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where one of our packages is; None for any other module."""
        return super().find_spec(fullname, [str(ROOT)], target) if path is None and fullname in NAMES else None


sys.meta_path.insert(0, OwnPackages)

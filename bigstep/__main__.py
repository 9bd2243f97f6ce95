"""The command `bigstep`, and `python -m bigstep`."""

import sys
from pathlib import Path
from typing import NoReturn

if sys.path and Path(sys.path[0]).resolve() == Path.cwd():
    del sys.path[0]  # somebody's own typer.py or numpy/ in the working directory must not stand in for the library

import bigstep.own_packages  # noqa: F401 - before any other package of ours


def main() -> NoReturn:
    """Run the command line."""
    from pipeline.cli import main as run

    run()


if __name__ == "__main__":
    main()

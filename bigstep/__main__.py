"""`python -m bigstep`: the same as the command `bigstep`."""

import sys
from pathlib import Path

if sys.path and Path(sys.path[0]).resolve() == Path.cwd():
    del sys.path[0]  # somebody's own train.py or data/ in the working directory must not stand in for ours

if __name__ == "__main__":
    from pipeline.cli import main

    main()

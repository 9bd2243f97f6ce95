"""Where commands print: the console, and standard streams whose reader may leave early (`bigstep run | head`)."""

import io
import os
import shutil
import sys
from pathlib import Path
from typing import Any, final

from rich.console import Console

WIDTH = 100  # where the output is not a terminal


@final
class Terminal(Console):
    """A console of rich, in a width that holds a table."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False)
        if self.width == 0 or (not self.is_screen and "COLUMNS" not in os.environ):
            self.width = WIDTH

    @property
    def is_screen(self) -> bool:
        """Say whether somebody looks on, whose lines have a width.

        rich's `is_terminal` also says whether there may be colours, which FORCE_COLOR and others decide for a log.
        """
        return self.file.isatty()

    @property
    def is_live(self) -> bool:
        """Say whether lines can be drawn anew."""
        return self.is_screen and self.is_terminal and self.is_interactive


@final
class Lasting(io.FileIO):
    """A standard stream; when its reader has left, the rest goes nowhere, and the exit code stays.

    Otherwise click and rich exit with 1, which means that the gate failed.
    """

    def write(self, content: Any, /) -> int:
        """Write bytes, and say that they were written."""
        try:
            return super().write(content)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(content)


def last() -> None:
    """Let standard output and error outlast their readers, and spell out what their encoding cannot hold."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__"):
            continue  # closed from the start, or another program listens
        errors = "backslashreplace" if stream.errors == "strict" else stream.errors
        raw = io.BufferedWriter(Lasting(descriptor, "w", closefd=False))
        setattr(sys, name, io.TextIOWrapper(raw, stream.encoding, errors, line_buffering=True))


def command() -> str:
    """Return how this program was called, so that its advice works where it is read."""
    called = Path(sys.argv[0])
    if called.name != "bigstep":
        return "bigstep"
    on_path = shutil.which("bigstep")
    return "bigstep" if on_path and Path(on_path).samefile(called) else str(called)

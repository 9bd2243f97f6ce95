"""What a command prints on standard output: tables for people, or with --json one object for programs.

A program finds an object there however the command ends: what it found out, or what went wrong and the exit code.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any, Protocol

import typer


class Report(Protocol):
    """What a command found out, for people and for programs."""

    def as_json(self) -> Any:
        """Return it as plain values."""

    def show(self) -> None:
        """Print it for people."""


_reported = False  # an object is on standard output already, and a second one would make both unreadable


def begin() -> None:
    """Begin a command: nothing is printed yet."""
    global _reported
    _reported = False


def report(found: Report, *, as_json: bool) -> None:
    """Print what a command found out."""
    global _reported
    if as_json:
        _reported = True
        typer.echo(json.dumps(found.as_json(), indent=1))
    else:
        found.show()


def failure(what: str, code: int, details: Mapping[str, str] | None = None) -> None:
    """Print, if JSON is asked for, what went wrong as one line: `bigstep follow --json` prints a line per object.

    The command line is looked at as it was typed, since it may be what cannot be understood.

    Args:
        what: what failed, as a sentence.
        code: the exit code that follows.
        details: what was found, what was expected and what to do, as far as it is known.
    """
    if "--json" in sys.argv[1:] and not _reported:
        typer.echo(json.dumps({"error": {"what": what, **(details or {})}, "exit_code": code}))

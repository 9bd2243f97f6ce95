"""Try what may crash, hang or fall back in silence: each in a process of its own, with a time limit."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from bigstep.records.sealed import Value
from bigstep.text import printable

PROBES = Path(__file__).with_name("probes.py")
END_S = 1.0  # time for a killed process to go; one that waits for a broken driver never does
MOST = 200  # characters of a reason


class Finding(Value):
    """What a probe found. A crash, a hang and silence are findings as well.

    Attributes:
        works: it loads and does what it is for.
        installed: it is there at all.
        why: why it does not work, or, of PyTorch, why it sees no GPU.
        cuda: the CUDA version that it was built for or, of the driver, the newest that it speaks.
        devices: the CUDA devices that it sees.
        providers: the execution providers compiled into onnxruntime, best first.
        exact_8_bit: integer products with 8-bit weights are exact on this processor.
    """

    works: bool
    installed: bool = True
    version: str | None = None
    why: str | None = None
    cuda: str | None = None
    devices: int = 0
    providers: tuple[str, ...] = ()
    exact_8_bit: bool | None = None

    def in_words(self) -> str:
        """Say how it does: its version or `works`, or why it does not."""
        if not self.installed:
            return "is not installed"
        return (self.version or "works") if self.works else f"does not work: {self.why}"


@dataclass(frozen=True)
class Ended:
    """How a process ended; `code` is None if it could not start or had to be killed, and `why` then says so."""

    code: int | None
    out: str
    err: str
    why: str = ""


class Running:
    """A process with a time limit, in a group of its own, so that what it started ends with it."""

    def __init__(self, command: Sequence[str], limit_s: float) -> None:
        self.limit_s = limit_s
        self.stop_at = time.monotonic() + limit_s
        self.process: subprocess.Popen[bytes] | None = None
        self.error = ""
        try:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter, or nvidia-smi
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self.error = str(error)

    def end(self) -> Ended:
        """Wait for the end of the process, or bring it about when its time is over."""
        if self.process is None:
            return Ended(None, "", "", f"cannot be started: {self.error}")
        try:
            out, err = self.process.communicate(timeout=max(0.0, self.stop_at - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
            return Ended(None, "", "", f"did not end within {self.limit_s:g} s")
        return Ended(self.process.returncode, _text(out), _text(err))

    def kill(self) -> None:
        """End the process and everything it started; one that the system cannot end is left behind."""
        if self.process is None or self.process.returncode is not None:
            return
        with suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(END_S)


def start(name: str, *arguments: str, limit_s: float) -> Running:
    """Start a probe: driver, torch, tensorrt, onnxruntime, server, or provider NAME."""
    return Running([sys.executable, "-P", str(PROBES), name, *arguments], limit_s)


def read(ended: Ended) -> Finding:
    """Return what a probe found; where it said nothing, how it ended."""
    try:
        found = Finding.model_validate_json(ended.out)
    except ValidationError:
        *_, last = ["", *ended.err.strip().splitlines()]
        return Finding(works=False, why=_shown(f"{how_it_ended(ended)}: {last}"))
    missing = re.search(r"with error: *(\S.*)", ended.err)  # where a library is missing, onnxruntime only logs that
    why = missing[1] if missing and not found.works else found.why
    return found.model_copy(update={"why": _shown(why) if why else None})


def how_it_ended(ended: Ended) -> str:
    """Say in words how a process ended that did not answer."""
    if ended.code is None:
        return ended.why
    if ended.code >= 0:
        return f"ended with code {ended.code} and no answer"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-ended.code).name}"
    return f"was ended by signal {-ended.code}"


def _shown(text: str) -> str:
    return " ".join(printable(text, MOST).split()).rstrip(" :")


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")

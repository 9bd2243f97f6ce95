"""One process works in a run folder: a lock of the kernel, or a signature where the file system has no locks.

Lustre, some NFS servers and FUSE mounts refuse `flock`. The file `lock` then tells who works here: that a process of
this machine is at work is seen; of another machine it cannot be known.
"""

import datetime
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

log = logging.getLogger("bigstep")
NAME = "lock"
LOOKS = 10  # attempts beyond the last; whoever looks holds the lock for microseconds
LATE_S = 2  # how far what the kernel says of a process's start and the clock of the day may differ


@contextmanager
def taken(file: TextIO) -> Iterator[None]:
    """Hold a lock file, opened to append, and sign it.

    Raises:
        BlockingIOError: somebody else holds it; its text is who, and for how long.
        OSError: the file cannot be written.
    """
    locked = True
    try:
        _flock(file)
    except BlockingIOError:
        raise BlockingIOError(_owner(_read(file))) from None
    except OSError as error:
        locked = False
        owner = _read(file)
        if _at_work(owner):
            raise BlockingIOError(_owner(owner)) from None
        log.warning(
            "%s: no lock on this file system (%s); see to it that nobody else works in this folder",
            file.name,
            error.strerror,
        )
    _sign(file)
    try:
        yield
    finally:
        if not locked:
            file.truncate(0)


def held(folder: Path) -> bool:
    """Say whether a process works in a run folder. The lock is tried for some microseconds, and never taken."""
    try:
        file = (folder / NAME).open(encoding="utf-8")
    except OSError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return _at_work(_read(file))
    return False


def _flock(file: TextIO) -> None:
    """Take the lock; in several attempts, for some may meet somebody who only looks (see `held`)."""
    for _ in range(LOOKS):
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.02)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sign(file: TextIO) -> None:
    """Say in the lock who holds it, and since when; the kernel releases it with the process, however that ends."""
    file.truncate(0)
    json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since_s": time.time()}, file)
    file.flush()


def _read(file: TextIO) -> dict[str, Any]:
    """Return who signed a lock; nothing if nobody has."""
    file.seek(0)
    try:
        signed = json.loads(file.read())
        return {"pid": int(signed["pid"]), "host": str(signed["host"]), "since_s": float(signed["since_s"])}
    except (ValueError, KeyError, TypeError):
        return {}


def _at_work(owner: dict[str, Any]) -> bool:
    """Say whether a process of this machine that signed is alive; a younger one has only got its number."""
    if not owner or owner["host"] != socket.gethostname():
        return False
    try:
        ticks = int(Path(f"/proc/{owner['pid']}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return False
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return bool(time.time() - age_s <= owner["since_s"] + LATE_S)


def _owner(owner: dict[str, Any]) -> str:
    """Say who holds a lock; the clock may have been set since, or be another machine's."""
    if not owner:
        return "another process, which has just begun"
    age_s = max(0, round(time.time() - owner["since_s"]))
    return f"process {owner['pid']} on {owner['host']}, for {datetime.timedelta(seconds=age_s)} (h:mm:ss)"

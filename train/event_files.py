"""TensorBoard event files, for people who have it; they are written if the package tensorboardX is installed."""

import importlib
import logging
import shutil
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

from bigstep.records.sealed import EVENTS
from bigstep.records.trained import Moment

log = logging.getLogger("bigstep.train")
LIBRARY = "tensorboardX"
FLUSH_SECONDS = 1.0  # a flush waits for the disk
FILE = "events.out.tfevents.0.bigstep"  # the name that tensorboardX gives would tell the host


@final
class EventFile:
    """The event file of one run.

    An older file of the same run is replaced. tensorboardX's own writer hands events to a thread, which dies of a full
    disk while the training waits for it for ever; so only its framing and its protocol buffers are used.
    """

    def __init__(self, folder: Path, history: Iterable[Moment]) -> None:
        self._events: Any = importlib.import_module(f"{LIBRARY}.proto.event_pb2")
        writer: Any = importlib.import_module(f"{LIBRARY}.record_writer").RecordWriter
        shutil.rmtree(folder / EVENTS, ignore_errors=True)
        (folder / EVENTS).mkdir()
        self._flushed = -FLUSH_SECONDS
        self._writer = writer(str(folder / EVENTS / FILE))
        self._write(self._events.Event(wall_time=time.time(), file_version="brain.Event:2"))
        for moment in history:
            self.add(moment)

    def add(self, moment: Moment) -> None:
        """Write one moment; what is None is left out."""
        event = self._events.Event(wall_time=time.time(), step=moment.step)
        for tag, value in moment.numbers.items():
            if value is not None:
                event.summary.value.add(tag=tag, simple_value=value)
        self._write(event)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())
        if time.monotonic() > self._flushed + FLUSH_SECONDS:
            self._writer.flush()
            self._flushed = time.monotonic()


def available() -> bool:
    """Say whether event files can be written here."""
    return find_spec(LIBRARY) is not None


def say_if_missing() -> None:
    """Tell the user once, at the start of the stage, that a package is missing."""
    if not available():
        log.info("no TensorBoard files, only log.jsonl: %s is not installed; pip install %s", LIBRARY, LIBRARY)

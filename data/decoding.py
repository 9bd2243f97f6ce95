"""Many image files are read: several at a time, in the order given, with progress."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from bigstep.machine import usable_cores

S = TypeVar("S")
T = TypeVar("T")
WINDOW = 16  # files per thread that may wait to be taken: memory stays flat however many there are
REPORTS = 20  # progress messages in all: a log that is no terminal keeps every one


def read_all(read: Callable[[S], T], files: Sequence[S], what: str) -> Iterator[T]:
    """Yield `read(file)` for every file, in the order given, and log to `bigstep.data.<what>` how many are done.

    Threads suffice, since Pillow lets the others run while it decodes and scales.

    Args:
        read: may raise; the iteration then ends with that error, the first in the order of the files.
        what: the name of the bar, for example of the split.
    """
    log = logging.getLogger(f"bigstep.data.{what}")
    threads = usable_cores()
    every = max(1000, -(-len(files) // REPORTS))
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        submitted = iter(files)
        for done in range(1, len(files) + 1):
            while len(waiting) < WINDOW * threads and (file := next(submitted, None)) is not None:
                waiting.append(pool.submit(read, file))
            yield waiting.popleft().result()
            if done % every == 0 or done == len(files) > every:
                log.info("%d images", done, extra={"done": done, "total": len(files)})

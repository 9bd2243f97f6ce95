"""Many image files are read: several at a time, in the order given, with progress."""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from bigstep.machine import usable_cores

S = TypeVar("S")
T = TypeVar("T")
AT_ONCE = 64  # files that a thread reads before it hands them over: a task costs as much as hashing a small file
WINDOW = 4  # tasks per thread that may wait to be taken: memory stays flat however many there are
REPORTS = 20  # progress messages in all: a log that is not a terminal keeps every one


def read_all(read: Callable[[S], T], files: Sequence[S], what: str) -> Iterator[T]:
    """Yield `read(file)` for every file, in the order given, and log to `bigstep.data.<what>` how many are done.

    Args:
        read: may raise; the iteration then ends with that error, the first in the order of the files.
        what: the name of the bar.
    """
    progress = Progress(what, len(files))
    some = (files[start : start + AT_ONCE] for start in range(0, len(files), AT_ONCE))
    with closing(in_order(lambda files_n: [read(file) for file in files_n], some)) as results:
        for found in results:
            yield from found
            progress.add(len(found))


def in_order(work: Callable[[S], T], tasks: Iterable[S]) -> Generator[T]:
    """Yield `work(task)` for every task, in the order given, by as many threads as there are cores.

    Threads suffice, since Pillow, hashing and writing let the others run. Whoever may stop early closes the iterator:
    tasks that are not begun are then dropped, and those that are begun have ended.
    """
    threads = usable_cores()
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) == WINDOW * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class Progress:
    """The log messages, at `bigstep.data.<what>`, of how many images are done: few, and none if the images are few."""

    def __init__(self, what: str, total: int) -> None:
        self.log = logging.getLogger(f"bigstep.data.{what}")
        self.done, self.total = 0, total
        self.every = max(1000, -(-total // REPORTS))

    def add(self, images: int) -> None:
        """Note that some more are done."""
        before, self.done = self.done, self.done + images
        if self.done // self.every > before // self.every or self.done == self.total > self.every:
            self.log.info("%d images", self.done, extra={"done": self.done, "total": self.total})

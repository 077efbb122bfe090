"""A few threads that do jobs, and hand results or errors back as they are done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Workers(Generic[T]):
    """Up to `count` jobs at a time. Leaving the context sets `stop` and waits for nobody: the threads are daemons, so
    that ctrl-C is not held up by a server that hangs."""

    def __init__(self, count: int) -> None:
        self.stop = threading.Event()
        self.busy = 0
        self._count, self._started = count, 0
        self._jobs: SimpleQueue[tuple[int, Callable[[], T]] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[int, T | BaseException]] = SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        for _ in range(self._started):
            self._jobs.put(None)

    def put(self, number: int, job: Callable[[], T]) -> None:
        """Hand in a job under a number of the caller's."""
        if self._started < min(self.busy + 1, self._count):
            self._started += 1
            threading.Thread(target=self._work, daemon=True).start()
        self.busy += 1
        self._jobs.put((number, job))

    def get(self) -> tuple[int, T | BaseException]:
        """Wait for the next result: its number, and what the job returned or raised."""
        done = self._done.get()
        self.busy -= 1
        return done

    def _work(self) -> None:
        while (task := self._jobs.get()) is not None:
            number, job = task
            try:
                self._done.put((number, job()))
            except BaseException as error:  # handed to the caller, who raises it
                self._done.put((number, error))

"""Collects the warnings that cribble logs, so that a report or a JSON answer can show them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Collector(logging.Handler):
    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.into = into

    def emit(self, record: logging.LogRecord) -> None:
        self.into.append(record.getMessage())


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """The list that fills up with the messages of warnings (each once more if it is given again)."""
    messages: list[str] = []
    handler = _Collector(messages)
    logger = logging.getLogger("cribble")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)

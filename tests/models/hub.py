"""Models of the Hub in tests: a test is skipped where one is not to be had."""

from __future__ import annotations

from typing import Any

import pytest
from cribble.errors import CribbleError, SetupError

#: Why the Hub can't be reached, once that is known: asking takes a while.
_unreachable: list[str] = []


def skip_where_unreachable() -> None:
    if _unreachable:
        pytest.skip(_unreachable[0])


def on_hand(encoder: Any) -> Any:
    """The encoder, whose checkpoint is here or was fetched."""
    skip_where_unreachable()
    try:
        _ = encoder.checkpoint
    except CribbleError as error:
        if isinstance(error, SetupError) and "can't be reached" in str(error):
            _unreachable.append(str(error))
        pytest.skip(str(error))
    return encoder

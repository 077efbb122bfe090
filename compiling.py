"""numba's compiler, for loops that Python is too slow for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Any:
    """`numba.njit` that releases the GIL and keeps its machine code beside the source, or in the user's cache folder."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no such folder can be written
        return numba.njit(nogil=True)(function)

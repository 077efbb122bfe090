"""Whether the low-precision scan can run here, and its compiled loops, loaded without anybody waiting long for them.

With the machine code in numba's cache, importing numba and loading takes about a second; compiling it, once per machine and
version, some seconds. A thread does that: the first search that wants the loops waits two seconds at most and
else takes the plain scan, whose results are the same, until they are there.
"""

from __future__ import annotations

import logging
import threading
import time
from functools import cache

import numpy as np

logger = logging.getLogger("cribble")

#: Seconds that searches wait for the loops, counted from the moment that the first one wanted them.
LONGEST_WAIT = 2.0


@cache
def available() -> bool:
    """Whether this CPU and installation can run the scan: x86-64 with AVX2 and F16C, numba compiling."""
    try:
        import llvmlite.binding
        import numba
    except ImportError:
        return False
    features = llvmlite.binding.get_host_cpu_features()
    return bool(features.get("avx2") and features.get("f16c") and not vars(numba.config)["DISABLE_JIT"])


class _Loading:
    """The thread that loads the loops. Not a daemon: a process that ends early lets it finish, so the cache gets filled."""

    def __init__(self) -> None:
        self.started = 0.0
        self.worked = False
        self.thread = threading.Thread(target=self._load, name="cribble-scan-loading", daemon=False)

    def _load(self) -> None:
        try:
            compile_all()
            self.worked = True
        except Exception as error:  # a broken installation must not cost the search
            logger.warning("exact search goes on without its low-precision scan, which can't be compiled: %s", error)


_lock = threading.Lock()
_loading: _Loading | None = None


def start() -> _Loading | None:
    """Begin to load the loops, if that has not begun; None where they can't run."""
    global _loading
    with _lock:
        if _loading is None and available():
            _loading = _Loading()
            _loading.started = time.monotonic()
            _loading.thread.start()
        return _loading


def ready() -> bool:
    """Whether the loops can be called, after waiting for them as long as they may be waited for."""
    loading = start()
    if loading is None:
        return False
    if loading.thread.is_alive():
        loading.thread.join(max(0.0, loading.started + LONGEST_WAIT - time.monotonic()))
    return loading.worked


def compile_all() -> None:
    """Load or compile every loop, by a search so small that it takes no time, with the types that all searches have."""
    from . import scan
    from .codes import encode

    vectors = np.zeros((8, 32), np.float32)
    vectors[:, 0] = 1
    coded = encode(vectors, "dot")
    shards = scan.Shards(np.array([0, 8]), lambda number: vectors, lambda number: coded, "dot")
    list(scan.search(shards, vectors[:1], 1, np.ones(8, bool)))

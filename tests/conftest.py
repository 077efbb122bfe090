"""For all tests: ctrl-C reaches the processes that they start, and the longest files are begun first."""

import signal
import sys

import pytest

# A background job of a shell script inherits "ignore SIGINT", and so would the processes that the ctrl-C tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Minutes of one core each: with two workers, whoever gets one of these last keeps the other waiting.
_LONGEST = ("tests/real/", "tests/index/test_index_crash", "tests/cli/", "tests/lucene/")


def pytest_collection_modifyitems(items):
    def place(item):
        return next((i for i, name in enumerate(_LONGEST) if item.nodeid.startswith(name)), len(_LONGEST))

    items.sort(key=place)  # stable: within a file the order stays


@pytest.fixture(scope="module")
def interpreted_ranx():
    """ranx as plain Python, where this process has not compiled it yet: that takes minutes, the tests' runs milliseconds."""
    import numba

    compiled = "ranx" in sys.modules and not getattr(sys.modules["ranx"], "_interpreted", False)
    numba.config.DISABLE_JIT = int(not compiled)
    import ranx

    ranx._interpreted = not compiled
    yield
    numba.config.DISABLE_JIT = 0

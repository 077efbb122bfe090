"""For all tests: ctrl-C reaches the processes that they start, and the longest files are begun first."""

import signal

# A background job of a shell script inherits "ignore SIGINT", and so would the processes that the ctrl-C tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Minutes of one core each: with two workers, whoever gets one of these last keeps the other waiting.
_LONGEST = ("tests/real/", "tests/index/test_index_crash", "tests/cli/", "tests/lucene/")


def pytest_collection_modifyitems(items):
    def place(item):
        return next((i for i, name in enumerate(_LONGEST) if item.nodeid.startswith(name)), len(_LONGEST))

    items.sort(key=place)  # stable: within a file the order stays

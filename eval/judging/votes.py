"""Several answers about one pair become one label."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from ...errors import UsageError, suggest

VOTES = ("majority", "mean")


def vote(labels: Sequence[int], how: str) -> int | None:
    """One label of several; None of none. `majority` takes the most frequent, of equally frequent ones the lowest;
    `mean` the mean rounded to the nearest label, down where it lies midway."""
    check_vote(how)
    if not labels:
        return None
    if how == "mean":
        return math.ceil(sum(labels) / len(labels) - 0.5)
    counts = Counter(labels)
    return min(label for label, count in counts.items() if count == max(counts.values()))


def check_vote(how: str) -> None:
    if how not in VOTES:
        raise UsageError(f"vote is {how!r}: {suggest(how, VOTES)}")

"""A heap whose parents are compared with their children by a judge, and its best taken off the top."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from . import Asking
from .rounds import together

#: Which of some documents (a parent and its children, by position) is the best: the place in this list.
Best = Callable[[list[int]], Asking[int]]


def heap_top(n: int, k: int, children: int, best: Best) -> Asking[list[int]]:
    """The `k` best of the positions 0..n-1, best first, by a heap with so many children.

    The comparisons are those of the usual heap sort. The nodes of a level head disjoint trees, so when the heap is
    built they are sifted at the same time: the depth falls, the calls and the result stay.
    """
    heap = list(range(n))
    for level in _levels(n, children):
        yield from together([_sift(heap, n, node, children, best) for node in level])
    top: list[int] = []
    for size in range(n - 1, -1, -1):
        top.append(heap[0])
        if len(top) == k:
            break
        heap[0] = heap[size]
        yield from _sift(heap, size, 0, children, best)
    return top


def _levels(n: int, children: int) -> Iterator[range]:
    """The nodes that have a child, a level at a time, from the lowest level up."""
    levels: list[range] = []
    start, width = 0, 1
    while start * children + 1 < n:
        levels.append(range(start, min(start + width, (n - 2) // children + 1)))
        start, width = start * children + 1, width * children
    return reversed(levels)


def _sift(heap: list[int], size: int, node: int, children: int, best: Best) -> Asking[None]:
    """Let the document at `node` sink until it is better than its children."""
    while (first := node * children + 1) < size:
        places = [node, *range(first, min(first + children, size))]
        winner = places[(yield from best([heap[place] for place in places]))]
        if winner == node:
            return
        heap[node], heap[winner] = heap[winner], heap[node]
        node = winner


def with_rest(top: list[int], n: int) -> list[int]:
    """`top`, and beneath it all other positions in their given order."""
    placed = set(top)
    return top + [position for position in range(n) if position not in placed]

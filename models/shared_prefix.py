"""Which beginnings of token sequences are computed once: a radix tree over them, in an order that can be cut anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

#: Tokens that sharing a piece must save. Every piece costs a row of attention of its own; fewer tokens don't pay for it.
WORTH = 8


@dataclass
class Piece:
    """Consecutive tokens that are computed once: (n,) ids at positions `start`.. after those of `parent` and its parents.

    `ends` are the sequences that end with it, `first` the one that pays for it: every sequence through a piece but this
    one has its tokens for nothing.
    """

    ids: np.ndarray
    start: int
    parent: Piece | None
    ends: list[int] = field(default_factory=list)
    first: int = -1

    @property
    def end(self) -> int:
        return self.start + len(self.ids)

    def path(self) -> list[Piece]:
        """The pieces from the sequence's beginning to this one."""
        pieces = [self]
        while pieces[-1].parent is not None:
            pieces.append(pieces[-1].parent)
        return pieces[::-1]


def plan_pieces(sequences: Sequence[np.ndarray], worth: int = WORTH) -> list[Piece]:
    """The pieces of `sequences` (each (n,) int32, n >= 1), parents before their children (preorder).

    The path to the piece that a sequence ends with spells it. Equal sequences end with the same piece. A common
    beginning is a piece of its own where that saves `worth` tokens or more, so that with `worth` 1 every distinct
    beginning is computed exactly once. Among siblings the longest come first: what is computed together has like lengths.
    """
    pieces: list[Piece] = []
    todo: list[tuple[_Node, Piece | None]] = [
        (node, None) for node in _siblings(_radix_tree(sequences).children, worth)
    ]
    while todo:
        node, parent = todo.pop()
        pieces.append(Piece(sequences[node.row][node.start : node.end], node.start, parent, node.ends))
        todo += [(child, pieces[-1]) for child in _siblings(node.children, worth)]
    for piece in pieces:
        for above in piece.path() if piece.ends else ():
            above.first = piece.ends[0] if above.first < 0 else above.first
    return pieces


@dataclass
class _Node:
    """A node of the radix tree: the tokens [start, end) of sequence `row`."""

    row: int
    start: int
    end: int
    children: list[_Node] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


def _radix_tree(sequences: Sequence[np.ndarray]) -> _Node:
    """The tree by a sort and the longest common prefixes of neighbours; the root is empty."""
    # Big-endian bytes of ids (never negative) sort as the ids do.
    keys = [np.asarray(ids).astype(">u4").tobytes() for ids in sequences]
    order = sorted(range(len(sequences)), key=lambda i: keys[i])
    root = _Node(-1, 0, 0)
    stack = [root]
    last = -1
    for row in order:
        length = len(sequences[row])
        common = _common(sequences[last], sequences[row]) if last >= 0 else 0
        below = None
        while stack[-1].end > common:
            below = stack.pop()
        if stack[-1].end < common and below is not None:
            below = _split(stack[-1], below, common)
            stack.append(below)
        if length == common:
            stack[-1].ends.append(row)
        else:
            leaf = _Node(row, common, length, ends=[row])
            stack[-1].children.append(leaf)
            stack.append(leaf)
        last = row
    return root


def _split(parent: _Node, child: _Node, at: int) -> _Node:
    """Cut `child`, the last of `parent`'s, at position `at`; the upper half takes its place."""
    upper = _Node(child.row, child.start, at, children=[child])
    parent.children[-1] = upper
    child.start = at
    return upper


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """Length of the common beginning."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n


def _siblings(nodes: Sequence[_Node], worth: int) -> list[_Node]:
    """`nodes` after those that don't pay have been merged into their children, shortest first."""
    kept: list[_Node] = []
    todo = list(nodes)
    while todo:
        node = todo.pop()
        uses = len(node.children) + bool(node.ends)
        if uses < 2 or (uses - 1) * (node.end - node.start) >= worth:
            kept.append(node)
            continue
        for child in node.children:
            child.start = node.start
            todo.append(child)
        if node.ends:
            todo.append(_Node(node.ends[0], node.start, node.end, ends=node.ends))
    return sorted(kept, key=lambda node: (node.end - node.start, node.row))

"""Two sets of judgements brought together pair by pair, with the counts of what does not meet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import InputError, UsageError
from ...records import Qrels


@dataclass(frozen=True, eq=False)
class PairedLabels:
    """Labels (n,) int64 of the (query, document) pairs that both sets judge, in the order of the first.

    `only_first` and `only_second` count pairs that one set lacks (they are left out), `clamped` the labels that lay
    outside the scale and were taken for its nearest end.
    """

    first: np.ndarray
    second: np.ndarray
    only_first: int = 0
    only_second: int = 0
    clamped: int = 0

    def __len__(self) -> int:
        return len(self.first)

    @property
    def counts(self) -> dict[str, int]:
        return {
            "pairs": len(self),
            "only_first": self.only_first,
            "only_second": self.only_second,
            "clamped": self.clamped,
        }


def paired_labels(first: Qrels, second: Qrels, *, scale: tuple[int, int] | None = None) -> PairedLabels:
    """The pairs that both judge. `scale` (lowest, highest) clamps labels outside it; None leaves all as they are.

    Raises `InputError` where no pair is judged by both.
    """
    if scale is not None and scale[0] >= scale[1]:
        raise UsageError(f"scale={scale}: expected the lowest label and a higher one, such as (0, 3)")
    other = {(query, document): label for query in second for document, label in second[query].items()}
    pairs = [(label, other.pop((query, document), None)) for query in first for document, label in first[query].items()]
    both = np.array([pair for pair in pairs if pair[1] is not None], np.int64).reshape(-1, 2)
    if not len(both):
        raise InputError(f"{first.name} and {second.name} have no judged pair in common: are they of one collection?")
    limited = both if scale is None else np.clip(both, *scale)
    return PairedLabels(limited[:, 0], limited[:, 1], len(pairs) - len(both), len(other), int((limited != both).sum()))

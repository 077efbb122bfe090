"""What a binariser is trained to do with a batch: scores of codes against those of the vectors themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UsageError, suggest

if TYPE_CHECKING:
    from torch import Tensor

#: Objective → its temperature where none is given.
OBJECTIVES = {"distil": 0.1, "contrastive": 0.05}

#: Negatives of the contrastive objective, the hardest in the batch.
_HARDEST = 5


def check_objective(name: str) -> None:
    if name not in OBJECTIVES:
        raise UsageError(f"objective {name!r} is unknown: {suggest(name, OBJECTIVES)}")


def distil(scores: Tensor, wanted: Tensor, same: Tensor, temperature: float) -> Tensor:
    """The mean divergence of the codes' ranking from the vectors': Kullback-Leibler of softmax(wanted / t) to
    softmax(scores / t), rows of (a, n); pairs that are the `same` document don't count."""
    import torch
    from torch.nn import functional

    off = torch.finfo(scores.dtype).min / 4
    log = functional.log_softmax((scores / temperature).masked_fill(same, off), dim=1)
    target = functional.softmax((wanted / temperature).masked_fill(same, off), dim=1)
    return functional.kl_div(log, target, reduction="batchmean")


def contrastive(scores: Tensor, same: Tensor, temperature: float) -> Tensor:
    """BEBR's: cross-entropy of the positive (the `same` document) against the five hardest others, in both directions;
    `scores` (a, n) with one positive a row. Anchors without a positive in the batch don't count."""
    import torch
    from torch.nn import functional

    def one_way(table: Tensor, positive: Tensor) -> Tensor:
        there = positive.any(dim=1)
        table, positive = table[there] / temperature, positive[there]
        hardest = torch.topk(table.masked_fill(positive, -torch.inf), min(_HARDEST, table.shape[1] - 1), dim=1).values
        first = table[positive][:, None]
        return functional.cross_entropy(torch.cat([first, hardest], dim=1), torch.zeros(len(first), dtype=torch.long))

    return (one_way(scores, same) + one_way(scores.T, same.T)) / 2

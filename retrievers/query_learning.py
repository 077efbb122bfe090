"""Learning one query's vector from a reranker's judgement of its candidates (Gangi Reddy et al., FIRST,
arXiv 2406.15657, §3.3): a few steps of Adam on the vector itself, with the documents' vectors as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

LOSSES = ("kl", "ranknet")

#: Steps and learning rate of each loss in the authors' code.
DEFAULTS = {"kl": (100, 0.005), "ranknet": (20, 0.001)}


@dataclass(frozen=True)
class Learning:
    """How a vector is learned: the loss's name, the steps of Adam and their rate."""

    loss: str
    steps: int
    rate: float


def learned_vector(
    query: np.ndarray, documents: np.ndarray, targets: np.ndarray, spread: float, similarity: str, how: Learning
) -> np.ndarray | None:
    """The vector (d,) float64 that scores `documents` (n, d) more like `targets` (n,) than `query` (d,) does.

    `similarity` is the index's score kind: the vector's scores are inner products, for `l2` minus squared distances.
    They are scaled by a constant to half of `spread`, the range of the teacher's scores. Float64 throughout, so that
    the result does not hang on the batch. None where there is nothing to learn: all targets, or all scores, are equal.
    """
    import torch

    rows = torch.from_numpy(np.ascontiguousarray(documents, np.float64))
    vector = torch.from_numpy(np.array(query, np.float64)).requires_grad_(True)
    with torch.no_grad():
        range_ = float(np.ptp(_scores(vector, rows, similarity).numpy())) if len(documents) else 0.0
    if range_ == 0 or not np.ptp(targets) or not spread:
        return None
    scale = spread / range_ / 2
    loss_of = _kl(targets) if how.loss == "kl" else _ranknet(targets)
    optimiser = torch.optim.Adam([vector], lr=how.rate)
    for _ in range(how.steps):
        optimiser.zero_grad()
        loss_of(scale * _scores(vector, rows, similarity)).backward()
        optimiser.step()
    return vector.detach().numpy()


def _scores(vector: torch.Tensor, rows: torch.Tensor, similarity: str) -> torch.Tensor:
    if similarity == "l2":
        return -((rows - vector) ** 2).sum(1)
    return rows @ vector


def _kl(targets: np.ndarray) -> Callable[[torch.Tensor], torch.Tensor]:
    """KL(teacher ‖ student) of the softmax over the candidates."""
    import torch

    teacher = torch.log_softmax(torch.from_numpy(np.array(targets, np.float64)), 0)

    def loss(scores: torch.Tensor) -> torch.Tensor:
        return (teacher.exp() * (teacher - torch.log_softmax(scores, 0))).sum()

    return loss


def _ranknet(targets: np.ndarray) -> Callable[[torch.Tensor], torch.Tensor]:
    """Mean over pairs of log(1 + exp(s_j - s_i)) / (rank_i + rank_j), for documents i that the teacher puts above j."""
    import torch

    order = np.argsort(-targets, kind="stable")
    ranks = np.empty(len(targets), np.int64)
    ranks[order] = np.arange(1, len(targets) + 1)
    above, below = np.nonzero(targets[:, None] > targets[None, :])
    weights = torch.from_numpy(1.0 / (ranks[above] + ranks[below]))
    better, worse = torch.from_numpy(above), torch.from_numpy(below)

    def loss(scores: torch.Tensor) -> torch.Tensor:
        return (weights * torch.nn.functional.softplus(scores[worse] - scores[better])).mean()

    return loss

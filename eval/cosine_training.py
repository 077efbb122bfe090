"""The gradient steps of a Cosine Adapter: binary cross-entropy over judged pairs, stopped on queries held aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..retrievers.cosine_map import EXPONENTS

if TYPE_CHECKING:
    import torch

#: Epochs without a better loss on the queries held aside, after which training stops.
_PATIENCE = 30

_RATE, _DECAY = 2e-3, 1e-2


@dataclass(frozen=True)
class Pairs:
    """Queries and their candidates: `vectors` (q, d) of unit length; per pair `cosines` (n,) and `relevant` (n,) bool, a
    query's one after another from `offsets` (q + 1,); `total` (q,) relevant documents, found or not.
    """

    vectors: np.ndarray
    offsets: np.ndarray
    cosines: np.ndarray
    relevant: np.ndarray
    total: np.ndarray

    def rows(self, queries: np.ndarray) -> np.ndarray:
        """The pairs (m,) of the queries numbered `queries`."""
        parts = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in queries]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def of(self, queries: np.ndarray) -> Pairs:
        """Those of some queries."""
        rows, lengths = self.rows(queries), np.diff(self.offsets)[queries]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Pairs(self.vectors[queries], offsets, self.cosines[rows], self.relevant[rows], self.total[queries])


@dataclass(frozen=True)
class Trained:
    """The network's weights (float32, named as in `CosineMap`), the scale of its input, and how long it was trained."""

    weights: dict[str, np.ndarray]
    mean: float
    deviation: float
    epochs: int


def train(pairs: Pairs, watched: Pairs | None, *, form: str, hidden: int, epochs: int, seed: int) -> Trained:
    """Train on `pairs`, at most `epochs`, and keep the weights with the least loss on `watched`; without, the last.

    The start is the best map without a network, the same for all queries: one global threshold. So a network that
    learns nothing which holds for the watched queries leaves that as it is (0 epochs).
    """
    import torch

    shares = (1 + pairs.cosines) / 2
    mean = float(shares.mean())
    deviation = float((shares / mean).std()) or 1.0
    parts = _start(pairs.vectors.shape[1], hidden, seed)
    mine, held = _Tensors.of(pairs, mean), _Tensors.of(watched, mean) if watched is not None else None

    def loss(tensors: _Tensors) -> torch.Tensor:
        logits = _logits(parts, tensors, form, deviation)
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, tensors.relevant)

    _fit_constants(parts["b2"], lambda: loss(mine))
    optimiser = torch.optim.AdamW(parts.values(), lr=_RATE, weight_decay=_DECAY)
    best, kept, at = np.inf, _copied(parts), 0
    for epoch in range(epochs + 1):
        if held is not None:
            with torch.no_grad():
                now = float(loss(held))
            if now < best:
                best, kept, at = now, _copied(parts), epoch
            if epoch - at >= _PATIENCE:
                break
        if epoch < epochs:
            optimiser.zero_grad()
            loss(mine).backward()
            optimiser.step()
    if held is None:
        kept, at = _copied(parts), epochs
    return Trained(kept, mean, deviation, at)


@dataclass(frozen=True)
class _Tensors:
    """Pairs as the network's input: query vectors, each pair's query, its share of the mean, its label."""

    vectors: torch.Tensor
    query: torch.Tensor
    shares: torch.Tensor
    relevant: torch.Tensor

    @classmethod
    def of(cls, pairs: Pairs, mean: float) -> _Tensors:
        import torch

        query = np.repeat(np.arange(len(pairs.total)), np.diff(pairs.offsets))
        shares = np.clip((1 + pairs.cosines) / 2, 0.0, 1.0) / mean
        arrays = (pairs.vectors.astype(np.float32), query, shares.astype(np.float32), pairs.relevant.astype(np.float32))
        return cls(*(torch.from_numpy(array) for array in arrays))


def _start(dim: int, hidden: int, seed: int) -> dict[str, torch.Tensor]:
    """Random first layer, zero second one: all queries get the constants `b2`."""
    import torch

    w1 = np.random.default_rng(seed).standard_normal((dim, hidden)) * np.sqrt(2.0)  # unit inputs: unit outputs
    values = {
        "w1": w1,
        "b1": np.zeros(hidden),
        "w2": np.zeros((hidden, 3)),
        "b2": np.array([0.5413, -3.0, 0.5413]),  # softplus(0.5413) is 1
    }
    return {name: torch.from_numpy(v.astype(np.float32)).requires_grad_(True) for name, v in values.items()}


def _logits(parts: dict[str, torch.Tensor], tensors: _Tensors, form: str, deviation: float) -> torch.Tensor:
    import torch

    raw = torch.relu(tensors.vectors @ parts["w1"] + parts["b1"]) @ parts["w2"] + parts["b2"]
    a, p = torch.nn.functional.softplus(raw[:, 0]), torch.nn.functional.softplus(raw[:, 2])
    exponent = EXPONENTS[form] if form in EXPONENTS else p[tensors.query]
    z = (tensors.shares.clamp_min(1e-6) ** exponent - 1) / deviation
    return a[tensors.query] * z + raw[:, 1][tensors.query]


def _fit_constants(constants: torch.Tensor, loss: Any) -> None:
    """The best a, b and p for all queries alike."""
    import torch

    optimiser = torch.optim.LBFGS([constants], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value: torch.Tensor = loss()
        value.backward()
        return value

    optimiser.step(closure)


def _copied(parts: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in parts.items()}

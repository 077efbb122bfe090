"""Late interaction with the token states of any encoder: the sum over query tokens of their best match.

The scoring is ColBERT's (Khattab and Zaharia, SIGIR 2020), without its training: encoders that were trained for one
vector per text still rerank well by it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError
from ..explanation import Explanation
from ..index.maxsim_stored import maxsim_stored
from ..records import Document, Query
from ..registry import register
from ..vectors import MultiVector
from .candidates import Candidates, TextReranker, distinct

if TYPE_CHECKING:
    from ..models.encoder import Encoder

#: Documents encoded at a time; their token vectors (some 100 MB at 256 tokens of 384 numbers) are held together.
_AT_A_TIME = 256


@register("maxsim")
@dataclass
class MaxSim(TextReranker):
    """Reranks by MaxSim over unit token vectors of an encoder, float32.

    `model` is a local folder, a Hub name or None for the embedded all-MiniLM-L6-v2. `depth` documents a query are
    reranked. `device` (auto, cpu or cuda) encodes and scores; `dtype` is float32, bfloat16 or (on a GPU) float16;
    `max_length` cuts texts at so many tokens, `token_budget` bounds the padded tokens of a batch. Token vectors of
    documents are kept between queries in `cache_mb` MiB of memory; 0 keeps none.
    """

    model: str | None = None
    depth: int = 100
    device: str = "auto"
    dtype: str = "float32"
    max_length: int | None = None
    token_budget: int | None = None
    cache_mb: int = 1024
    score_kind: str = field(default="maxsim", init=False)

    def __post_init__(self) -> None:
        self.check_depth()
        if self.cache_mb < 0:
            raise UsageError(f"maxsim: cache_mb is {self.cache_mb}, expected a number of MiB >= 0")
        self._cache = TokenCache(self.cache_mb << 20)
        _ = self.encoder  # checks its options; loads nothing

    @cached_property
    def encoder(self) -> Encoder:
        from ..models.encoder import Encoder

        return Encoder(
            self.model,
            device=self.device,
            dtype=self.dtype,
            max_length=self.max_length,
            token_budget=self.token_budget,
        )

    def open(self) -> None:
        _ = self.encoder.spec

    def artifacts(self) -> dict[str, str]:
        return {"model": self.encoder.checkpoint.digest}

    def facts(self) -> dict[str, Any]:
        return {"encoder": self.encoder.spec.to_json(), "depth": self.depth}

    @property
    def truncated(self) -> int:
        return self.encoder.truncated

    def explain_match(self, query: str, document: Document) -> Explanation:
        """What each token of `query` matched in `document`; the sum, in float64, is the reranker's score."""
        from ..models.late_explanation import explain_tokens

        score = float(self.score([Candidates(Query("query", query), [document])])[0][0])
        return explain_tokens(self.encoder, query, document, stage=self.label, similarity="dot", stage_score=score)

    def score(self, candidates: Sequence[Candidates]) -> list[np.ndarray]:
        """Each distinct document is encoded once, and scored for all its queries while its vectors are at hand."""
        queries = self.encoder.query_tokens([c.query.text for c in candidates])
        scores = [np.empty(len(c.documents), np.float32) for c in candidates]
        places: dict[str, list[tuple[int, int]]] = {}
        for q, c in enumerate(candidates):
            for position, document in enumerate(c.documents):
                places.setdefault(document.id, []).append((q, position))
        for documents, vectors in self._document_tokens(list(distinct(candidates).values())):
            by_query: dict[int, list[tuple[int, int]]] = {}
            for row, document in enumerate(documents):
                for q, position in places[document.id]:
                    by_query.setdefault(q, []).append((row, position))
            for q, pairs in by_query.items():
                rows, positions = zip(*pairs, strict=True)
                chosen = vectors if len(rows) == len(documents) else _rows(vectors, rows)
                scores[q][list(positions)] = self._scored(queries[q], chosen)
        return scores

    @cached_property
    def _torch_device(self) -> str | None:
        """The device of the encoder, where torch scores too; None for the CPU, which has faster loops."""
        from ..models.runtime import choose_device

        device = choose_device(self.device)
        return None if device == "cpu" else device

    def _scored(self, query: np.ndarray, documents: MultiVector) -> np.ndarray:
        """Scores (n,) float32 of one query; products and sums in float32 on either device."""
        if self._torch_device is None:
            return maxsim_stored(query, documents.tokens, documents.offsets)
        from ..index.maxsim_torch import maxsim_torch

        queries = MultiVector(query, np.array([0, len(query)]))
        return maxsim_torch(queries, documents, device=self._torch_device)[0]

    def _document_tokens(self, documents: list[Document]) -> Iterator[tuple[list[Document], MultiVector]]:
        """Documents in groups with their token vectors, from the cache where it has them."""
        for start in range(0, len(documents), _AT_A_TIME):
            part = documents[start : start + _AT_A_TIME]
            held = {d.id: matrix for d in part if (matrix := self._cache.get(d)) is not None}
            new = [d for d in part if d.id not in held]
            encoded = self.encoder.document_tokens(new)
            for i, document in enumerate(new):
                held[document.id] = encoded[i]
                self._cache.put(document, encoded[i])
            yield part, MultiVector.of([held[d.id] for d in part], encoded.tokens.shape[1])


def _rows(vectors: MultiVector, rows: Sequence[int]) -> MultiVector:
    return MultiVector.of([vectors[row] for row in rows], vectors.tokens.shape[1])


class TokenCache:
    """Token matrices of the documents used last, within a number of bytes; the text itself is part of the key."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.size = capacity, 0
        self._held: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()

    def get(self, document: Document) -> np.ndarray | None:
        key = (document.id, document.full_text)
        if key in self._held:
            self._held.move_to_end(key)
        return self._held.get(key)

    def put(self, document: Document, matrix: np.ndarray) -> None:
        if matrix.nbytes > self.capacity:
            return
        self._held[(document.id, document.full_text)] = matrix.copy()  # a view would hold its whole batch
        self.size += matrix.nbytes
        while self.size > self.capacity:
            self.size -= self._held.popitem(last=False)[1].nbytes

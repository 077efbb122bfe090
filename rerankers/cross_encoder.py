"""Reads query and document together: a sentence-transformers CrossEncoder, or a language model's yes/no logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..registry import register
from .candidates import Candidates, TextReranker

if TYPE_CHECKING:
    from ..models.pair_scorer import PairScorer


@register("cross-encoder")
@dataclass
class CrossEncoder(TextReranker):
    """Reranks by a cross-encoder with one score for a pair (Nogueira and Cho, 2019).

    `model` is a local folder or a Hub name, `revision` a commit, branch or tag of the latter. `depth` documents a query
    are reranked. `scores` is `logit` or `prob` (its logistic function). `instruction` replaces the checkpoint's default
    prompt. `device` is auto, cpu or cuda, `dtype` float32, bfloat16 or (on a GPU) float16, `max_length` cuts pairs at so
    many tokens, `token_budget` bounds the padded tokens of a batch. Models that bring their own code need
    `trust_remote_code`.
    """

    model: str
    depth: int = 100
    scores: str = "logit"
    instruction: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    max_length: int | None = None
    token_budget: int | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    score_kind: str = field(default="logit", init=False)

    def __post_init__(self) -> None:
        self.check_depth()
        self.score_kind = self.scores
        _ = self.scorer  # checks its options; loads nothing

    @cached_property
    def scorer(self) -> PairScorer:
        from ..models.pair_scorer import PairScorer

        return PairScorer(
            self.model,
            revision=self.revision,
            device=self.device,
            dtype=self.dtype,
            scores=self.scores,
            instruction=self.instruction,
            max_length=self.max_length,
            token_budget=self.token_budget,
            trust_remote_code=self.trust_remote_code,
        )

    def open(self) -> None:
        _ = self.scorer.network

    def artifacts(self) -> dict[str, str]:
        return {"model": self.scorer.checkpoint.digest}

    def facts(self) -> dict[str, Any]:
        checkpoint = self.scorer.checkpoint
        return {
            "model": checkpoint.name,
            "revision": checkpoint.digest,
            "dtype": self.scorer.dtype,
            "prompt": self.scorer.prompt,
            "max_length": self.scorer.network.max_length,
            "depth": self.depth,
        }

    @property
    def truncated(self) -> int:
        return self.scorer.truncated

    def score(self, candidates: Sequence[Candidates]) -> list[np.ndarray]:
        pairs = [(c.query.text, document.full_text) for c in candidates for document in c.documents]
        scores = self.scorer.score(pairs)
        return np.split(scores, np.cumsum([len(c.documents) for c in candidates])[:-1]) if candidates else []

"""PairScorer: (query, document) pairs → relevance scores, by any sentence-transformers cross-encoder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import InputError, UsageError, suggest
from .checkpoint import Checkpoint, find_checkpoint
from .loading import load_model
from .network import Network
from .runtime import check_dtype, check_token_budget, choose_device

#: What a score is: the network's number, or its logistic function in 0..1.
SCORES = ("logit", "prob")


class PairScorer:
    """A sentence-transformers `CrossEncoder`: a classifier with one label, or a language model's yes/no logits.

    Language-model rerankers (architectures `…ForCausalLM`) are scored by sentence-transformers' rule: the logit of
    `yes` minus that of `no` at the last token, or what the checkpoint's own LogitScore module says. `instruction`
    is the prompt that the checkpoint's template puts before the pair (None: the checkpoint's default). Scores are
    computed in float32 at least, whatever the network's `dtype`. Making one is free: loaded when first used.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        scores: str = "logit",
        instruction: str | None = None,
        max_length: int | None = None,
        token_budget: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self.model, self.revision, self.device = model, revision, device
        self.dtype = check_dtype(dtype, device)
        if scores not in SCORES:
            raise UsageError(f"scores={scores!r} is unknown: {suggest(scores, SCORES)}")
        self.scores, self.instruction = scores, instruction
        self.max_length, self.token_budget, self.trust_remote_code = max_length, token_budget, trust_remote_code
        if token_budget is not None:
            check_token_budget(token_budget, "cpu")
        if max_length is not None and max_length < 1:
            raise UsageError(f"max_length={max_length}: expected at least 1 token")

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model's files, found or downloaded, their weights hashed."""
        return find_checkpoint(
            self.model,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            organisation="cross-encoder",
        )

    @cached_property
    def network(self) -> Network:
        """The loaded model; refused unless it gives one score for a pair."""
        device = choose_device(self.device)
        dtype = check_dtype(self.dtype, device)
        model = load_model(
            "CrossEncoder",
            self.checkpoint,
            device=device,
            dtype=dtype,
            max_length=self.max_length,
            trust_remote_code=self.trust_remote_code,
        )
        if model.num_labels != 1:
            raise InputError(
                f"the model {self.checkpoint.name} gives {model.num_labels} labels for a pair, a reranker needs one score: "
                "it is a classifier (of entailment, say), not a reranker"
            )
        _check_answer_tokens(self.checkpoint.name, model)
        return Network(self.checkpoint.name, model, device, self.token_budget)

    @property
    def prompt(self) -> str:
        """The instruction given, or the checkpoint's default prompt."""
        if self.instruction is not None:
            return self.instruction
        model = self.network.model
        return model.prompts.get(model.default_prompt_name) or ""

    @property
    def truncated(self) -> int:
        """Pairs cut at the maximum length so far."""
        return self.network.truncated if "network" in self.__dict__ else 0

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Scores (n,) float64 of `pairs`, in their order."""
        scores = np.empty(len(pairs), np.float64)
        for rows, features in self.network.batches(pairs, what="scoring pairs", prompt=self.prompt):
            output = self.network.forward(features)["scores"].float()
            scores[rows] = output.reshape(len(rows)).cpu().numpy()
        bad = np.flatnonzero(~np.isfinite(scores))
        if len(bad):
            raise InputError(
                f"the model {self.checkpoint.name} scores pair {int(bad[0])} {scores[bad[0]]} ({len(bad)} such): "
                f"check its dtype, here {self.dtype}"
            )
        # In float64 the logistic function still tells logits of 30 apart, in float32 all above 17 are 1.
        return 1 / (1 + np.exp(-scores)) if self.scores == "prob" else scores


def _check_answer_tokens(name: str, model: Any) -> None:
    """A language model whose tokenizer lacks `yes` or `no` would score every pair alike."""
    last = list(model)[-1]
    if type(last).__name__ != "LogitScore":
        return
    unknown = getattr(model.tokenizer, "unk_token_id", None)
    if last.true_token_id == last.false_token_id or (unknown is not None and last.true_token_id == unknown):
        raise InputError(
            f"the model {name} has no tokens for its two answers (ids {last.true_token_id} and {last.false_token_id}): "
            "it needs a LogitScore module with the ids of its own answers"
        )

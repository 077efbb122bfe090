"""A loaded model and its tokenizer, run over many texts in batches of like length under a token budget."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..progress import progress
from .batching import buffers, pad, plan_batches
from .runtime import check_token_budget

_log = logging.getLogger("cribble")

#: A text, or a pair of texts for a cross-encoder.
Input = str | tuple[str, str]

_RAGGED = {"text": {"padding": False}, "common": {"return_tensors": None}}
_TOKEN_COLUMNS = {"input_ids", "attention_mask", "token_type_ids"}


class Network:
    """Runs a sentence-transformers model (`SentenceTransformer`, `CrossEncoder`) with our own batching.

    Prompts, truncation and special tokens are the model's own `preprocess`, called once for a buffer of texts; the
    texts are then sorted by their number of tokens, cut into batches of at most `token_budget` padded tokens (None:
    the default of `runtime`), and padded. `truncated` counts the texts that were cut at `max_length`.
    """

    def __init__(self, name: str, model: Any, device: str, token_budget: int | None = None) -> None:
        from .unpadded import is_unpadded

        self.name, self.model, self.device = name, model, device
        self.token_budget = check_token_budget(token_budget, device, unpadded=is_unpadded(model))
        self.truncated = 0
        self._warned_at = 0
        self._first_row: dict[tuple[str | None, ...], bool] = {}
        self._ragged = _tokenises_without_padding(model)
        self._reads_images = "image" in getattr(model, "modalities", ())
        # A fast tokenizer holds its padding and truncation as state, and models are shared: the lock goes with the model.
        self._lock: threading.Lock = model.__dict__.setdefault("_tokenizer_lock", threading.Lock())

    @property
    def max_length(self) -> int | None:
        """Tokens after which a text is cut; None where the model has no limit."""
        length = self.model.get_max_seq_length()
        return int(length) if length is not None and length < 1e9 else None

    def batches(
        self, inputs: Sequence[Input], *, what: str, prompt: str = "", task: str | None = None
    ) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """Yield (positions in `inputs`, features on the device) until every input was in exactly one batch."""
        import torch

        arguments = {"prompt": prompt or None, **({"task": task} if task else {})}
        before = self.truncated
        with progress(what, total=len(inputs), unit="texts") as advance:
            for part, tokens in self._tokenised_ahead(inputs, arguments):
                for rows, features in self._buffer_batches(inputs[part], tokens, arguments):
                    moved = {
                        key: value.to(self.device) if isinstance(value, torch.Tensor) else value
                        for key, value in features.items()
                    }
                    yield part.start + rows, moved
                    advance(len(rows))
        self._warn(before, len(inputs))

    def forward(self, features: dict[str, Any], task: str | None = None) -> dict[str, Any]:
        """All modules of the model; no gradients. Token states may come for the first tokens only."""
        import torch

        from .unpadded import first_row_only

        with torch.inference_mode(), first_row_only(self._reads_first_row_only(features, task)):
            output: dict[str, Any] = self.model(features, **({"task": task} if task else {}))
        return output

    def preprocessed(self, text: str, *, prompt: str = "", task: str | None = None) -> Any:
        """One text as the model's first module gets it; of a fast tokenizer with its `encodings`. Counts nothing as cut."""
        with self._lock:
            return self.model.preprocess(
                [self._marked(text)], prompt=prompt or None, **({"task": task} if task else {})
            )

    def _reads_first_row_only(self, features: dict[str, Any], task: str | None) -> bool:
        """Asked once for each kind of batch."""
        from .first_row import reads_first_row_only

        kind = (task, str(features.get("prompt_length")), *sorted(features))
        if kind not in self._first_row:
            self._first_row[kind] = reads_first_row_only(self.model, features, task)
        return self._first_row[kind]

    def _tokenised_ahead(self, inputs: Sequence[Input], arguments: dict[str, Any]) -> Iterator[tuple[slice, Any]]:
        """Each buffer's tokens (None where they are not ragged); the next buffer is tokenised while this one is used."""
        parts = list(buffers(len(inputs)))
        if not self._ragged or len(parts) < 2:
            for part in parts:
                yield part, self._tokenise(inputs[part], arguments) if self._ragged else None
            return
        with ThreadPoolExecutor(1, "cribble-tokenise") as pool:
            following = [pool.submit(self._tokenise, inputs[parts[0]], arguments)]
            for number, part in enumerate(parts):
                tokens = following.pop().result()
                if number + 1 < len(parts):
                    following.append(pool.submit(self._tokenise, inputs[parts[number + 1]], arguments))
                yield part, tokens

    def _tokenise(self, inputs: Sequence[Input], arguments: dict[str, Any]) -> Any:
        with self._lock:
            return self.model.preprocess(list(inputs), processing_kwargs=_RAGGED, **arguments)

    def _buffer_batches(
        self, inputs: Sequence[Input], tokens: Any, arguments: dict[str, Any]
    ) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        columns: dict[str, list[list[int]]] | None = None
        if tokens is not None:
            columns, shared = _split(tokens)
        if columns is None:
            yield from self._padded_batches(inputs, arguments)
            return
        lengths = [len(ids) for ids in columns["input_ids"]]
        self.truncated += self._count_truncated(lengths, tokens)
        fill = {
            "input_ids": self.model.tokenizer.pad_token_id or 0,
            "token_type_ids": getattr(self.model.tokenizer, "pad_token_type_id", 0),
        }
        left = self.model.tokenizer.padding_side == "left"
        for rows in plan_batches(lengths, self.token_budget):
            yield rows, {**pad(columns, rows, fill, left=left), **shared}

    def _padded_batches(
        self, inputs: Sequence[Input], arguments: dict[str, Any]
    ) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """For models that don't give ragged tokens (chat templates, routers, word embeddings): lengths are guessed."""
        limit = self.max_length or 1 << 30
        texts = [text if isinstance(text, str) else " ".join(text) for text in inputs]
        overhead = len(str(arguments.get("prompt") or "")) + 64
        lengths = [min(limit, (len(text.encode("utf-8", "replace")) + overhead) // 3) for text in texts]
        for rows in plan_batches(lengths, self.token_budget):
            with self._lock:
                features = dict(self.model.preprocess([self._marked(inputs[row]) for row in rows], **arguments))
            mask = features.get("attention_mask")
            if mask is not None and mask.ndim == 2 and mask.shape[0] == len(rows):
                self.truncated += int((mask.sum(dim=1) >= limit).sum())
            yield rows, features

    def _marked(self, text: Input) -> Any:
        """A model that reads images too would take a text such as `cat.png` for a file's name, or fetch an address."""
        return {"text": text} if self._reads_images and isinstance(text, str) else text

    def _count_truncated(self, lengths: list[int], tokens: Any) -> int:
        """Texts that lost tokens: those as long as the limit of which the tokenizer kept an overflow."""
        longest = max(lengths, default=0)
        encodings = getattr(tokens, "encodings", None)
        if encodings is None:  # a tokenizer in Python keeps no overflow
            return sum(length >= (self.max_length or 1 << 30) for length in lengths)
        return sum(
            length == longest and bool(encoding.overflowing)
            for length, encoding in zip(lengths, encodings, strict=True)
        )

    def _warn(self, before: int, total: int) -> None:
        """Say so when texts were cut: the first time, and then when ten times as many were."""
        cut = self.truncated - before
        if cut and self.truncated >= 10 * self._warned_at:
            self._warned_at = self.truncated
            _log.warning(
                "%s: %d of %d texts are longer than %s tokens and were cut there (%d so far)",
                self.name, cut, total, self.max_length, self.truncated,
            )  # fmt: skip


def _tokenises_without_padding(model: Any) -> bool:
    """Whether the first module is a plain text transformer whose tokenizer can be asked for ragged ids."""
    from sentence_transformers.base.modules import Transformer
    from transformers import PreTrainedTokenizerBase

    first = model[0]
    return (
        isinstance(first, Transformer)
        and isinstance(first.processor, PreTrainedTokenizerBase)
        and "message" not in first.modality_config
        and first.query_expansion is None
        and not first.can_flatten_inputs
    )


def _split(tokens: Any) -> tuple[dict[str, list[list[int]]] | None, dict[str, Any]]:
    """Per-text columns and what is common to all (modality, prompt length); None when a column is of no known kind."""
    columns: dict[str, list[list[int]]] = {}
    shared: dict[str, Any] = {}
    for key, value in tokens.items():
        if not isinstance(value, list):
            shared[key] = value
        elif key in _TOKEN_COLUMNS:
            columns[key] = value
        else:
            return None, {}
    return (columns, shared) if "input_ids" in columns else (None, {})

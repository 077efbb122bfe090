"""Late-interaction checkpoints (ColBERT and its kin): texts → one vector per token, as they were trained.

Loaded through sentence-transformers' MultiVectorEncoder, in the formats that the Hub has: Stanford's (`HF_ColBERT`,
`artifact.metadata`), PyLate's, sentence-transformers' own, transformers' retrievers of page images (ColPali and its kin), and
two that say nothing to it (see `xtr_checkpoint`, `margin_mse_colbert`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..errors import InputError, UsageError
from ..records import Document
from ..vectors import EncoderSpec, MultiVector
from .card_files import NO_CARD
from .checkpoint import Checkpoint, find_checkpoint
from .encoder_settings import read_object
from .image_documents import image_batches, image_of
from .loading import load_model
from .margin_mse_colbert import is_margin_mse, load_margin_mse, with_masks
from .multivector_card import MultiVectorCard, find_card
from .multivector_settings import (
    SETTINGS,
    MultiVectorSettings,
    adapted,
    appended_masks,
    given_settings,
    own_settings,
    renders_queries_only,
    unit_length,
)
from .network import Network
from .runtime import check_dtype, check_token_budget, choose_device
from .unpadded import with_padding
from .xtr_checkpoint import is_xtr, load_xtr

_log = logging.getLogger("cribble")

#: What an index records as the pooling of these vectors.
POOLING = "multi-vector"


class MultiVectorEncoder:
    """Any late-interaction checkpoint as an encoder of queries and documents.

    `model` is a local folder or a Hub name. Markers, lengths, query expansion, skip list, projection and normalisation are
    the checkpoint's; its card (see `multivector_card`; `card` names another, or "none") says what its files do not, and
    `settings`, the options of `MultiVectorSettings`, replace both. `dtype` is what the network computes in; vectors are
    float32 whatever it is. Making an encoder is free: the model is loaded when first used.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        token_budget: int | None = None,
        trust_remote_code: bool = False,
        card: str | None = None,
        **settings: Any,
    ) -> None:
        self.model, self.revision, self.device, self.card_name = model, revision, device, card
        self.dtype = check_dtype(dtype, device)
        self.token_budget, self.trust_remote_code = token_budget, trust_remote_code
        self.given = given_settings(settings)
        self._full_queries = 0
        if token_budget is not None:
            check_token_budget(token_budget, "cpu")

    @classmethod
    def of_spec(cls, spec: EncoderSpec, model: str | os.PathLike[str] | None = None, *, device: str = "auto") -> Self:
        """The encoder that an index records, or `model` under the same settings. Its card was settled then."""
        kept = {name: value for name, value in spec.extra.items() if name in SETTINGS}
        kept |= {"query_prompt": spec.query_prompt, "document_prompt": spec.document_prompt}
        return cls(model or spec.folder or spec.model, device=device, dtype=spec.dtype, card=NO_CARD, **kept)

    def __repr__(self) -> str:
        return f"MultiVectorEncoder({str(self.model)!r}, dtype={self.dtype!r})"

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model's files, found or downloaded, their weights hashed."""
        return find_checkpoint(self.model, revision=self.revision, trust_remote_code=self.trust_remote_code)

    @cached_property
    def card(self) -> MultiVectorCard:
        """What is known of the model."""
        return find_card(self.checkpoint.name, self.checkpoint.folder, self.card_name)

    @cached_property
    def _loaded(self) -> Any:
        if not is_multi_vector(self.checkpoint.folder):
            raise InputError(
                f"the model {self.checkpoint.name} was not trained for late interaction, its projection would be random: "
                f"name a ColBERT-like checkpoint"
            )
        _refuse_adapter(self.checkpoint)
        model = self._load()
        self.card.refuse_other_width(int(model.get_embedding_dimension()))
        return model

    def _load(self) -> Any:
        device = choose_device(self.device)
        dtype = check_dtype(self.dtype, device)
        if is_xtr(self.checkpoint.folder):
            return load_xtr(self.checkpoint, device=device, dtype=dtype)
        if is_margin_mse(self.checkpoint.folder):
            return load_margin_mse(self.checkpoint, device=device, dtype=dtype)
        return load_model(
            "MultiVectorEncoder",
            self.checkpoint,
            device=device,
            dtype=dtype,
            trust_remote_code=self.trust_remote_code,
            may_miss=("pooler",),  # of BERT, which reads no tokens' states
        )

    @cached_property
    def _set(self) -> MultiVectorSettings:
        """What is given, and else what the card sets."""
        return MultiVectorSettings(**(self.card.settings.named() | self.given.named()))

    @cached_property
    def settings(self) -> MultiVectorSettings:
        """What is given, else what the card sets, else what the checkpoint does."""
        return MultiVectorSettings(**(own_settings(self._loaded).named() | self._set.named()))

    @cached_property
    def documents(self) -> Network:
        """The model for documents, whose tokenizer is never asked to pad."""
        return self._network(expanding=False)

    @cached_property
    def queries(self) -> Network:
        """The model for queries, which are filled up where the checkpoint does so."""
        return self._network(expanding=True)

    def _network(self, *, expanding: bool) -> Network:
        model = adapted(self.checkpoint.name, self._loaded, self._set, expanding=expanding)
        length = self.settings.query_length if expanding else self.settings.document_length
        if expanding and self.settings.expansion in ("masked", "attended"):
            length = None  # every query has so many tokens; those that were cut are counted in `_tokens`
        return _Side(self.checkpoint.name, model, choose_device(self.device), self.token_budget, length)

    @property
    def truncated(self) -> int:
        """Texts cut at their maximum length so far; of expanded queries, those that fill it wholly."""
        networks = [self.__dict__[name] for name in ("documents", "queries") if name in self.__dict__]
        return self._full_queries + sum(network.truncated for network in networks)

    @cached_property
    def spec(self) -> EncoderSpec:
        """What the vectors depend on; an index records it and refuses any other."""
        model, settings = self._loaded, self.settings.named()
        placed = ("query_prompt", "document_prompt")
        return EncoderSpec(
            model=self.checkpoint.name,
            revision=self.checkpoint.digest,
            query_prompt=settings["query_prompt"],
            document_prompt=settings["document_prompt"],
            pooling=POOLING,
            dim=int(model.get_embedding_dimension()),
            dtype=self.dtype,
            max_length=self.documents.max_length or 0,
            normalised=unit_length(model),
            similarity="dot",
            extra={"scores": model.similarity_fn_name}
            | {name: value for name, value in settings.items() if name not in placed},
        )

    def encode_queries(self, queries: Sequence[str]) -> MultiVector:
        """Vectors (t, dim) float32 of the tokens of each query that count."""
        if isinstance(queries, str):
            raise UsageError("encode_queries takes a list of texts, got one str: put it in a list")
        texts, before = list(queries), self._full_queries
        found = self._tokens(self.queries, texts, self.settings.query_prompt or "", "query")
        if full := self._full_queries - before:
            _log.warning(
                "%s: %d of %d queries fill their %s tokens, what is beyond was cut",
                self.checkpoint.name, full, len(texts), self.settings.query_length,
            )  # fmt: skip
        return MultiVector.of(found, int(self._loaded.get_embedding_dimension()))

    def encode_documents(self, documents: Iterable[Document]) -> MultiVector:
        """Vectors (t, dim) float32 of the tokens of each document (title, a space, text; or the picture that its metadata
        `image_file` names) that count; perhaps none."""
        documents = list(documents)
        files = [image_of(document) for document in documents]
        pictures = [row for row, file in enumerate(files) if file]
        texts = [row for row, file in enumerate(files) if not file]
        prompt = self.settings.document_prompt or ""
        vectors: list[np.ndarray] = [_NONE] * len(documents)
        if pictures:
            found = self._picture_tokens([file for file in files if file], prompt)
            for row, vector in zip(pictures, found, strict=True):
                vectors[row] = vector
        if texts:
            if renders_queries_only(self._loaded):
                raise InputError(
                    f"the model {self.checkpoint.name} reads pages as documents, texts as queries only, and document "
                    f"{documents[texts[0]].id!r} is a text: index images:FOLDER with it"
                )
            full = [documents[row].full_text for row in texts]
            for row, vector in zip(texts, self._tokens(self.documents, full, prompt, "document"), strict=True):
                vectors[row] = vector
        return MultiVector.of(vectors, int(self._loaded.get_embedding_dimension()))

    def _picture_tokens(self, files: list[str], prompt: str) -> list[np.ndarray]:
        network, found = self.documents, [_NONE] * len(files)
        batches = image_batches(
            self.checkpoint.name,
            network.model,
            network.device,
            files,
            token_budget=network.token_budget,
            prompt=prompt or None,
            task="document",
        )
        for rows, features in batches:
            self._forward(network, rows, features, "document", found)
        return found

    def _tokens(self, network: Network, texts: list[str], prompt: str, task: str) -> list[np.ndarray]:
        found: list[np.ndarray] = [_NONE] * len(texts)
        for rows, features in network.batches(texts, what=f"encoding {task} tokens", prompt=prompt, task=task):
            self._forward(network, rows, features, task, found)
        return found

    def _forward(
        self, network: Network, rows: np.ndarray, features: dict[str, Any], task: str, found: list[np.ndarray]
    ) -> None:
        """One batch through all modules; the vectors of the tokens that count go to `found` at `rows`."""
        import torch

        if masks := appended_masks(network.model):
            features = with_masks(features, network.model.tokenizer.mask_token_id, masks)
        filled = features.get("query_expansion_positions")
        if filled is not None:
            self._full_queries += int((~filled.any(dim=1)).sum())
        # The states of what fills a query up are scored also where attention is told that they are padding.
        with torch.inference_mode(), with_padding(filled is not None):
            output = network.model(features, task=task)
        vectors, counted = output["token_embeddings"].float(), output["attention_mask"].bool()
        if not bool(torch.isfinite(vectors[counted]).all()):
            raise InputError(
                f"the model {self.checkpoint.name} gives NaN or infinity: check its weights and dtype (float16 overflows)"
            )
        if self.dtype != "float32" and unit_length(network.model):  # half-precision unit vectors are off by 1e-3
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
        for row, vector, mask in zip(rows, vectors, counted, strict=True):
            found[row] = vector[mask].cpu().numpy()


#: The vectors of a text of which none was made yet.
_NONE = np.zeros((0, 0), np.float32)


class _Side(Network):
    """The network for queries or for documents, which are cut at a length of their own."""

    def __init__(self, name: str, model: Any, device: str, token_budget: int | None, length: int | None) -> None:
        super().__init__(name, model, device, token_budget)
        self._length = length

    @property
    def max_length(self) -> int | None:
        """Tokens after which a text is cut; None where there is no limit."""
        lengths = [length for length in (self._length, super().max_length) if length is not None]
        return min(lengths, default=None)


def _refuse_adapter(checkpoint: Checkpoint) -> None:
    """An index records the digest of a model's weights, which an adapter's file holds a part of."""
    adapter = read_object(checkpoint.folder / "adapter_config.json")
    if adapter:
        raise InputError(
            f"the model {checkpoint.name} is an adapter over {adapter.get('base_model_name_or_path')}, whose weights are not "
            "among its files: name the checkpoint with both merged (many ColPali-like ones have one, NAME-merged)"
        )


def is_multi_vector(folder: Path) -> bool:
    """Whether a model's folder says that it was trained for late interaction."""
    sentence, config = read_object(folder / "config_sentence_transformers.json"), read_object(folder / "config.json")
    architectures = config.get("architectures") or []
    return (
        sentence.get("model_type") in ("MultiVectorEncoder", "ColBERT")
        or any(name == "HF_ColBERT" or str(name).endswith("ForRetrieval") for name in architectures)
        or is_xtr(folder)
        or is_margin_mse(folder)
    )

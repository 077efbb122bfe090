"""Sparse encoder: texts → bags of weighted terms of a vocabulary, by any SPLADE-like checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import InputError, UsageError
from ..records import Document
from ..vectors import EncoderSpec, Sparse
from .card_files import NO_CARD
from .checkpoint import Checkpoint, find_checkpoint
from .image_documents import image_batches, image_of
from .network import Network
from .runtime import check_dtype, check_token_budget, choose_device
from .sparse_files import largest
from .sparse_network import SparseNetwork
from .sparse_settings import SparseCard, SparseSettings, find_card, given_settings, quantised, settle

if TYPE_CHECKING:
    from .doc2query import Expander

#: What of the settings an index records in the fields of `EncoderSpec` that all encoders have.
_PLACED = ("query_prompt", "document_prompt", "max_length", "pooling", "query_model")

_Row = tuple[np.ndarray, np.ndarray]


class SparseEncoder:
    """Any learned sparse checkpoint as an encoder of queries and documents.

    `model` is a local folder or a Hub name: what sentence-transformers loads as SparseEncoder (SPLADE, inference-free models
    with a Router, autoencoders), a bare masked language model (SPLADE's pooling over it), or one with `idf.json` beside
    it, and modules of `models/pooling` (uniCOIL's and DeepImpact's heads, images as terms). Its card (see
    `sparse_settings`; `card` names another, or "none") says what the checkpoint does not, `settings`, the options of
    `SparseSettings`, replace both. `expander` adds generated queries to documents before they are encoded. `dtype` is what
    the network computes in; logits are pooled in float32. Making an encoder is free: the model is loaded when first used.
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
        expander: Expander | None = None,
        **settings: Any,
    ) -> None:
        self.model, self.revision, self.device, self.card_name = model, revision, device, card
        self.dtype = check_dtype(dtype, device)
        self.token_budget, self.trust_remote_code = token_budget, trust_remote_code
        self.given, self.given_expander = given_settings(settings), expander
        #: What an index records of the expansion of its documents.
        self.expansion: dict[str, Any] | None = None
        if token_budget is not None:
            check_token_budget(token_budget, "cpu")

    @classmethod
    def of_spec(cls, spec: EncoderSpec, model: str | os.PathLike[str] | None = None, *, device: str = "auto") -> Self:
        """The encoder that an index records, or `model` under the same settings. Its card was settled then."""
        kept = {name: value for name, value in spec.extra.items() if name in SparseSettings.__dataclass_fields__}
        encoder = cls(
            model or spec.folder or spec.model,
            device=device,
            dtype=spec.dtype,
            card=NO_CARD,
            query_prompt=spec.query_prompt,
            document_prompt=spec.document_prompt,
            max_length=spec.max_length or None,
            **kept,
        )
        encoder.expansion = spec.extra.get("expansion")
        return encoder

    def __repr__(self) -> str:
        return f"SparseEncoder({str(self.model)!r}, dtype={self.dtype!r})"

    # ---- what is loaded ----------------------------------------------------------------------------------------------

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model's files, found or downloaded, their weights hashed."""
        return find_checkpoint(self.model, revision=self.revision, trust_remote_code=self.trust_remote_code)

    @cached_property
    def card(self) -> SparseCard:
        """What is known of the model."""
        return find_card(self.checkpoint.name, self.checkpoint.folder, self.card_name)

    @cached_property
    def settings(self) -> SparseSettings:
        """What is set of the checkpoint, by the user, else by its card."""
        return settle(self.given, self.card)

    @cached_property
    def network(self) -> SparseNetwork:
        """The loaded model."""
        device = choose_device(self.device)
        return SparseNetwork(
            self.checkpoint,
            device=device,
            dtype=check_dtype(self.dtype, device),
            token_budget=self.token_budget,
            trust_remote_code=self.trust_remote_code,
            settings=self.settings,
        )

    @cached_property
    def partner(self) -> SparseEncoder | None:
        """The encoder of queries, where it is another model than that of documents; its vocabulary must be the same."""
        if self.settings.query_model is None:
            return None
        limits: dict[str, Any] = {
            "max_length": self.settings.query_max_length,
            "query_prompt": self.settings.query_prompt,
        }
        partner = SparseEncoder(
            self.settings.query_model,
            device=self.device,
            dtype=self.dtype,
            token_budget=self.token_budget,
            trust_remote_code=self.trust_remote_code,
            card=NO_CARD,
            **{name: value for name, value in limits.items() if value is not None},
        )
        refuse_other_vocabulary(partner, self.vocabulary, f"documents of {self.checkpoint.name}")
        return partner

    @cached_property
    def expander(self) -> Expander | None:
        """What expands documents: given, or as an index records it."""
        from .doc2query import Expander

        return Expander.of_record(self.expansion, device=self.device) if self.expansion else self.given_expander

    @property
    def vocabulary(self) -> str:
        """SHA-256, 16 hex digits, of the tokens that terms are."""
        return self.network.vocabulary

    @property
    def truncated(self) -> int:
        """Texts cut at the maximum length so far."""
        if "network" not in self.__dict__:
            return 0
        sides = {id(side): side for name in ("documents", "queries") if (side := self.network.__dict__.get(name))}
        partner = self.__dict__.get("partner")
        return sum(side.truncated for side in sides.values()) + (partner.truncated if partner else 0)

    @cached_property
    def spec(self) -> EncoderSpec:
        """What the vectors depend on; an index records it and refuses any other."""
        network, named = self.network, self.settings.named()
        extra: dict[str, Any] = {name: value for name, value in named.items() if name not in _PLACED}
        if self.settings.pooling is not None:
            extra["pooling"] = self.settings.pooling
        extra["vocabulary"] = self.vocabulary
        if self.partner is None and (own := network.queries.max_length) not in (None, network.documents.max_length):
            extra["query_max_length"] = own
        if self.partner is not None:
            extra["query_model"] = str(self.settings.query_model)
            extra["query_revision"] = self.partner.checkpoint.digest
        if expansion := self.expansion or (self.given_expander and self.given_expander.record()):
            extra["expansion"] = expansion
        return EncoderSpec(
            model=self.checkpoint.name,
            revision=self.checkpoint.digest,
            query_prompt=self._prompt("query", self.settings.query_prompt),
            document_prompt=self._prompt("document", self.settings.document_prompt),
            pooling=network.pooling("document"),
            dim=network.terms,
            dtype=self.dtype,
            max_length=network.documents.max_length or 0,
            similarity="dot",
            extra=extra,
        )

    def _prompt(self, task: str, given: str | None) -> str:
        """What was set, or the checkpoint's own prompt of that name, or its default one."""
        if given is not None:
            return given
        model = self.network.model
        named = model.prompts.get(task)
        return named if named is not None else model.prompts.get(model.default_prompt_name) or ""

    # ---- encoding ----------------------------------------------------------------------------------------------------

    def encode_queries(self, queries: Sequence[str]) -> Sparse:
        """The terms of `queries`, in their order: quantised and cut to `query_terms` as the settings say."""
        if isinstance(queries, str):
            raise UsageError("encode_queries takes a list of texts, got one str: put it in a list")
        texts = list(queries)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(f"text {i} is of type {type(text).__name__}, expected str")
        side = self.partner or self
        network, prompt = side.network, side._prompt("query", side.settings.query_prompt)
        rows = self._rows(network.queries, texts, prompt, "query", side.max_active)
        rule = None if network.bag_of_words else self.settings.quantise
        return self._sparse([_finished(row, self.settings.query_terms, None, rule) for row in rows])

    def encode_documents(self, documents: Iterable[Document]) -> Sparse:
        """The terms of `documents` (title, a space, text; or the picture that their metadata `image_file` names), in their
        order: cut to `document_terms` and `least_weight` and quantised as the settings say."""
        documents = list(documents)
        if self.expander is not None:
            documents = list(self.expander.expand(documents))
        settings = self.settings
        rows = [
            _finished(row, settings.document_terms, settings.least_weight, settings.quantise)
            for row in self._document_rows(documents)
        ]
        return self._sparse(rows)

    def _document_rows(self, documents: list[Document]) -> list[_Row]:
        network, prompt = self.network.documents, self._prompt("document", self.settings.document_prompt)
        files = [image_of(document) for document in documents]
        texts = [row for row, file in enumerate(files) if not file]
        pictures = [row for row, file in enumerate(files) if file]
        rows: list[_Row] = [_NO_TERMS] * len(documents)
        if pictures:
            named = [file for file in files if file]
            for places, features in image_batches(self.checkpoint.name, network.model, network.device, named):
                what = [f"the picture {named[place]}" for place in places]
                for place, row in zip(places, self._forward(network, features, what, self.max_active), strict=True):
                    rows[pictures[place]] = row
        if texts:
            if not network.model.supports("text"):
                raise InputError(
                    f"the model {self.checkpoint.name} makes terms of pictures only, and document {documents[texts[0]].id!r} "
                    "is a text: index images:FOLDER with it"
                )
            full = [documents[row].full_text for row in texts]
            for place, terms in zip(texts, self._rows(network, full, prompt, "document", self.max_active), strict=True):
                rows[place] = terms
        return rows

    @property
    def max_active(self) -> int | None:
        """The checkpoint's own limit of terms a text (sentence-transformers' max_active_dims)."""
        return getattr(self.network.model, "max_active_dims", None)

    def _rows(self, network: Network, texts: list[str], prompt: str, task: str, most: int | None) -> list[_Row]:
        rows: list[_Row] = [_NO_TERMS] * len(texts)
        for places, features in network.batches(texts, what=f"encoding {task} texts", prompt=prompt):
            what = [f"the {task} {texts[place][:60]!r}" for place in places]
            for place, row in zip(places, self._forward(network, features, what, most), strict=True):
                rows[place] = row
        return rows

    def _forward(
        self, network: Network, features: dict[str, Any], what: Sequence[str], most: int | None
    ) -> Iterable[_Row]:
        """The terms above 0 of each text of a batch, ascending. Raises `InputError` for NaN, naming the text."""
        import torch

        if (stored := stored_weights(network)) is not None:
            mask = features["attention_mask"].bool().cpu().numpy()
            for tokens, seen in zip(features["input_ids"].cpu().numpy(), mask, strict=True):
                ids = np.unique(tokens[seen]).astype(np.int32)
                yield largest(ids[stored[ids] > 0], stored[ids][stored[ids] > 0], most)
            return
        weights = network.forward(features)["sentence_embedding"].float()
        if weights.is_sparse:
            weights = weights.to_dense()
        finite = torch.isfinite(weights).all(dim=1)
        if not bool(finite.all()):
            text = what[int((~finite).nonzero()[0])]
            raise InputError(
                f"the model {self.checkpoint.name} gives NaN or infinite weights for {text}: check its weights and dtype "
                "(float16 overflows)"
            )
        rows, terms = torch.nonzero(weights > 0, as_tuple=True)
        values = weights[rows, terms].cpu().numpy()
        ends = np.cumsum(np.bincount(rows.cpu().numpy(), minlength=len(weights)))
        ids = terms.cpu().numpy().astype(np.int32)
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            yield largest(ids[start:end], values[start:end], most)

    def _sparse(self, rows: list[_Row]) -> Sparse:
        return Sparse.of(rows, self.network.terms)


def stored_weights(network: Network) -> np.ndarray | None:
    """Weights (V,) of a model that is nothing but them, so that no vector as wide as the vocabulary need be made."""
    modules = list(network.model)
    if len(modules) != 1 or type(modules[0]).__name__ != "SparseStaticEmbedding":
        return None
    weights: np.ndarray = modules[0].weight.detach().float().cpu().numpy()
    if not np.isfinite(weights).all():
        raise InputError(f"the model {network.name} has NaN or infinite weights of tokens: check its files")
    return weights


_NO_TERMS: _Row = (np.zeros(0, np.int32), np.zeros(0, np.float32))


def _finished(row: _Row, most: int | None, least: float | None, rule: str | float | None) -> _Row:
    """A text's terms pruned by number and weight, then quantised; what is rounded to 0 goes."""
    ids, weights = largest(*row, most)
    if least is not None:
        ids, weights = ids[weights >= least], weights[weights >= least]
    weights = quantised(weights, rule)
    return ids[weights > 0], weights[weights > 0]


def refuse_other_vocabulary(encoder: SparseEncoder, vocabulary: str, of: str) -> None:
    """Raise `InputError` when `encoder` makes terms of another vocabulary."""
    if encoder.vocabulary != vocabulary:
        raise InputError(
            f"the query encoder {encoder.checkpoint.name} has the vocabulary {encoder.vocabulary}, the {of} have "
            f"{vocabulary}: their terms are not the same words; name a query encoder of the same tokenizer"
        )

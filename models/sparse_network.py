"""Loads a learned sparse encoder through sentence-transformers: one chain of modules for documents and one for queries."""

from __future__ import annotations

import copy
import hashlib
import json
from functools import cached_property
from typing import Any

from ..errors import InputError, UsageError
from .checkpoint import Checkpoint
from .loading import load_model
from .network import Network
from .sparse_settings import SparseSettings

#: What transformers may leave out of a masked language model's file: BERT's pooler is not used by it.
_MAY_MISS = ("pooler",)

_AS_IT_IS = SparseSettings()


class SparseNetwork:
    """The loaded model `checkpoint`; `documents` and `queries` are one `Network`, or the two routes of its Router.

    A folder with `idf.json` and no `modules.json` (OpenSearch's older ones) is a masked language model for documents and
    these weights for queries.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str,
        dtype: str,
        token_budget: int | None = None,
        trust_remote_code: bool = False,
        settings: SparseSettings = _AS_IT_IS,
    ) -> None:
        self.checkpoint, self.device, self.token_budget = checkpoint, device, token_budget
        self.model = load_model(
            "SparseEncoder",
            checkpoint,
            device=device,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            may_miss=_MAY_MISS,
        )
        self._refuse_random_heads()
        self._pooling, self._activation = settings.pooling, settings.activation
        self._lengths = {
            "document": settings.max_length,
            "query": settings.query_max_length or settings.max_length,
        }

    def _refuse_random_heads(self) -> None:
        """sentence-transformers puts an untrained autoencoder on whatever is no masked language model."""
        from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder

        saved = (self.checkpoint.folder / "modules.json").is_file()
        named = saved and "SparseAutoEncoder" in (self.checkpoint.folder / "modules.json").read_text()
        if any(isinstance(module, SparseAutoEncoder) for module in self.model) and not named:
            raise InputError(
                f"the model {self.checkpoint.name} is no sparse encoder: it has neither a head for masked language "
                "modelling nor a module that gives terms; name a SPLADE-like model, or use the dense retriever"
            )

    @cached_property
    def chains(self) -> dict[str, list[Any]]:
        """The modules for `document` and `query`."""
        from sentence_transformers.base.modules import Router

        modules: list[Any] = list(self.model)
        if isinstance(modules[0], Router):
            inner: dict[str, Any] = dict(modules[0].sub_modules.items())
            routes = {name: [*chain, *modules[1:]] for name, chain in inner.items()}
            for name in ("document", "query"):
                if name not in routes:
                    raise InputError(
                        f"the model {self.checkpoint.name} has the routes {', '.join(routes)}, expected document and query"
                    )
        else:
            routes = {"document": modules, "query": modules}
            if (self.checkpoint.folder / "idf.json").is_file() and not self._has_modules:
                routes["query"] = [self._idf(modules[0].tokenizer)]
        self._refuse_without_pooling([*routes["document"], *routes["query"]])
        document = self._slim(routes["document"], self._lengths["document"])
        if routes["query"] == routes["document"] and self._lengths["query"] == self._lengths["document"]:
            return {"document": document, "query": document}
        return {"document": document, "query": self._slim(routes["query"], self._lengths["query"])}

    def _refuse_without_pooling(self, modules: list[Any]) -> None:
        """Of an inference-free model only the documents are pooled."""
        from sentence_transformers.sparse_encoder.modules import SpladePooling

        for name, value in (("pooling", self._pooling), ("activation", self._activation)):
            if value is not None and not any(isinstance(module, SpladePooling) for module in modules):
                raise UsageError(f"{name}={value!r}: {self.checkpoint.name} has no SPLADE pooling: leave it out")

    @property
    def _has_modules(self) -> bool:
        return (self.checkpoint.folder / "modules.json").is_file()

    def _idf(self, tokenizer: Any) -> Any:
        from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding

        module: Any = SparseStaticEmbedding.from_json(str(self.checkpoint.folder / "idf.json"), tokenizer)
        return module.to(self.device)

    def _slim(self, modules: list[Any], length: int | None) -> list[Any]:
        """The chain with SPLADE's pooling done piece by piece (see `sparse_pooling`), as it is set, and its own length."""
        from sentence_transformers.base.modules import Transformer
        from sentence_transformers.sparse_encoder.modules import SpladePooling

        from .sparse_pooling import TermPooling, take_output

        first, *rest = [self._with_length(modules[0], length), *modules[1:]]
        if not rest or not isinstance(rest[0], SpladePooling):
            return [first, *rest]
        old = rest[0]
        pooling, activation = self._pooling or old.pooling_strategy, self._activation or old.activation_function
        output = None
        if isinstance(first, Transformer):
            # Models are shared: the matrix that was taken out for an earlier chain is kept with the network.
            output = first.model.__dict__.get("_taken_output") or take_output(first)
            first.model.__dict__["_taken_output"] = output
        if output is None:
            plain: Any = SpladePooling
            return [first, plain(pooling, activation), *rest[1:]]
        return [first, TermPooling(output, pooling, activation), *rest[1:]]

    def _with_length(self, first: Any, length: int | None) -> Any:
        """A chain's first module with a tokenizer of its own, which cuts texts at `length`; the weights stay shared."""
        name = "processor" if "processor" in first.__dict__ else "tokenizer"
        if name not in first.__dict__:
            if length is not None:
                raise UsageError(f"max_length={length}: {self.checkpoint.name} has no tokenizer that could cut texts")
            return first
        own = copy.copy(first)
        own.__dict__[name] = copy.deepcopy(first.__dict__[name])
        if length is not None:
            positions = getattr(getattr(getattr(first, "model", None), "config", None), "max_position_embeddings", None)
            if isinstance(positions, int) and 0 < positions < length:
                raise UsageError(
                    f"max_length={length}: {self.checkpoint.name} has {positions} positions; use at most that"
                )
            own.max_seq_length = own.tokenizer.model_max_length = length
        return own

    @cached_property
    def documents(self) -> Network:
        return self._network("document")

    @cached_property
    def queries(self) -> Network:
        return self.documents if self.chains["query"] is self.chains["document"] else self._network("query")

    def _network(self, task: str) -> Network:
        from sentence_transformers import SparseEncoder

        from .loading import quiet

        with quiet():
            model = SparseEncoder(modules=list(self.chains[task]), device=self.device, prompts=dict(self.model.prompts))
        return Network(self.checkpoint.name, model.eval(), self.device, self.token_budget)

    def pooling(self, task: str) -> str:
        """What makes terms of a text: `max relu`, or the modules' names."""
        names = []
        for module in self.chains[task]:
            if hasattr(module, "pooling_strategy") and hasattr(module, "activation_function"):
                names.append(f"{module.pooling_strategy} {module.activation_function}")
            elif type(module).__name__ != "Transformer":
                names.append(type(module).__name__.lower())
        return "+".join(names)

    @property
    def bag_of_words(self) -> bool:
        """Whether every term of a query weighs the same, so that no factor belongs to it (naver's SPLADE-doc)."""
        import torch

        chain = self.chains["query"]
        weight = getattr(chain[-1], "weight", None) if type(chain[-1]).__name__ == "SparseStaticEmbedding" else None
        return weight is not None and bool(torch.isin(weight, torch.tensor([0.0, 1.0], device=weight.device)).all())

    @cached_property
    def terms(self) -> int:
        """Size of the vocabulary that document vectors are over."""
        last, first = self.chains["document"][-1], self.chains["document"][0]
        for module in (last, first):
            for owner in (getattr(module, "output", None), module):
                for name in ("out_features", "num_dimensions", "hidden_dim", "terms"):
                    if isinstance(value := getattr(owner, name, None), int):
                        return value
        return int(first.model.config.vocab_size)

    @property
    def tokenizer(self) -> Any:
        """Whose tokens the terms are: the documents' side's, or the queries' where that reads pictures."""
        firsts = [self.chains[task][0] for task in ("document", "query")]
        tokenizer = next((t for first in firsts if (t := getattr(first, "tokenizer", None)) is not None), None)
        if tokenizer is None:
            raise InputError(f"the model {self.checkpoint.name} has no tokenizer, so its terms have no names")
        return tokenizer

    @cached_property
    def vocabulary(self) -> str:
        """SHA-256, 16 hex digits, of the tokens and their ids."""
        return vocabulary_digest(self.tokenizer)


def vocabulary_digest(tokenizer: Any) -> str:
    """SHA-256, 16 hex digits, of a tokenizer's tokens by their ids."""
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0]))
    return hashlib.sha256(json.dumps(tokens, ensure_ascii=True).encode()).hexdigest()[:16]

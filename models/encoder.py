"""Encoder: texts → dense vectors, or one vector per token, by any sentence-transformers checkpoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np

from ..errors import InputError, UsageError
from ..records import Document
from ..vectors import Dense, EncoderSpec, MultiVector
from .card_files import NO_CARD
from .cards import EncoderCard, find_card
from .checkpoint import Checkpoint, find_checkpoint
from .encoder_settings import EncoderSettings, given_settings, own_settings, settle
from .image_documents import image_batches, image_of
from .loading import load_model
from .network import Network
from .runtime import check_dtype, check_token_budget, choose_device

_log = logging.getLogger("cribble")


class Encoder:
    """Any sentence-transformers checkpoint as an encoder of queries and documents.

    `model` is a local folder, a Hub name, or None for the embedded all-MiniLM-L6-v2. Prompts, pooling, normalisation,
    similarity, padding and maximum length are the checkpoint's, as its `encode_query` and `encode_document` apply them; its
    model card (see `cards`; `card` names another, or "none") says what the checkpoint does not, or says wrong; and
    `settings`, the options of `EncoderSettings`, replace both. `dtype` is what the network computes in: float32,
    bfloat16 (on a CPU cosines of MiniLM's vectors with the exact ones are 0.9999), or float16 on a GPU; vectors are float32
    whatever it is. `token_budget` bounds the padded tokens of one batch (None: 512 on a CPU, or 4,096 where padding costs
    nothing, 32,768 on a GPU). Making an encoder is free: the model is loaded when first used.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
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
        if token_budget is not None:
            check_token_budget(token_budget, "cpu")

    @classmethod
    def of_spec(cls, spec: EncoderSpec, model: str | os.PathLike[str] | None = None, *, device: str = "auto") -> Self:
        """The encoder that an index records, or `model` under the same settings. Its card was settled then."""
        kept = {name: value for name, value in spec.extra.items() if name in EncoderSettings.__dataclass_fields__}
        return cls(
            model or spec.folder or spec.model,
            device=device,
            dtype=spec.dtype,
            card=NO_CARD,
            query_prompt=spec.query_prompt,
            document_prompt=spec.document_prompt,
            max_length=spec.max_length or None,  # 0: the model has no limit
            **kept,
        )

    def __repr__(self) -> str:
        return f"Encoder({str(self.model) if self.model is not None else None!r}, dtype={self.dtype!r})"

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model's files, found or downloaded, their weights hashed."""
        return find_checkpoint(self.model, revision=self.revision, trust_remote_code=self.trust_remote_code)

    @cached_property
    def card(self) -> EncoderCard:
        """What is known of the model: see `cards`."""
        return find_card(self.checkpoint.name, self.checkpoint.folder, self.card_name)

    @cached_property
    def settings(self) -> EncoderSettings:
        """What is set of the checkpoint, by the user or its card."""
        return settle(self.given, self.card, own_settings(self.checkpoint.folder))

    @cached_property
    def network(self) -> Network:
        """The loaded model."""
        device = choose_device(self.device)
        dtype = check_dtype(self.dtype, device)
        model = load_model(
            "SentenceTransformer",
            self.checkpoint,
            device=device,
            dtype=dtype,
            max_length=self.settings.max_length,
            trust_remote_code=self.trust_remote_code,
            may_miss=("pooler",),  # BERT's pooler is not used by sentence embeddings
            settings=self.settings,
        )
        return Network(self.checkpoint.name, model, device, self.token_budget)

    @property
    def truncated(self) -> int:
        """Texts cut at the maximum length so far."""
        return self.network.truncated if "network" in self.__dict__ else 0

    @cached_property
    def query_prompt(self) -> str:
        """What stands before every query: given, or the checkpoint's `query` prompt, its default prompt, its card's."""
        return self.settings.query_prompt if self.settings.query_prompt is not None else self._prompt("query")

    @cached_property
    def document_prompt(self) -> str:
        """What stands before every document: given, or the checkpoint's `document` or default prompt, or its card's."""
        if self.settings.document_prompt is not None:
            return self.settings.document_prompt
        prompt = self._prompt("document", "passage", "corpus")
        if not prompt:
            # sentence-transformers 6 gives every model an empty `document` prompt, which hides these two.
            prompts = self.network.model.prompts
            for name in ("passage", "corpus"):
                if prompts.get(name):
                    _log.warning(
                        "%s: its prompt %s=%r is not applied to documents, as sentence-transformers does not; "
                        "pass document_prompt=%r to apply it", self.checkpoint.name, name, prompts[name], prompts[name],
                    )  # fmt: skip
        return prompt

    def _prompt(self, *names: str) -> str:
        """The rule of sentence-transformers 6: the first of `names` that the checkpoint has, else its default."""
        model = self.network.model
        for name in names:
            if name in model.prompts:
                return model.prompts[name] or ""
        return model.prompts.get(model.default_prompt_name) or ""

    @cached_property
    def spec(self) -> EncoderSpec:
        """What the vectors depend on; an index records it and refuses any other."""
        model = self.network.model
        return EncoderSpec(
            model=self.checkpoint.name,
            revision=self.checkpoint.digest,
            query_prompt=self.query_prompt,
            document_prompt=self.document_prompt,
            pooling=_pooling(model),
            dim=self.dim,
            dtype=self.dtype,
            max_length=self.network.max_length or 0,
            normalised=self._normalised,
            similarity=model.similarity_fn_name,
            extra=self._departures(),
        )

    def _departures(self) -> dict[str, Any]:
        """What is set otherwise than in the checkpoint's files and has no place of its own in the spec."""
        placed = ("query_prompt", "document_prompt", "max_length")
        return {name: value for name, value in self.settings.named().items() if name not in placed}

    @cached_property
    def dim(self) -> int:
        """Width of the vectors."""
        wanted = self.settings.dim
        if wanted is not None and wanted > self.full_dim:
            raise UsageError(f"dim={wanted}: {self.checkpoint.name} has {self.full_dim} dimensions; use at most that")
        return wanted or self.full_dim

    @cached_property
    def full_dim(self) -> int:
        """Width of the model's own vectors."""
        dim = self.network.model.get_embedding_dimension()
        if dim is None:  # a module that doesn't say: look at a vector
            _, features = next(self.network.batches(["a"], what="probing"))
            dim = self._raw_vectors(features, "document").shape[1]
        return int(dim)

    # ---- one vector per text ----------------------------------------------------------------------------------------

    def encode_queries(self, queries: Sequence[str]) -> Dense:
        """Vectors (n, dim) float32 of `queries`, in their order."""
        return self._encode(_texts(queries), self.query_prompt, "query")

    def encode_documents(self, documents: Iterable[Document]) -> Dense:
        """Vectors (n, dim) float32 of `documents` (title, a space, text; or the picture that their metadata `image_file` names),
        in their order."""
        documents = list(documents)
        files = [image_of(document) for document in documents]
        if not any(files):
            return self._encode([document.full_text for document in documents], self.document_prompt, "document")
        vectors = np.empty((len(documents), self.dim), np.float32)
        pictures = [row for row, file in enumerate(files) if file]
        network = self.network
        named = [file for file in files if file]
        for rows, features in image_batches(self.checkpoint.name, network.model, network.device, named):
            vectors[[pictures[row] for row in rows]] = self._vectors(features, "document")
        if texts := [row for row, file in enumerate(files) if not file]:
            vectors[texts] = self.encode_documents([documents[row] for row in texts]).values
        return Dense(vectors)

    def _encode(self, texts: list[str], prompt: str, task: str) -> Dense:
        vectors = np.empty((len(texts), self.dim), np.float32)
        for rows, features in self.network.batches(texts, what=f"encoding {task} texts", prompt=prompt, task=task):
            vectors[rows] = self._vectors(features, task)
        return Dense(vectors)

    def _vectors(self, features: dict[str, Any], task: str) -> np.ndarray:
        """One batch through all modules, cut to `dim`: (rows, dim) float32, of unit length where the model's are."""
        import torch

        output = self._raw_vectors(features, task)
        if self.settings.dim is not None:
            if self.settings.layer_norm:
                output = torch.nn.functional.layer_norm(output, output.shape[1:])
            output = output[:, : self.dim]
        if self._normalised and (self.dtype != "float32" or self.settings.dim is not None):
            # Half-precision unit vectors are off by 1e-3, cut ones are short: make them exact.
            output = torch.nn.functional.normalize(output, dim=1)
        vectors: np.ndarray = output.cpu().numpy()
        return vectors

    def _raw_vectors(self, features: dict[str, Any], task: str) -> Any:
        """What the model's last module gives, cut as the checkpoint's own `truncate_dim` says: (rows, width) float32."""
        output = self.network.forward(features, task)["sentence_embedding"].float()
        return output[:, : self.network.model.truncate_dim]

    @property
    def _normalised(self) -> bool:
        """Whether vectors have unit length: a last module makes them so, and none is cut off after it but by us."""
        model = self.network.model
        return _ends_in_normalisation(model) and (self.settings.dim is not None or model.truncate_dim is None)

    # ---- one vector per token ---------------------------------------------------------------------------------------

    def query_tokens(self, queries: Sequence[str]) -> MultiVector:
        """The last hidden states of each query's tokens, as unit vectors (t, hidden) float32."""
        return self._tokens(_texts(queries), self.query_prompt, "query")

    def document_tokens(self, documents: Iterable[Document]) -> MultiVector:
        """The last hidden states of each document's tokens, as unit vectors (t, hidden) float32."""
        return self._tokens([document.full_text for document in documents], self.document_prompt, "document")

    def _tokens(self, texts: list[str], prompt: str, task: str) -> MultiVector:
        matrices: list[np.ndarray] = [np.zeros((0, 0), np.float32)] * len(texts)
        for rows, features in self.network.batches(texts, what=f"encoding {task} tokens", prompt=prompt, task=task):
            for row, matrix in zip(rows, self._token_states(features), strict=True):
                matrices[row] = matrix
        return MultiVector.of(matrices, matrices[0].shape[1] if matrices else self.hidden_width)

    @property
    def hidden_width(self) -> int:
        """Width of the token states."""
        return int(self.network.model[0].get_embedding_dimension())

    def _token_states(self, features: dict[str, Any]) -> list[np.ndarray]:
        """The first module's states at real tokens, special tokens included, each of length 1.

        Special tokens stay, as ColBERT keeps its own: sentence encoders put much of a text's meaning there.
        """
        import torch

        with torch.inference_mode():
            output = self.network.model[0](features)
        if "token_embeddings" not in output or "attention_mask" not in output:
            raise InputError(f"the model {self.checkpoint.name} gives no token states: MaxSim needs a transformer")
        states = torch.nn.functional.normalize(output["token_embeddings"].float(), dim=-1).cpu().numpy()
        mask = output["attention_mask"].bool().cpu().numpy()
        return [states[i][mask[i]] for i in range(len(states))]


def _texts(queries: Sequence[str]) -> list[str]:
    if isinstance(queries, str):
        raise UsageError("encode_queries takes a list of texts, got one str: put it in a list")
    texts = list(queries)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"text {i} is of type {type(text).__name__}, expected str")
    return texts


def _pooling(model: Any) -> str:
    """The modules after the transformer, such as `mean` or `cls+dense`; Normalize is told by `normalised`."""
    names = []
    for module in list(model)[1:]:
        kind = type(module).__name__
        if kind == "Pooling":
            mode = module.pooling_mode if isinstance(module.pooling_mode, str) else "+".join(module.pooling_mode)
            names.append(mode if module.include_prompt else f"{mode} without prompt")
        elif kind != "Normalize":
            names.append(kind.lower())
    return "+".join(names) or type(model[0]).__name__.lower()


def _ends_in_normalisation(model: Any) -> bool:
    last = list(model)[-1]
    return type(last).__name__ == "Normalize" and last.module_output_name == "sentence_embedding"

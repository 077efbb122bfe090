"""ColBERTer's network: a transformer's states as one vector of [CLS], and one of each word that a learned gate lets pass.

After the paper (Hofstätter et al., CIKM 2022, §3) and `colberter.py` of sebastian-hofstaetter/colberter, whose names the
weights have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .colberter_words import TOKENS, WORDS, WordedText

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class ColberterConfig:
    """`config.json` of a checkpoint, by upstream's names; -1 is no such layer. `words` is ours (see `colberter_words`).

    `retrieval_compression_dim` is the width of the [CLS] vector, `compression_dim` that of word vectors,
    `second_compress_dim` what these have after another layer. `use_contextualized_stopwords` gates documents' words,
    `aggregate_unique_ids` makes words of sub-words, `compress_to_exact_mini_mode` lets only equal words match.
    """

    bert_model: str = ""
    compression_dim: int = -1
    retrieval_compression_dim: int = -1
    second_compress_dim: int = -1
    use_contextualized_stopwords: bool = False
    aggregate_unique_ids: bool = False
    compress_to_exact_mini_mode: bool = False
    words: str = ""

    def check(self, name: str) -> None:
        """Raise `InputError` where the model `name` can't be of this configuration."""
        for field in ("second_compress_dim", "use_contextualized_stopwords"):
            if self.compression_dim < 0 and getattr(self, field) not in (-1, False):
                raise InputError(f"the model {name}: config.json has {field} without compression_dim, which it needs")
        if self.words not in ("", *(WORDS if self.aggregate_unique_ids else (TOKENS,))):
            raise InputError(f"the model {name}: config.json has words {self.words!r}, expected {' or '.join(WORDS)}")

    @property
    def own_words(self) -> str:
        """What makes words equal in this model."""
        return (self.words or WORDS[0]) if self.aggregate_unique_ids else TOKENS

    def widths(self, hidden: int) -> tuple[int, int]:
        """Dimensions of the [CLS] vector and of word vectors, over a backbone of `hidden`."""
        compressed = self.compression_dim if self.compression_dim >= 0 else hidden
        cls = self.retrieval_compression_dim if self.retrieval_compression_dim >= 0 else hidden
        return cls, self.second_compress_dim if self.second_compress_dim >= 0 else compressed


def make_network(config: ColberterConfig, backbone: Any) -> torch.nn.Module:
    """The modules over a transformers encoder, by upstream's names; their weights are those of a beginning of training."""
    from torch import nn, zeros

    hidden = backbone.config.hidden_size
    network = nn.Module()
    network.bert_model = backbone
    network.score_merger = nn.Parameter(zeros(1))
    if config.compression_dim >= 0:
        network.compressor = nn.Linear(hidden, config.compression_dim)
    if config.retrieval_compression_dim >= 0:
        network.compressor_retrieval = nn.Linear(hidden, config.retrieval_compression_dim)
    if config.use_contextualized_stopwords:
        network.stop_word_reducer = nn.Linear(config.compression_dim, 1)
        nn.init.constant_(network.stop_word_reducer.bias, 1)  # all words pass at first
    if config.second_compress_dim >= 0:
        network.mini_compressor = nn.Linear(config.compression_dim, config.second_compress_dim)
    return network


def text_vectors(
    network: Any, features: dict[str, torch.Tensor], texts: Sequence[WordedText], *, document: bool
) -> tuple[torch.Tensor, list[torch.Tensor], list[np.ndarray]]:
    """The [CLS] vectors (n, c) of a batch, each text's word vectors (w, d), and the numbers (w,) of their words; float32.

    `features` are token ids and mask, padded on the right, of `texts`. Of a `document` only words that the gate lets pass
    have a vector, multiplied by the gate's value.
    """
    import torch
    from torch.nn.functional import relu

    states = network.bert_model(**features).last_hidden_state.float()
    retrieval = getattr(network, "compressor_retrieval", None)
    cls = states[:, 0] if retrieval is None else retrieval(states[:, 0])
    words = word_means(states if not hasattr(network, "compressor") else network.compressor(states), texts)
    passing = torch.ones(words.shape[:2], dtype=torch.bool, device=words.device)
    if document and hasattr(network, "stop_word_reducer"):
        gate = relu(network.stop_word_reducer(words))
        words, passing = words * gate, gate.squeeze(-1) > 0
    if hasattr(network, "mini_compressor"):
        words = network.mini_compressor(words)
    bags, numbers = [], []
    for vectors, passes, text in zip(words, passing, texts, strict=True):
        passes = passes[: len(text.words)]
        bags.append(vectors[: len(text.words)][passes])
        numbers.append(passes.nonzero()[:, 0].cpu().numpy())
    return cls, bags, numbers


def word_means(states: torch.Tensor, texts: Sequence[WordedText]) -> torch.Tensor:
    """Means (n, most words, d) of the states (n, t, d) of each word's tokens, wherever in the text they are."""
    import torch

    most = max((len(text.words) for text in texts), default=0)
    member = torch.zeros(len(texts), most, states.shape[1])
    for row, text in zip(member, texts, strict=True):
        places = torch.from_numpy(text.places)
        at = (places >= 0).nonzero()[:, 0]
        row[places[at], at] = 1
    counts = member.sum(dim=2, keepdim=True).clamp(min=1).to(states.device)
    return torch.bmm(member.to(states.device), states) / counts

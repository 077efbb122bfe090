"""T5 rerankers against plain transformers, document by document and unpadded, |Δ| <= 1e-4 in float32.

monoT5 and duoT5 as pygaggle scores them: softmax over (false, true) after the decoder's start token; duoT5 over all
ordered pairs, p for the first and 1 - p for the second (SYM-SUM). Query likelihood: minus the cross
entropy of the query's tokens, each after the decoder's start token and those before it.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
from cribble.records import Document, Query
from cribble.rerankers.candidates import Candidates
from cribble.rerankers.pairwise import DuoT5
from cribble.rerankers.pointwise import MonoT5, QueryLikelihood, RankT5
from cribble.tests.models.conftest import WORDS
from cribble.tests.models.tiny_language_models import save_language_model

TOLERANCE = 1e-4
#: The random model tells documents apart by at least so much, so that the comparison means something.
SPREAD = 0.05


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return save_language_model(tmp_path_factory.mktemp("parity") / "t5", "t5")


@pytest.fixture(scope="module")
def candidates():
    chance = random.Random(4)
    texts = [" ".join(chance.choices(WORDS, k=length)) for length in (1, 4, 12, 30, 70)]
    documents = [Document(str(i), text) for i, text in enumerate([*texts, "Relevant: true", "ünïcödé 日本語"])]
    return [Candidates(Query("1", "the cat of the river"), documents), Candidates(Query("2", "fish"), documents[::-1])]


class Plain:
    """Logits (n + 1, V) after the decoder's start token and each of n further tokens, by the model itself."""

    def __init__(self, folder):
        import torch
        from transformers import AutoTokenizer, T5ForConditionalGeneration

        self.torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()

    def logits(self, text, decoder=()):
        start = [self.model.config.decoder_start_token_id, *decoder]
        inputs = self.tokenizer(text, return_tensors="pt")
        with self.torch.inference_mode():
            return self.model(**inputs, decoder_input_ids=self.torch.tensor([start])).logits[0]

    def true_among_two(self, text):
        """log p(true) among false and true at the first step."""
        ids = self.tokenizer.convert_tokens_to_ids(["▁false", "▁true"])
        return float(self.logits(text)[0, ids].log_softmax(-1)[1])


@pytest.fixture(scope="module")
def plain(t5):
    return Plain(t5)


BACKENDS = [{}, {"token_budget": 90}]


@pytest.mark.parametrize("backend", BACKENDS)
def test_monot5(t5, plain, candidates, backend):
    stage = MonoT5(str(t5), ledger="off", backend={"use": "hf"} | backend)
    for c, scores in zip(candidates, stage.score(candidates), strict=True):
        texts = [f"Query: {c.query.text} Document: {d.text} Relevant:" for d in c.documents]
        expected = [plain.true_among_two(text) for text in texts]
        assert np.ptp(expected) > SPREAD
        assert np.abs(scores - expected).max() <= TOLERANCE


def test_rankt5(t5, plain, candidates):
    stage = RankT5(str(t5), labels=["yes"], ledger="off")
    token = plain.tokenizer.convert_tokens_to_ids("▁yes")
    for c, scores in zip(candidates, stage.score(candidates), strict=True):
        texts = [f"Query: {c.query.text} Document: {d.text}" for d in c.documents]
        expected = [float(plain.logits(text)[0, token]) for text in texts]
        assert np.ptp(expected) > SPREAD
        assert np.abs(scores - expected).max() <= TOLERANCE


@pytest.mark.parametrize("backend", BACKENDS)
def test_duot5(t5, plain, candidates, backend):
    stage = DuoT5(str(t5), ledger="off", backend={"use": "hf"} | backend)
    for c, scores in zip(candidates, stage.score(candidates), strict=True):
        expected = np.zeros(len(c.documents))
        for i, first in enumerate(c.documents):
            for j, second in enumerate(c.documents):
                if i != j:
                    text = f"Query: {c.query.text} Document0: {first.text} Document1: {second.text} Relevant:"
                    p = np.exp(plain.true_among_two(text))
                    expected[i] += p
                    expected[j] += 1 - p
        assert np.ptp(expected) > SPREAD
        assert np.abs(scores - expected).max() <= TOLERANCE


@pytest.mark.parametrize("backend", BACKENDS)
def test_query_likelihood(t5, plain, candidates, backend):
    from torch.nn.functional import cross_entropy

    stage = QueryLikelihood(str(t5), ledger="off", backend={"use": "hf"} | backend)
    for c, scores in zip(candidates, stage.score(candidates), strict=True):
        query = plain.tokenizer.encode(c.query.text, add_special_tokens=False)
        expected = []
        for document in c.documents:
            logits = plain.logits(
                f"Passage: {document.text}\nPlease write a question based on this passage.", query[:-1]
            )
            expected.append(-float(cross_entropy(logits, plain.torch.tensor(query), reduction="sum")))
        assert np.ptp(expected) > SPREAD
        assert np.abs(scores - expected).max() <= TOLERANCE

"""`yes-no` on a Qwen3 against sentence-transformers' `CrossEncoder` with its module LogitScore, |Δ| <= 1e-4 in float32.

The peer reads the pair through a chat template with the roles query and document, written here from Qwen3-Reranker's
README and not from our template; it pads on the left and takes the whole vocabulary's logits.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
from cribble.records import Document, Query
from cribble.rerankers.candidates import Candidates
from cribble.rerankers.pointwise import YesNo
from cribble.tests.models.conftest import WORDS
from cribble.tests.models.tiny_language_models import save_language_model

TOLERANCE = 1e-4

#: Jinja eats the line break behind a block and at the template's end, so these are printed.
PAIR_TEMPLATE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "{% for m in messages %}{{ {'system': '<Instruct>', 'query': '<Query>', 'document': '<Document>'}[m.role] }}: "
    "{{ m.content }}{{ '<|im_end|>\n' if m.role == 'document' else '\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}"
)
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory):
    return save_language_model(tmp_path_factory.mktemp("parity") / "qwen3", "qwen3")


@pytest.fixture(scope="module")
def candidates():
    chance = random.Random(2)
    texts = [" ".join(chance.choices(WORDS, k=length)) for length in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144)]
    texts += ["ünïcödé 日本語 🎉", "yes", "no", "<Query>: cat [1] > [2]", "a line\nand one more", '"quoted" {braces}']
    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    return [
        Candidates(Query("1", "the cat of the river"), documents),
        Candidates(Query("2", "rank 🎉"), documents[::-1]),
    ]


def predicted(folder, candidates, instruction):
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.cross_encoder.modules import LogitScore

    reader = Transformer(str(folder), transformer_task="text-generation", model_kwargs={"dtype": torch.float32})
    reader.processor.chat_template = PAIR_TEMPLATE
    yes, no = (reader.tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    peer = CrossEncoder(modules=[reader, LogitScore(yes, no)], device="cpu")
    pairs = [(c.query.text, document.text) for c in candidates for document in c.documents]
    return peer.predict(pairs, prompt=instruction, batch_size=7, activation_fn=torch.nn.Identity())


@pytest.mark.parametrize(
    ("instruction", "backend"),
    [
        (None, {}),
        (None, {"share_prefix": False}),
        (None, {"token_budget": 400}),
        ("Find the document that names a city", {}),
    ],
)
def test_yes_no_equals_logit_score(qwen3, candidates, instruction, backend):
    expected = predicted(qwen3, candidates, instruction or INSTRUCTION)
    assert np.ptp(expected) > 1  # the random model tells documents apart, so the comparison means something
    for scores, wanted in (("difference", expected), ("prob", 1 / (1 + np.exp(-expected)))):
        stage = YesNo(str(qwen3), instruction=instruction, scores=scores, ledger="off", backend={"use": "hf"} | backend)
        assert np.abs(np.concatenate(stage.score(candidates)) - wanted).max() <= TOLERANCE

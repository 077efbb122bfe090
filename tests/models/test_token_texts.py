"""Texts of tokens stand beside their vectors, one to one.

Proved by checkpoints that can't see anything but the token itself (attention and positions are zeroed in the saved weights):
there equal vectors are equal tokens. And by MiniLM's real states, computed by transformers alone with its tokenizer's offsets.
"""

from __future__ import annotations

import string
from itertools import combinations, pairwise

import numpy as np
import pytest
from cribble.models.multivector_encoder import MultiVectorEncoder
from cribble.models.multivector_states import TokenStates
from cribble.models.token_texts import document_token_texts, query_token_texts, word_spans
from cribble.records import Document
from cribble.tests.models.conftest import save_encoder
from cribble.tests.models.tiny_late_models import save_pylate, save_sentence_transformers, save_stanford

MASKED = {"strategy": "fixed", "attend": False, "length": 16}
TEXTS = [
    "the cat, the Dog. is a river?",
    "fish - swim",
    "",
    "a stone " * 40,
    "  query\n search ",
    "日本 - ünïcode, 👩‍👩‍👧 CAT",
    "cat",
]
TITLES = ["", "River", "the city", "", " tree ", "Ünï", ""]
DOCUMENTS = [Document(str(i), text, title) for i, (text, title) in enumerate(zip(TEXTS, TITLES, strict=True))]

LATE = {
    "st masked": lambda f: save_sentence_transformers(f, expansion=MASKED, skip=list(string.punctuation)),
    "st attended": lambda f: save_sentence_transformers(f, expansion=MASKED | {"attend": True}),
    "st least length": lambda f: save_sentence_transformers(f, expansion=MASKED | {"strategy": "min"}, query_length=30),
    "st prompts": lambda f: save_sentence_transformers(
        f, expansion=None, query_length=9, prompts={"query": "query: ", "document": "passage "}
    ),
    "st modernbert": lambda f: save_sentence_transformers(f, "modernbert", expansion=MASKED),
    "pylate": save_pylate,
    "stanford": save_stanford,
}
STATES = {
    "bert": lambda f: save_encoder(f, "bert", "mean", prompts={"query": "query: ", "document": "the passage "}),
    "decoder": lambda f: save_encoder(f, "qwen3", "lasttoken"),
}


def blind(folder):
    """Zero what lets a state see other tokens or its place."""
    from safetensors.torch import load_file, save_file

    for path in folder.rglob("model.safetensors"):
        weights = load_file(path)
        for name, value in weights.items():
            if any(part in name for part in ("attention.output.dense", "attn.Wo", "o_proj", "position_embeddings")):
                value.zero_()
        save_file(weights, path, metadata={"format": "pt"})
    return folder


def pairs(encoder):
    """(TokenText, vector, text) of all queries and documents."""
    queries, documents = encoder.encode_queries(TEXTS), encoder.encode_documents(DOCUMENTS)
    for i, text in enumerate(TEXTS):
        sides = ((query_token_texts(encoder, text), queries[i], text),)
        sides += ((document_token_texts(encoder, DOCUMENTS[i]), documents[i], DOCUMENTS[i].full_text),)
        for found, vectors, of in sides:
            assert len(found.tokens) == len(vectors)
            yield from ((token, vector, of) for token, vector in zip(found.tokens, vectors, strict=True))


@pytest.mark.parametrize("name", [*LATE, *STATES])
def test_every_vector_is_that_of_its_token(tmp_path, name):
    if name in LATE:
        encoder = MultiVectorEncoder(blind(LATE[name](tmp_path / "model")), device="cpu")
    else:
        encoder = TokenStates(str(blind(STATES[name](tmp_path / "model"))), device="cpu")
    vectors, kinds = {}, set()
    for token, vector, text in pairs(encoder):
        kinds.add(token.kind)
        assert vectors.setdefault(token.token, vector) == pytest.approx(vector, abs=1e-5), token
        if token.span is None:
            assert token.word_span is None
            assert token.kind != "text" or set(token.token) <= set("ĠĊĉ")
            continue
        assert token.kind == "text"
        assert token.word == text[slice(*token.word_span)]
        assert token.word_span[0] <= token.span[0] < token.span[1] <= token.word_span[1]
        if name != "decoder" and token.token != "[UNK]" and text.isascii():
            assert text[slice(*token.span)].lower() == token.token.removeprefix("##").removeprefix("Ġ").lower()
    assert min(abs(vectors[a] - vectors[b]).max() for a, b in combinations(vectors, 2)) > 1e-2
    assert {"text", "special"} <= kinds
    assert ("expansion" in kinds) == (name in LATE and name != "st prompts")
    assert ("prompt" in kinds) == (name in ("st prompts", "pylate", "stanford", "bert"))


def test_markers_masks_skip_lists_and_cuts(tmp_path):
    encoder = MultiVectorEncoder(save_stanford(tmp_path / "stanford"), device="cpu")
    found = query_token_texts(encoder, "the cats?")
    assert not found.cut
    assert [(t.token, t.kind) for t in found.tokens[:5]] == [
        ("[CLS]", "special"),
        ("[unused0]", "prompt"),
        ("the", "text"),
        ("cat", "text"),
        ("##s", "text"),
    ]
    assert [t.kind for t in found.tokens[5:]] == ["text", "special"] + ["expansion"] * 9
    assert {t.token for t in found.tokens[7:]} == {"[MASK]"}
    assert (found.tokens[4].span, found.tokens[4].word, found.tokens[4].word_span) == ((7, 8), "cats", (4, 8))
    text = document_token_texts(encoder, Document("1", "the dog, a cat.", "Fish"))
    assert [t.token for t in text.tokens] == ["[CLS]", "[unused1]", "fish", "the", "dog", "a", "cat", "[SEP]"]
    assert text.tokens[2].span == (0, 4)
    assert text.tokens[6].span == (16, 19)
    assert query_token_texts(encoder, "cat " * 30).cut
    long = document_token_texts(encoder, Document("1", "cat " * 300))
    assert long.cut
    assert len(long.tokens) == 40
    before = encoder.truncated
    document_token_texts(encoder, Document("1", "cat " * 300))
    assert encoder.truncated == before


def test_minilm_states_are_those_of_transformers_at_these_offsets():
    """Oracle: transformers' model and tokenizer alone, unit length, 2e-5."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    encoder = TokenStates(device="cpu", max_length=32)
    folder = encoder.checkpoint.folder
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    texts = [d.full_text for d in DOCUMENTS] + ["Untokenizable, don't! été e\u0301te\u0301 3.5 हिन्दी 🦊🦊 ﬁne"]
    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    vectors = encoder.encode_documents(documents)
    for i, document in enumerate(documents):
        given = tokenizer(
            document.text, truncation=True, max_length=32, return_offsets_mapping=True, return_tensors="pt"
        )
        offsets = [tuple(row) for row in given.pop("offset_mapping")[0].tolist()]
        with torch.inference_mode():
            states = model(**given).last_hidden_state[0]
        states = torch.nn.functional.normalize(states, dim=-1).numpy()
        found = document_token_texts(encoder, document)
        assert [t.token for t in found.tokens] == tokenizer.convert_ids_to_tokens(given["input_ids"][0].tolist())
        assert [t.span or (0, 0) for t in found.tokens] == offsets
        assert np.abs(vectors[i] - states).max() < 2e-5
        assert found.cut == (i == 3)


def test_words():
    text = "Hello wörld, don't 3.5 e\u0301te\u0301 state-of 👩‍👩‍👧👍🏽! हिन्दी a_b 'x' 日本 x."
    assert [text[a:b] for a, b in word_spans(text)] == [
        *("Hello", "wörld", ",", "don't", "3.5", "e\u0301te\u0301", "state", "-", "of", "👩‍👩‍👧", "👍🏽", "!"),
        *("हिन्दी", "a_b", "'", "x", "'", "日", "本", "x", "."),
    ]
    for text in ("", " ", "\n\t"):
        assert word_spans(text) == []
    rng = np.random.default_rng(1)
    alphabet = list("ab 1.,'’-\n日本ไ🦊\u200d\ufe0f\u0301é")
    for _ in range(300):  # words cover all that is no space, in order, and do not overlap
        text = "".join(rng.choice(alphabet, 12))
        spans = word_spans(text)
        assert all(a < b for a, b in spans)
        assert all(b <= c for (_, b), (c, _) in pairwise(spans))
        covered = {i for a, b in spans for i in range(a, b)}
        assert all(i in covered for i, char in enumerate(text) if not char.isspace())

"""The encoder against sentence-transformers' own `encode_query` and `encode_document`, at max |Δ| <= 1e-5."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.models import batching
from cribble.models.checkpoint import EMBEDDED_SHA256, embedded_checkpoint
from cribble.models.encoder import Encoder
from cribble.records import Document

TOLERANCE = 1e-5
SHAPES = ["bert_cls", "bert_dense", "modernbert_mean", "qwen_last"]


def oracle(folder):
    import torch
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})


def documents(texts):
    return [Document(str(i), text) for i, text in enumerate(texts)]


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    return Encoder(device="cpu")


@pytest.fixture(scope="module")
def minilm_oracle():
    return oracle(embedded_checkpoint().folder)


@pytest.fixture(autouse=True)
def own_cut_counts(request):
    """A module-wide encoder warns by what it has counted so far: start every test at nought."""
    if "minilm" in request.fixturenames:
        network = request.getfixturevalue("minilm").network
        network.truncated = network._warned_at = 0


def test_minilm_equals_sentence_transformers(minilm, minilm_oracle, ragged_texts):
    expected_documents = minilm_oracle.encode_document(ragged_texts)
    expected_queries = minilm_oracle.encode_query(ragged_texts)
    assert np.abs(minilm.encode_documents(documents(ragged_texts)).values - expected_documents).max() <= TOLERANCE
    assert np.abs(minilm.encode_queries(ragged_texts).values - expected_queries).max() <= TOLERANCE


@pytest.mark.parametrize("shape", SHAPES)
def test_random_checkpoints_equal_sentence_transformers(shape, ragged_texts, request):
    folder = request.getfixturevalue(shape)
    model, encoder = oracle(folder), Encoder(folder, device="cpu")
    for budget in (70, 5000):
        encoder.network.token_budget = budget
        for got, expected in [
            (encoder.encode_documents(documents(ragged_texts)).values, model.encode_document(ragged_texts)),
            (encoder.encode_queries(ragged_texts).values, model.encode_query(ragged_texts)),
        ]:
            assert got.dtype == np.float32
            assert got.shape == expected.shape
            assert np.abs(got - expected).max() <= TOLERANCE


@pytest.mark.parametrize(
    ("shape", "query_prompt", "document_prompt", "pooling", "dim", "normalised", "similarity"),
    [
        ("bert_cls", "query: ", "document: ", "cls", 32, False, "dot"),
        # A SentenceTransformer always has the prompts "query" and "document", empty unless given: no fallback.
        ("bert_dense", "", "", "mean+dense", 12, True, "cosine"),
        ("modernbert_mean", "", "", "mean", 32, True, "cosine"),
        ("qwen_last", "Instruct: search the passage\nQuery: ", "", "lasttoken", 32, True, "cosine"),
    ],
)
def test_spec_says_what_the_checkpoint_does(
    shape, query_prompt, document_prompt, pooling, dim, normalised, similarity, request
):
    spec = Encoder(request.getfixturevalue(shape), device="cpu").spec
    assert (spec.query_prompt, spec.document_prompt, spec.pooling) == (query_prompt, document_prompt, pooling)
    assert (spec.dim, spec.normalised, spec.similarity) == (dim, normalised, similarity)
    assert spec.max_length == 64
    assert len(spec.revision) == 64


def test_embedded_spec(minilm):
    spec = minilm.spec
    assert (spec.model, spec.revision) == ("sentence-transformers/all-MiniLM-L6-v2", EMBEDDED_SHA256)
    assert (spec.max_length, spec.dim, spec.pooling, spec.dtype) == (256, 384, "mean", "float32")


def test_spec_differs_with_each_option(bert_cls):
    base = Encoder(bert_cls, device="cpu").spec
    for option, value, field in [
        ("query_prompt", "ask: ", "query_prompt"),
        ("document_prompt", "", "document_prompt"),
        ("dtype", "bfloat16", "dtype"),
        ("max_length", 10, "max_length"),
    ]:
        differences = base.differences(Encoder(bert_cls, device="cpu", **{option: value}).spec)
        assert len(differences) == 1
        assert differences[0].startswith(field)


def test_a_given_prompt_replaces_the_checkpoints(bert_cls):
    model, encoder = oracle(bert_cls), Encoder(bert_cls, device="cpu", query_prompt="ask the cat ", document_prompt="")
    texts = ["fish river", "house"]
    assert np.abs(encoder.encode_queries(texts).values - model.encode(texts, prompt="ask the cat ")).max() <= TOLERANCE
    got = encoder.encode_documents(documents(texts)).values
    assert np.abs(got - model.encode(texts, prompt="")).max() <= TOLERANCE


def test_a_prompt_that_is_not_applied_is_said(tmp_path, bert_cls, caplog):
    """A checkpoint with a `passage` prompt only: sentence-transformers 6 does not apply it, and so don't we."""
    import json
    import shutil

    folder = shutil.copytree(bert_cls, tmp_path / "passage")
    path = folder / "config_sentence_transformers.json"
    config = json.loads(path.read_text())
    config["prompts"] = {"query": "query: ", "passage": "passage: "}
    path.write_text(json.dumps(config))
    encoder = Encoder(folder, device="cpu")
    with caplog.at_level(logging.WARNING, "cribble"):
        got = encoder.encode_documents([Document("1", "cat")]).values
    assert np.abs(got - oracle(folder).encode_document(["cat"])).max() <= TOLERANCE
    assert "document_prompt='passage: '" in caplog.text


def test_titles_stand_before_the_text(bert_cls):
    encoder = Encoder(bert_cls, device="cpu")
    joined = encoder.encode_documents([Document("1", "cat dog fish")]).values
    assert np.array_equal(encoder.encode_documents([Document("1", "dog fish", "cat")]).values, joined)


def test_max_length_cuts_as_in_sentence_transformers(bert_cls, ragged_texts):
    model, encoder = oracle(bert_cls), Encoder(bert_cls, device="cpu", max_length=9)
    model.max_seq_length = 9
    got = encoder.encode_documents(documents(ragged_texts)).values
    assert np.abs(got - model.encode_document(ragged_texts)).max() <= TOLERANCE


def test_cut_texts_are_counted_exactly_and_said_once(minilm, caplog):
    # [CLS] + 254 words + [SEP] is 256 tokens: the longest text that is not cut.
    texts = ["cat " * 254, "cat " * 255, "dog", "fish " * 3000, ""]
    with caplog.at_level(logging.WARNING, "cribble"):
        minilm.encode_documents(documents(texts))
        assert minilm.truncated == 2
        minilm.encode_documents(documents(texts))
    assert minilm.truncated == 4
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "2 of 5 texts are longer than 256 tokens" in said[0]


def test_no_texts_give_no_vectors(minilm):
    assert minilm.encode_queries([]).values.shape == (0, 384)
    assert minilm.encode_documents([]).values.shape == (0, 384)
    assert minilm.query_tokens([]).tokens.shape == (0, 384)


def test_buffers_keep_the_order(minilm, monkeypatch, ragged_texts):
    """More texts than one buffer holds: the same vectors at the same places."""
    whole = minilm.encode_queries(ragged_texts).values
    monkeypatch.setattr(batching.buffers, "__defaults__", (7,))
    assert np.abs(minilm.encode_queries(ragged_texts).values - whole).max() <= TOLERANCE


def test_token_states_are_unit_rows_of_the_last_hidden_state(minilm, minilm_oracle, ragged_texts):
    texts = ragged_texts[:20]
    expected = minilm_oracle.encode(texts, output_value="token_embeddings")
    got = minilm.document_tokens(documents(texts))
    assert len(got) == len(texts)
    for i, states in enumerate(expected):
        states = states.numpy()
        assert got[i].shape == states.shape
        unit = states / np.linalg.norm(states, axis=1, keepdims=True)
        assert np.abs(got[i] - unit).max() <= TOLERANCE


def test_token_states_of_a_left_padded_decoder_are_its_real_tokens(qwen_last):
    encoder = Encoder(qwen_last, device="cpu", query_prompt="")
    alone = [encoder.query_tokens([text])[0] for text in ("cat", "cat dog bird fish")]
    together = encoder.query_tokens(["cat", "cat dog bird fish"])
    for i in range(2):
        assert alone[i].shape == together[i].shape
        assert np.abs(alone[i] - together[i]).max() <= TOLERANCE


def test_bfloat16_is_close_and_says_so(minilm, ragged_texts):
    """bfloat16 keeps 8 bits: cosine to float32 above 0.999, and unit length exactly."""
    half = Encoder(device="cpu", dtype="bf16")
    assert half.spec.dtype == "bfloat16"
    got = half.encode_queries(ragged_texts).values
    assert got.dtype == np.float32
    assert np.abs(np.linalg.norm(got, axis=1) - 1).max() <= 1e-6
    cosine = (got * minilm.encode_queries(ragged_texts).values).sum(axis=1)
    assert cosine.min() > 0.999
    assert half.spec.differences(minilm.spec) == ["dtype: 'bfloat16' here, 'float32' there"]


def test_float16_on_the_cpu_is_refused():
    with pytest.raises(UsageError, match=r"float16 on the CPU.*bfloat16"):
        Encoder(device="cpu", dtype="float16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float31"}, "float31.*did you mean 'float3"),
        ({"device": "gpu"}, "device 'gpu'"),
        ({"device": "meta"}, "'meta' is not supported"),
        ({"token_budget": 0}, "token_budget=0"),
        ({"max_length": 0}, "max_length=0"),
        ({"max_length": 65}, "65.*64 positions"),
    ],
)
def test_bad_options_are_named(bert_cls, options, message):
    with pytest.raises(UsageError, match=message):
        _ = Encoder(bert_cls, **{"device": "cpu", **options}).spec


def test_one_text_is_not_a_list(minilm):
    with pytest.raises(UsageError, match="list of texts"):
        minilm.encode_queries("cat")


def test_texts_must_be_texts(minilm):
    with pytest.raises(InputError, match="text 1 is of type NoneType"):
        minilm.encode_queries(["cat", None])  # type: ignore[list-item]


def test_importing_and_making_an_encoder_is_free():
    """Neither torch nor transformers comes in before the first use."""
    code = (
        "import sys, cribble.models, cribble.models.encoder as e; e.Encoder('no/such');"
        "assert not {'torch', 'transformers', 'sentence_transformers', 'tokenizers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 2e-2), ("float16", 4e-3)])
def test_cuda_gives_the_cpus_vectors(minilm, ragged_texts, dtype, tolerance):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    got = Encoder(device="cuda", dtype=dtype).encode_queries(ragged_texts).values
    assert np.abs(got - minilm.encode_queries(ragged_texts).values).max() <= tolerance

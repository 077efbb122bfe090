"""Learned sparse encoders against sentence-transformers' SparseEncoder on tiny random models, tolerance 1e-5."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from cribble.errors import InputError, UsageError
from cribble.models.sparse_encoder import SparseEncoder
from cribble.models.sparse_pooling import TermPooling
from cribble.records import Document
from cribble.tests.models.sparse_models import (
    dense,
    save_inference_free,
    save_mlm,
    save_splade,
    save_token_weights,
)

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of a model by its name, made once."""
    root, folders = tmp_path_factory.mktemp("sparse"), {}
    makers = {
        "splade-v1": lambda folder: save_splade(folder, pooling="sum"),
        "splade-v3-distilbert": lambda folder: save_splade(folder, "distilbert"),
        "modernbert": lambda folder: save_splade(folder, "modernbert"),
        "double-log": lambda folder: save_splade(folder, activation="log1p_relu"),
        "inference-free": save_inference_free,
        "bag-of-words": lambda folder: save_inference_free(folder, ones=True),
        "unicoil": lambda folder: save_token_weights(folder, 1),
        "deepimpact": lambda folder: save_token_weights(folder, 2),
        "bert": save_mlm,
        "roberta": lambda folder: save_mlm(folder, "roberta"),
        "other": lambda folder: with_tokenizer_of(save_mlm(folder, seed=8), made_folder("bert")),
    }

    def made_folder(name):
        if name not in folders:
            folders[name] = makers[name](root / name)
        return folders[name]

    return made_folder


def with_tokenizer_of(folder, other):
    """Tokenizers trained twice differ in the order of equal counts."""
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(other / file, folder / file)
    return folder


def oracle(folder):
    from cribble.models.pooling import own_modules
    from sentence_transformers import SparseEncoder as Theirs

    return Theirs._load_with_module_classes(
        str(folder), module_classes=own_modules(folder), device="cpu", local_files_only=True
    )


def documents(texts):
    return [Document(str(i), text) for i, text in enumerate(texts)]


PEERS = ["bert", "roberta", "splade-v1", "splade-v3-distilbert", "modernbert", "double-log", "inference-free"]


@pytest.mark.parametrize("name", [*PEERS, "bag-of-words", "unicoil", "deepimpact"])
def test_weights_are_those_of_sentence_transformers(made, ragged_texts, name):
    folder = made(name)
    theirs, encoder = oracle(folder), SparseEncoder(folder, device="cpu", token_budget=100)
    options = {"convert_to_sparse_tensor": False, "batch_size": 8, "convert_to_tensor": True}
    for got, expected in (
        (encoder.encode_documents(documents(ragged_texts)), theirs.encode_document(ragged_texts, **options)),
        (encoder.encode_queries(ragged_texts), theirs.encode_query(ragged_texts, **options)),
    ):
        expected = expected.numpy()
        assert expected.shape[1] <= got.terms
        assert np.abs(dense(got)[:, : expected.shape[1]] - expected).max() <= TOLERANCE * max(1, expected.max())
        assert (expected > 0).sum() > len(ragged_texts)


@pytest.mark.parametrize("name", ["bert", "roberta", "splade-v1", "splade-v3-distilbert", "modernbert"])
def test_logits_of_a_batch_are_never_held(made, name):
    chain = SparseEncoder(made(name), device="cpu").network.chains["document"]
    assert isinstance(chain[1], TermPooling)


def test_one_text_alone_is_as_in_a_batch(made, ragged_texts):
    encoder = SparseEncoder(made("bert"), device="cpu")
    together = dense(encoder.encode_queries(ragged_texts))
    for i in (0, 7, 20, 50):
        assert np.abs(dense(encoder.encode_queries([ragged_texts[i]]))[0] - together[i]).max() <= 1e-5


def test_a_title_goes_before_the_text_and_prompts_before_both(made):
    encoder = SparseEncoder(made("bert"), device="cpu", document_prompt="query ", query_prompt="search ")
    plain = SparseEncoder(made("bert"), device="cpu")
    got = dense(encoder.encode_documents([Document("1", "cat", "dog")]))
    assert np.allclose(got, dense(plain.encode_queries(["query dog cat"])), atol=1e-5)
    got = dense(encoder.encode_queries(["cat"]))
    assert np.allclose(got, dense(plain.encode_queries(["search cat"])), atol=1e-5)


# ---- settings ------------------------------------------------------------------------------------------------------------


def test_lengths_of_documents_and_queries_are_apart(made):
    text = "cat dog bird fish river city mountain house"
    encoder = SparseEncoder(made("bert"), device="cpu", max_length=6, query_max_length=4)
    plain = SparseEncoder(made("bert"), device="cpu")
    got = dense(encoder.encode_documents([Document("1", text)]))
    assert np.allclose(got, dense(plain.encode_queries(["cat dog bird fish"])), atol=1e-5)
    assert encoder.truncated == 1
    got = dense(encoder.encode_queries([text]))
    assert np.allclose(got, dense(plain.encode_queries(["cat dog"])), atol=1e-5)
    assert encoder.truncated == 2
    assert (encoder.spec.max_length, encoder.spec.extra["query_max_length"]) == (6, 4)
    assert plain.truncated == 0
    with pytest.raises(UsageError, match="64 positions"):
        SparseEncoder(made("bert"), device="cpu", max_length=65).encode_queries(["a"])


def test_pooling_and_activation_are_replaced(made):
    texts = ["cat dog", "river"]
    base = SparseEncoder(made("bert"), device="cpu")
    double = SparseEncoder(made("bert"), device="cpu", activation="log1p_relu")
    assert np.allclose(dense(double.encode_queries(texts)), np.log1p(dense(base.encode_queries(texts))), atol=1e-5)
    total = SparseEncoder(made("bert"), device="cpu", pooling="sum")
    assert (dense(total.encode_queries(texts)) >= dense(base.encode_queries(texts)) - 1e-5).all()
    assert total.spec.pooling == "sum relu"
    assert base.spec.differences(total.spec)
    free, one = (SparseEncoder(made("inference-free"), device="cpu", **o) for o in ({}, {"activation": "relu"}))
    assert np.array_equal(dense(free.encode_queries(texts)), dense(one.encode_queries(texts)))
    twice, once = (dense(encoder.encode_documents(documents(texts))) for encoder in (free, one))
    assert np.allclose(twice, np.log1p(once), atol=1e-5)  # the card of OpenSearch's v3 names what its files say
    with pytest.raises(UsageError, match="has no SPLADE pooling"):
        SparseEncoder(made("unicoil"), device="cpu", pooling="sum").encode_queries(["a"])


def test_terms_are_pruned_by_number_and_weight(made):
    docs = documents(["cat dog bird", "river of fire", "x"])
    full = dense(SparseEncoder(made("bert"), device="cpu").encode_documents(docs))
    few = dense(SparseEncoder(made("bert"), device="cpu", document_terms=5).encode_documents(docs))
    for row, whole in zip(few, full, strict=True):
        assert sorted(row[row > 0], reverse=True) == pytest.approx(sorted(whole, reverse=True)[:5], abs=1e-5)
    heavy = dense(SparseEncoder(made("bert"), device="cpu", least_weight=1.0).encode_documents(docs))
    assert np.allclose(heavy, np.where(full >= 1.0, full, 0), atol=1e-5)
    encoder = SparseEncoder(made("bert"), device="cpu", query_terms=3)
    assert np.diff(encoder.encode_queries(["cat", "dog"]).indptr).tolist() == [3, 3]
    assert np.diff(encoder.encode_documents(docs).indptr).min() > 3


def test_weights_are_whole_numbers_when_asked_for(made):
    docs = documents(["cat dog bird", "river of fire"])
    full = dense(SparseEncoder(made("bert"), device="cpu").encode_documents(docs))
    for rule, factor in (("naver", 100), (7, 7), ("pyserini", 51.2)):
        encoder = SparseEncoder(made("bert"), device="cpu", quantise=rule)
        got = dense(encoder.encode_documents(docs))
        assert (got == np.rint(got)).all()
        assert np.abs(got - full * factor).max() <= 0.51
        assert (dense(encoder.encode_queries(["cat"])) % 1 == 0).all()
        assert encoder.spec.extra["quantise"] == rule


def test_a_bag_of_words_has_no_factor(made):
    encoder = SparseEncoder(made("bag-of-words"), device="cpu", quantise="naver")
    assert set(encoder.encode_queries(["cat dog cat", "river"]).weights) == {1.0}
    assert encoder.encode_documents(documents(["cat"])).weights.max() > 1


# ---- inference-free queries, pairs, heads of tokens ---------------------------------------------------------------------------


def test_queries_of_inference_free_models_are_stored_weights_of_their_tokens(made):
    """Oracle: the stored weights and the tokenizer; special tokens have none, a token counts once."""
    encoder = SparseEncoder(made("inference-free"), device="cpu")
    static = encoder.network.chains["query"][0]
    for text in ("cat dog cat", "the river", ""):
        ids, weights = encoder.encode_queries([text]).row(0)
        expected = sorted(set(static.tokenizer(text, add_special_tokens=False)["input_ids"]))
        assert ids.tolist() == expected
        assert weights == pytest.approx(static.weight.detach().numpy()[expected])


def test_a_folder_with_idf_json(made, tmp_path):
    """OpenSearch's first models: no modules.json, weights by token in idf.json."""
    folder = shutil.copytree(made("bert"), tmp_path / "opensearch")
    (folder / "idf.json").write_text(json.dumps({"cat": 2.5, "dog": 0.5}))
    encoder, bare = SparseEncoder(folder, device="cpu"), SparseEncoder(made("bert"), device="cpu")
    tokens = encoder.network.documents.model.tokenizer.get_vocab()
    got = dense(encoder.encode_queries(["cat cat river dog"]))[0]
    assert {i: got[i] for i in np.flatnonzero(got)} == {tokens["cat"]: 2.5, tokens["dog"]: 0.5}
    docs = documents(["cat dog"])
    assert np.allclose(dense(encoder.encode_documents(docs)), dense(bare.encode_documents(docs)), atol=1e-5)


def test_queries_by_another_model(made):
    pair = SparseEncoder(made("bert"), device="cpu", query_model=str(made("other")), query_terms=8)
    other, base = SparseEncoder(made("other"), device="cpu", query_terms=8), SparseEncoder(made("bert"), device="cpu")
    assert np.allclose(dense(pair.encode_queries(["cat dog"])), dense(other.encode_queries(["cat dog"])), atol=1e-5)
    docs = documents(["cat dog"])
    assert np.allclose(dense(pair.encode_documents(docs)), dense(base.encode_documents(docs)), atol=1e-5)
    assert pair.spec.extra["query_revision"] == other.checkpoint.digest
    assert pair.spec.differences(base.spec)


def test_a_query_model_of_another_vocabulary_is_refused(made, tmp_path):
    folder = shutil.copytree(made("bert"), tmp_path / "foreign")
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["feline"] = vocabulary.pop("cat")
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"has the vocabulary .*their terms are not the same words"):
        SparseEncoder(made("bert"), device="cpu", query_model=str(folder)).encode_queries(["a"])


@pytest.mark.parametrize(("name", "layers"), [("unicoil", 1), ("deepimpact", 2)])
def test_a_token_weighs_what_its_linear_layers_say_and_repeats_count_once(made, name, layers):
    """Oracle: the layers applied to each token's state alone; the largest of a term's tokens; no [CLS], no [SEP]."""
    encoder = SparseEncoder(made(name), device="cpu")
    transformer, head = oracle(made(name))
    text = "cat dog cat river the cat"
    features = dict(transformer.preprocess([text]))
    ids = features["input_ids"][0].tolist()
    with torch.inference_mode():
        x = transformer(features)["token_embeddings"][0].double()
        linear = [module for module in head.head if isinstance(module, torch.nn.Linear)]
        assert len(linear) == layers
        for layer in linear:
            x = (x @ layer.weight.double().T + layer.bias.double()).relu()
    expected: dict[int, float] = {}
    for token, weight in zip(ids[1:-1], x[1:-1, 0].tolist(), strict=True):
        expected[token] = max(weight, expected.get(token, 0.0))
    got_ids, weights = encoder.encode_documents([Document("1", text)]).row(0)
    assert dict(zip(got_ids.tolist(), weights.tolist(), strict=True)) == pytest.approx(
        {token: weight for token, weight in expected.items() if weight > 0}, rel=1e-4
    )


# ---- identity and faults -------------------------------------------------------------------------------------------------


def test_the_recorded_encoder_is_made_again(made):
    options = {"quantise": "pyserini", "document_terms": 9, "max_length": 20, "query_terms": 4, "pooling": "sum"}
    encoder = SparseEncoder(made("bert"), device="cpu", query_prompt="find ", **options)
    again = SparseEncoder.of_spec(type(encoder.spec).from_json(encoder.spec.to_json()), made("bert"), device="cpu")
    assert again.spec.differences(encoder.spec) == []
    assert np.array_equal(dense(again.encode_queries(["cat"])), dense(encoder.encode_queries(["cat"])))


def test_nan_weights_name_the_text(made, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(made("bert"), tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    words = weights["bert.embeddings.word_embeddings.weight"]
    tokens = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    words[tokens["river"]] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"gives NaN or infinite weights for the (query|document) '"):
        SparseEncoder(folder, device="cpu").encode_documents(documents(["cat", "by the river"]))


def test_a_model_without_terms_is_refused(bert_cls, made):
    with pytest.raises(InputError, match="is no sparse encoder"):
        SparseEncoder(bert_cls, device="cpu").encode_queries(["cat"])


def test_half_precision_is_near(made):
    docs = documents(["cat dog bird", "river of fire and water"])
    whole = dense(SparseEncoder(made("bert"), device="cpu").encode_documents(docs))
    half = dense(SparseEncoder(made("bert"), device="cpu", dtype="bfloat16").encode_documents(docs))
    assert np.abs(whole - half).max() <= 0.1 * whole.max()


def test_no_texts(made):
    encoder = SparseEncoder(made("bert"), device="cpu")
    assert len(encoder.encode_queries([])) == len(encoder.encode_documents([])) == 0
    with pytest.raises(UsageError, match="got one str"):
        encoder.encode_queries("cat")
    with pytest.raises(InputError, match="text 1 is of type int"):
        encoder.encode_queries(["cat", 3])

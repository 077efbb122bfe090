"""ColBERTer's encoder: equal to upstream's code and to the paper written out, whole words, options, limits."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.models.colberter import ColberterEncoder
from cribble.models.colberter_words import BagTokenizer, word_id
from cribble.records import DescribedDocument, Document
from cribble.tests.models.hub import on_hand
from cribble.tests.models.tiny_colberter import PASSAGES, QUERY, VOCABULARY, save_colberter

CASES = {
    "dim32": {},
    "dim16": {"second": 16},
    "dim8-em": {"second": 8, "exact": True},
    "uni": {"second": 1, "exact": True},
    "bert": {"kind": "bert", "second": 8},
    "nogate": {"gate": False},
    "tokens": {"aggregate": False},
    "tokens-em": {"aggregate": False, "exact": True, "second": 8},
}

DOCUMENTS = [Document(str(i), text) for i, text in enumerate(PASSAGES)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The checkpoint's folder by its case, made once."""
    root, made = tmp_path_factory.mktemp("colberter"), {}

    def folder(case):
        if case not in made:
            made[case] = save_colberter(root / case, **CASES[case])
        return made[case]

    return folder


@pytest.fixture
def encoder(saved):
    return lambda case, **options: ColberterEncoder(saved(case), device="cpu", **options)


def parts(encoder, query, documents):
    """Of each document its score by [CLS], by words (None: it has none), and its number of vectors."""
    asked, found = encoder.encode_queries([query]), encoder.encode_documents(documents)
    rows = []
    for i in range(len(documents)):
        one = found[i : i + 1]
        products = asked.bags.tokens.astype(np.float64) @ one.bags.tokens.T.astype(np.float64)
        if encoder.spec.extra["exact_match"]:
            products = np.where(asked.words[:, None] == one.words[None], products, 0)
        bow = products.max(axis=1).sum() if len(one.words) else None
        rows.append((float(asked.cls[0] @ one.cls[0]), bow, len(one.words)))
    return rows


# ---- equal to upstream, and to the paper ------------------------------------------------------------------------------

#: What sebastian-hofstaetter/colberter at 6d31ddb gives for the weights of tiny_colberter.py: `forward_representation` of
#: query and documents, then `forward_aggregation` (torch 2.13, float32, 2026-11-29). Rows: [CLS] score, score by words, words.
#: What has no vector (0 words) gets -1000 a query word there.
UPSTREAM = {
    "dim32": [(11.991983, 46.307049, 7), (15.121817, 25.126244, 11), (10.545374, -5000, 0)],
    "dim16": [(11.991983, 39.010468, 7), (15.121817, 18.624577, 11), (10.545374, -5000, 0)],
    "dim8-em": [(11.991983, 0.3240663, 7), (15.121817, 0.3910359, 11), (10.545374, -5000, 0)],
    "uni": [(11.991983, 0.09897424, 7), (15.121817, 0.1513679, 11), (10.545374, -5000, 0)],
    "bert": [(16.696854, 3.0701962, 8), (16.943134, 3.2086933, 15), (17.621971, 2.1061969, 1)],
    "nogate": [(11.991983, 162.06622, 14), (15.121817, 149.03504, 23), (10.545374, 114.34852, 1)],
    "tokens": [(11.991983, 81.006165, 14), (15.121817, 40.871288, 14), (10.545374, 1.0220816, 1)],
    "tokens-em": [(11.991983, 2.1214118, 14), (15.121817, 2.5616727, 14), (10.545374, -0.3845401, 1)],
}


@pytest.mark.parametrize("case", CASES)
def test_vectors_score_as_upstreams_do(encoder, case):
    """1e-5 relative, as both compute in float32."""
    for (cls, bow, words), (their_cls, their_bow, their_words) in zip(
        parts(encoder(case), QUERY, DOCUMENTS), UPSTREAM[case], strict=True
    ):
        assert words == their_words
        assert cls == pytest.approx(their_cls, rel=1e-5)
        assert bow == (pytest.approx(their_bow, rel=1e-5, abs=1e-6) if words else None)


def written_out(folder, text, *, document):
    """The paper, §3, line by line over transformers' states; words by splitting at spaces and punctuation."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = json.loads((folder / "config.json").read_text())
    weights = {name: value.numpy() for name, value in load_file(folder / "model.safetensors").items()}
    backbone = AutoModel.from_config(AutoConfig.from_pretrained(config["bert_model"])).eval()
    own = {
        n.removeprefix("bert_model."): torch.from_numpy(v) for n, v in weights.items() if n.startswith("bert_model.")
    }
    backbone.load_state_dict(own, strict=False)
    tokens = AutoTokenizer.from_pretrained(config["bert_model"])(text, return_tensors="pt")
    with torch.inference_mode():
        states = backbone(**{k: tokens[k] for k in ("input_ids", "attention_mask")}).last_hidden_state[0].numpy()
    cls = states[0] @ weights["compressor_retrieval.weight"].T + weights["compressor_retrieval.bias"]
    compressed = states @ weights["compressor.weight"].T + weights["compressor.bias"]
    of_word = {}
    names, word, parts = AutoTokenizer.from_pretrained(config["bert_model"]), "", []
    for place, piece in enumerate(names.convert_ids_to_tokens(tokens["input_ids"][0])[1:-1], 1):
        if piece.startswith("##"):
            word, parts = word + piece[2:], [*parts, place]
        else:
            word, parts = piece, [place]
        of_word[parts[0]] = (word, parts)
    places = {}
    for word, parts in of_word.values():
        places.setdefault(word, []).extend(parts)
    bag = {}
    for word, at in places.items():
        vector = np.mean([compressed[i] for i in at], axis=0)
        if document and config["use_contextualized_stopwords"]:
            gate = max(
                0.0, float(vector @ weights["stop_word_reducer.weight"][0] + weights["stop_word_reducer.bias"][0])
            )
            if gate == 0:
                continue
            vector = vector * gate
        if config["second_compress_dim"] > 0:
            vector = vector @ weights["mini_compressor.weight"].T + weights["mini_compressor.bias"]
        bag[word_id(word)] = vector
    return cls, bag


@pytest.mark.parametrize("case", ["dim32", "dim16", "uni", "bert", "nogate"])
def test_vectors_are_those_of_the_paper_written_out(encoder, saved, case):
    """1e-5 of the largest number. The texts have no words beyond the vocabulary, so that pieces spell them."""
    texts = [
        "the transformers, transforming a library of libraries - the library!",
        "re-rank and reranked models",
        "cat",
    ]
    encoder = encoder(case)
    for document, found in (
        (True, encoder.encode_documents([Document(str(i), text) for i, text in enumerate(texts)])),
        (False, encoder.encode_queries(texts)),
    ):
        for i, text in enumerate(texts):
            cls, bag = written_out(saved(case), text, document=document)
            one = found[i : i + 1]
            assert one.cls[0] == pytest.approx(cls, rel=1e-5, abs=1e-5 * float(np.abs(cls).max()))
            assert sorted(bag) == one.words.tolist()
            for word, vector in zip(one.words.tolist(), one.bags.tokens, strict=True):
                assert vector == pytest.approx(bag[word], rel=1e-5, abs=1e-5 * max(1.0, float(np.abs(bag[word]).max())))


#: The ids of upstream's notebook (bow2_tokenizer_example.ipynb) for the words of its example, and of PASSAGES[0] as upstream's
#: `uniqueness_type="stemmed"` gives them with nltk's stemmer.
NOTEBOOK = {"this": 43431710, "is": 1241338362, "a": 310482890, "sentence": 3608744322, ".": 720286925}
STEMMED = [
    *(
        461470940,
        1345544988,
        2104326073,
        2739806634,
        2507811085,
        991770920,
        3288479184,
        454099298,
        2248649959,
        242896913,
    ),
    *(2187208453, 1891922579, 3154670267),
]


def test_word_ids_are_upstreams(saved):
    from transformers import AutoTokenizer

    assert {word: word_id(word) for word in NOTEBOOK} == NOTEBOOK
    backbone = AutoTokenizer.from_pretrained(saved("dim32").with_name("dim32-backbone"))
    [surface] = BagTokenizer(backbone, "surface").read([PASSAGES[1]], 64)
    ids = [0 if place < 0 else int(surface.words[place]) for place in surface.places]
    assert ids == [
        *(0, 1914404318, 3324388170, 400187174, 1300937187, 3186409786, 585134905, 4133520474, 242896913, 1239433641),
        *(
            1239433641,
            1399269720,
            310482890,
            445562661,
            904992951,
            720286925,
            34053037,
            34053037,
            602443146,
            2104326073,
        ),
        *(3433034787, 3433034787, 3723106149, 3723106149, 2104326073, 2624692040, 3296530309, 213854927, 213854927),
        *(3580227863, 720286925, 0),
    ]
    [stems] = BagTokenizer(backbone, "stem").read([PASSAGES[0]], 64)
    assert sorted(STEMMED) == stems.words.tolist()
    [words] = BagTokenizer(backbone, "surface").read([PASSAGES[0]], 64)
    assert len(words.words) == len(stems.words) + 1  # library, libraries


def test_special_tokens_and_odd_text_are_no_words(saved):
    from transformers import AutoTokenizer

    tokenizer = BagTokenizer(AutoTokenizer.from_pretrained(saved("dim32").with_name("dim32-backbone")), "surface")
    cases = ["", "  \n", "[SEP] cat [CLS]", "a\u0085b cat", "\u200b", "cat" * 60, "日本 cat 日本", "e\u0301 é"]
    read = tokenizer.read(cases, 64)
    known = {word: word_id(word) for word in ("cat", "a", "b", "日本", "é", "e\u0301")}
    assert [len(text.words) for text in read[:2]] == [0, 0]
    assert read[2].words.tolist() == [known["cat"]]
    assert {known["cat"]} < set(read[3].words.tolist())
    assert len(read[4].words) == 0
    assert len(read[5].words) == 1
    assert sorted(read[6].words.tolist()) == sorted((known["日本"], known["cat"]))
    assert sorted(read[7].words.tolist()) == sorted(
        (known["é"], known["e\u0301"])
    )  # as upstream: surfaces, not letters
    assert all((text.places[[0, -1]] == -1).all() for text in read)


def test_a_byte_level_backbone_finds_the_same_words(tmp_path):
    """Its tokens begin with the space before a word."""
    from cribble.tests.models.conftest import train_tokenizer
    from transformers import AutoTokenizer

    train_tokenizer(tmp_path, decoder=True)
    [read] = BagTokenizer(AutoTokenizer.from_pretrained(tmp_path), "surface").read(["the cat, of the river"], 64)
    assert sorted(read.words.tolist()) == sorted(map(word_id, ("the", "cat", ",", "of", "river")))


# ---- batches and limits ------------------------------------------------------------------------------------------------


def test_vectors_do_not_depend_on_batches(encoder):
    """1e-5: rounding within the transformer differs by batch."""
    rng = np.random.default_rng(1)
    words = [word for word in VOCABULARY if word.isalpha()]
    texts = [" ".join(rng.choice(words, size)) for size in (1, 40, 7, 0, 3, 25, 12, 1, 55)] * 3
    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    whole, alone = encoder("dim16").encode_documents(documents), encoder("dim16", token_budget=1)
    for i, document in enumerate(documents):
        one = alone.encode_documents([document])
        assert one.words.tolist() == whole[i : i + 1].words.tolist()
        assert one.cls[0] == pytest.approx(whole.cls[i], abs=1e-5 * 20)
        assert one.bags.tokens == pytest.approx(whole.bags[i], rel=1e-4, abs=1e-3)


def test_empty_texts_have_a_single_vector_only(encoder):
    found = encoder("dim32").encode_documents([Document("a", ""), Document("b", " "), Document("c", "cat", "dog")])
    assert np.diff(found.bags.offsets)[:2].tolist() == [0, 0]
    assert found.cls.shape == (3, 16)
    assert found.cls[0] == pytest.approx(found.cls[1], abs=1e-5)
    assert len(encoder("dim32").encode_documents([])) == 0
    assert encoder("uni").encode_queries([]).bags.tokens.shape == (0, 1)
    assert encoder("uni").encode_queries([""]).bags.tokens.shape == (0, 1)


def test_long_texts_are_cut_and_counted(encoder, caplog):
    short = encoder("nogate", query_length=5, document_length=8)
    with caplog.at_level(logging.WARNING, logger="cribble"):
        found = short.encode_documents(
            [Document("a", "cat dog fish river house tree stone bird"), Document("b", "cat")]
        )
        asked = short.encode_queries(["cat dog fish", "cat dog fish river"])
    assert np.diff(found.bags.offsets).tolist() == [6, 1]
    assert np.diff(asked.bags.offsets).tolist() == [3, 3]
    assert short.truncated == 2
    assert "1 of 2 texts are longer than 8 tokens and were cut there (1 so far)" in caplog.text
    assert (short.spec.max_length, short.spec.extra["query_length"]) == (8, 5)
    with pytest.raises(UsageError, match="document_length=65: nogate has 64 positions"):
        encoder("nogate", document_length=65).encode_documents([Document("a", "cat")])


def test_bfloat16_is_near(encoder):
    exact, near = encoder("nogate"), encoder("nogate", dtype="bfloat16")
    one, two = exact.encode_documents(DOCUMENTS), near.encode_documents(DOCUMENTS)
    assert two.cls.dtype == np.float32
    assert not np.array_equal(one.cls, two.cls)
    assert np.abs(one.cls - two.cls).max() < 0.1 * np.abs(one.cls).max()
    assert exact.spec.differences(near.spec) == ["dtype: 'float32' here, 'bfloat16' there"]


def test_pictures_and_wrong_inputs_are_refused(encoder):
    picture = DescribedDocument.of(Document("p", "cat"), {"image_file": "p.png"})
    with pytest.raises(InputError, match="document 'p' is a picture"):
        encoder("dim32").encode_documents([picture])
    with pytest.raises(UsageError, match="takes a list of texts"):
        encoder("dim32").encode_queries("cat")
    with pytest.raises(InputError, match="text 1 is of type int"):
        encoder("dim32").encode_queries(["cat", 3])


# ---- options and identity ------------------------------------------------------------------------------------------------


def test_options_change_the_vectors_and_the_spec(encoder):
    plain = encoder("nogate")
    stems = encoder("nogate", words="stem")
    assert len(stems.encode_queries(["library libraries"]).words) == 1
    assert len(plain.encode_queries(["library libraries"]).words) == 2
    assert plain.spec.differences(stems.spec) == ["words: 'surface' here, 'stem' there"]
    again = ColberterEncoder.of_spec(stems.spec, plain.model, device="cpu")
    assert again.spec == stems.spec
    assert (plain.spec.dim, plain.spec.extra["cls_dim"], plain.spec.similarity) == (32, 16, "dot")
    assert 0 < plain.spec.extra["mix"] < 1
    assert (encoder("uni").spec.dim, encoder("uni").spec.extra["exact_match"]) == (1, True)


@pytest.mark.parametrize(
    ("case", "options", "message"),
    [
        ("dim32", {"words": "stemed"}, "words 'stemed' is unknown: did you mean 'stem'"),
        ("dim32", {"words": "tokens"}, "words='tokens': the model dim32 makes words of tokens"),
        ("tokens", {"words": "stem"}, "words='stem': the model tokens takes tokens as they are"),
        ("dim32", {"query_length": 2}, "query_length=2: expected at least 3"),
        ("dim32", {"dtype": "float8"}, "dtype 'float8' is unknown"),
        ("dim32", {"token_budget": 0}, "token_budget=0"),
    ],
)
def test_options_that_make_no_sense_are_refused(encoder, case, options, message):
    with pytest.raises(UsageError, match=message):
        _ = encoder(case, **options).spec


# ---- published scores -----------------------------------------------------------------------------------------------------


@pytest.mark.hub
@pytest.mark.slow
def test_scores_are_those_of_upstreams_notebook():
    """minimal_colberter_usage_example.ipynb at 6d31ddb, float32: total scores, and the share of [CLS] in them; 1e-3."""
    encoder = on_hand(ColberterEncoder("sebastian-hofstaetter/colberter-128-32-msmarco", device="cpu"))
    passages = [
        "We are very happy to show you the 🤗 Transformers library for pre-trained language models. We are helping the "
        "community work together towards the goal of advancing NLP 🔥.",
        "Hmm I don't like this new movie about transformers that i got from my local library. Those transformers are robots?",
    ]
    documents = [Document(str(i), text) for i, text in enumerate(passages)]
    rows = parts(encoder, "what is the transformers library", documents)
    mix = encoder.mix
    assert [mix * cls for cls, _, _ in rows] == pytest.approx([16.83791732788086, 15.022980690002441], rel=1e-3)
    totals = [mix * cls + (1 - mix) * bow for cls, bow, _ in rows]
    assert totals == pytest.approx([39.04731750488281, 32.5419807434082], rel=1e-3)

"""Model cards: what they may say, and that they hold only where a checkpoint says nothing or is known to be wrong."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.models.cards import CARDS, EncoderCard, find_card
from cribble.models.encoder import Encoder
from cribble.models.encoder_settings import EncoderSettings, settle
from cribble.records import Document


@pytest.fixture
def own_card(tmp_path, bert_cls):
    """A copy of a checkpoint, with `cribble.yaml` in it."""

    def make(text, *, bare=False):
        folder = shutil.copytree(bert_cls, tmp_path / f"model{len(list(tmp_path.iterdir()))}")
        if bare:
            for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
                (folder / name).unlink()
            path = folder / "tokenizer_config.json"
            config = json.loads(path.read_text())
            del config["model_max_length"]
            path.write_text(json.dumps(config))
        (folder / "cribble.yaml").write_text(text)
        return folder

    return make


def test_every_shipped_card_is_read():
    assert len(CARDS.shipped) >= 50
    families = ("intfloat/e5-base-v2", "BAAI/bge-m3", "thenlper/gte-small", "facebook/contriever", "GritLM/GritLM-7B")
    families += ("Qwen/Qwen3-Embedding-0.6B", "google/embeddinggemma-300m", "nvidia/NV-Embed-v2")
    assert set(families) <= set(CARDS.shipped)
    for name, card in CARDS.shipped.items():
        assert card.summary.startswith("encoder")
        for entry in card.published:
            assert all(0 < value < 1 for value in entry["values"].values()), name


def test_a_card_speaks_where_the_checkpoint_is_silent(own_card):
    text = (
        "encoder: {query_prompt: 'find: ', document_prompt: 'text: ', pooling: mean, similarity: dot, max_length: 20}"
    )
    bare = Encoder(own_card(text, bare=True), device="cpu").spec
    assert (bare.query_prompt, bare.document_prompt, bare.pooling) == ("find: ", "text: ", "mean")
    assert (bare.similarity, bare.max_length) == ("dot", 20)
    whole = Encoder(own_card(text), device="cpu").spec  # says all of that itself
    assert (whole.query_prompt, whole.document_prompt, whole.pooling) == ("query: ", "document: ", "cls")
    assert whole.max_length == 64


def test_a_card_overrides_what_is_known_to_be_wrong_and_the_user_both(own_card):
    folder = own_card("encoder: {pooling: mean, query_prompt: 'find: ', known_wrong: {pooling: it says cls}}")
    assert Encoder(folder, device="cpu").spec.pooling == "mean"
    assert Encoder(folder, device="cpu").spec.query_prompt == "query: "
    assert Encoder(folder, device="cpu", pooling="lasttoken").spec.pooling == "lasttoken"
    assert Encoder(folder, device="cpu", card="none").spec.pooling == "cls"


def test_a_shipped_card_by_name(bert_cls):
    """E5's prompts for a local copy, which has no name that a card could know it by."""
    folder = bert_cls
    encoder = Encoder(folder, device="cpu", card="intfloat/e5-base-v2")
    assert encoder.query_prompt == "query: "  # its own, as it happens
    assert encoder.document_prompt == "document: "
    with pytest.raises(UsageError, match="card 'intfloat/e5-base-v3' is neither a file nor a shipped card"):
        _ = Encoder(folder, device="cpu", card="intfloat/e5-base-v3").spec


def test_a_passage_prompt_that_sentence_transformers_hides_is_applied_by_the_card(own_card):
    folder = own_card("encoder: {document_prompt: 'passage: '}")
    path = folder / "config_sentence_transformers.json"
    config = json.loads(path.read_text())
    config["prompts"] = {"query": "query: ", "passage": "passage: "}
    path.write_text(json.dumps(config))
    got = Encoder(folder, device="cpu").encode_documents([Document("1", "cat")]).values
    expected = Encoder(folder, device="cpu", document_prompt="passage: ", card="none")
    assert np.array_equal(got, expected.encode_documents([Document("1", "cat")]).values)


def test_one_file_holds_a_models_cards_as_encoder_and_as_reranker(own_card):
    from cribble.rerankers import cards as reranker_cards

    folder = own_card("encoder: {pooling: mean}\njudge: {use: yes-no}\nlicence: MIT\n")
    assert find_card("model", folder).settings.pooling == "mean"
    assert reranker_cards.find_card(str(folder)).licence == "MIT"
    only = own_card("judge: {use: yes-no}\n")
    assert find_card("model", only) == EncoderCard("model")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("encoder: {poling: mean}", "unknown key 'poling'.*pooling"),
        ("encoder: {pooling: median}", "'median' is unknown"),
        ("encoder: {max_length: long}", "max_length is 'long'"),
        ("encoder: [1]", "expected a mapping"),
        ("encoder: {known_wrong: {pooling: x}}", "known_wrong names 'pooling', which the card does not set"),
        ("encoder: {published: [{values: 3}]}", "is published, expected"),
    ],
)
def test_wrong_cards_are_named(own_card, text, message):
    folder = own_card(text)
    with pytest.raises(InputError, match=message):
        find_card("model", folder)


def test_a_model_with_two_cards_is_refused(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("some/model: {pooling: mean}")
    with pytest.raises(InputError, match="has a card in another file"):
        _ = replace(CARDS, folder=tmp_path).shipped


def test_settling_order():
    card = EncoderCard("m", EncoderSettings(pooling="mean", dim=8, layer=2), known_wrong={"dim": "why"})
    own = EncoderSettings(pooling="cls", dim=16)
    assert settle(EncoderSettings(), card, own) == EncoderSettings(dim=8, layer=2)
    assert settle(EncoderSettings(dim=4, layer=1), card, own) == EncoderSettings(dim=4, layer=1)

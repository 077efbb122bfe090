"""Tiny random cross-encoders and a text source for the rerankers' tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from cribble.records import Document, Query, Run

WORDS = "the of and cat dog bird fish river mountain city house tree stone water fire light dark red green blue yes no"


class Texts:
    """A text source over a dict; what it lacks is absent from its answer."""

    def __init__(self, documents: list[Document]) -> None:
        self.documents = {document.id: document for document in documents}

    def get_many(self, ids):
        return {doc_id: self.documents[doc_id] for doc_id in ids if doc_id in self.documents}


def save_tokenizer(folder: Path, *, decoder: bool) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "sep_token": "[SEP]"}
    if not decoder:
        names["cls_token"] = "[CLS]"
    pair = "$A [SEP] $B [SEP]" if decoder else "[CLS] $A [SEP] $B:1 [SEP]:1"
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=48, **names).save_pretrained(folder)


def save_model(folder: Path, kind: str, num_labels: int = 1) -> Path:
    """A random classifier over BERT, or a random Qwen3 language model; both read pairs of texts."""
    import torch
    import transformers

    torch.manual_seed(5)
    common = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    common |= {"intermediate_size": 64, "max_position_embeddings": 48, "pad_token_id": 0}
    if kind == "bert":
        model = transformers.BertForSequenceClassification(transformers.BertConfig(**common, num_labels=num_labels))
    else:
        config = transformers.Qwen3Config(**common, num_key_value_heads=2, head_dim=8, tie_word_embeddings=False)
        model = transformers.Qwen3ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():  # larger than the usual 0.02, so that scores differ visibly
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    save_tokenizer(folder, decoder=kind == "qwen3")
    return folder


@pytest.fixture(scope="session")
def classifier(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("cross") / "bert", "bert")


@pytest.fixture(scope="session")
def entailment_classifier(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("cross") / "nli", "bert", num_labels=3)


@pytest.fixture(scope="session")
def language_model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("cross") / "qwen", "qwen3")


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    return [
        Document("d1", "the cat and the dog"),
        Document("d2", "fire and water", "stone"),
        Document("d3", "the cat and the dog"),  # d1's text again
        Document("ключ-4", "город 日本 🎉 café"),
        Document("d5", "river " * 300),
        Document("d6", ""),
        Document("d7", "bird"),
        Document("d8", "blue light in the dark city house"),
    ]


@pytest.fixture(scope="session")
def texts(documents) -> Texts:
    return Texts(documents)


@pytest.fixture(scope="session")
def queries() -> list[Query]:
    return [Query("1", "cat"), Query("2", "fish of the river"), Query("3", ""), Query("四", "город"), Query("5", "dog")]


@pytest.fixture(scope="session")
def candidates() -> Run:
    """Query 3 has one candidate, query 5 none; `gone` has no text, d6 an empty one."""
    ids = ["d1", "gone", "d2", "d3", "d6", "ключ-4", "d5", "d7", "d8"]
    best_first = {doc_id: 9.0 - i for i, doc_id in enumerate(ids)}
    worst_first = {doc_id: 1.0 + i for i, doc_id in enumerate(ids)}
    table = {"1": best_first, "2": worst_first, "3": {"d7": 0.5}, "四": best_first, "5": {}}
    return Run.from_dict(table, name="given", score_kind="bm25", provenance={"made": "by hand"})

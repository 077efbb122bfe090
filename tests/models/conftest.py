"""Tiny checkpoints with random weights, built once per session in the shapes that the field uses."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

WORDS = (
    *("the", "a", "of", "and", "to", "in", "is", "for", "with", "on", "cat", "dog", "bird", "fish", "river", "city"),
    *("mountain", "house", "tree", "stone", "water", "fire", "light", "dark", "run", "walk", "swim", "fly", "read"),
    *("query", "passage", "document", "search", "index", "rank", "score", "neural", "network", "token", "language"),
)


def train_tokenizer(folder: Path, *, decoder: bool) -> None:
    """A tokenizer trained on the spot: WordPiece with [CLS] and [SEP], or byte-level BPE padded on the left."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    texts = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))]
    if decoder:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        special = ["<|endoftext|>"]
        trainer = trainers.BpeTrainer(
            vocab_size=500, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
        tokenizer.train_from_iterator(texts, trainer)
        end = ("<|endoftext|>", tokenizer.token_to_id("<|endoftext|>"))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A <|endoftext|>", pair="$A $B <|endoftext|>", special_tokens=[end]
        )
        names = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "padding_side": "left"}
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special))
        marks = [(mark, tokenizer.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=marks
        )
        names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names)
    fast.save_pretrained(folder)


@pytest.fixture(scope="session")
def save_tokenizer():
    """`train_tokenizer`, for tests that build checkpoints of their own."""
    return train_tokenizer


def save_backbone(folder: Path, kind: str) -> Path:
    """A random transformers model of `kind` (bert, modernbert, qwen3) with its tokenizer."""
    import torch
    import transformers

    torch.manual_seed(7)
    train_tokenizer(folder, decoder=kind == "qwen3")
    common = {"vocab_size": 600, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind == "bert":
        config = transformers.BertConfig(**common, intermediate_size=64, max_position_embeddings=64)
        model = transformers.BertModel(config)
    elif kind == "modernbert":
        config = transformers.ModernBertConfig(
            **common, intermediate_size=48, max_position_embeddings=64, pad_token_id=0, local_attention=16
        )
        model = transformers.ModernBertModel(config)
    else:
        config = transformers.Qwen3Config(
            **common, intermediate_size=64, num_key_value_heads=2, head_dim=8, max_position_embeddings=64
        )
        model = transformers.Qwen3Model(config)
    with torch.no_grad():
        for parameter in model.parameters():  # larger than the usual 0.02, so that texts differ visibly
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder


def save_encoder(folder: Path, kind: str, pooling: str, *, dense: int = 0, normalise: bool = False, **options) -> Path:
    """A sentence-transformers checkpoint around a random backbone."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    backbone = save_backbone(folder.with_name(folder.name + "-backbone"), kind)
    modules = [Transformer(str(backbone)), Pooling(32, pooling)]
    if dense:
        modules.append(Dense(32, dense))
    if normalise:
        modules.append(Normalize())
    SentenceTransformer(modules=modules, device="cpu", **options).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def bert_cls(tmp_path_factory) -> Path:
    """[CLS] pooling, no normalisation, dot product, prompts for both sides."""
    prompts = {"query": "query: ", "document": "document: "}
    folder = tmp_path_factory.mktemp("models") / "bert-cls"
    return save_encoder(folder, "bert", "cls", prompts=prompts, similarity_fn_name="dot")


@pytest.fixture(scope="session")
def bert_dense(tmp_path_factory) -> Path:
    """Mean pooling, a Dense module to 12 dimensions, a default prompt only."""
    folder = tmp_path_factory.mktemp("models") / "bert-dense"
    options = {"prompts": {"search": "search for "}, "default_prompt_name": "search"}
    return save_encoder(folder, "bert", "mean", dense=12, normalise=True, **options)


@pytest.fixture(scope="session")
def modernbert_mean(tmp_path_factory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("models") / "modernbert", "modernbert", "mean", normalise=True)


@pytest.fixture(scope="session")
def qwen_last(tmp_path_factory) -> Path:
    """A decoder pooled at its last token, padded on the left, with an instruction before queries."""
    folder = tmp_path_factory.mktemp("models") / "qwen-last"
    prompts = {"query": "Instruct: search the passage\nQuery: "}
    return save_encoder(folder, "qwen3", "lasttoken", normalise=True, prompts=prompts)


@pytest.fixture(scope="session")
def ragged_texts() -> list[str]:
    """Texts of 0 to 700 words in no order, with duplicates, white space, Unicode and one that has no token of its own."""
    chance = random.Random(3)
    texts = [" ".join(chance.choices(WORDS, k=chance.choice([1, 2, 3, 8, 20, 60, 150]))) for _ in range(60)]
    texts += [
        "",
        " ",
        "\n\t",
        "x",
        "ünïcödé naïve",
        "日本語の文書",
        "🎉🎉 emoji",
        "e\u0301 combining",
        "\u200b",
        texts[0],
        texts[1],
    ]
    texts += [" ".join(chance.choices(WORDS, k=700)), "word" * 400, "Ω≈ç√∫˜µ≤", "'quoted' \"text\" — dashes"]
    chance.shuffle(texts)
    return texts


@pytest.fixture(scope="session")
def language_model(tmp_path_factory):
    """The folder of a tiny language model by its kind (`tiny_language_models.MODELS`), made once."""
    from cribble.tests.models.tiny_language_models import save_language_model

    root, made = tmp_path_factory.mktemp("language-models"), {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = save_language_model(root / kind, kind)
        return made[kind]

    return folder

"""Tiny ColBERTer checkpoints as upstream publishes them, with weights that are the same on every machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

#: Words and pieces of the tokenizer; `##` continues a word.
VOCABULARY = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "is", "what", "we", "of", "and", "to", "in", "show"),
    *("library", "libraries", "transform", "##er", "##ers", "##ing", "model", "##s", "robot", "movie", "local", "new"),
    *(
        ".",
        ",",
        "?",
        "!",
        "-",
        "'",
        "i",
        "don",
        "t",
        "cafe",
        "日",
        "本",
        "rank",
        "re",
        "##rank",
        "##ed",
        "happy",
        "super",
    ),
    *("cat", "dog", "fish", "river", "house", "tree", "stone", "bird", "city", "light", "word", "##word", "x", "##x"),
)

QUERY = "what is the transformers library"
PASSAGES = (
    "We show the Transformers library of transformers, and libraries: new superwordwordx models!",
    "I don't re-rank new movies in a local library. Transformers? The robots transformed the happy café 日本 zzz.",
    "stone",
)


def save_backbone(folder: Path, kind: str = "distilbert") -> Path:
    """Configuration and tokenizer of a tiny transformer, without weights."""
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces = {token: number for number, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", pieces["[CLS]"]), ("[SEP]", pieces["[SEP]"])]
    )
    names = {name: f"[{name[:3].upper()}]" for name in ("unk_token", "pad_token", "cls_token", "sep_token")}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **names)
    fast.save_pretrained(folder)
    if kind == "distilbert":
        config = transformers.DistilBertConfig(
            vocab_size=len(VOCABULARY), dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64
        )
    else:
        config = transformers.BertConfig(
            vocab_size=len(VOCABULARY), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=64, max_position_embeddings=64,
        )  # fmt: skip
    config.save_pretrained(folder)
    return folder


def tiny_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """float32 numbers by name alone."""
    weights = {}
    for name, shape in shapes.items():
        spread = 0.05 if name.startswith("stop_word") else 0.2
        values = np.random.default_rng([3, *name.encode()]).standard_normal(shape) * spread
        mean = 1 if "norm" in name.lower() and name.endswith("weight") else 0
        weights[name] = (values + mean).astype(np.float32)
    return weights


def save_colberter(
    folder: Path, *, dim: int = 32, second: int = -1, exact: bool = False, kind: str = "distilbert", pickled: bool = False,
    gate: bool = True, aggregate: bool = True, seed_backbone: Path | None = None, **config,
) -> Path:  # fmt: skip
    """A checkpoint with a [CLS] vector of 16 dimensions, and a folder `NAME-backbone` beside it."""
    import torch
    from cribble.models.colberter_network import ColberterConfig, make_network
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModel

    backbone = seed_backbone or save_backbone(folder.with_name(f"{folder.name}-backbone"), kind)
    fields = {
        "bert_model": str(backbone),
        "compression_dim": dim,
        "retrieval_compression_dim": 16,
        "second_compress_dim": second,
        "use_contextualized_stopwords": gate,
        "aggregate_unique_ids": aggregate,
        "compress_to_exact_mini_mode": exact,
    } | config
    network = make_network(
        ColberterConfig(**fields), AutoModel.from_config(AutoConfig.from_pretrained(backbone, local_files_only=True))
    )
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    weights = {name: torch.from_numpy(value) for name, value in tiny_weights(shapes).items()}
    weights["bert_model.embeddings.position_ids"] = torch.arange(64)[None]  # as transformers wrote it then
    folder.mkdir(parents=True)
    if pickled:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors")
    described = {"architectures": ["ColBERTer"], "model_type": "ColBERT", "dropout": 0.0, "trainable": True, **fields}
    (folder / "config.json").write_text(json.dumps(described))
    return folder

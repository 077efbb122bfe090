"""Tiny learned sparse encoders with random weights, in the shapes that the field uses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from cribble.tests.models.conftest import WORDS, train_tokenizer

TERMS = 600


def save_mlm(folder: Path, kind: str = "bert", *, seed: int = 7, width: int = 32) -> Path:
    """A masked language model of `kind` with its tokenizer."""
    import torch
    import transformers as t

    torch.manual_seed(seed)
    train_tokenizer(folder, decoder=False)
    common = {"vocab_size": TERMS, "hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind == "bert":
        model = t.BertForMaskedLM(t.BertConfig(**common, intermediate_size=64, max_position_embeddings=64))
    elif kind == "distilbert":
        config = t.DistilBertConfig(
            vocab_size=TERMS, dim=width, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64
        )
        model = t.DistilBertForMaskedLM(config)
    elif kind == "roberta":
        config = t.RobertaConfig(**common, intermediate_size=64, max_position_embeddings=70, pad_token_id=0)
        model = t.RobertaForMaskedLM(config)
    else:
        config = t.ModernBertConfig(
            **common, intermediate_size=48, max_position_embeddings=64, pad_token_id=0, local_attention=16
        )
        model = t.ModernBertForMaskedLM(config)
    with torch.no_grad():
        for parameter in model.parameters():  # larger than usual, so that texts differ visibly; some logits below 0
            parameter.normal_(-0.02 if parameter.ndim == 1 else 0, 0.3)
    model.save_pretrained(folder)
    return folder


def save_mlm_pair(folder: Path) -> tuple[str, str]:
    """Two masked language models over one vocabulary. (Tokenizers trained twice differ in the order of equal counts.)"""
    one, two = save_mlm(folder / "mlm"), save_mlm(folder / "mlm-other", seed=9)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(one / file, two / file)
    return str(one), str(two)


def save_splade(folder: Path, kind: str = "bert", *, pooling: str = "max", activation: str = "relu") -> Path:
    """As sentence-transformers saves a SPLADE model."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    bare = save_mlm(folder.with_name(folder.name + "-mlm"), kind)
    modules = [Transformer(str(bare), transformer_task="fill-mask"), SpladePooling(pooling, activation)]
    SparseEncoder(modules=modules, device="cpu").save_pretrained(str(folder))
    return folder


def save_inference_free(folder: Path, *, ones: bool = False) -> Path:
    """Documents by a masked language model with two logarithms, queries by stored weights: OpenSearch's v3, or naver's
    SPLADE-doc with weights of 1 (0 for special tokens)."""
    import torch
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Router, Transformer
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

    bare = save_mlm(folder.with_name(folder.name + "-mlm"))
    transformer = Transformer(str(bare), transformer_task="fill-mask")
    size = len(transformer.tokenizer.get_vocab())
    weights = torch.ones(size) if ones else torch.rand(size, generator=torch.Generator().manual_seed(1)) * 5
    weights[:5] = 0.0
    router = Router.for_query_document(
        [SparseStaticEmbedding(transformer.tokenizer, weights, frozen=True)],
        [transformer, SpladePooling("max", "log1p_relu")],
    )
    SparseEncoder(modules=[router], device="cpu").save_pretrained(str(folder))
    return folder


def save_token_weights(folder: Path, layers: int) -> Path:
    """uniCOIL (one layer) or DeepImpact (two): a weight for each token."""
    import torch
    from cribble.models.pooling.token_weights import TokenWeights
    from cribble.tests.models.conftest import save_backbone
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Transformer

    backbone = save_backbone(folder.with_name(folder.name + "-backbone"), "bert")
    torch.manual_seed(3)
    transformer = Transformer(str(backbone))
    head = TokenWeights(32, TERMS, layers, skipped=[0, 2, 3])
    SparseEncoder(modules=[transformer, head], device="cpu").save_pretrained(str(folder))
    return folder


def save_lexlip(folder: Path, *, bag_of_words: bool = False) -> Path:
    """Pictures by a tiny ViT under the head of a tiny BERT; queries by that BERT, or as bags of words."""
    import torch
    import transformers as t
    from cribble.models.pooling.image_terms import ImageTerms
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Router, Transformer
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

    bare = save_mlm(folder.with_name(folder.name + "-mlm"))
    torch.manual_seed(5)
    config = t.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=32, patch_size=8
    )
    vision = t.ViTModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for parameter in vision.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    seen = folder.with_name(folder.name + "-vit")
    vision.save_pretrained(seen)
    t.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(seen)
    transformer = Transformer(str(bare), transformer_task="fill-mask")
    queries = [transformer, SpladePooling("max")]
    if bag_of_words:
        queries = [SparseStaticEmbedding(transformer.tokenizer)]
    router = Router.for_query_document(queries, [ImageTerms.of(seen, bare), SpladePooling("max")])
    SparseEncoder(modules=[router], device="cpu").save_pretrained(str(folder))
    return folder


def save_query_vectors(path: Path, queries) -> Path:
    """Made-up vectors of queries, as JSON lines: each of a query's words that the tiny tokenizers know."""
    rows = [
        {
            "id": query.id,
            "vector": {word: i + 1.5 for i, word in enumerate(dict.fromkeys(query.text.split())) if word in WORDS},
        }
        for query in queries
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def dense(vectors):
    """(n, terms) float32 of a `Sparse`."""
    import numpy as np

    matrix = np.zeros((len(vectors), vectors.terms), np.float32)
    for i in range(len(vectors)):
        ids, weights = vectors.row(i)
        matrix[i, ids] = weights
    return matrix

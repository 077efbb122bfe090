"""Pooling heads: against straight-line arithmetic at 1e-5, blind to padding, saved and loaded by sentence-transformers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cribble.errors import UsageError
from cribble.models.encoder import Encoder
from cribble.models.pooling.latent_attention import LatentAttention
from cribble.models.pooling.trainable import TrainablePooling
from cribble.records import Document

TOLERANCE = 1e-5
TEXTS = ["cat", "the dog and the bird in the city", "fish " * 20, "a passage on neural search " * 4]


def head(kind):
    """Modules after a network of 2 layers and 32 dimensions, with random weights."""
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.modules import Pooling

    torch.manual_seed(11)
    if kind == "latent":
        return [LatentAttention(32, latents=7, heads=2), Pooling(32, "mean", include_prompt=False), Normalize()]
    if kind == "weightedmean":
        return [Pooling(32, "weightedmean")]
    layers, summary = {"last": (0, "mean"), "all-mean": (2, "mean"), "all-last": (2, "lasttoken")}[kind]
    pooling = TrainablePooling(32, layers, summary, latents=5, heads=2, head_width=16, expansion=2)
    if layers:
        torch.nn.init.normal_(pooling.layer_embeddings)
    return [pooling, Normalize()]


HEADS = ["latent", "weightedmean", "last", "all-mean", "all-last"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory, bert_cls, qwen_last):
    """The folder of a model with a head, saved by sentence-transformers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    root, made = tmp_path_factory.mktemp("heads"), {}

    def folder(kind, backbone="qwen"):
        key = f"{kind}-{backbone}"
        if key not in made:
            source = {"qwen": qwen_last, "bert": bert_cls}[backbone]
            modules = [Transformer(str(source)), *head(kind)]
            model = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "find "})
            model.save_pretrained(str(root / key))
            made[key] = (root / key, model.encode_query(TEXTS))
        return made[key]

    return folder


@pytest.mark.parametrize("kind", HEADS)
def test_a_saved_head_is_loaded_and_gives_the_same_vectors(kind, saved):
    folder, expected = saved(kind)
    encoder = Encoder(folder, device="cpu")
    assert np.abs(encoder.encode_queries(TEXTS).values - expected).max() <= TOLERANCE
    assert (encoder.dim, encoder.spec.normalised) == (32, kind != "weightedmean")


def test_specs_name_the_head(saved):
    assert Encoder(saved("latent")[0], device="cpu").spec.pooling == "latentattention+mean without prompt"
    assert Encoder(saved("last")[0], device="cpu").spec.pooling == "trainablepooling"


@pytest.mark.parametrize(("backbone", "bidirectional"), [("qwen", False), ("qwen", True), ("bert", False)])
@pytest.mark.parametrize("kind", HEADS)
def test_padding_never_changes_a_vector(kind, backbone, bidirectional, saved):
    """The official code of last-layer pooling looks at padding. (BERT attends both ways as it is.)"""
    options = {"bidirectional": True} if bidirectional else {}
    encoder = Encoder(saved(kind, backbone)[0], device="cpu", query_prompt="", **options)
    model = encoder.network.model
    features = model.preprocess(["the dog and the bird"])
    ids, mask = features["input_ids"], features["attention_mask"]

    def vector(before, after):
        pad = model.tokenizer.pad_token_id
        wide = {"modality": "text", "input_ids": torch.nn.functional.pad(ids, (before, after), value=pad)}
        wide["attention_mask"] = torch.nn.functional.pad(mask, (before, after))
        return encoder.network.forward(wide)["sentence_embedding"]

    alone = vector(0, 0)
    sides = [(0, 1), (0, 30)] + ([(1, 0), (25, 0), (3, 4)] if backbone == "qwen" else [])
    for before, after in sides:
        assert (vector(before, after) - alone).abs().max() <= TOLERANCE, (before, after)


def norm(x, layer):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + layer.eps) * array(layer.weight) + array(layer.bias)


def array(tensor):
    return tensor.detach().numpy().astype(np.float64)


def straight_block(block, x, context):
    """One text, one row at a time, in float64: x (n, d), context (m, d)."""
    keys = norm(context, block.context_norm) @ array(block.key.weight).T
    values = norm(context, block.context_norm) @ array(block.value.weight).T
    queries = norm(x, block.norm) @ array(block.query.weight).T
    w, out = block.head_width, np.zeros((len(x), block.heads * block.head_width))
    for h in range(block.heads):
        part = slice(h * w, (h + 1) * w)
        for i in range(len(x)):
            logits = np.array([queries[i, part] @ keys[j, part] / math.sqrt(w) for j in range(len(context))])
            weights = np.exp(logits - logits.max())
            out[i, part] = (weights / weights.sum()) @ values[:, part]
    x = x + out @ array(block.attended.weight).T
    wide = norm(x, block.feed_norm) @ array(block.gated.weight).T + array(block.gated.bias)
    half = wide.shape[1] // 2
    gates = np.vectorize(lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))))(wide[:, half:])
    return x + (wide[:, :half] * gates) @ array(block.outer.weight).T + array(block.outer.bias)


def test_latent_attention_equals_straight_line_arithmetic():
    module, pooling, _ = head("latent")
    states = torch.randn(2, 6, 32)
    mask = torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]])
    got = pooling(module({"token_embeddings": states, "attention_mask": mask}))["sentence_embedding"]
    for i, length in enumerate((6, 3)):
        expected = straight_block(module.block, array(states[i, :length]), array(module.latent_vectors)).mean(0)
        assert np.abs(array(got[i]) - expected).max() <= TOLERANCE


@pytest.mark.parametrize("kind", ["last", "all-mean", "all-last"])
def test_trainable_pooling_equals_straight_line_arithmetic(kind):
    module = head(kind)[0]
    layers = tuple(torch.randn(2, 6, 32) for _ in range(3))
    mask = torch.tensor([[1] * 6, [0, 0, 1, 1, 1, 0]])
    features = {"token_embeddings": layers[-1], "attention_mask": mask, "all_layer_embeddings": layers}
    got = module(features)["sentence_embedding"]
    for i, real in enumerate((slice(0, 6), slice(2, 5))):
        if kind == "last":
            context = array(layers[-1][i, real])
        else:
            rows = [array(layer[i, real]) for layer in layers[1:]]
            context = np.stack([row.mean(0) if kind == "all-mean" else row[-1] for row in rows])
            context = context + array(module.layer_embeddings)
        expected = straight_block(module.block, array(module.latent_vectors), context).mean(0)
        assert np.abs(array(got[i]) - expected).max() <= TOLERANCE


def test_every_weight_of_a_head_is_trained():
    for kind in ("latent", "last", "all-mean", "all-last"):
        module = head(kind)[0]
        states = tuple(torch.randn(2, 6, 32) for _ in range(3))
        features = {"token_embeddings": states[-1], "attention_mask": torch.ones(2, 6), "all_layer_embeddings": states}
        output = module(features)
        output.get("sentence_embedding", output["token_embeddings"]).square().sum().backward()
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def test_a_head_over_all_layers_needs_them_all(saved):
    encoder = Encoder(saved("all-mean")[0], device="cpu", layer=1)
    with pytest.raises(UsageError, match="made for the states of 2 layers, the network gives 1"):
        encoder.encode_documents([Document("1", "cat")])
    with pytest.raises(UsageError, match="summary 'median'"):
        TrainablePooling(32, 2, "median")


def test_missing_weights_of_a_head_are_an_error(saved, tmp_path):
    import shutil

    from cribble.errors import InputError
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(saved("last")[0], tmp_path / "broken")
    path = next(folder.glob("1_*/model.safetensors"))
    weights = load_file(path)
    del weights["latent_vectors"]
    save_file(weights, path)
    with pytest.raises(InputError, match="latent_vectors"):
        _ = Encoder(folder, device="cpu").spec

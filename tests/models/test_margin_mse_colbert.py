"""The Margin-MSE ColBERT against the arithmetic of its authors' notebook, by transformers alone and in float64 (1e-5)."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from cribble.errors import InputError, SetupError, UsageError
from cribble.index.maxsim import maxsim
from cribble.models.margin_mse_colbert import MASKS
from cribble.models.multivector_encoder import MultiVectorEncoder, is_multi_vector
from cribble.models.multivector_options import make_token_encoder
from cribble.models.token_texts import query_token_texts
from cribble.records import Document
from cribble.tests.models.conftest import train_tokenizer
from cribble.tests.models.tiny_late_models import save_stanford

QUERIES = ["a cat", "the dog in the river of the house", "", "stone " * 90]
TEXTS = ["the cat, the dog", "fish swim", "", "river light fire " * 30]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A DistilBERT of width 32 under a projection to as many, as upstream names its weights."""
    import transformers
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("models") / "margin-mse"
    train_tokenizer(folder / "backbone", decoder=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "backbone")
    tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    tokenizer.save_pretrained(folder / "backbone")
    torch.manual_seed(4)
    config = transformers.DistilBertConfig(
        vocab_size=600, dim=32, hidden_dim=64, n_layers=2, n_heads=4, max_position_embeddings=64
    )
    config.save_pretrained(folder / "backbone")
    backbone, projection = transformers.DistilBertModel(config), torch.nn.Linear(32, 32)
    weights = {f"bert_model.{name}": value for name, value in backbone.state_dict().items()}
    weights |= {f"compressor.{name}": value for name, value in projection.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    about = {"architectures": ["ColBERT"], "model_type": "ColBERT", "compression_dim": 32}
    (folder / "config.json").write_text(json.dumps(about | {"bert_model": "distilbert-base-uncased"}))
    return folder


def by_hand(folder, text, masks, length=64):
    """Vectors of every token of a text alone, with so many [MASK] after it."""
    import transformers
    from safetensors.torch import load_file

    weights = {name: value.double() for name, value in load_file(folder / "model.safetensors").items()}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "backbone")
    backbone = transformers.DistilBertModel(transformers.DistilBertConfig.from_pretrained(folder / "backbone")).double()
    backbone.load_state_dict({n.removeprefix("bert_model."): v for n, v in weights.items() if n.startswith("bert")})
    ids = tokenizer(text, truncation=True, max_length=length)["input_ids"] + [tokenizer.mask_token_id] * masks
    with torch.inference_mode():
        states = backbone.eval()(input_ids=torch.tensor([ids])).last_hidden_state[0]
        return (states @ weights["compressor.weight"].T + weights["compressor.bias"]).numpy()


def agree(mine, theirs):
    for i, matrix in enumerate(theirs):
        assert mine[i].shape == matrix.shape
        assert np.abs(mine[i] - matrix).max() <= 1e-5


def test_vectors_and_scores_are_the_notebooks(folder):
    assert is_multi_vector(folder)
    encoder = make_token_encoder(str(folder), device="cpu")
    queries = encoder.encode_queries(QUERIES)
    documents = encoder.encode_documents([Document(str(i), text) for i, text in enumerate(TEXTS)])
    expected = [by_hand(folder, text, MASKS, 64 - MASKS) for text in QUERIES]
    passages = [by_hand(folder, text, 0) for text in TEXTS]
    agree(queries, expected)
    agree(documents, passages)
    scores = [float((expected[1] @ passage.T).max(1).sum()) for passage in passages]
    assert maxsim(queries[1], documents.tokens, documents.offsets) == pytest.approx(scores, rel=1e-5)
    assert encoder.truncated == 2
    spec = encoder.spec
    assert (spec.dim, spec.normalised, spec.similarity) == (32, False, "dot")
    assert (spec.extra["expansion"], spec.extra["query_length"]) == ("appended", 64 - MASKS)
    again = MultiVectorEncoder.of_spec(spec, folder, device="cpu")
    assert again.spec == spec
    assert np.array_equal(again.encode_queries(QUERIES).tokens, queries.tokens)


def test_the_texts_of_tokens_are_as_many_as_the_vectors(folder):
    encoder = MultiVectorEncoder(folder, device="cpu")
    kinds = [token.kind for token in query_token_texts(encoder, "a cat").tokens]
    assert len(kinds) == len(encoder.encode_queries(["a cat"])[0])
    assert kinds[-MASKS:] == ["expansion"] * MASKS
    assert "expansion" not in kinds[:-MASKS]


def test_settings(folder, tmp_path):
    plain = MultiVectorEncoder(folder, device="cpu", expansion="none", query_length=6)
    agree(plain.encode_queries(QUERIES), [by_hand(folder, text, 0, 6) for text in QUERIES])
    short = MultiVectorEncoder(folder, device="cpu", query_length=6)
    agree(short.encode_queries(QUERIES), [by_hand(folder, text, MASKS, 6) for text in QUERIES])
    with pytest.raises(UsageError, match=r"query_length=60: .* has 56 positions"):
        MultiVectorEncoder(folder, device="cpu", query_length=60).encode_queries(["cat"])
    other = save_stanford(tmp_path / "stanford")
    with pytest.raises(UsageError, match="stanford was not trained so; use masked or attended"):
        MultiVectorEncoder(other, device="cpu", expansion="appended").encode_queries(["cat"])


def test_what_is_not_whole_is_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    bare = shutil.copytree(folder, tmp_path / "bare")
    shutil.rmtree(bare / "backbone")
    with pytest.raises(
        SetupError, match=r"needs the configuration and the tokenizer of distilbert-base-uncased .*backbone/"
    ):
        MultiVectorEncoder(bare, device="cpu").encode_queries(["cat"])
    half = shutil.copytree(folder, tmp_path / "half")
    weights = load_file(half / "model.safetensors")
    del weights["compressor.bias"]
    save_file(weights, half / "model.safetensors")
    with pytest.raises(InputError, match=r"half lacks weights or has others than its network \(bias\)"):
        MultiVectorEncoder(half, device="cpu").encode_queries(["cat"])

"""XTR's checkpoints against transformers' T5 encoder and the projection by hand (1e-5); what is not one is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from cribble.errors import InputError
from cribble.models.multivector_encoder import MultiVectorEncoder, is_multi_vector
from cribble.models.multivector_options import make_token_encoder
from cribble.records import Document
from cribble.tests.models.conftest import train_tokenizer

TEXTS = ["the cat, the dog", "", "river " * 30, "a fish", "Index query"]


def save_xtr(folder, *, pickled=False, **described):
    """A random T5 encoder of width 32 under a projection to 12, laid out as google/xtr-base-en."""
    import transformers
    from safetensors.torch import save_file

    train_tokenizer(folder, decoder=False)
    torch.manual_seed(2)
    config = transformers.T5Config(
        vocab_size=600, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, pad_token_id=0, decoder_start_token_id=0
    )
    transformers.T5EncoderModel(config).save_pretrained(folder)
    place = folder / "2_Dense"
    place.mkdir()
    identity = {"activation_function": "torch.nn.modules.linear.Identity"}
    shape = {"in_features": 32, "out_features": 12, "bias": False}
    (place / "config.json").write_text(json.dumps(shape | identity | described))
    weight = {"linear.weight": torch.randn(12, 32)}
    if pickled:
        torch.save(weight, place / "pytorch_model.bin")
    else:
        save_file(weight, place / "model.safetensors")
    return folder


def by_hand(folder, texts, length):
    """Unit vectors of every token, each text alone: transformers, a product, float64."""
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, T5EncoderModel

    tokenizer, encoder = AutoTokenizer.from_pretrained(folder), T5EncoderModel.from_pretrained(folder).double().eval()
    weight = load_file(folder / "2_Dense" / "model.safetensors")["linear.weight"].double()
    found = []
    for text in texts:
        with torch.inference_mode():
            tokens = tokenizer(text, truncation=True, max_length=length, return_tensors="pt")
            states = encoder(input_ids=tokens["input_ids"]).last_hidden_state[0] @ weight.T
        found.append(torch.nn.functional.normalize(states, dim=1).numpy())
    return found


def agree(mine, theirs):
    for i, matrix in enumerate(theirs):
        assert mine[i].shape == matrix.shape
        assert np.abs(mine[i] - matrix).max() <= 1e-5


def test_vectors_are_the_projected_states_of_t5(tmp_path):
    folder = save_xtr(tmp_path / "xtr")
    assert is_multi_vector(folder)
    encoder = make_token_encoder(str(folder), device="cpu", card="google/xtr-base-en", document_length=24)
    with pytest.raises(InputError, match="12 dimensions, its card says 128"):
        _ = encoder.spec
    encoder = MultiVectorEncoder(folder, device="cpu", query_length=16, document_length=24)
    agree(encoder.encode_queries(TEXTS), by_hand(folder, TEXTS, 16))
    agree(
        encoder.encode_documents([Document(str(i), text) for i, text in enumerate(TEXTS)]), by_hand(folder, TEXTS, 24)
    )
    assert encoder.truncated == 2
    assert (encoder.spec.dim, encoder.spec.normalised, encoder.spec.extra["expansion"]) == (12, True, "none")
    again = MultiVectorEncoder.of_spec(encoder.spec, folder, device="cpu")
    assert np.array_equal(again.encode_queries(TEXTS).tokens, encoder.encode_queries(TEXTS).tokens)


def test_a_pickled_projection_is_refused_by_name(tmp_path):
    folder = save_xtr(tmp_path / "pickled", pickled=True)
    with pytest.raises(InputError, match=r"2_Dense/pytorch_model\.bin"):
        make_token_encoder(str(folder), device="cpu").encode_queries(["cat"])
    (folder / "2_Dense" / "pytorch_model.bin").unlink()  # as the Hub's copy is, of which no pickle is downloaded
    with pytest.raises(InputError, match=r"projection pickled only .*save its linear\.weight as"):
        make_token_encoder(str(folder), device="cpu").encode_queries(["cat"])


def test_another_projection_is_refused(tmp_path):
    folder = save_xtr(tmp_path / "tanh", activation_function="torch.nn.modules.activation.Tanh")
    with pytest.raises(InputError, match=r"activation torch\.nn\.modules\.activation\.Tanh, expected XTR's"):
        MultiVectorEncoder(folder, device="cpu").encode_queries(["cat"])

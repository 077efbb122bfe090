"""Packed linear layers against `torch.nn.Linear`, and that a model is left alone where packing can't be done."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cribble.models.encoder import Encoder
from cribble.models.packed_linear import PackedLinear, pack_linears, packing_exists, packing_pays
from torch import nn

needs_packing = pytest.mark.skipif(not packing_exists(), reason="this torch has no oneDNN packed linear operator")


@needs_packing
@pytest.mark.parametrize("shape", [(1,), (0,), (17,), (2, 5), (3, 0), (2, 3, 4)])
@pytest.mark.parametrize(
    ("inputs", "outputs", "bias"), [(384, 1536, True), (33, 7, True), (1, 1, False), (64, 2, False)]
)
def test_equals_the_plain_layer(shape, inputs, outputs, bias):
    """At 1e-5 relative to the largest output: both sum float32 products, in another order."""
    torch.manual_seed(0)
    linear = nn.Linear(inputs, outputs, bias=bias).eval()
    x = torch.randn(*shape, inputs)
    with torch.inference_mode():
        expected, got = linear(x), PackedLinear(linear)(x)
        turned = PackedLinear(linear)(x.transpose(0, -1).contiguous().transpose(0, -1))  # not contiguous
    assert got.shape == expected.shape
    for found in (got, turned):
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max() if x.numel() else 1))


@needs_packing
def test_packed_minilm_gives_equal_vectors(ragged_texts):
    """max |Δ| 1e-6 on unit vectors, on any CPU, whether packing is its default or not."""
    from cribble.models.checkpoint import embedded_checkpoint
    from cribble.models.encoder_settings import EncoderSettings
    from cribble.models.loading import _load

    plain = Encoder(device="cpu")
    expected = plain.encode_queries(ragged_texts).values
    packed = Encoder(device="cpu")
    packed.network.model = _load(
        "SentenceTransformer", embedded_checkpoint(), "cpu", "float32", False, ("pooler",), EncoderSettings()
    )
    count = pack_linears(packed.network.model)
    assert count == (0 if packing_pays() else 37)  # six in each of six layers, and the pooler
    got = packed.encode_queries(ragged_texts).values
    assert np.abs(got - expected).max() <= 1e-6


@needs_packing
def test_only_plain_float32_inference_layers_are_packed():
    class Own(nn.Linear):
        pass

    hooked = nn.Linear(4, 4)
    hooked.register_forward_hook(lambda module, inputs, output: output + 1)
    model = nn.Sequential(Own(4, 4), nn.Linear(4, 4).bfloat16(), hooked, nn.Linear(4, 4), nn.Embedding(3, 4)).eval()
    assert pack_linears(model) == 1
    assert [type(layer).__name__ for layer in model] == ["Own", "Linear", "Linear", "PackedLinear", "Embedding"]
    assert pack_linears(nn.Sequential(nn.Linear(4, 4)).train()) == 0


@needs_packing
def test_one_refused_layer_leaves_all_as_they_were():
    """A layer with a weight that is not dense can't be packed: the model stays plain and works."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).eval()
    model[1].weight = nn.Parameter(model[1].weight.detach().to_sparse(), requires_grad=False)
    layers = list(model)
    assert pack_linears(model) == 0
    assert list(model) == layers


@needs_packing
def test_the_weight_tells_its_dtype_and_can_be_computed_with():
    """Mamba multiplies by a layer's weight; a placeholder on the meta device gave it whatever was in memory."""
    linear = nn.Linear(4, 3).eval()
    packed = PackedLinear(linear)
    assert (packed.weight.dtype, packed.weight.device.type) == (torch.float32, "cpu")
    assert packed.weight.shape == (3, 4)
    x = torch.randn(2, 4, 5)
    with torch.inference_mode():
        torch.testing.assert_close(packed.weight @ x, linear.weight @ x)
        expected = nn.functional.linear(x.mT, linear.weight)
        torch.testing.assert_close(nn.functional.linear(x.mT, packed.weight), expected)
        assert torch.equal(packed.weight + 0, linear.weight)


def test_the_rule_is_about_the_cpu():
    assert packing_pays() == (packing_exists() and torch.backends.cpu.get_cpu_capability().startswith("AVX512"))

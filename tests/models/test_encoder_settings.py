"""Settings of encoders against sentence-transformers and transformers doing the same by hand, at max |Δ| <= 1e-5."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cribble.errors import UsageError
from cribble.models.encoder import Encoder
from cribble.models.encoder_settings import EncoderSettings
from cribble.records import Document
from cribble.vectors import EncoderSpec

TOLERANCE = 1e-5
TEXTS = ["cat", "the dog and the bird in the city", "", "fish " * 30, "a passage on neural search " * 9, "cat"]


def documents(texts):
    return [Document(str(i), text) for i, text in enumerate(texts)]


def oracle(folder):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})


def vectors(folder, **options):
    return Encoder(folder, device="cpu", **options).encode_documents(documents(TEXTS)).values


@pytest.fixture(scope="module")
def llama(tmp_path_factory, save_tokenizer):
    """A bare Llama checkpoint, its tokenizer without an end-of-text rule, padded on the right."""
    import json

    import transformers

    folder = tmp_path_factory.mktemp("models") / "llama"
    torch.manual_seed(5)
    save_tokenizer(folder, decoder=True)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"] = None
    path.write_text(json.dumps(content))
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "padding_side": "right"}))
    config = transformers.LlamaConfig(
        vocab_size=600,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    model = transformers.LlamaModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder


def states_of(folder, ids, **config):
    """The hidden states of transformers' own model of the folder."""
    from transformers import AutoConfig, AutoModel

    settings = AutoConfig.from_pretrained(folder, **config)
    model = AutoModel.from_pretrained(folder, config=settings, dtype=torch.float32).eval()
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True).hidden_states


def attending_both_ways(folder, ids):
    """The last states under a mask of our own that hides nothing, by transformers' plain attention."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.zeros(1, 1, ids.shape[1], ids.shape[1])).last_hidden_state


# ---- pooling, unit vectors, similarity --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["bert_cls", "qwen_last"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "lasttoken", "weightedmean"])
def test_pooling_is_that_of_sentence_transformers(shape, pooling, request):
    from sentence_transformers.sentence_transformer.modules import Pooling

    folder = request.getfixturevalue(shape)
    model = oracle(folder)
    model[1] = Pooling(32, pooling)
    got = vectors(folder, pooling=pooling)
    assert np.abs(got - model.encode_document(TEXTS)).max() <= TOLERANCE
    assert Encoder(folder, device="cpu", pooling=pooling).spec.pooling == pooling


def test_prompt_tokens_can_be_left_out_of_the_mean(bert_cls):
    model = oracle(bert_cls)
    model[1].pooling_mode = "mean"
    model.set_pooling_include_prompt(False)
    got = vectors(bert_cls, pooling="mean", pooled_prompt=False)
    assert np.abs(got - model.encode_document(TEXTS)).max() <= TOLERANCE
    assert np.abs(got - vectors(bert_cls, pooling="mean")).max() > 1e-2


def test_normalisation_and_similarity_can_be_set(bert_cls, qwen_last):
    assert np.allclose(np.linalg.norm(vectors(bert_cls, normalise=True), axis=1), 1, atol=1e-6)
    spec = Encoder(bert_cls, device="cpu", normalise=True, similarity="cosine").spec
    assert (spec.normalised, spec.similarity) == (True, "cosine")
    raw = vectors(qwen_last, normalise=False)
    assert np.abs(np.linalg.norm(raw, axis=1) - 1).max() > 0.1
    assert Encoder(qwen_last, device="cpu", normalise=False).spec.normalised is False


def test_padding_side_changes_where_padding_stands_and_no_vector(qwen_last):
    right = Encoder(qwen_last, device="cpu", padding_side="right")
    _, features = next(right.network.batches(["cat dog bird", "cat"], what="test"))
    assert features["attention_mask"][:, 0].all()
    assert np.abs(right.encode_documents(documents(TEXTS)).values - vectors(qwen_last)).max() <= TOLERANCE


# ---- the end-of-text token ----------------------------------------------------------------------------------------------


def test_every_text_ends_with_the_end_of_text_token_also_a_cut_one(llama):
    encoder = Encoder(llama, device="cpu", append_eos=True, pooling="lasttoken", max_length=12)
    eos = encoder.network.model.tokenizer.eos_token_id
    before = Encoder(llama, device="cpu", pooling="lasttoken", max_length=12).network.model.tokenizer
    assert before(TEXTS)["input_ids"][1][-1] != eos
    for rows, features in encoder.network.batches(TEXTS, what="test"):
        lengths = features["attention_mask"].sum(1)
        assert lengths.max() <= 12
        assert [int(features["input_ids"][i, lengths[i] - 1]) for i in range(len(rows))] == [eos] * len(rows)
    assert encoder.truncated == 2
    tokens = [[*before.encode(text)[:11], eos] for text in TEXTS]
    expected = torch.cat([states_of(llama, torch.tensor([ids]))[-1][:, -1] for ids in tokens]).numpy()
    got = encoder.encode_documents(documents(TEXTS)).values
    assert np.abs(got - expected).max() <= TOLERANCE


def test_a_rule_that_holds_already_changes_nothing(qwen_last):
    assert np.array_equal(vectors(qwen_last, append_eos=True), vectors(qwen_last))
    with pytest.raises(UsageError, match=r"append_eos=False.*ends texts with it itself"):
        vectors(qwen_last, append_eos=False)


def test_a_tokenizer_without_the_token_is_refused(bert_cls):
    with pytest.raises(UsageError, match=r"append_eos=True.*no end-of-text token"):
        vectors(bert_cls, append_eos=True)


# ---- attention both ways ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["qwen_last", "llama"])
def test_bidirectional_lets_the_first_token_see_the_last(shape, request):
    folder = request.getfixturevalue(shape)

    def first_states(**options):
        encoder = Encoder(folder, device="cpu", query_prompt="", **options)
        return [encoder.query_tokens([f"cat dog {last}"])[0][0] for last in ("bird", "stone")]

    one, other = first_states()
    assert np.array_equal(one, other)
    one, other = first_states(bidirectional=True)
    assert np.abs(one - other).max() > 1e-3


def test_bidirectional_states_are_those_of_attention_without_a_mask(llama):
    encoder = Encoder(llama, device="cpu", bidirectional=True, pooling="mean")
    ids = torch.tensor([encoder.network.model.tokenizer.encode("cat dog bird fish river")])
    expected = attending_both_ways(llama, ids).mean(1).numpy()
    got = encoder.encode_documents([Document("1", "cat dog bird fish river")]).values
    assert np.abs(got - expected).max() <= TOLERANCE
    together = encoder.encode_documents(documents(["cat dog bird fish river", "a", "fish " * 40])).values
    assert np.abs(together[0] - expected).max() <= TOLERANCE  # padding is not attended to
    assert encoder.spec.extra["bidirectional"] is True


def test_a_configuration_that_says_both_ways_is_taken_at_its_word(llama, tmp_path):
    """transformers 5.24 heeds `is_causal: false` only where there is padding."""
    import json
    import shutil

    folder = shutil.copytree(llama, tmp_path / "both-ways")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "is_causal": False}))
    encoder = Encoder(folder, device="cpu", pooling="mean")
    ids = torch.tensor([encoder.network.model.tokenizer.encode("cat dog bird fish river")])
    got = encoder.encode_documents([Document("1", "cat dog bird fish river")]).values
    assert np.abs(got - attending_both_ways(llama, ids).mean(1).numpy()).max() <= TOLERANCE


def test_a_network_that_ignores_the_option_is_refused(bert_cls):
    vectors(bert_cls, bidirectional=True)  # it attends both ways already
    with pytest.raises(UsageError, match=r"bidirectional=False: the attention of .*BertModel.* can't be changed"):
        vectors(bert_cls, bidirectional=False)


# ---- elastic: layers and dimensions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["bert_cls", "modernbert_mean", "qwen_last"])
def test_the_first_layer_alone_gives_the_states_of_the_whole_network(shape, request):
    folder = request.getfixturevalue(shape)
    encoder = Encoder(folder, device="cpu", layer=1, query_prompt="")
    network = encoder.network.model.transformers_model
    ids = torch.tensor([encoder.network.model.tokenizer.encode("cat dog bird fish")])
    expected = states_of(folder, ids)[1][0].numpy()
    got = encoder.query_tokens(["cat dog bird fish"])[0]
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(got - unit).max() <= TOLERANCE
    assert network.config.num_hidden_layers == 1
    stacks = [module for module in network.modules() if isinstance(module, torch.nn.ModuleList)]
    assert len(stacks[0]) == 1  # the second is not there, so it can't run


def test_layers_are_skipped_and_not_computed(llama):
    ran = []

    def count(encoder):
        layers = [m for m in encoder.network.model.modules() if type(m).__name__ == "LlamaDecoderLayer"]
        handles = [layer.register_forward_hook(lambda *_: ran.append(1)) for layer in layers]
        encoder.encode_queries(["cat"])
        for handle in handles:
            handle.remove()
        number, ran[:] = len(ran), []
        return number

    assert count(Encoder(llama, device="cpu")) == 4
    assert count(Encoder(llama, device="cpu", layer=2)) == 2


def test_layers_and_dims_that_are_not_there_are_refused(bert_cls):
    with pytest.raises(UsageError, match=r"layer=3: .* has 2 layers"):
        vectors(bert_cls, layer=3)
    with pytest.raises(UsageError, match=r"dim=33: .* has 32 dimensions"):
        vectors(bert_cls, dim=33)
    with pytest.raises(UsageError, match="dim=0"):
        Encoder(bert_cls, dim=0)
    assert np.array_equal(vectors(bert_cls, layer=2), vectors(bert_cls))


def test_dim_equals_truncate_dim_and_unit_length(modernbert_mean, bert_cls):
    model = oracle(modernbert_mean)
    expected = model.encode_document(TEXTS, truncate_dim=10, normalize_embeddings=True)
    got = vectors(modernbert_mean, dim=10)
    assert np.abs(got - expected).max() <= TOLERANCE
    # A model of raw vectors for dot products (Starbucks' way) is cut and no more.
    expected = oracle(bert_cls).encode_document(TEXTS, truncate_dim=10)
    assert np.abs(vectors(bert_cls, dim=10) - expected).max() <= TOLERANCE


def test_layer_norm_comes_before_the_cut(bert_cls):
    raw = torch.tensor(oracle(bert_cls).encode_document(TEXTS))
    expected = torch.nn.functional.layer_norm(raw, (32,))[:, :8].numpy()
    assert np.abs(vectors(bert_cls, dim=8, layer_norm=True) - expected).max() <= TOLERANCE


def test_a_starbucks_pair_by_hand(bert_cls):
    """Layer 1, dim 8: [CLS] of hidden_states[1], its first 8 entries, for dot products."""
    encoder = Encoder(bert_cls, device="cpu", layer=1, dim=8)
    tokenizer = encoder.network.model.tokenizer
    ids = [torch.tensor([tokenizer.encode("document: " + text)]) for text in ("cat dog", "river")]
    expected = np.concatenate([states_of(bert_cls, i)[1][:, 0, :8].numpy() for i in ids])
    got = encoder.encode_documents(documents(["cat dog", "river"])).values
    assert np.abs(got - expected).max() <= TOLERANCE


# ---- identity -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("dim", 8), ("layer", 1), ("pooling", "mean"), ("normalise", True), ("similarity", "cosine")),
        *(("layer_norm", True), ("padding_side", "left"), ("bidirectional", True), ("pooled_prompt", False)),
    ],
)
def test_each_setting_is_part_of_the_identity(bert_cls, option, value):
    base = Encoder(bert_cls, device="cpu").spec
    spec = Encoder(bert_cls, device="cpu", **{option: value}).spec
    lines = base.differences(spec)
    assert any(line.startswith((option, option + "d")) for line in lines), lines
    assert EncoderSpec.from_json(spec.to_json()) == spec
    again = Encoder.of_spec(spec, bert_cls, device="cpu").spec
    assert again.differences(spec) == []


def test_unknown_and_wrong_settings_are_named(bert_cls):
    for options, message in [
        ({"poling": "cls"}, "no option 'poling': did you mean 'pooling'"),
        ({"pooling": "means"}, "pooling 'means' is unknown.*'mean'"),
        ({"dim": "8"}, "encoder: dim is '8', expected a whole number"),
        ({"padding_side": "top"}, "padding_side 'top'"),
    ]:
        with pytest.raises(UsageError, match=message):
            Encoder(bert_cls, **options)
    assert EncoderSettings().named() == {}

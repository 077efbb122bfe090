"""BERT-like models without padding against plain sentence-transformers and transformers; what has to stay padded."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from cribble.models.encoder import Encoder
from cribble.models.packed_linear import PackedLinear, pack_linears, packing_exists
from cribble.models.pair_scorer import PairScorer
from cribble.models.runtime import TOKEN_BUDGETS, UNPADDED_TOKEN_BUDGET
from cribble.models.unpadded import FAMILIES, first_row_only, is_unpadded, unpad
from cribble.records import Document
from torch import nn

TOLERANCE = 1e-5

#: Names of transformers' classes, and what their configurations need beside the common sizes.
KINDS = {
    "Bert": {"hidden_act": "relu"},
    "Camembert": {"max_position_embeddings": 70},
    "DistilBert": {},
    "Electra": {"embedding_size": 24},
    "Roberta": {"max_position_embeddings": 70},
    "XLMRoberta": {"max_position_embeddings": 70},
}


def config(kind, **options):
    import transformers

    sizes = {"vocab_size": 500, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "pad_token_id": 0}
    sizes |= {"intermediate_size": 48, "hidden_dim": 48} if kind == "DistilBert" else {"intermediate_size": 48}
    sizes |= {"max_position_embeddings": 64, **KINDS.get(kind, {}), **options}
    return getattr(transformers, f"{kind}Config")(**sizes)


def spread(model):
    """Larger weights than the usual 0.02, and biases that are not zero, so that every part shows in the result."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
            elif "LayerNorm" not in name:
                parameter.normal_(0, 0.1)
    return model.eval()


def backbone(kind, **options):
    import transformers

    return spread(getattr(transformers, f"{kind}Model")(config(kind, **options)))


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory, save_tokenizer):
    """Folder of a random classifier with one label, by the name of its kind."""
    import transformers

    made = {}

    def save(kind, **options):
        key = (kind, *options.items())
        if key not in made:
            model = getattr(transformers, f"{kind}ForSequenceClassification")(config(kind, num_labels=1, **options))
            folder = tmp_path_factory.mktemp("cross") / kind
            spread(model).save_pretrained(folder)
            save_tokenizer(folder, decoder=False)
            if kind not in ("Bert", "Electra"):
                tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
                tokenizer.model_input_names = ["input_ids", "attention_mask"]
                tokenizer.save_pretrained(folder)
            made[key] = folder
        return made[key]

    return save


@pytest.fixture(scope="module")
def pairs(ragged_texts):
    chance = random.Random(1)
    return [(chance.choice(ragged_texts[:9]), text) for text in ragged_texts]


def peer_scores(folder, pairs):
    from sentence_transformers import CrossEncoder

    peer = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    return peer.predict(pairs, activation_fn=nn.Identity())


# ---- cross-encoders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_cross_encoders_give_the_scores_of_sentence_transformers(kind, cross_encoder, pairs):
    folder = cross_encoder(kind)
    expected = peer_scores(folder, pairs)
    scorer = PairScorer(folder, device="cpu")
    assert np.abs(scorer.score(pairs) - expected).max() <= TOLERANCE
    assert np.ptp(expected) > 1000 * TOLERANCE  # the random model tells texts apart
    assert is_unpadded(scorer.network.model)
    assert set(scorer.network._first_row.values()) == {True}
    for pair, score in list(zip(pairs, expected, strict=True))[::7]:  # batches of one
        assert abs(scorer.score([pair])[0] - score) <= TOLERANCE
    assert np.array_equal(scorer.score(pairs), scorer.score(pairs))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_other_architectures_run_as_they_are(pooling, cross_encoder, pairs):
    folder = cross_encoder("ModernBert", classifier_pooling=pooling, local_attention=16)
    scorer = PairScorer(folder, device="cpu")
    assert np.abs(scorer.score(pairs) - peer_scores(folder, pairs)).max() <= TOLERANCE
    assert not is_unpadded(scorer.network.model)
    assert set(scorer.network._first_row.values()) == {False}


def save_pooled_cross_encoder(folder, mode, save_tokenizer):
    """BERT, pooling and a linear layer: a classification head made of modules."""
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    inner = folder.with_name(folder.name + "-backbone")
    backbone("Bert").save_pretrained(inner)
    save_tokenizer(inner, decoder=False)
    torch.manual_seed(2)
    head = Dense(32, 1, activation_function=nn.Identity(), module_output_name="scores")
    CrossEncoder(modules=[Transformer(str(inner)), Pooling(32, mode), head], device="cpu").save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize(
    ("mode", "first_row"),
    [("cls", True), ("mean", False), ("max", False), ("lasttoken", False), ("weightedmean", False)],
)
def test_a_head_that_reads_more_than_the_first_row_gets_all_rows(mode, first_row, tmp_path, save_tokenizer, pairs):
    folder = save_pooled_cross_encoder(tmp_path / mode, mode, save_tokenizer)
    scorer = PairScorer(folder, device="cpu")
    assert np.abs(scorer.score(pairs) - peer_scores(folder, pairs)).max() <= TOLERANCE
    assert is_unpadded(scorer.network.model)
    assert set(scorer.network._first_row.values()) == {first_row}


def test_the_question_is_answered_before_a_batch_that_could_not_tell(tmp_path, save_tokenizer, pairs):
    """The first batch is one text of two special tokens and no more, for which mean and first row are near to one."""
    folder = save_pooled_cross_encoder(tmp_path / "mean", "mean", save_tokenizer)
    scorer = PairScorer(folder, device="cpu")
    scorer.score([("", "")])
    assert np.abs(scorer.score(pairs) - peer_scores(folder, pairs)).max() <= TOLERANCE


# ---- encoders --------------------------------------------------------------------------------------------------------


def save_encoder(folder, mode, save_tokenizer, **pooling):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    inner = folder.with_name(folder.name + "-backbone")
    backbone("Bert").save_pretrained(inner)
    save_tokenizer(inner, decoder=False)
    prompts = {"query": "the light of the river: ", "document": ""}
    modules = [Transformer(str(inner)), Pooling(32, mode, **pooling)]
    SentenceTransformer(modules=modules, device="cpu", prompts=prompts).save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize(
    ("mode", "options", "first_row"),
    [
        ("cls", {}, {"query": True, "document": True}),
        (
            "cls",
            {"include_prompt": False},
            {"query": False, "document": True},
        ),  # its first token comes after the prompt
        ("mean", {}, {"query": False, "document": False}),
        ("mean", {"include_prompt": False}, {"query": False, "document": False}),
    ],
)
def test_encoders_give_the_vectors_of_sentence_transformers(
    mode, options, first_row, tmp_path, save_tokenizer, ragged_texts
):
    from sentence_transformers import SentenceTransformer

    folder = save_encoder(tmp_path / mode, mode, save_tokenizer, **options)
    peer, encoder = SentenceTransformer(str(folder), device="cpu"), Encoder(folder, device="cpu")
    documents = [Document(str(i), text) for i, text in enumerate(ragged_texts)]
    assert np.abs(encoder.encode_queries(ragged_texts).values - peer.encode_query(ragged_texts)).max() <= TOLERANCE
    assert np.abs(encoder.encode_documents(documents).values - peer.encode_document(ragged_texts)).max() <= TOLERANCE
    assert {kind[0]: found for kind, found in encoder.network._first_row.items()} == first_row
    # Token states are asked of the same model, and all of them.
    expected = peer.encode_document(ragged_texts, output_value="token_embeddings")
    tokens = encoder.document_tokens(documents)
    for i, states in enumerate(expected):
        unit = nn.functional.normalize(states, dim=1)
        assert tokens[i].shape == unit.shape
        assert np.abs(tokens[i] - unit.numpy()).max() <= TOLERANCE


# ---- the encoder's forward -------------------------------------------------------------------------------------------


def batch(lengths, *, left=False):
    width = max(lengths)
    ids = torch.randint(1, 500, (len(lengths), width), generator=torch.Generator().manual_seed(len(lengths)))
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    mask = mask.flip(1) if left else mask
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [[1], [5], [3, 3, 3], [1, 1], [9, 9, 4, 4, 4, 1], [2, 7, 2, 7], [64, 1, 33]])
def test_states_equal_transformers(kind, lengths):
    plain, other = backbone(kind), backbone(kind)
    assert unpad(other)
    features = batch(lengths)
    real = features["attention_mask"].bool()
    with torch.inference_mode():
        expected, got = plain(**features), other(**features)
        without_mask = other(input_ids=features["input_ids"]).last_hidden_state
        with first_row_only():
            first = other(**features).last_hidden_state
        assert torch.allclose(got.last_hidden_state[real], expected.last_hidden_state[real], atol=TOLERANCE)
        if "pooler_output" in expected:
            assert torch.allclose(got.pooler_output, expected.pooler_output, atol=TOLERANCE)
        assert torch.allclose(without_mask, plain(input_ids=features["input_ids"]).last_hidden_state, atol=TOLERANCE)
    assert first.shape == (len(lengths), 1, 32)
    assert torch.allclose(first, expected.last_hidden_state[:, :1], atol=TOLERANCE)


@pytest.mark.parametrize("kind", ["Bert", "Electra"])
def test_token_types_are_read(kind):
    plain, other = backbone(kind), backbone(kind)
    assert unpad(other)
    features = batch([6, 3]) | {"token_type_ids": torch.tensor([[0, 0, 1, 1, 1, 1], [0, 1, 1, 0, 0, 0]])}
    real = features["attention_mask"].bool()
    with torch.inference_mode():
        expected, got = (model(**features).last_hidden_state[real] for model in (plain, other))
        untyped = other(**batch([6, 3])).last_hidden_state[real]
    assert torch.allclose(got, expected, atol=TOLERANCE)
    assert (untyped - got).abs().max() > 0.01


def test_what_it_does_not_do_is_done_by_transformers():
    """Bit for bit: padding on the left, holes, other masks, embeddings as input, positions, all layers' states, tuples."""
    plain, other = backbone("Bert"), backbone("Bert")
    assert unpad(other)
    holes = batch([6, 6])
    holes["attention_mask"][0, 2] = 0
    square = batch([4, 4])
    square["attention_mask"] = torch.ones(2, 1, 4, 4).tril().bool()
    inputs = [
        batch([5, 2], left=True),
        holes,
        square,
        {"inputs_embeds": torch.randn(2, 4, 32), "attention_mask": torch.ones(2, 4).long()},
        batch([5, 2]) | {"position_ids": torch.arange(5).flip(0)[None]},
        batch([5, 2]) | {"output_hidden_states": True},
        batch([5, 2]) | {"return_dict": False},
    ]
    with torch.inference_mode():
        for features in inputs:
            expected, got = plain(**features), other(**features)
            assert type(got) is type(expected)
            assert torch.equal(got[0], expected[0])
        assert len(other(**inputs[5]).hidden_states) == 4


def test_gradients_and_other_formats_are_left_to_transformers():
    plain, other = backbone("Bert"), backbone("Bert")
    assert unpad(other)
    features = batch([5, 2])
    for model in (plain, other):
        model(**features).last_hidden_state.sum().backward()
    assert torch.equal(plain.encoder.layer[2].output.dense.weight.grad, other.encoder.layer[2].output.dense.weight.grad)
    with torch.inference_mode():
        expected, got = (model.bfloat16()(**features).last_hidden_state for model in (plain, other))
    assert torch.equal(got, expected)


def test_a_copy_runs_on_its_own_weights():
    import copy

    model = backbone("Bert")
    assert unpad(model)
    other = copy.deepcopy(model)
    with torch.inference_mode():
        before = other(**batch([5, 2])).last_hidden_state
        model.embeddings.word_embeddings.weight.fill_(0)
        assert torch.equal(other(**batch([5, 2])).last_hidden_state, before)


def test_names_and_weights_stay():
    plain, other = backbone("Roberta"), backbone("Roberta")
    assert unpad(other)
    assert unpad(other)  # once more changes nothing
    assert plain.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), other.parameters(), strict=True))


def test_models_that_may_compute_something_else_stay_padded():
    class Own(nn.Linear):
        pass

    hooked = backbone("Bert")
    hooked.encoder.layer[1].output.register_forward_hook(lambda module, inputs, output: output * 2)
    subclassed = backbone("Bert")
    subclassed.encoder.layer[0].intermediate.dense = Own(32, 48).eval()
    patched = backbone("Bert")
    patched.encoder.layer[0].attention.forward = patched.encoder.layer[0].attention.forward
    training = backbone("Bert").train()
    decoder = backbone("Bert", is_decoder=True)
    two = nn.ModuleList([backbone("Bert"), backbone("Roberta")])
    for model in (hooked, subclassed, patched, training, decoder, two, nn.Linear(3, 3), backbone("ModernBert")):
        assert not unpad(model)
        assert not is_unpadded(model)


def test_a_model_whose_probe_differs_stays_padded():
    """A BERT whose attention is scaled otherwise, which no class or hook tells."""
    model = backbone("Bert")
    expected = model(**batch([5, 3])).last_hidden_state
    model.encoder.layer[1].attention.self.scaling = 1.0
    assert (model(**batch([5, 3])).last_hidden_state - expected).abs().max() > 0.01
    assert not unpad(model)
    assert not is_unpadded(model)


def test_known_names_are_names_of_transformers():
    """A renamed class would silently run padded."""
    import transformers

    assert all(hasattr(transformers, name) for name in FAMILIES)
    assert {name.removesuffix("Model") for name in FAMILIES} == set(KINDS)


# ---- together with the rest ------------------------------------------------------------------------------------------


@pytest.mark.skipif(not packing_exists(), reason="this torch has no oneDNN packed linear operator")
@pytest.mark.parametrize("kind", ["Bert", "DistilBert"])
def test_linear_layers_can_be_packed_afterwards(kind):
    plain, other = backbone(kind), backbone(kind)
    assert unpad(other)
    assert pack_linears(other) >= 18
    assert any(isinstance(module, PackedLinear) for module in other.modules())
    features = batch([9, 9, 4, 1])
    real = features["attention_mask"].bool()
    with torch.inference_mode():
        expected, got = (model(**features).last_hidden_state for model in (plain, other))
        with first_row_only():
            first = other(**features).last_hidden_state
    assert torch.allclose(got[real], expected[real], atol=TOLERANCE)
    assert torch.allclose(first, expected[:, :1], atol=TOLERANCE)


def test_a_batch_is_larger_where_padding_costs_nothing(cross_encoder):
    assert PairScorer(cross_encoder("Bert"), device="cpu").network.token_budget == UNPADDED_TOKEN_BUDGET
    modern = cross_encoder("ModernBert", classifier_pooling="cls", local_attention=16)
    assert PairScorer(modern, device="cpu").network.token_budget == TOKEN_BUDGETS["cpu"]
    assert PairScorer(cross_encoder("Bert"), device="cpu", token_budget=7).network.token_budget == 7


def test_bfloat16_stays_padded(cross_encoder):
    assert not is_unpadded(PairScorer(cross_encoder("Bert"), device="cpu", dtype="bfloat16").network.model)

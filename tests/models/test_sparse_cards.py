"""Cards of sparse encoders, and the rules that make whole numbers of weights."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.models.sparse_settings import CARDS, SparseCard, SparseSettings, find_card, quantised, settle


def test_every_shipped_card_is_read():
    cards = CARDS.shipped
    assert {"naver/splade-v3", "naver/splade-cocondenser-ensembledistil", "prithivida/Splade_PP_en_v1"} <= set(cards)
    prefix = "opensearch-project/opensearch-neural-sparse-encoding"
    assert {f"{prefix}-v1", f"{prefix}-doc-v2-mini", f"{prefix}-doc-v3-gte"} <= set(cards)
    for name, card in cards.items():
        assert card.summary.startswith("sparse encoder"), name
        assert card.published, name
        for entry in card.published:
            assert all(0 < value < 1 for value in entry["values"].values()), name
    assert cards["naver/efficient-splade-V-large-doc"].settings.query_model == "naver/efficient-splade-V-large-query"
    assert cards[f"{prefix}-doc-v3-distill"].settings.activation == "log1p_relu"


def test_the_published_mean_over_the_public_sets_is_that_of_its_values():
    """SPLADE++ ED: pyserini's 13 sets have the mean .5054 that the table of checkpoints gives as 50.5."""
    published = CARDS.shipped["naver/splade-cocondenser-ensembledistil"].published
    assert np.mean(list(published[1]["values"].values())) == pytest.approx(0.5054, abs=5e-5)
    assert published[0]["values"]["BEIR-13"] == 0.505


def test_settling_order():
    card = SparseCard("m", SparseSettings(max_length=256, quantise="naver", pooling="sum"))
    assert settle(SparseSettings(), card) == SparseSettings(max_length=256, pooling="sum")
    assert settle(SparseSettings(max_length=9, quantise="card"), card).named() == {
        "max_length": 9,
        "pooling": "sum",
        "quantise": "naver",
    }
    assert settle(SparseSettings(quantise=3.0), card).quantise == 3.0
    assert settle(SparseSettings(quantise="none"), card).quantise is None
    with pytest.raises(UsageError, match="no card of m has a rule"):
        settle(SparseSettings(quantise="card"), SparseCard("m"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sparse: {poling: max}", "unknown key 'poling'.*pooling"),
        ("sparse: {pooling: mean}", "'mean' is unknown"),
        ("sparse: {quantise: splade}", "quantise 'splade' is unknown"),
        ("sparse: {quantise: -1}", "factor above 0"),
        ("sparse: {document_terms: 0}", "at least 1 term"),
        ("sparse: {least_weight: 0}", "number above 0"),
        ("sparse: {max_length: long}", "max_length is 'long'"),
        ("sparse: [1]", "expected a mapping"),
        ("sparse: {published: [{values: 3}]}", "is published, expected"),
    ],
)
def test_wrong_cards_are_named(tmp_path, text, message):
    (tmp_path / "cribble.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        find_card("model", tmp_path)


def test_cards_by_file_name_and_folder(tmp_path):
    (tmp_path / "cribble.yaml").write_text("sparse: {max_length: 30}\nlicence: MIT\n")
    assert find_card("model", tmp_path).settings.max_length == 30
    assert find_card("model", tmp_path, "none") == SparseCard("model")
    assert find_card("model", None, str(tmp_path / "cribble.yaml")).settings.max_length == 30
    assert find_card("model", None, "naver/splade-v3").settings.max_length == 256
    with pytest.raises(UsageError, match="neither a file nor a shipped card"):
        find_card("model", None, "naver/splade-v4")


# ---- whole numbers -------------------------------------------------------------------------------------------------------


def test_pyserinis_rule_is_pythons_round():
    """Oracle: Python's own round, which sends halves to even numbers, on float64 as pyserini's encoder computes it."""
    halves = np.array([(n + 0.5) / 256 * 5 for n in range(40)], np.float64).astype(np.float32)
    random = np.random.default_rng(1).gamma(1, 1, 5000).astype(np.float32)
    weights = np.concatenate([halves, random, [0.009765625, 0.029296875, 0.0]]).astype(np.float32)
    expected = [float(round(float(w) / 5 * 256)) for w in weights]
    assert quantised(weights, "pyserini").tolist() == expected
    # Exact halves in binary: .5 and 1.5 units go to 0 and 2, not to 1 and 2.
    assert quantised(np.array([0.009765625, 0.029296875], np.float32), "pyserini").tolist() == [0.0, 2.0]


def test_a_factor_rounds_halves_to_even_too():
    weights = np.array([0.005, 0.125, 0.375, 2.5, 0.004], np.float32)
    assert quantised(weights, "naver").tolist() == [float(np.rint(np.float32(100) * w)) for w in weights]
    assert quantised(np.array([0.5, 1.5, 2.5, 0.25], np.float32), 1).tolist() == [0.0, 2.0, 2.0, 0.0]
    assert quantised(weights, None) is weights
    assert quantised(weights, "none") is weights


def test_published_weights_of_splade_v3_come_back_from_their_floats():
    """pyserini's golden query weights for "information retrieval" (tests/base/encoder/test_encoder_model_splade.py):
    any float within half a step of them is rounded to them."""
    golden = np.array([151, 139, 107, 92, 53], np.float32)
    for shift in (-0.49, 0, 0.49):
        assert quantised((golden + shift) * 5 / 256, "pyserini").tolist() == golden.tolist()

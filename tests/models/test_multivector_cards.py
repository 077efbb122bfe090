"""Cards of late-interaction checkpoints: what they may say, what they set, and that a wrong width is refused."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.models.known import known_models
from cribble.models.multivector_card import CARDS, MultiVectorCard, find_card
from cribble.models.multivector_encoder import MultiVectorEncoder
from cribble.models.multivector_options import make_token_encoder
from cribble.models.multivector_settings import MultiVectorSettings
from cribble.records import Document
from cribble.tests.models.tiny_late_models import save_stanford

TEXT = [Document("1", "the cat, the dog. is a river?")]


@pytest.fixture(scope="module")
def stanford(tmp_path_factory):
    return save_stanford(tmp_path_factory.mktemp("cards") / "stanford")


@pytest.fixture
def carded(stanford):
    """The checkpoint with `cribble.yaml` in its folder, for one test."""
    path = stanford / "cribble.yaml"

    def write(text):
        path.write_text(text)
        return stanford

    yield write
    path.unlink(missing_ok=True)


def test_every_shipped_card_is_read():
    cards = CARDS.shipped
    families = ("colbert-ir/colbertv2.0", "lightonai/colbertv2.0", "answerdotai/answerai-colbert-small-v1")
    families += ("jinaai/jina-colbert-v2", "lightonai/GTE-ModernColBERT-v1", "lightonai/Reason-ModernColBERT")
    families += ("lightonai/LateOn", "lightonai/LateOn-Code", "lightonai/mLateOn", "google/xtr-base-en")
    families += ("mixedbread-ai/mxbai-edge-colbert-v0-17m", "mixedbread-ai/mxbai-edge-colbert-v0-32m")
    families += ("mixedbread-ai/mxbai-colbert-large-v1", "LiquidAI/LFM2-ColBERT-350M", "antoinelouis/colbert-xm")
    families += ("bclavie/JaColBERTv2", "vidore/colpali-v1.3-hf", "vidore/colqwen2-v1.0-hf", "vidore/colSmol-256M")
    assert set(families) <= set(cards)
    shown = dict(known_models())
    for name, card in cards.items():
        assert card.summary.startswith("late interaction"), name
        assert shown[name] == card.summary, name
        assert set(card.settings.named()) == set(card.reasons), name
        assert not card.pages or not card.settings.named(), name
        for entry in card.published:
            assert all(0 < value < 1 for value in entry["values"].values()), name
            assert all(isinstance(entry[what], str) and entry[what] for what in ("setting", "source")), name


def test_the_published_mean_is_that_of_its_sets():
    """answerai-colbert-small's card gives 53.79 as the mean of the 15 sets whose values it lists: its rounding, 5e-5."""
    fifteen = CARDS.shipped["answerdotai/answerai-colbert-small-v1"].published[1]["values"]
    assert len(fifteen) == 15
    assert np.mean(list(fifteen.values())) == pytest.approx(0.5379, abs=5e-5)


def test_a_card_sets_what_the_user_does_not(carded):
    reason = "reasons: {query_length: trained so, expansion: trained so, skip: trained so}"
    folder = carded(f"multivector: {{query_length: 12, expansion: none, skip: none, {reason}}}\nlicence: MIT\n")
    encoder = MultiVectorEncoder(folder, device="cpu")
    recorded = {name: encoder.spec.extra[name] for name in ("query_length", "expansion", "skip", "document_length")}
    assert recorded == {"query_length": 12, "expansion": "none", "skip": "none", "document_length": 40}
    given = MultiVectorEncoder(folder, device="cpu", expansion="none", skip="none", query_length=12, card="none")
    bare = MultiVectorEncoder(folder, device="cpu", card="none")
    assert given.spec == encoder.spec
    for ask in (lambda e: e.encode_queries(["a cat"]), lambda e: e.encode_documents(TEXT)):
        assert np.array_equal(ask(encoder).tokens, ask(given).tokens)
        assert ask(bare).tokens.shape != ask(encoder).tokens.shape
    user = MultiVectorEncoder(folder, device="cpu", query_length=9)
    assert (user.settings.query_length, user.settings.expansion) == (9, "none")
    made = make_token_encoder(str(folder), card="none", device="cpu")
    assert made.spec == bare.spec
    again = MultiVectorEncoder.of_spec(bare.spec, str(folder), device="cpu")
    assert again.spec == bare.spec  # what an index records is settled: a card that came later changes nothing


def test_another_width_than_the_cards_is_refused(carded):
    folder = carded("multivector: {dim: 128}")
    with pytest.raises(InputError, match="stanford gives vectors of 12 dimensions, its card says 128"):
        _ = MultiVectorEncoder(folder, device="cpu").spec
    assert MultiVectorEncoder(folder, device="cpu", card="none").spec.dim == 12
    assert MultiVectorEncoder(carded("multivector: {dim: 12}"), device="cpu").spec.dim == 12


def test_what_files_say_informs_only(carded):
    folder = carded("multivector: {files_say: {document_length: 8}}")
    assert MultiVectorEncoder(folder, device="cpu").spec == MultiVectorEncoder(folder, device="cpu", card="none").spec
    assert find_card("m", folder).summary == "late interaction, documents of 8 tokens"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("multivector: {query_lenght: 3}", "unknown key 'query_lenght'.*query_length"),
        ("multivector: {query_length: 3}", "query_length needs both a value and a reason"),
        ("multivector: {reasons: {skip: x}}", "skip needs both a value and a reason"),
        ("multivector: {expansion: some, reasons: {expansion: x}}", "expansion 'some' is unknown"),
        ("multivector: {files_say: {expansion: some}}", "expansion 'some' is unknown"),
        ("multivector: {files_say: {length: 3}}", "unknown key 'length'"),
        ("multivector: {dim: wide}", "dim is 'wide'"),
        ("multivector: [1]", "expected a mapping"),
        ("multivector: {published: [{values: 3}]}", "is published, expected"),
    ],
)
def test_wrong_cards_are_named(tmp_path, text, message):
    (tmp_path / "cribble.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        find_card("model", tmp_path)


def test_cards_by_file_name_and_folder(tmp_path):
    (tmp_path / "cribble.yaml").write_text("multivector: {licence: MIT}\n")
    assert find_card("model", tmp_path).licence == "MIT"
    assert find_card("model", tmp_path, "none") == MultiVectorCard("model")
    assert find_card("model", None, str(tmp_path / "cribble.yaml")).licence == "MIT"
    xtr = find_card("model", None, "google/xtr-base-en")
    assert xtr.settings == MultiVectorSettings(query_length=32, document_length=512)
    with pytest.raises(UsageError, match="neither a file nor a shipped card"):
        find_card("model", None, "google/xtr-base-de")

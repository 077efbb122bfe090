"""Late-interaction checkpoints of texts against sentence-transformers' own encode (1e-5)."""

from __future__ import annotations

import string

import pytest
from cribble.errors import InputError, UsageError
from cribble.models.checkpoint import EMBEDDED_NAME
from cribble.models.multivector_encoder import MultiVectorEncoder, is_multi_vector
from cribble.models.multivector_options import make_token_encoder, token_encoder_of
from cribble.models.multivector_states import TokenStates
from cribble.records import DescribedDocument, Document
from cribble.tests.models.tiny_late_models import save_pylate, save_sentence_transformers, save_stanford

MASKED = {"strategy": "fixed", "attend": False, "length": 16}
TEXTS = [
    "the cat, the dog. is a river?",
    "fish - swim",
    "",
    "a stone " * 40,
    "query",
    "日本 - ünïcode, cat",
    "the cat " * 9,
]

SAVED = {
    "st masked": lambda f: save_sentence_transformers(f, expansion=MASKED, skip=list(string.punctuation)),
    "st attended": lambda f: save_sentence_transformers(f, expansion=MASKED | {"attend": True}),
    "st least length": lambda f: save_sentence_transformers(f, expansion=MASKED | {"strategy": "min"}, query_length=30),
    "st none": lambda f: save_sentence_transformers(
        f, expansion=None, query_length=9, prompts={"query": "query: ", "document": "passage "}
    ),
    "st modernbert": lambda f: save_sentence_transformers(f, "modernbert", expansion=MASKED),
    "st mean": lambda f: save_sentence_transformers(f, expansion=None, similarity_fn_name="meanmaxsim"),
    "pylate": save_pylate,
    "pylate attended": lambda f: save_pylate(f, attend=True),
    "stanford": save_stanford,
    "stanford attended": lambda f: save_stanford(f, attend=True),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = {}

    def get(name):
        if name not in made:
            made[name] = SAVED[name](tmp_path_factory.mktemp("late") / name.replace(" ", "-"))
        return made[name]

    return get


def own(path, **changes):
    """sentence-transformers' model, with attributes of its modules changed as its documentation says."""
    from sentence_transformers import MultiVectorEncoder as Theirs

    model = Theirs(str(path), device="cpu", local_files_only=True)
    for name, value in changes.items():
        setattr(model[0], name, value)
    return model


def agree(mine, theirs):
    assert len(mine) == len(theirs)
    for i, matrix in enumerate(theirs):
        assert mine[i].shape == matrix.shape
        assert mine[i] == pytest.approx(matrix, abs=1e-5)


@pytest.mark.parametrize("name", SAVED)
def test_vectors_are_those_of_sentence_transformers(folder, name):
    encoder, theirs = MultiVectorEncoder(folder(name), device="cpu"), own(folder(name))
    assert is_multi_vector(folder(name))
    agree(encoder.encode_queries(TEXTS), theirs.encode_query(TEXTS, convert_to_numpy=True))
    documents = [Document(str(i), text) for i, text in enumerate(TEXTS)]
    agree(encoder.encode_documents(documents), theirs.encode_document(TEXTS, convert_to_numpy=True))
    again = MultiVectorEncoder.of_spec(encoder.spec, str(folder(name)), device="cpu")
    assert again.spec == encoder.spec
    assert again.encode_queries(TEXTS).tokens.tolist() == encoder.encode_queries(TEXTS).tokens.tolist()
    assert encoder.spec.extra["scores"] == ("meanmaxsim" if name == "st mean" else "maxsim")
    assert encoder.spec.dim == 12


@pytest.mark.parametrize(
    ("setting", "changes"),
    [
        ({"expansion": "attended"}, {"query_expansion": MASKED | {"attend": True}}),
        ({"expansion": "none"}, {"query_expansion": None, "query_length": 16}),
        ({"query_length": 24}, {"query_expansion": MASKED | {"length": 24}}),
        ({"document_length": 8}, {"document_length": 8}),
    ],
)
def test_settings_do_what_they_say(folder, setting, changes):
    encoder, theirs = (
        MultiVectorEncoder(folder("stanford"), device="cpu", **setting),
        own(folder("stanford"), **changes),
    )
    plain = MultiVectorEncoder(folder("stanford"), device="cpu")
    documents = [Document(str(i), text) for i, text in enumerate(TEXTS)]
    queries, passages = encoder.encode_queries(TEXTS), encoder.encode_documents(documents)
    agree(queries, theirs.encode_query(TEXTS, convert_to_numpy=True))
    agree(passages, theirs.encode_document(TEXTS, convert_to_numpy=True))
    assert encoder.spec.differences(plain.spec)
    agree(plain.encode_queries(TEXTS), own(folder("stanford")).encode_query(TEXTS, convert_to_numpy=True))


def test_skip_lists_and_markers(folder):
    plain = MultiVectorEncoder(folder("stanford"), device="cpu")
    kept = MultiVectorEncoder(folder("stanford"), device="cpu", skip="none")
    text = [Document("1", "the cat, the dog. is a river?")]
    assert len(kept.encode_documents(text).tokens) == len(plain.encode_documents(text).tokens) + 3
    assert (plain.spec.query_prompt, plain.spec.document_prompt) == ("[unused0] ", "[unused1] ")
    other = MultiVectorEncoder(folder("stanford"), device="cpu", document_prompt="")
    assert len(other.encode_documents(text).tokens) == len(plain.encode_documents(text).tokens) - 1


def test_what_is_cut_is_counted(folder, caplog):
    encoder = MultiVectorEncoder(folder("stanford"), device="cpu")
    encoder.encode_documents([Document(str(i), text) for i, text in enumerate(TEXTS)])
    assert encoder.truncated == 1
    assert "1 of 7 texts are longer than 40 tokens" in caplog.text
    encoder.encode_queries(TEXTS)
    assert encoder.truncated == 3
    assert "2 of 7 queries fill their 16 tokens" in caplog.text


def test_the_kind_of_checkpoint_says_how_it_is_used(folder):
    states = make_token_encoder(device="cpu", max_length=32)
    assert isinstance(states, TokenStates)
    assert states.spec.pooling == "token states"
    assert (states.spec.dim, states.spec.model, states.spec.max_length) == (384, EMBEDDED_NAME, 32)
    assert token_encoder_of(states.spec, device="cpu").spec == states.spec
    late = make_token_encoder(str(folder("pylate")), device="cpu")
    assert isinstance(late, MultiVectorEncoder)
    assert isinstance(token_encoder_of(late.spec, str(folder("pylate"))), MultiVectorEncoder)
    with pytest.raises(UsageError, match="late-interaction checkpoint, which has no option 'layer'"):
        make_token_encoder(str(folder("pylate")), layer=1)
    with pytest.raises(UsageError, match="used by its token states, which has no option 'expansion'"):
        make_token_encoder(expansion="masked")


def test_what_makes_no_sense_is_refused(folder):
    for options, message in [
        ({"expansion": "some"}, "expansion 'some' is unknown"),
        ({"skip": "words"}, "skip 'words' is unknown"),
        ({"query_length": 0}, "query_length=0"),
        ({"lenght": 3}, "no option 'lenght'"),
    ]:
        with pytest.raises(UsageError, match=message):
            MultiVectorEncoder(folder("stanford"), **options)
    with pytest.raises(UsageError, match=r"document_length=65: .* has 64 positions"):
        MultiVectorEncoder(folder("stanford"), device="cpu", document_length=65).encode_documents([Document("1", "a")])
    picture = DescribedDocument.of(Document("p", ""), {"image_file": "p.png"})
    with pytest.raises(InputError, match=r"stanford reads texts only, and the documents are pictures \(p\.png\)"):
        MultiVectorEncoder(folder("stanford"), device="cpu").encode_documents([picture])
    with pytest.raises(InputError, match="was not trained for late interaction, its projection would be random"):
        MultiVectorEncoder(EMBEDDED_NAME, device="cpu").encode_queries(["cat"])
    with pytest.raises(UsageError, match="got one str"):
        MultiVectorEncoder(folder("stanford"), device="cpu").encode_queries("cat")

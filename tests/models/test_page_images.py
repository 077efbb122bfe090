"""Page images through late-interaction models against sentence-transformers' own encode (1e-5), to an index and a ranking."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cribble.corpora import load_dataset
from cribble.errors import InputError, UsageError
from cribble.index.manifest import read_manifest
from cribble.index.maxsim import maxsim
from cribble.models.image_documents import image_batches
from cribble.models.multivector_encoder import MultiVectorEncoder
from cribble.records import DescribedDocument, Document
from cribble.tests.models.tiny_page_models import save_colidefics, save_colpali, save_colqwen2

SAVED = {"colqwen2": save_colqwen2, "colpali": save_colpali, "colidefics": save_colidefics}
QUERIES = ["a cat", "the dog in the river of the house", "page.png", ""]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = {}

    def get(name):
        if name not in made:
            made[name] = SAVED[name](tmp_path_factory.mktemp("pages") / name)
        return made[name]

    return get


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Five pictures of different shapes, half of one, and an empty file."""
    from PIL import Image

    place = tmp_path_factory.mktemp("pictures")
    chance = np.random.default_rng(4)
    for name, shape in {"a": (40, 50), "b": (20, 20), "c": (90, 30), "d": (16, 60), "e": (64, 64)}.items():
        Image.fromarray(chance.integers(0, 255, (*shape, 3), dtype=np.uint8)).save(place / f"{name}.png")
    (place / "half.png").write_bytes((place / "a.png").read_bytes()[:900])
    (place / "none.jpg").write_bytes(b"")
    return place


@pytest.fixture(scope="module")
def documents(pages):
    return list(load_dataset(f"images:{pages}").documents())


def own(path):
    from sentence_transformers import MultiVectorEncoder as Theirs

    return Theirs(str(path), device="cpu", local_files_only=True)


def opened(documents):
    from PIL import Image

    return [Image.open(document.metadata["image_file"]).convert("RGB") for document in documents]


def agree(mine, theirs):
    assert len(mine) == len(theirs)
    for i, matrix in enumerate(theirs):
        assert mine[i].shape == matrix.shape
        assert np.abs(mine[i] - matrix).max() <= TOLERANCE


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("token_budget", [1, None])
def test_vectors_are_those_of_sentence_transformers(folder, documents, name, token_budget):
    encoder, theirs = MultiVectorEncoder(folder(name), device="cpu", token_budget=token_budget), own(folder(name))
    found = encoder.encode_documents(documents)
    agree(found, theirs.encode_document(opened(documents), convert_to_numpy=True))
    agree(
        encoder.encode_queries(QUERIES),
        theirs.encode_query([{"text": text} for text in QUERIES], convert_to_numpy=True),
    )
    assert encoder.spec.normalised
    assert np.linalg.norm(found.tokens, axis=1) == pytest.approx(1, abs=1e-5)
    again = MultiVectorEncoder.of_spec(encoder.spec, str(folder(name)), device="cpu")
    assert again.spec == encoder.spec
    assert np.array_equal(again.encode_queries(["cat"]).tokens, encoder.encode_queries(["cat"]).tokens)


def test_batches_hold_as_many_pictures_as_the_budget_has_room_for(folder, documents):
    """Oracle: the tokens that each picture gets when it is processed alone, less the words around it."""
    encoder = MultiVectorEncoder(folder("colqwen2"), device="cpu")
    network, files = encoder.documents, [document.metadata["image_file"] for document in documents]
    token = network.model.processor.image_token_id
    alone = [int((network.model.preprocess([image])["input_ids"] == token).sum()) for image in opened(documents)]
    assert len(set(alone)) > 1
    seen = []
    for rows, features in image_batches("m", network.model, "cpu", files, token_budget=30):
        assert len(rows) == 1 or len(rows) * max(alone[row] for row in rows) <= 30
        assert (features["input_ids"] == token).sum(1).tolist() == [alone[row] for row in rows]
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(files)))


def test_pages_are_found_by_texts_on_the_command_line(folder, pages, documents, tmp_path):
    """Scores are sentence-transformers' MaxSim over its own vectors; files that are no pictures are counted."""
    from cribble.cli import app
    from typer.testing import CliRunner

    index = tmp_path / "index"
    command = ["index", f"images:{pages}", "--retriever", "late", "--model", str(folder("colqwen2"))]
    done = CliRunner().invoke(app, [*command, "--set", "storage=float32", "--out", str(index), "--json"])
    assert done.exit_code == 0, done.output
    assert "2 files are missing or no readable images" in done.stderr
    assert read_manifest(index).documents == len(documents) == 5
    asked = CliRunner().invoke(app, ["search", str(index), "a cat by the river", "--k", "5", "--json"])
    assert asked.exit_code == 0, asked.output
    theirs = own(folder("colqwen2"))
    vectors = theirs.encode_document(opened(documents)), theirs.encode_query([{"text": "a cat by the river"}])
    scores = theirs.similarity(vectors[1], vectors[0])[0].tolist()
    expected = dict(zip([document.id for document in documents], scores, strict=True))
    found = {hit["id"]: hit["score"] for hit in json.loads(asked.stdout)["results"]}
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", SAVED)
def test_vectors_of_half_precision_have_unit_length(folder, documents, name):
    exact = MultiVectorEncoder(folder(name), device="cpu").encode_documents(documents).tokens
    half = MultiVectorEncoder(folder(name), device="cpu", dtype="bfloat16").encode_documents(documents).tokens
    assert half.dtype == np.float32
    assert np.linalg.norm(half, axis=1) == pytest.approx(1, abs=1e-6)
    assert (half * exact).sum(axis=1).min() > 0.98


def test_texts_among_pages(folder, documents):
    text = Document("t", "the cat")
    for name in ("colqwen2", "colpali"):
        with pytest.raises(InputError, match="texts as queries only, and document 't' is a text"):
            MultiVectorEncoder(folder(name), device="cpu").encode_documents([documents[0], text])
    encoder, theirs = MultiVectorEncoder(folder("colidefics"), device="cpu"), own(folder("colidefics"))
    expected = theirs.encode_document([{"text": "the cat"}, *opened(documents[:2])], convert_to_numpy=True)
    agree(encoder.encode_documents([text, *documents[:2]]), expected)


def test_prompts_of_queries_have_an_effect(folder):
    plain = MultiVectorEncoder(folder("colpali"), device="cpu")
    asked = MultiVectorEncoder(folder("colpali"), device="cpu", query_prompt="find ")
    expected = own(folder("colpali")).encode_query([{"text": "find cat"}], convert_to_numpy=True)
    agree(asked.encode_queries(["cat"]), expected)
    assert asked.spec.differences(plain.spec)


def test_a_prompt_of_documents_is_the_chats(folder, documents):
    encoder = MultiVectorEncoder(folder("colidefics"), device="cpu", document_prompt="Describe the image.")
    theirs = own(folder("colidefics"))
    expected = theirs.encode_document(opened(documents), prompt="Describe the image.", convert_to_numpy=True)
    agree(encoder.encode_documents(documents), expected)
    assert len(expected[0]) > len(theirs.encode_document(opened(documents[:1]))[0])


@pytest.mark.parametrize(
    "option",
    [
        {"query_length": 9},
        {"document_length": 9},
        {"expansion": "masked"},
        {"skip": "punctuation"},
        {"document_prompt": "x"},
    ],
)
def test_what_the_processor_sets_is_refused(folder, documents, option):
    with pytest.raises(UsageError, match="by a processor of its own, which sets that"):
        MultiVectorEncoder(folder("colpali"), device="cpu", **option).encode_documents(documents[:1])


def test_a_page_that_went_away_is_named(folder, tmp_path):
    page = DescribedDocument.of(Document("1", "x"), {"image_file": str(tmp_path / "x.png")})
    with pytest.raises(InputError, match=r"x\.png: can't be read as an image"):
        MultiVectorEncoder(folder("colqwen2"), device="cpu").encode_documents([page])


def test_an_adapter_is_refused_by_name(folder, tmp_path):
    import shutil

    adapter = shutil.copytree(folder("colidefics"), tmp_path / "adapter")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "some/base"}))
    with pytest.raises(InputError, match="adapter is an adapter over some/base, whose weights"):
        MultiVectorEncoder(adapter, device="cpu").encode_queries(["cat"])


def test_scores_of_pages_by_the_kernel(folder, documents):
    """The sum over query tokens of the best page token: sentence-transformers' similarity, 1e-5 a token."""
    encoder, theirs = MultiVectorEncoder(folder("colpali"), device="cpu"), own(folder("colpali"))
    pages, query = encoder.encode_documents(documents), encoder.encode_queries(["a cat"])[0]
    expected = theirs.similarity(theirs.encode_query([{"text": "a cat"}]), theirs.encode_document(opened(documents)))
    assert maxsim(query, pages.tokens, pages.offsets) == pytest.approx(expected[0].numpy(), abs=1e-5 * len(query))

"""What each query token matched: sums against the indexes' and the reranker's own scores, matches against loops."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from cribble.corpora.dataset import Dataset
from cribble.errors import InputError, UsageError
from cribble.explanation import Explanation, TokenMatch, TokenText
from cribble.index.maxsim import maxsim
from cribble.models.late_explanation import token_matches
from cribble.records import DescribedDocument, Document
from cribble.rerankers.maxsim import MaxSim
from cribble.retrievers.late import LateRetriever
from cribble.stage import rrf
from cribble.tests.models.tiny_late_models import save_sentence_transformers, save_stanford
from cribble.tests.stage.conftest import ByLength, Hashed

WORDS = ["cat", "dog", "fish", "river", "house", "tree", "stone", "bird", "city", "light"]
DOCUMENTS = [
    Document(f"d{i}", " ".join(WORDS[(i * j) % 10] for j in range(1, 2 + i % 9)) + ", the end." * (i % 3), "A city")
    for i in range(40)
]
QUERY = "the cats, a river dog"
MASKED = {"strategy": "fixed", "attend": False, "length": 16}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    models = {
        "colbert": str(save_stanford(folder / "colbert")),
        "mean": str(save_sentence_transformers(folder / "mean", expansion=None, similarity_fn_name="meanmaxsim")),
        "states": None,
    }
    data = Dataset("world", [], open_documents=lambda: iter(DOCUMENTS), num_documents=len(DOCUMENTS))
    return folder, models, data


def built(world, name, model, **options):
    folder, models, data = world
    return LateRetriever.build(data, folder / name, model=models[model], device="cpu", k=40, **options)


@pytest.mark.parametrize("similarity", ["dot", "cosine", "l2"])
@pytest.mark.parametrize("mean", [False, True])
def test_matches_are_those_of_loops_and_their_sum_is_maxsim(similarity, mean):
    """Loops in float64, 1e-12; `maxsim` in float32, 1e-4. With -10 all similarities are negative."""
    rng = np.random.default_rng(3)
    for size, shift in ((7, 0), (1, 0), (9, -10), (0, 0)):
        query = rng.normal(size=(5, 8)).astype(np.float32)
        document = (shift * query.mean(0) + rng.normal(size=(size, 8))).astype(np.float32)
        texts = [TokenText(f"q{i}") for i in range(5)], [TokenText(f"d{i}") for i in range(size)]
        found = token_matches(texts[0], query, texts[1], document, similarity=similarity, mean=mean)
        assert [m.query for m in found] == texts[0]
        for i, match in enumerate(found):
            values = []
            for row in document.astype(float):
                q = query[i].astype(float)
                if similarity == "cosine":
                    values.append(q @ row / np.linalg.norm(q) / np.linalg.norm(row))
                else:
                    values.append(q @ row if similarity == "dot" else -((q - row) ** 2).sum())
            if values:
                assert match.document == texts[1][int(np.argmax(values))]
                assert match.contribution == pytest.approx(max(values) / (5 if mean else 1), rel=1e-12, abs=1e-12)
            else:
                assert match.document is None
        offsets = np.array([0, size])
        whole = maxsim(query, document, offsets, similarity=similarity, mean=mean)[0]
        assert sum(m.contribution for m in found) == pytest.approx(float(whole), rel=1e-4)
    with pytest.raises(InputError, match="5 token vectors and 4 tokens"):
        token_matches(texts[0][:4], query, texts[1], document, similarity=similarity)


@pytest.mark.parametrize(
    ("name", "model", "options"),
    [
        ("colbert-exact", "colbert", {}),
        ("states-exact", "states", {}),
        ("states-l2", "states", {"similarity": "l2"}),
        ("states-mean", "states", {"mean": True}),
        ("mean-exact", "mean", {}),
    ],
)
def test_contributions_sum_to_the_exact_index_s_score(world, name, model, options):
    late = built(world, name, model, storage="float32", **options)
    scores = {hit.document.id: hit.score for hit in late.search(QUERY, 40)}
    assert len(scores) == 40
    for document in DOCUMENTS[:12]:
        found = late.explain_match(QUERY, document)
        assert found.stage_score == pytest.approx(scores[document.id], rel=1e-6)
        assert found.score == pytest.approx(scores[document.id], rel=1e-4)
        assert not found.differs
        assert found.notes == ()
        inside = sum(m.contribution for m in found.matches if m.document.word_span)
        assert sum(word.contribution for word in found.words) == pytest.approx(inside)
        assert sum(len(word.asked) for word in found.words) == sum(bool(m.document.word_span) for m in found.matches)
        assert [word.strength for word in found.words] == sorted((w.strength for w in found.words), reverse=True)
        assert {found.words[0].strength} <= {0, 1} if found.words else inside == 0
        assert all(word.word == document.full_text[slice(*word.span)] for word in found.words)


def test_a_word_matches_itself(world):
    late = built(world, "states-exact", "states", storage="float32")
    found = late.explain_match("cat", Document("new", "a house, the cat and stones"))
    cat = next(match for match in found.matches if match.query.token == "cat")
    assert (cat.document.word, cat.document.span) == ("cat", (13, 16))
    assert found.stage_score is None  # the index has no such document
    assert "was not found by the stage" in str(found)


def test_compressed_and_pooled_kinds_show_both_scores(world):
    for name, options, told in [
        ("float16", {}, "keeps float16 numbers;"),
        ("int8", {"storage": "int8"}, "keeps int8 numbers;"),
        ("pooled", {"pool_factor": 2, "storage": "float32"}, "keeps one vector for about 2 tokens;"),
        (
            "muvera",
            {"kind": "muvera", "projected": 8, "repetitions": 2, "partition_bits": 2, "pool_factor": 2},
            "the muvera index keeps float16 numbers of one vector for about 2 tokens;",
        ),
        ("plaid", {"kind": "plaid", "bits": 2}, "the plaid index keeps 2 bits a dimension;"),
    ]:
        late = built(world, name, "states", **options)
        scores = {hit.document.id: hit.score for hit in late.search(QUERY, 40)}
        found = late.explain_match(QUERY, DOCUMENTS[8])
        assert found.stage_score == pytest.approx(scores["d8"], rel=1e-6)
        assert told in found.notes[0]
        if "pool_factor" in options:
            assert found.differs
            assert f"{found.score:.4f} by its token vectors, {found.stage_score:.4f} by the stage" in str(found)
        assert found.to_dict()["stage_score"] == found.stage_score


def test_warp_says_that_it_estimates(world):
    late = built(world, "plaid", "states", kind="plaid", bits=2, mode="warp")
    found = late.explain_match(QUERY, DOCUMENTS[8])
    scores = {hit.document.id: hit.score for hit in late.search(QUERY, 40)}
    assert found.stage_score == pytest.approx(scores["d8"], rel=1e-6)
    assert [note.partition(" ")[2][:7] for note in found.notes] == ["stage's", "plaid i"]


def test_what_a_search_would_not_find_has_no_score(world):
    late = built(world, "states-exact", "states", storage="float32")
    for changes in ({"deny": ["d8"]}, {"allow": ["d7"]}):
        limited = replace(late, **changes)
        assert limited.explain_match(QUERY, DOCUMENTS[8]).stage_score is None
        assert limited.explain_match(QUERY, DOCUMENTS[7]).stage_score is not None


def test_through_a_pipeline(world):
    late = built(world, "states-exact", "states", storage="float32")
    pipeline = late % 30 >> MaxSim(depth=20, device="cpu") % 5
    hits = pipeline.search(QUERY, 5)
    why = pipeline.explain(QUERY, hits[0].document.id)
    assert why.document == next(d for d in DOCUMENTS if d.id == hits[0].document.id)
    assert [t.stage for t in why.traces] == ["late", "late % 30", "maxsim", "maxsim % 5"]
    assert (why.traces[-1].rank, why.traces[-1].score) == (1, hits[0].score)
    assert [m.stage for m in why.matches] == ["late", "maxsim"]
    for match in why.matches:
        assert match.score == pytest.approx(hits[0].score, rel=1e-4)
        assert match.stage_score == pytest.approx(hits[0].score, rel=1e-4)
    assert "late: 1 of 40" in str(why)
    assert json.loads(json.dumps(why.matches[0].to_dict()))["stage"] == "late"
    outside = pipeline.explain(QUERY, late.search(QUERY, 40)[-1].document.id)
    assert outside.traces[0].rank == 40
    assert outside.traces[-1].rank is None
    assert len(outside.matches) == 2


def test_other_stages_are_followed_and_not_taken_apart(texts):
    pipeline = rrf(Hashed(1), Hashed(2)) >> ByLength(depth=20)
    why = pipeline.explain("text", "d29", texts=texts)
    assert [trace.stage for trace in why.traces] == ["hashed1", "hashed2", "rrf(hashed1, hashed2)", "bylength"]
    assert why.matches == ()
    with pytest.raises(UsageError, match=r"hashed1 has no token vectors .* late interaction"):
        Hashed(1).explain_match("text", Document("d", "text"))


@pytest.fixture
def texts():
    class Texts:
        def get_many(self, ids):
            return {i: Document(i, "word " * 5) for i in ids if i.startswith("d")}

    return Texts()


def test_what_can_t_be_explained_is_refused(world, texts):
    late = built(world, "states-exact", "states", storage="float32")
    with pytest.raises(InputError, match="late: document 'nowhere' can't be explained, no document has this id"):
        late.explain(QUERY, "nowhere")
    with pytest.raises(InputError, match="no texts are at hand: pass texts="):
        Hashed(1).explain(QUERY, "d1")
    with pytest.raises(UsageError, match="the query to explain is empty"):
        late.explain("  ", "d1")
    picture = DescribedDocument.of(Document("p", ""), {"image_file": "p.png"})
    with pytest.raises(InputError, match="document 'p' is a picture"):
        late.explain_match(QUERY, picture)


def test_odd_texts(world):
    """An empty document, one of many scripts, a query of emoji, a document longer than the model reads."""
    for name, model in (("states-exact", "states"), ("colbert-exact", "colbert")):
        late = built(world, name, model, storage="float32")
        for query in ("🦊", "日本 ünïcode", "?!"):
            for text in ("", "🦊 in 日本, ünïcode!", ".,;", "cat " * 3000):
                found = late.explain_match(query, Document("x", text))
                assert all(w.word == text[slice(*w.span)] for w in found.words)
                assert str(found)
                assert any("the model read the document's first" in note for note in found.notes) == (len(text) > 99)
    assert any("the query has more tokens" in n for n in late.explain_match("cat " * 99, Document("x", "a")).notes)


def test_a_document_without_tokens_and_strengths():
    word = TokenText("a", "text", (0, 1), "a", (0, 1)), TokenText("b", "text", (2, 3), "b", (2, 3))
    asked = TokenText("q")
    document = Document("d", "a b")
    none = Explanation("q", document, "late", (TokenMatch(asked, -1.0, None),), -1.0)
    assert none.words == ()
    assert "nothing" in str(none)
    distances = Explanation(
        "q",
        document,
        "late",
        tuple(TokenMatch(asked, -d, word[i]) for d, i in ((1, 0), (1, 0), (3, 1))),
        -5.0,
        (),
        -4.0,
    )
    assert [(w.word, w.contribution) for w in distances.words] == [("a", -2.0), ("b", -3.0)]
    assert [w.asked for w in distances.words] == [("q", "q"), ("q",)]
    assert [w.strength for w in distances.words] == [1.0, pytest.approx(1 / 6)]
    filled = tuple(TokenMatch(TokenText("[MASK]", "expansion"), 0.5, word[i % 2]) for i in range(6))
    assert "[MASK] × 6" in str(Explanation("q", document, "late", filled, 3.0))

"""`cribble.Reranker(model).rank(query, docs)`: every form of input and output, over the tiny trained models and the fake."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import cribble
import pytest
from cribble.errors import InputError, UsageError
from cribble.records import Document
from cribble.rerankers.cards import shipped_cards
from cribble.rerankers.cross_encoder import CrossEncoder
from cribble.rerankers.facade import RankedResults, Reranker
from cribble.tests.models.tiny_language_models import save_language_model

QUERY = "guide to rivers"
#: Best first, for a model that knows the world of `synthetic_lists`.
GOOD, FAIR, POOR = "a superb page on one river", "the river: usable note", "one letter, broken, the river"
OTHER = "a superb page on one kettle"


def fake(kind: str = "yes-no", **options: object) -> Reranker:
    """A reranker that scores by the share of the query's words; overlap makes the order plain to see."""
    return Reranker("any", kind, backend="fake", **options)


# ---- which reranker -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def carded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model with a card of its own."""
    folder = save_language_model(tmp_path_factory.mktemp("models") / "carded", "qwen2")
    spec = "judge: {use: first, words: 4}\nstrategy: {use: sliding, window: 6, stride: 3}\n"
    (folder / "cribble.yaml").write_text(spec)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8192}))
    return folder


def test_the_card_in_the_models_folder_says_how_it_is_asked(carded: Path) -> None:
    reranker = Reranker(carded, ledger="off")
    assert reranker.stage.registered_name == "first"
    assert (reranker.stage.chosen_strategy.window, reranker.stage.chosen_strategy.stride) == (6, 3)
    ranked = reranker.rank(QUERY, [POOR, OTHER, FAIR, GOOD])
    assert sorted(ranked.positions) == [0, 1, 2, 3]
    assert ranked.provenance["calls"] == 1


def test_options_go_before_the_card(carded: Path) -> None:
    stage = Reranker(str(carded), window=4, ledger="off").stage
    assert (stage.chosen_strategy.window, stage.chosen_strategy.stride) == (4, 2)
    assert Reranker(carded, "prp-heapsort", ledger="off").stage.registered_name == "prp-heapsort"


@pytest.mark.parametrize(
    ("judge", "strategy", "kind", "used"),
    [
        ("first", "sliding", "first", "sliding"),
        ("first", "tournament", "llm", "tournament"),
        ("setwise", "setwise-bubble", "llm", "setwise-bubble"),
        ("duot5", "heapsort", "llm", "heapsort"),
        ("generate", "single", "fullrank", "single"),
        ("generate", "blocks", "llm", "blocks"),
        ("prp", "bubble", "prp-sliding", "bubble"),
        ("yes-no", None, "yes-no", "pointwise"),
        ("generate", None, "rankgpt", "sliding"),
    ],
)
def test_any_pair_of_a_card_is_what_runs(tmp_path, judge, strategy, kind, used) -> None:
    card = f"judge: {{use: {judge}}}\n" + (f"strategy: {{use: {strategy}}}\n" if strategy else "")
    (tmp_path / "cribble.yaml").write_text(card)
    stage = Reranker(tmp_path, backend="fake").stage
    assert (stage.registered_name, stage.chosen_judge.registered_name) == (kind, judge)
    assert stage.chosen_strategy.registered_name == used


@pytest.mark.parametrize("name", shipped_cards())
def test_every_shipped_card_runs_as_it_says(name) -> None:
    card = shipped_cards()[name]
    stage = Reranker(name, backend="fake").stage
    assert stage.registered_name != "llm"
    assert stage.chosen_judge.registered_name == card.judge["use"]
    assert stage.chosen_strategy.registered_name == card.strategy["use"]


def test_a_model_without_a_card_is_a_cross_encoder(classifier) -> None:
    reranker = Reranker(classifier)
    assert isinstance(reranker.stage, CrossEncoder)
    ranked = reranker.rank("cat", ["the cat and the dog", "fire and water"])
    assert ranked.has_scores
    assert ranked[0].score > ranked[1].score


def test_no_model_needs_a_kind_that_needs_none() -> None:
    assert fake().rank("red cat", ["red", "red cat"]).positions == [1, 0]
    with pytest.raises(UsageError, match=r"rerank.* 'cross-encodr' is unknown.*cross-encoder"):
        Reranker("any", "cross-encodr")
    with pytest.raises(UsageError, match="yes-no has no option 'windw'"):
        fake(windw=4)


def test_it_is_a_public_name() -> None:
    assert cribble.Reranker is Reranker


# ---- input ----------------------------------------------------------------------------------------------------------

DOCS = ["red", "red cat on the mat", "green dog", "red cat"]
BEST = [1, 3, 0, 2]  # for the query `red cat`: ties by given order


def test_ids_are_positions_unless_given() -> None:
    ranked = fake().rank("red cat", DOCS)
    assert [result.doc_id for result in ranked] == BEST
    assert [result.rank for result in ranked] == [1, 2, 3, 4]
    scores = [result.score for result in ranked]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4


@pytest.mark.parametrize("ids", [["a", "b", "c", "d"], [10, 20, 30, 40], ["7", 7, "x y", "ключ"], ("a", "b", "c", "d")])
def test_ids_keep_type_and_place(ids) -> None:
    ranked = fake().rank("red cat", DOCS, doc_ids=ids)
    assert [result.doc_id for result in ranked] == [ids[i] for i in BEST]
    assert all(ranked.get_score_by_docid(ids[i]) == ranked[n].score for n, i in enumerate(BEST))


def test_equal_texts_keep_their_ids() -> None:
    ranked = fake().rank("red cat", ["red cat", "dog", "red cat", "red cat"], doc_ids=["a", "b", "c", "d"])
    assert [result.doc_id for result in ranked] == ["a", "c", "d", "b"]
    assert ranked.get_score_by_docid("a") > ranked.get_score_by_docid("c") > ranked.get_score_by_docid("b")


def test_equal_ids_keep_their_texts() -> None:
    ranked = fake().rank("red cat", ["dog", "red cat", "red"], doc_ids=[1, 1, 1])
    assert [result.text for result in ranked] == ["red cat", "red", "dog"]
    assert ranked.get_result_by_docid(1).text == "red cat"  # the best of that id


def test_documents_and_mappings_bring_their_own_ids_and_titles() -> None:
    docs = [
        Document("d1", "dog"),
        Document("d2", "cat", "red"),
        {"text": "red", "doc_id": 3},
        {"content": "green", "id": "d4", "title": None},
        {"_id": "d5", "text": "mat"},
        "red cat",
    ]
    ranked = fake().rank("red cat", docs)
    assert [result.doc_id for result in ranked] == ["d2", 5, 3, "d1", "d4", "d5"]
    assert (ranked[0].document.title, ranked[0].text) == ("red", "cat")
    assert [r.doc_id for r in fake().rank("red cat", docs, doc_ids=range(6))] == [1, 5, 2, 0, 3, 4]


def test_metadata_travels_along() -> None:
    metadata = [{"page": n} for n in range(4)]
    ranked = fake().rank("red cat", DOCS, metadata=metadata)
    assert [result.document.metadata["page"] for result in ranked] == BEST
    assert fake().rank("red cat", DOCS)[0].document.metadata == {}


def test_one_text_and_any_iterable_will_do() -> None:
    assert [result.text for result in fake().rank("red cat", "red")] == ["red"]
    assert fake().rank("red cat", (text for text in DOCS)).positions == BEST
    assert fake().rank("red cat", {"text": "red", "doc_id": "x"})[0].doc_id == "x"
    assert fake().rank("red cat", Document("x", "red"))[0].doc_id == "x"


@pytest.mark.parametrize("kind", ["yes-no", "first", "prp-allpair", "setwise", "rankgpt", "icr"])
def test_no_document_and_one_document(kind) -> None:
    nothing = fake(kind).rank("red cat", [])
    assert len(nothing) == 0
    assert nothing.top_k(3) == []
    assert nothing.to_cohere() == {"results": []}
    assert fake(kind).rank("red cat", ["red"], doc_ids=["only"]).get_result_by_docid("only").rank == 1


def test_without_text_and_beyond_the_depth_the_order_stays() -> None:
    ranked = fake(depth=2).rank("red cat", ["", "red", "dog", "red cat", " "])
    assert ranked.positions == [1, 0, 2, 3, 4]
    assert ranked.provenance["without_text"] == 1
    assert fake().rank("red cat", ["", "dog", "red cat", " "]).positions == [2, 1, 0, 3]


@pytest.mark.parametrize(
    ("query", "docs", "rest", "message"),
    [
        ("", DOCS, {}, "the query is ''"),
        ("  ", DOCS, {}, "the query is '  '"),
        (None, DOCS, {}, "the query is None"),
        (7, DOCS, {}, "the query is 7"),
        ("q", ["red", 3], {}, "document 1 is 3, expected a text"),
        ("q", [None], {}, "document 0 is None"),
        ("q", [{"body": "red"}], {}, "document 0 is .*mapping with `text`"),
        ("q", [{"text": 3}], {}, "document 0 is"),
        ("q", DOCS, {"doc_ids": [1, 2]}, "4 documents and 2 doc_ids"),
        ("q", DOCS, {"metadata": [{}]}, "4 documents and 1 metadata"),
        ("q", None, {}, "docs is None, expected"),
        ("q", 7, {}, "docs is 7, expected"),
    ],
)
def test_wrong_input_is_named(query, docs, rest, message) -> None:
    with pytest.raises(InputError, match=message):
        fake().rank(query, docs, **rest)


# ---- output ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ranked() -> RankedResults:
    return fake().rank("red cat", DOCS, doc_ids=["a", "b", "c", "d"])


def test_top_k(ranked) -> None:
    assert [result.doc_id for result in ranked.top_k(2)] == ["b", "d"]
    assert ranked.top_k(0) == []
    assert len(ranked.top_k(99)) == ranked.results_count() == len(ranked) == 4
    assert ranked[-1].doc_id == "c"
    assert ranked.query == "red cat"
    with pytest.raises(UsageError, match=r"top_k\(-1\)"):
        ranked.top_k(-1)


def test_an_unknown_id_is_an_error_and_no_none(ranked) -> None:
    for find in (ranked.get_score_by_docid, ranked.get_result_by_docid):
        with pytest.raises(InputError, match=r"no document with the id 'z' was ranked \(4 were\)"):
            find("z")
    with pytest.raises(InputError, match="id 1 was"):
        fake().rank("red cat", ["red"], doc_ids=["1"]).get_score_by_docid(1)


def test_cohere_shape(ranked) -> None:
    shape = ranked.to_cohere()
    assert [row["index"] for row in shape["results"]] == BEST
    assert [row["document"]["text"] for row in shape["results"]] == [DOCS[i] for i in BEST]
    assert [row["relevance_score"] for row in shape["results"]] == [result.score for result in ranked]
    assert "document" not in ranked.to_cohere(return_documents=False)["results"][0]


def test_scores_that_only_tell_the_order_say_so() -> None:
    assert fake().rank("red cat", DOCS).has_scores
    order_only = fake("first").rank("red cat", DOCS)
    assert not order_only.has_scores
    assert [result.score for result in order_only] == [4.0, 3.0, 2.0, 1.0]


def test_what_it_cost_is_told(ranked) -> None:
    assert ranked.provenance["calls"] == 4
    assert ranked.provenance["failed_queries"] == 0


def test_async_gives_the_same() -> None:
    async def several() -> list[RankedResults]:
        reranker = fake()
        return await asyncio.gather(*(reranker.rank_async("red cat", DOCS, doc_ids=list("abcd")) for _ in range(8)))

    for result in asyncio.run(several()):
        assert [r.doc_id for r in result] == ["b", "d", "a", "c"]
        assert result.provenance["calls"] == 4

"""Model cards: each names a judge, a strategy, a template and options that exist and go together; files that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from cribble.errors import InputError, UsageError
from cribble.models.backends import ROOM as BACKENDS
from cribble.records import Document, Query
from cribble.registry import entries, find, make, option_names
from cribble.rerankers.candidates import Candidates
from cribble.rerankers.cards import Card, card_rows, find_card, shipped_cards
from cribble.rerankers.judges import ROOM as JUDGES
from cribble.rerankers.prompts import load_template
from cribble.rerankers.strategies import ROOM as STRATEGIES
from cribble.tests.rerankers.golden_inputs import documents

CARDS = shipped_cards()


@pytest.mark.parametrize("name", CARDS)
def test_card_names_what_exists_and_goes_together(name: str) -> None:
    card = CARDS[name]
    judge_options = {key: value for key, value in card.judge.items() if key != "use"}
    judge = make(JUDGES, card.judge["use"], judge_options)
    strategy = make(STRATEGIES, card.strategy["use"], {k: v for k, v in card.strategy.items() if k != "use"})
    assert strategy.verb in judge.verbs
    template = load_template(card.judge["template"])
    assert {strategy.verb, "order"} & template.verbs
    shown = getattr(strategy, "window", None) or getattr(strategy, "children", 0) + 1
    if card.window is not None and card.strategy["use"] != "single":
        assert shown == card.window
    assert template.max_documents is None or max(shown, card.window or 0) <= template.max_documents


@pytest.mark.parametrize("name", CARDS)
def test_card_says_no_more_than_is_known(name: str) -> None:
    card = CARDS[name]
    known = {option for backend in entries(BACKENDS) for option in option_names(find(BACKENDS, backend))}
    assert set(card.model) <= known, "an option that no backend has would be dropped in silence"
    for entry in card.published:
        assert entry["source"]
        assert entry["first_stage"]
        assert entry["values"]
        assert all(isinstance(value, float) for value in entry["values"].values())
    for text in (card.damage, card.notes, card.licence):
        assert "[U]" not in text


@pytest.mark.parametrize("name", CARDS)
def test_card_ranks_by_an_oracle(name: str) -> None:
    """Prompt, call and reading fit each other: the one document with the query's words comes from place 17 to the top,
    and no answer had to be repaired. The oracle is the backend fake."""
    shown = documents(24)
    shown[17] = Document("best", "Zebras of Zanzibar zigzag.")
    stage = make("rerankers", "llm", {"model": name, "backend": {"use": "fake"}, "ledger": "off", "depth": 24})
    (scores,) = stage.score([Candidates(Query("q", "zebras zanzibar zigzag"), shown)])
    assert int(scores.argmax()) == 17
    counts = stage.counts()
    assert counts["failed_queries"] == 0
    assert not [kind for kind in counts if kind.startswith("repaired") and counts[kind]]


def test_checkpoints_of_the_research_card_have_cards() -> None:
    named = """castorini/first_mistral castorini/first_qwen3_0.6b castorini/first_qwen3_14b rryisthebest/First_Model
        castorini/rank_zephyr_7b_v1_full castorini/rank_vicuna_7b_v1 castorini/LiT5-Distill-large liuwenhan/RankMistral100
        castorini/monot5-base-msmarco-10k castorini/monot5-3b-msmarco-10k castorini/duot5-3b-msmarco-10k
        Soyoung97/RankT5-base Qwen/Qwen3-Reranker-0.6B Qwen/Qwen3-Reranker-4B Qwen/Qwen3-Reranker-8B
        mixedbread-ai/mxbai-rerank-base-v2 mixedbread-ai/mxbai-rerank-large-v2 BAAI/bge-reranker-v2-gemma
        jhu-clsp/rank1-7b ielabgroup/Rank-R1-7B-v0.1 liuwenhan/reasonrank-7B google/flan-t5-large
        fireballoon/rank-flan-t5-xl fireballoon/rank-llama-2-7b meta-llama/Llama-3.1-8B-Instruct"""
    assert set(named.split()) <= set(CARDS)
    unconfirmed = [name for name, card in CARDS.items() if "Unconfirmed" in card.notes]
    assert sorted(unconfirmed) == sorted(f"castorini/first_qwen3_{size}b" for size in ("0.6", "1.7", "4", "8", "14"))


def test_published_numbers_are_the_sources() -> None:
    """Some by hand from the research card (rank_llm's reproduction tables, the models' pages)."""
    hand = {
        ("castorini/first_mistral", "BM25, top 100", "DL19"): 0.7294,
        ("castorini/first_mistral", "Contriever, top 100", "mean of 11"): 0.5564,
        ("rryisthebest/First_Model", "Contriever, top 100", "trec-covid"): 0.7913,
        ("castorini/first_qwen3_0.6b", "SPLADE++ EnsembleDistil, top 100", "DL19"): 0.7764,
        ("castorini/rank_zephyr_7b_v1_full", "BM25, top 100", "DL20"): 0.7080,
        ("castorini/rank_vicuna_7b_v1", "BM25, top 100", "DL19"): 0.6790,
        ("liuwenhan/RankMistral100", "BM25, top 100", "DL19"): 0.7255,
        ("castorini/monot5-3b-msmarco-10k", "BM25, top 100", "DL23"): 0.4502,
        ("castorini/duot5-3b-msmarco-10k", "BM25, top 100", "DL20"): 0.6913,
        ("Qwen/Qwen3-Reranker-4B", "Qwen3-Embedding-0.6B, top 100", "MTEB-R"): 69.76,
        ("google/flan-t5-large", "BM25, top 100", "DL19"): 0.6697,
    }
    for (name, first, dataset), value in hand.items():
        values = [e["values"].get(dataset) for e in CARDS[name].published if e["first_stage"] == first]
        assert value in values, (name, dataset)


def test_first_mistral_and_the_original_have_different_prompts() -> None:
    assert CARDS["castorini/first_mistral"].judge["template"] != CARDS["rryisthebest/First_Model"].judge["template"]
    assert "38.74" in CARDS["castorini/rank_zephyr_7b_v1_full"].damage


def test_rows_are_what_list_models_shows() -> None:
    rows = card_rows()
    assert [name for name, _ in rows] == sorted(CARDS)
    line = dict(rows)["castorini/first_mistral"]
    assert line == "first × sliding, template first-rankllm, window 20, DL19 0.7294 (BM25, top 100), MIT"
    assert all("\n" not in line and "?" not in line for _, line in rows)


def test_an_adapter_is_loaded_over_its_base_where_the_backend_can() -> None:
    name = "ielabgroup/Rank-R1-7B-v0.1"
    card = CARDS[name]
    assert card.options(name, {"model", "adapter"}) == {"model": "Qwen/Qwen2.5-7B-Instruct", "adapter": name}
    assert card.options(name, {"model", "url"}) == {}, "a server knows both under the adapter's name"
    first = CARDS["castorini/first_mistral"]
    assert first.options("here", {"model", "adapter", "max_length"}) == {"max_length": 4096}
    assert first.options("here", {"model"}) == {}


def test_cards_are_found_by_name_in_the_folder_and_by_file(tmp_path: Path) -> None:
    assert find_card("castorini/first_mistral") is CARDS["castorini/first_mistral"]
    assert find_card("unknown/model") == Card("unknown/model")
    assert find_card(str(tmp_path), "castorini/first_mistral") is CARDS["castorini/first_mistral"]
    (tmp_path / "cribble.yaml").write_text("judge: {use: yes-no, template: mine.yaml}\nwindow: 7\n")
    (tmp_path / "mine.yaml").write_text("verbs: [score]\ntext: '{query} {passages}'\nlabels: [y, n]\n")
    own = find_card(str(tmp_path))
    assert own.window == 7
    template = load_template(make(JUDGES, "yes-no", {"template": own.judge["template"]}).template)
    assert template.prompt("q", [Document("d", "text")]).text == "q text", "the template lies beside the card"
    assert find_card("other", str(tmp_path / "cribble.yaml")) == Card(
        "other", {"use": "yes-no", "template": str(tmp_path / "mine.yaml")}, window=7
    )
    with pytest.raises(
        UsageError, match="card 'castorini/first_mistra' is neither a file nor a shipped card: did you mean"
    ):
        find_card("m", "castorini/first_mistra")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("windows: 3", "unknown key 'windows': did you mean 'window'"),
        ("window: twenty", "window is 'twenty', expected a whole number or nothing"),
        ("judge: first", "judge is 'first', expected a mapping"),
        ("judge: {template: rankgpt}", "judge does not say which one (use: NAME)"),
        ("published: [{measure: nDCG@10}]", "expected a mapping with first_stage, measure, values, source"),
        ("- first", "expected a mapping, found list"),
        ("judge: {", "no valid YAML"),
    ],
)
def test_cards_with_mistakes_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "cribble.yaml").write_text(text)
    with pytest.raises(InputError, match=r"cribble\.yaml") as error:
        find_card(str(tmp_path))
    assert message in str(error.value)

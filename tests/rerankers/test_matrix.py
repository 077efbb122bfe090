"""Every judge with every sort that can ask it, and every named reranker, through the backend hf: each makes shuffled
lists better, with the tiny models of this folder, which `train_tiny_rankers.py` taught what is relevant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cribble.eval import evaluate, nDCG
from cribble.models.tokenizing import HFTokens
from cribble.records import Run
from cribble.registry import entries, find, make
from cribble.rerankers.candidates import with_texts
from cribble.rerankers.judges import ROOM as JUDGES
from cribble.rerankers.llm import LLMReranker
from cribble.rerankers.planning import plan
from cribble.rerankers.strategies import ROOM as STRATEGIES
from cribble.tests.rerankers.synthetic_lists import Lists, make_lists
from cribble.tests.rerankers.tiny_ranker_examples import CAUSAL, ENCODER_DECODER, Task, Teacher
from cribble.tests.rerankers.train_tiny_rankers import phrases_of

TINY = Path(__file__).parent / "tiny_rankers"

Spec = Mapping[str, Any]


class Asked(NamedTuple):
    """A judge, the tiny model that answers it, and the gain in nDCG@10 over shuffled lists that it must reach."""

    judge: Spec
    model: str = "causal"
    gain: float = 0.1


ASKED = {
    "first": Asked({"use": "first"}),
    "generate": Asked({"use": "generate"}, gain=0.03),
    "generate constrained": Asked({"use": "generate", "constrained": True}, gain=0.03),
    "setwise": Asked({"use": "setwise"}),
    "setwise likelihood": Asked({"use": "setwise", "mode": "likelihood"}),
    "prp": Asked({"use": "prp"}),
    "prp scoring": Asked({"use": "prp", "mode": "scoring"}),
    "yes-no": Asked({"use": "yes-no"}),
    "query-likelihood": Asked({"use": "query-likelihood"}),
    "rank1": Asked({"use": "rank1", "thinking_tokens": 32}),
    "rank-r1": Asked({"use": "rank-r1", "thinking_tokens": 32}),
    "icr": Asked({"use": "icr"}, gain=0.04),
    "monot5": Asked({"use": "monot5"}, "t5"),
    "rankt5": Asked({"use": "rankt5"}, "t5"),
    "duot5": Asked({"use": "duot5"}, "t5", 0.04),
    "prp t5": Asked({"use": "prp"}, "t5"),
    "setwise t5": Asked({"use": "setwise", "mode": "likelihood"}, "t5"),
    "lit5": Asked({"use": "generate", "template": "lit5-distill", "forced_length": False}, "t5", 0.08),
}
#: Windows and groups that are small beside the lists, so that each sort has something to do.
SORTS = {
    "pointwise": {},
    "allpair": {},
    "heapsort": {},
    "bubble": {},
    "setwise-heapsort": {},
    "setwise-bubble": {},
    "dual-end": {},
    "single": {},
    "sliding": {"window": 6, "stride": 3},
    "blocks": {"window": 6, "repeats": 3},
    "tournament": {"survivors": [5, 2], "group_sizes": [6, 5], "repeats": 2},
}
#: The named rerankers with what else they are given; `model` is causal where none is named.
PRESETS: dict[str, dict[str, Any]] = {
    "first": {"window": 6},
    "rankgpt": {"window": 6},
    "fullrank": {},
    "tourrank": {"repeats": 2},
    "prp-allpair": {},
    "prp-heapsort": {},
    "prp-sliding": {},
    "setwise": {},
    "rank-r1": {"thinking_tokens": 32},
    "yes-no": {},
    "query-likelihood": {},
    "rank1": {"thinking_tokens": 32},
    "icr": {},
    "llm": {},  # what the model's card says
    "monot5": {"model": "t5"},
    "rankt5": {"model": "t5"},
    "duot5": {"model": "t5"},
}


@cache
def shuffled(verb: str) -> Lists:
    """The lists to sort, of an nDCG@10 of about 0.7 as they come; shorter ones where pairs are asked."""
    return make_lists(7, 3, (5, 6)) if verb == "prefer" else make_lists(7, 6, (6, 8, 10))


def ndcg(run: Run, lists: Lists) -> float:
    return evaluate(run, lists.qrels, nDCG @ 10).mean(nDCG @ 10)


def reranked(kind: str, lists: Lists, model: str = "causal", **options: Any) -> Run:
    """The lists through a named reranker: every document is still there, and the cost is told."""
    stage = make("rerankers", kind, {"model": str(TINY / model), "ledger": "off", **options})
    run = stage(lists.queries, lists.run, texts=lists)
    for query in lists.queries:
        assert sorted(run.ids(query.id)) == sorted(lists.run.ids(query.id))
    for count in ("calls", "prompt_tokens", "depth"):
        assert run.provenance[count] > 0
    assert run.provenance["failed_queries"] == 0
    assert run.provenance["reranked"] == len(lists.documents)
    return run


def made(room: str, spec: Spec) -> Any:
    return make(room, spec["use"], {name: value for name, value in spec.items() if name != "use"})


VERBS = {name: made(STRATEGIES, {"use": name, **options}).verb for name, options in SORTS.items()}
PAIRS = [(asked, sort) for asked in ASKED for sort in SORTS if VERBS[sort] in made(JUDGES, ASKED[asked].judge).verbs]


@pytest.mark.parametrize(("name", "sort"), PAIRS)
def test_every_sort_by_every_judge_is_better_than_its_input(name: str, sort: str) -> None:
    asked, lists = ASKED[name], shuffled(VERBS[sort])
    run = reranked("llm", lists, asked.model, judge=asked.judge, strategy={"use": sort, **SORTS[sort]})
    assert ndcg(run, lists) > ndcg(lists.run, lists) + asked.gain


@pytest.mark.parametrize("kind", PRESETS)
def test_every_named_reranker_is_better_than_its_input_at_the_cost_foretold(kind: str) -> None:
    """The dry run tells calls and depth exactly and tokens within 2 %, by the tokenizer alone, where they don't depend on
    answers; what a model will think is not foreseen."""
    lists = shuffled("prefer")
    options = {"model": "causal"} | PRESETS[kind]
    stage = make("rerankers", kind, options | {"model": str(TINY / options["model"]), "ledger": "off"})
    told = plan(stage, with_texts(lists.queries, lists.run, lists)[0])
    run = reranked(kind, lists, **PRESETS[kind])
    assert ndcg(run, lists) > ndcg(lists.run, lists) + 0.05
    costs = run.provenance
    assert told["calls_exact"] or kind in ("prp-heapsort", "setwise", "rank-r1")
    if told["calls_exact"]:
        assert told["total_calls"] == costs["calls"]
        assert told["depth"] == costs["depth"] / len(lists.queries)
    if told["calls_exact"] and kind != "rank1":
        assert told["total_prompt_tokens"] == pytest.approx(costs["prompt_tokens"], rel=0.02)
        assert told["total_new_tokens"] == pytest.approx(costs["new_tokens"], rel=0.02)


def test_nothing_that_is_registered_is_left_out() -> None:
    assert {asked.judge["use"] for asked in ASKED.values()} == set(entries(JUDGES))
    assert set(SORTS) == set(entries(STRATEGIES))
    named = {kind for kind in entries("rerankers") if issubclass(find("rerankers", kind), LLMReranker)}
    assert set(PRESETS) == named
    # A pair that some form of a judge can make is in the matrix.
    uses = {(ASKED[name].judge["use"], sort) for name, sort in PAIRS}
    for judge in entries(JUDGES):
        for sort, verb in VERBS.items():
            if verb in find(JUDGES, judge).verbs:
                assert (judge, sort) in uses


@pytest.mark.parametrize("name", ["first", "setwise likelihood", "icr"])
def test_it_is_not_the_place_that_decides(name: str) -> None:
    """The best passages are found wherever they stand: lists sorted by relevance, and the other way around."""
    asked, lists = ASKED[name], shuffled("order")
    for sign in (1.0, -1.0):
        given = {
            query.id: {d: sign * lists.qrels[query.id][d] + 0.01 * i for i, d in enumerate(lists.run.ids(query.id))}
            for query in lists.queries
        }
        turned = replace(lists, run=Run.from_dict(given))
        run = reranked("llm", turned, asked.model, judge=asked.judge, strategy="single")
        assert ndcg(run, lists) > 0.85


@pytest.mark.parametrize(("model", "tasks"), [("causal", CAUSAL), ("t5", ENCODER_DECODER)])
def test_the_tokenizers_know_todays_prompts(model: str, tasks: Sequence[Task]) -> None:
    """Phrases of the prompts are single tokens. One that is not was changed after the training: run
    `train_tiny_rankers.py` again."""
    tokens = HFTokens(TINY / model)
    for task in tasks:
        for phrase in phrases_of(Teacher(task, tokens).judge.shown):  # type: ignore[attr-defined]
            if " " in phrase.strip():
                assert len(tokens.encode(phrase)) == 1, (task.judge, phrase)


def test_the_models_are_small() -> None:
    assert sum(path.stat().st_size for path in TINY.rglob("*") if path.is_file()) < 2 << 20

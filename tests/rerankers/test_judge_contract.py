"""What holds for every registered judge: verbs, documented options, pure calls, and that every option has an effect."""

from __future__ import annotations

import re
from typing import Any

import pytest
from cribble.errors import UsageError
from cribble.models.backends.fake import Fake
from cribble.models.calls import AttentionCall, Call, Failure, GenerateCall, LabelCall, LikelihoodCall, Reply, Request
from cribble.records import Document, Query
from cribble.registry import entries, find, make, option_names
from cribble.rerankers.judges import ROOM, VERBS, Answer, Judge

NAMES = sorted(entries(ROOM))
QUERY = Query("q", "red fish in cold water")
#: By words in common with the query, and by place: middling, none, best, some.
DOCUMENTS = tuple(
    Document(f"d{i}", text + " and" * i)
    for i, text in enumerate(
        ["a red fish was seen there", "the city has a house", "red fish live in cold water", "water and stone"]
    )
)
BEST_FIRST = (2, 0, 3, 1)

#: (judge, option) -> the options that set it to another value than its default's, with what it needs beside it.
FLIPS: dict[tuple[str, str], dict[str, Any]] = {
    ("first", "template"): {"template": "first-original"},
    ("first", "ids"): {"ids": "numbers"},
    ("generate", "template"): {"template": "rankgpt"},
    ("generate", "ids"): {"ids": "letters"},
    ("generate", "constrained"): {"constrained": True},
    ("generate", "thinking_tokens"): {"thinking_tokens": 64},
    ("generate", "forced_length"): {"forced_length": False},
    ("generate", "top"): {"top": 2},
    ("generate", "temperature"): {"temperature": 0.5},
    ("generate", "seed"): {"seed": 1, "temperature": 0.5},
    ("yes-no", "template"): {"template": "yes-no"},
    ("yes-no", "labels"): {"labels": ["true", "false"]},
    ("yes-no", "instruction"): {"instruction": "Find fish"},
    ("yes-no", "scores"): {"scores": "prob"},
    ("monot5", "template"): {"template": "monot5-rankllm"},
    ("monot5", "labels"): {"labels": ["yes", "no"]},
    ("rankt5", "template"): {"template": "yes-no", "labels": ["<extra_id_10>"]},
    ("rankt5", "labels"): {"labels": ["<extra_id_11>"]},
    ("duot5", "template"): {"template": "duot5-rankllm"},
    ("duot5", "labels"): {"labels": ["yes", "no"]},
    ("query-likelihood", "template"): {"template": "upr"},
    ("prp", "template"): {"template": "prp-chat"},
    ("prp", "mode"): {"mode": "scoring"},
    ("setwise", "template"): {"template": "setwise-chat"},
    ("setwise", "mode"): {"mode": "likelihood"},
    ("setwise", "permutations"): {"permutations": 3},
    ("setwise", "seed"): {"seed": 1, "permutations": 3},
    ("rank-r1", "template"): {"template": "rank-r1-v0.2"},
    ("rank-r1", "thinking_tokens"): {"thinking_tokens": 64},
    ("rank1", "template"): {"template": "yes-no"},
    ("rank1", "instruction"): {"instruction": "Find fish"},
    ("rank1", "thinking_tokens"): {"thinking_tokens": 64},
    ("icr", "template"): {"template": "icr-mistral-qa"},
    ("icr", "reverse"): {"reverse": False},
    ("icr", "heads"): {"heads": [[0, 0]]},
}
FLIPS |= {(name, "words"): {"words": 2} for name in NAMES}


def judge(name: str, **options: Any) -> Judge:
    made: Judge = make(ROOM, name, options)
    return made


def request(verb: str) -> Request:
    n = {"score": 1, "prefer": 2}.get(verb, len(DOCUMENTS))
    # Of the two of a pair the second is the better one, so that an answer can't be the given order.
    chosen = (DOCUMENTS[1], DOCUMENTS[2]) if verb == "prefer" else DOCUMENTS[:n]
    return Request(verb, QUERY, chosen)


def play(who: Judge, asked: Request, oracle: Fake) -> tuple[list[Call], list[Reply], Answer]:
    """Calls, replies and the answer of one request to a judge whose model is the oracle."""
    call, counts = who.call(asked, oracle.tokens)
    assert not counts
    calls, replies = [call], []
    while True:
        ((position, reply),) = oracle.answer([calls[-1]])
        assert position == 0
        assert not isinstance(reply, Failure), reply
        replies.append(reply)
        answer = who.read(asked, calls[-1], reply)
        if isinstance(answer, Answer):
            return calls, replies, answer
        calls.append(answer)


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


def test_verbs(name):
    assert find(ROOM, name).verbs
    assert judge(name).verbs <= find(ROOM, name).verbs <= set(VERBS)
    for verb in set(VERBS) - judge(name).verbs:
        with pytest.raises(UsageError, match=f"can't {verb}"):
            judge(name).call(request(verb), Fake().tokens)


def test_every_option_is_documented_and_has_a_flip(name):
    cls = find(ROOM, name)
    assert entries(ROOM)[name].summary
    documented = set(re.findall(r"`([a-z_]+)`", cls.__doc__))
    for option in option_names(cls):
        assert option in documented, f"{name}: {option}"
        assert (name, option) in FLIPS, f"{name}: {option}"


def test_flips_are_of_options_that_exist():
    for name, option in FLIPS:
        assert option in option_names(find(ROOM, name))


def test_calls_are_pure(name):
    """The same request makes an equal call, by another judge with the same options too, and knows its request."""
    tokens = Fake().tokens
    for verb in judge(name).verbs:
        who = judge(name)
        call, _ = who.call(request(verb), tokens)
        assert isinstance(call, LabelCall | GenerateCall | LikelihoodCall | AttentionCall)
        assert call == who.call(request(verb), tokens)[0] == judge(name).call(request(verb), tokens)[0]
        assert call.request.verb == verb or (name, verb) == ("generate", "ends")
        assert sorted(d.id for d in call.request.documents) == sorted(d.id for d in request(verb).documents)
        assert hash(call) is not None


VARIANTS = [(name, {}) for name in NAMES] + [
    ("prp", {"mode": "scoring"}),
    ("setwise", {"mode": "likelihood"}),
    ("setwise", {"permutations": 3}),
    ("setwise", {"permutations": 3, "mode": "likelihood"}),
    ("generate", {"top": 2}),
    ("generate", {"constrained": True}),
    ("generate", {"thinking_tokens": 64}),
    ("icr", {"reverse": False}),
    ("first", {"ids": "numbers"}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_answers_say_what_the_model_says(name, options):
    """An oracle model that knows relevance: the judge's answer is the oracle's, with nothing to repair."""
    who = judge(name, **options)
    for verb in who.verbs:
        _, _, answer = play(who, request(verb), Fake())
        expected = {
            "score": (),
            "prefer": (1, 0),
            "choose": BEST_FIRST[:1],
            "ends": (BEST_FIRST[0], BEST_FIRST[-1]),
            "order": BEST_FIRST if "top" not in options else (2, 0, 1, 3),
        }
        assert answer.order == expected[verb], verb
        assert dict(answer.counts) == {}, verb
        if answer.scores:
            assert len(answer.scores) == len(request(verb).documents)


POINTWISE = [name for name in NAMES if "score" in find(ROOM, name).verbs]


@pytest.mark.parametrize("name", POINTWISE)
def test_better_documents_score_higher(name):
    who = judge(name)
    scores = [play(who, Request("score", QUERY, (d,)), Fake())[2].scores[0] for d in DOCUMENTS]
    assert [scores[i] for i in BEST_FIRST] == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)


@pytest.mark.parametrize(("name", "option"), sorted(FLIPS), ids=lambda value: value)
def test_every_option_has_an_effect(name, option):
    """A flipped option changes a call, or the answer read from the same reply."""
    flipped = judge(name, **FLIPS[name, option])
    plain = judge(name, **{key: value for key, value in FLIPS[name, option].items() if key != option})
    changed = False
    for verb in flipped.verbs & plain.verbs:
        asked, oracle = request(verb), Fake()
        calls, replies, answer = play(plain, asked, oracle)
        other, _ = flipped.call(asked, oracle.tokens)
        changed |= other != calls[0] or flipped.read(asked, other, replies[0]) != answer
    assert changed


def test_any_text_and_unknown_values_are_read(name):
    """Whatever a model says, the answer is well formed: positions once each, scores finite, oddities counted."""
    for verb in judge(name).verbs:
        who, asked = judge(name), request(verb)
        for text in ("", "[9] > [9]", "Passage Z", "no idea", "<think> endless", "\x00[[[", "[2]"):
            call: Call | Answer = who.call(asked, Fake().tokens)[0]
            while not isinstance(call, Answer):
                size = len(getattr(call, "labels", getattr(call, "targets", asked.documents)))
                call = who.read(asked, call, Reply(values=(float("nan"),) * size, text=text, finish="length"))
            assert len(set(call.order)) == len(call.order)
            assert set(call.order) <= set(range(len(asked.documents)))
            assert len(call.order) == len(asked.documents) or verb != "order"
            assert all(score == score for score in call.scores)
            assert call.counts or text == "[2]", (verb, text)

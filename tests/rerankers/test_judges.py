"""Judges that read numbers: labels' logits, likelihoods, attention. Replies are made by hand."""

from __future__ import annotations

import math

import pytest
from cribble.errors import InputError, UsageError
from cribble.models.backends.fake import Fake, FakeTokens
from cribble.models.calls import AttentionCall, LabelCall, LikelihoodCall, Prompt, Reply, Request
from cribble.records import Document, Query
from cribble.registry import make
from cribble.rerankers.candidates import Candidates
from cribble.rerankers.judges import Answer, Judge, TooLong
from cribble.rerankers.judges.values import FLOOR, by_values, check_scores, score_of
from cribble.rerankers.scheduler import schedule

QUERY = Query("q", "which fish is red")
TOKENS = FakeTokens()
NAN = math.nan


def judge(name: str, **options):
    return make("rerankers/judges", name, options)


def documents(n: int, words: int = 4) -> tuple[Document, ...]:
    return tuple(Document(f"d{i}", " ".join(f"w{i}x{j}" for j in range(words))) for i in range(n))


def request(verb: str, n: int, words: int = 4) -> Request:
    return Request(verb, QUERY, documents(n, words))


def asked(who, verb: str, n: int, tokens=TOKENS):
    """The call about n documents, with nothing odd on the way."""
    call, counts = who.call(request(verb, n), tokens)
    assert counts == {}
    return call


def said(who, verb: str, n: int, *values: float) -> Answer:
    answer = who.read(request(verb, n), asked(who, verb, n), Reply(values=values))
    assert isinstance(answer, Answer)
    return answer


# ---- first ----------------------------------------------------------------------------------------------------------


def test_first_asks_for_the_letters_after_the_bracket():
    call = asked(judge("first"), "order", 3)
    assert isinstance(call, LabelCall)
    assert call.labels == ("A", "B", "C")
    assert call.prompt.tail == "["
    assert call.request == request("order", 3)
    assert "[C] w2x0" in call.prompt.messages[-1].content


def test_first_orders_by_logit_and_ties_keep_the_given_order():
    first = judge("first")
    assert said(first, "order", 4, 1.0, 3.0, 1.0, 2.0) == Answer((1, 3, 0, 2), (1.0, 3.0, 1.0, 2.0))
    assert said(first, "choose", 3, 1.0, 3.0, 3.0).order == (1,)
    assert said(first, "ends", 3, 1.0, 3.0, 1.0).order == (1, 2)
    assert said(first, "prefer", 2, 1.0, 3.0).order == (1, 0)
    assert said(first, "prefer", 2, 3.0, 3.0) == Answer((), (0.5, 0.5))


def test_first_counts_labels_that_a_server_does_not_tell():
    """Missing ones stand behind the others in their given order; scores are unknown then."""
    first = judge("first")
    assert said(first, "order", 4, NAN, -3.0, NAN, -1.0) == Answer((3, 1, 0, 2), (), {"missing_labels": 2})
    assert said(first, "order", 2, NAN, NAN) == Answer((0, 1), (), {"missing_labels": 2})
    assert said(first, "prefer", 2, NAN, -9.0).order == (1, 0)
    assert said(first, "prefer", 2, NAN, NAN) == Answer((), (0.5, 0.5), {"missing_labels": 2})


def test_first_with_numbers():
    call = asked(judge("first", ids="numbers"), "order", 12)
    assert call.labels == tuple(str(i) for i in range(1, 13))
    assert "[12] w11x0" in call.prompt.messages[-1].content


@pytest.mark.parametrize("options", [{}, {"ids": "letters"}])
def test_first_refuses_more_documents_than_ids(options):
    with pytest.raises(UsageError, match=r"27 documents|at most 26"):
        judge("first", **options).call(request("order", 27), TOKENS)


def test_first_refuses_ids_of_several_tokens():
    class Digits(FakeTokens):
        """Each digit is a token, as in Llama 2's vocabulary."""

        def length(self, text: str) -> int:
            return super().length("".join(f" {sign} " if sign.isdigit() else sign for sign in text))

    with pytest.raises(InputError, match="'10' is 2 tokens"):
        judge("first", ids="numbers").call(request("order", 12), Digits())
    assert asked(judge("first", ids="numbers"), "order", 9, Digits()).labels[-1] == "9"


def test_labels_are_looked_up_once_a_tokenizer():
    class Counting(FakeTokens):
        def check_labels(self, prompt, labels):
            looked_up.append(tuple(labels))

    looked_up: list[tuple[str, ...]] = []
    first, tokens = judge("first"), Counting()
    for n in (3, 2, 3, 5):
        first.call(request("order", n), tokens)
    assert looked_up == [("A", "B", "C"), ("D", "E")]
    first.call(request("order", 2), Counting())
    assert len(looked_up) == 3


# ---- prompts that are too long --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "verb", "n"),
    [("first", "order", 3), ("generate", "order", 3), ("yes-no", "score", 1), ("prp", "prefer", 2),
     ("setwise", "choose", 3), ("icr", "order", 3), ("rank-r1", "choose", 3), ("query-likelihood", "score", 1)],
)  # fmt: skip
def test_long_passages_are_shrunk_and_counted(name, verb, n):
    """At a limit 60 tokens beneath what it takes; one word of each passage is the least that can be shown."""
    who = judge(name, **({"thinking_tokens": 10} if name == "rank-r1" else {}))
    long = Request(verb, QUERY, documents(n, 100))

    def size(call) -> int:
        if isinstance(call, AttentionCall):
            parts = (call.head, *(call.join + p for p in call.passages), call.before, call.query, call.after)
            return sum(map(TOKENS.length, parts))
        return TOKENS.count(call.prompt)

    whole, counts = who.call(long, TOKENS)
    assert counts == {}
    limit = FakeTokens(size(whole) - 60)
    shrunk, counts = who.call(long, limit)
    assert counts == {"shrunk_prompts": 1}
    assert size(shrunk) <= limit.limit
    with pytest.raises(TooLong, match="too many"):
        who.call(long, FakeTokens(8))


def test_a_second_call_that_is_too_long_fails_its_query_only():
    class Verbose(Judge):
        """Asks again, at a length that only some documents allow."""

        verbs = frozenset({"score"})

        def call(self, request, tokens):
            return LabelCall(Prompt(text=request.documents[0].text), ("yes", "no"), request), {}

        def read(self, request, call, reply):
            if request.documents[0].text.endswith("x99"):
                raise TooLong("too long at last")
            return Answer((), reply.values[:1])

    asked = [Candidates(Query(f"q{n}", "w0x0"), list(documents(1, n))) for n in (100, 4)]
    backend = Fake()
    failed, fine = schedule(make("rerankers/strategies", "pointwise", {}), Verbose(), TOKENS, backend.answer, asked)
    assert failed.failure == "too long at last"
    assert fine.failure == ""
    assert fine.sorted.scores == [1.0]


def test_words_cut_passages():
    call = judge("first", words=2).call(request("order", 2), TOKENS)[0]
    assert "[B] w1x0 w1x1\n" in call.prompt.messages[-1].content
    with pytest.raises(UsageError, match="words is 0"):
        judge("first", words=0)


def test_templates_of_another_question_are_refused():
    with pytest.raises(UsageError, match=r"first: the template monot5 asks to score, expected one that asks to order"):
        judge("first", template="monot5")
    with pytest.raises(UsageError, match=r"'mono5' is unknown.*'monot5'"):
        judge("monot5", template="mono5")
    with pytest.raises(UsageError, match="the judge monot5 can't order"):
        judge("monot5").call(request("order", 2), TOKENS)


# ---- pointwise ------------------------------------------------------------------------------------------------------


def test_yes_no_scores():
    """Oracle: closed forms. Tolerance 1e-12."""
    yes, no = 1.5, 0.5
    for scores, expected in {
        None: 1.0,
        "difference": 1.0,
        "prob": 1 / (1 + math.exp(-1)),
        "log_prob": -math.log(1 + math.exp(-1)),
        "positive": 1.5,
    }.items():
        answer = said(judge("yes-no", **({"scores": scores} if scores else {})), "score", 1, yes, no)
        assert answer.order == ()
        assert answer.scores == (pytest.approx(expected, abs=1e-12),)


def test_yes_no_labels_and_instruction():
    call = asked(judge("yes-no", labels=["true", "false"], instruction="Find fish"), "score", 1)
    assert call.labels == ("true", "false")
    assert "<Instruct>: Find fish\n" in call.prompt.text
    alone = judge("yes-no", labels=["yes"])
    assert said(alone, "score", 1, -2.5).scores == (-2.5,)
    with pytest.raises(UsageError, match="scores=prob compares two labels"):
        judge("yes-no", labels=["yes"], scores="prob")
    with pytest.raises(UsageError, match="scores 'probability' are unknown"):
        judge("yes-no", scores="probability")
    with pytest.raises(UsageError, match="one or two labels"):
        judge("yes-no", labels=["a", "b", "c"])


def test_scores_where_labels_are_missing():
    """A label beyond a server's list is far less likely than any on it; both missing says nothing."""
    yes_no = judge("yes-no")
    assert said(yes_no, "score", 1, -0.5, NAN) == Answer((), (-0.5 - FLOOR,), {"missing_labels": 1})
    assert said(yes_no, "score", 1, NAN, -0.5).scores == (FLOOR + 0.5,)
    assert said(yes_no, "score", 1, NAN, NAN) == Answer((), (0.0,), {"missing_labels": 2})
    assert score_of((NAN, NAN), "prob") == (0.5, {"missing_labels": 2})


def test_scores_do_not_overflow():
    assert score_of((-900.0, 900.0), "log_prob")[0] == -1800.0
    assert score_of((900.0, -900.0), "log_prob")[0] == 0.0
    assert score_of((-900.0, 900.0), "prob")[0] == 0.0
    check_scores("x", None, ("a", "b"))


def test_t5_pointwise():
    monot5 = asked(judge("monot5"), "score", 1)
    assert monot5.labels == ("true", "false")
    assert monot5.prompt.text == "Query: which fish is red Document: w0x0 w0x1 w0x2 w0x3 Relevant:"
    assert said(judge("monot5"), "score", 1, 0.0, 0.0).scores == (pytest.approx(-math.log(2), abs=1e-12),)
    assert asked(judge("monot5", labels=["yes", "no"]), "score", 1).labels == ("yes", "no")
    assert asked(judge("rankt5"), "score", 1).labels == ("<extra_id_10>",)
    assert said(judge("rankt5"), "score", 1, -3.25).scores == (-3.25,)


def test_query_likelihood():
    who = judge("query-likelihood")
    call = asked(who, "score", 1)
    assert isinstance(call, LikelihoodCall)
    assert call.targets == ("which fish is red",)
    assert said(who, "score", 1, -12.5).scores == (-12.5,)
    assert said(who, "score", 1, NAN) == Answer((), (FLOOR,), {"missing_labels": 1})


# ---- pairs ----------------------------------------------------------------------------------------------------------


def test_duot5_gives_probabilities():
    who = judge("duot5")
    call = asked(who, "prefer", 2)
    assert call.labels == ("true", "false")
    assert "Document0: w0x0" in call.prompt.text
    answer = said(who, "prefer", 2, 0.0, 1.0)
    assert answer.order == (1, 0)
    assert answer.scores == pytest.approx((1 / (1 + math.e), math.e / (1 + math.e)), abs=1e-12)
    assert said(who, "prefer", 2, 1.0, 1.0).order == ()


def test_prp_scoring():
    who = judge("prp", mode="scoring")
    call = asked(who, "prefer", 2)
    assert isinstance(call, LabelCall)
    assert call.labels == (" A", " B")
    assert call.prompt.tail == "Passage"
    assert said(who, "prefer", 2, 0.25, 0.5).order == (1, 0)
    assert sum(said(who, "prefer", 2, 0.25, 0.5).scores) == pytest.approx(1, abs=1e-12)


def test_prp_prompts_share_the_first_passage():
    a, b, c = documents(3)
    prompts = [judge("prp").call(Request("prefer", QUERY, pair), TOKENS)[0].prompt.text for pair in ((a, b), (a, c))]
    shared = next(i for i, (x, y) in enumerate(zip(*prompts, strict=True)) if x != y)
    assert a.text in prompts[0][:shared]


# ---- setwise by likelihood ------------------------------------------------------------------------------------------


def test_setwise_likelihood():
    """Scores are the labels' probabilities among the documents; oracle: softmax by hand, 1e-12."""
    who = judge("setwise", mode="likelihood")
    call = asked(who, "order", 3)
    assert call.labels == (" A", " B", " C")
    answer = said(who, "order", 3, 0.0, math.log(2), math.log(5))
    assert answer.order == (2, 1, 0)
    assert answer.scores == pytest.approx((1 / 8, 2 / 8, 5 / 8), abs=1e-12)
    assert said(who, "choose", 3, 1.0, 2.0, 2.0).order == (1,)
    assert said(who, "ends", 3, 3.0, 1.0, 2.0).order == (0, 1)
    assert said(who, "prefer", 2, 1.0, 2.0).scores == pytest.approx((1 / (1 + math.e), math.e / (1 + math.e)))
    missing = said(who, "order", 3, NAN, 1.0, NAN)
    assert missing.order == (1, 0, 2)
    assert missing.counts == {"missing_labels": 2}
    with pytest.raises(UsageError, match=r"24 documents.*at most 23"):
        who.call(request("choose", 24), TOKENS)


def test_setwise_verbs_follow_the_mode():
    assert judge("setwise").verbs == {"choose", "prefer"}
    assert judge("setwise", mode="likelihood").verbs == {"choose", "prefer", "order", "ends"}
    with pytest.raises(UsageError, match="can't order"):
        judge("setwise").call(request("order", 3), TOKENS)
    with pytest.raises(UsageError, match="mode 'likelyhood' is unknown"):
        judge("setwise", mode="likelyhood")


# ---- attention ------------------------------------------------------------------------------------------------------


def test_icr_shows_the_first_document_last():
    who = judge("icr", heads=[[0, 1], [3, 2]])
    call = asked(who, "order", 3)
    assert isinstance(call, AttentionCall)
    assert ["w2x0" in call.passages[0], "w0x0" in call.passages[2]] == [True, True]
    assert call.heads == ((0, 1), (3, 2))
    assert [d.id for d in call.request.documents] == ["d2", "d1", "d0"]
    assert said(who, "order", 3, 0.1, 0.2, 0.3) == Answer((0, 1, 2), (0.3, 0.2, 0.1))
    straight = judge("icr", reverse=False)
    assert "w0x0" in asked(straight, "order", 3).passages[0]
    assert said(straight, "order", 3, 0.1, 0.2, 0.3).order == (2, 1, 0)
    assert said(who, "prefer", 2, 0.1, 0.2) == Answer((0, 1), ())
    assert said(who, "choose", 2, 0.2, 0.1).order == (1,)


@pytest.mark.parametrize("heads", [[[1]], [[0, -1]], [[0, 1.5]], [3], [[0, True]]])
def test_icr_refuses_odd_heads(heads):
    with pytest.raises(UsageError, match=r"heads .*expected (pairs|a list)"):
        judge("icr", heads=heads)


def test_values_of_no_documents():
    assert by_values("order", ()) == Answer((), (), {})

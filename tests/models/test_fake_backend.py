"""The fake backend: its answers against values computed by hand, and an effect of every option."""

import math
from dataclasses import fields

import pytest
from cribble.errors import InputError, UsageError
from cribble.models.backends import make_backend
from cribble.models.backends.fake import Fake
from cribble.models.calls import (
    AttentionCall,
    Failure,
    GenerateCall,
    LabelCall,
    LikelihoodCall,
    Message,
    Prompt,
    Request,
)
from cribble.records import Document, Query

QUERY = Query("q", "red fox jumps high")
DOCUMENTS = (
    Document("none", "a sleeping dog"),
    Document("half", "the fox is red"),
    Document("all", "a red fox jumps very high"),
    Document("quarter", "a high hill", "Hills"),
)
SHARES = (0.0, 0.5, 1.0, 0.25)
NAMES = ("[1]", "[2]", "[3]", "[4]")
PROMPT = Prompt(messages=(Message("user", "Rank these."),))


def label_call(verb="order", documents=DOCUMENTS, labels="ABCD"):
    return LabelCall(PROMPT, tuple(labels), Request(verb, QUERY, tuple(documents)))


def text_call(verb="order", documents=DOCUMENTS, prompt=PROMPT, **options):
    options = {"max_tokens": 50, "choices": NAMES[: len(documents)]} | options
    return GenerateCall(prompt, request=Request(verb, QUERY, tuple(documents)), **options)


def one(backend, call):
    ((position, reply),) = backend.answer([call])
    assert position == 0
    return reply


def test_labels_are_the_share_of_the_querys_words():
    assert one(Fake(), label_call()).values == SHARES
    assert one(Fake(), label_call(labels="ABCDEF")).values == (*SHARES, -10.0, -10.0)
    assert one(Fake(), label_call("score", DOCUMENTS[2:3], ("yes", "no"))).values == (1.0, 0.5)


def test_attention_and_likelihood_follow_the_same_relevance():
    request = Request("order", QUERY, DOCUMENTS)
    attention = AttentionCall("h", tuple(d.text for d in DOCUMENTS), "b", QUERY.text, "a", request=request)
    assert one(Fake(), attention).values == SHARES
    likelihood = one(Fake(), LikelihoodCall(PROMPT, NAMES, request)).values
    assert math.isclose(sum(map(math.exp, likelihood)), 1, abs_tol=1e-9)
    assert sorted(range(4), key=lambda i: -likelihood[i]) == [2, 1, 3, 0]
    alone = [
        one(Fake(), LikelihoodCall(PROMPT, (QUERY.text,), Request("score", QUERY, (document,)))).values[0]
        for document in DOCUMENTS
    ]
    assert alone == pytest.approx([math.log(1 / (1 + math.exp(-share))) for share in SHARES], abs=1e-12)


@pytest.mark.parametrize(
    ("verb", "options", "text"),
    [
        ("order", {}, "[3] > [2] > [4] > [1]"),
        ("order", {"top": 2}, "[3] > [2]"),
        ("order", {"separator": ", "}, "[3], [2], [4], [1]"),
        ("order", {"prompt": Prompt(text="Rank.", tail="[")}, "3] > [2] > [4] > [1]"),
        ("order", {"stop": (" > [4]",)}, "[3] > [2]"),
        ("order", {"max_tokens": 3}, "[3]"),
        ("order", {"max_tokens": 0, "exactly_as_long_as": "[1] > [2]"}, "[3] > [2]"),
        ("choose", {}, "[3]"),
        ("ends", {}, "[3] > [1]"),
        ("prefer", {"documents": DOCUMENTS[:2], "choices": ("Passage A", "Passage B")}, "Passage B"),
        ("score", {"documents": DOCUMENTS[:1], "choices": ("Yes", "No")}, "No"),
        ("score", {"documents": DOCUMENTS[1:2], "choices": ("Yes", "No")}, "Yes"),
        ("score", {"documents": DOCUMENTS[3:], "choices": ()}, "The passage has 0.25 of what the query asks for."),
    ],
)
def test_texts(verb, options, text):
    reply = one(Fake(), text_call(verb, **options))
    assert reply.text == text
    cut = options.get("max_tokens") == 3 or "exactly_as_long_as" in options
    assert reply.finish == ("length" if cut else "stop")
    assert reply.usage.new == Fake().tokens.length(text)


def test_judgements_as_relevance(tmp_path):
    path = tmp_path / "qrels.txt"
    path.write_text("q 0 quarter 3\nq 0 half 1\nother 0 all 2\n")
    backend = Fake(relevance=str(path))
    backend.open()
    assert one(backend, label_call()).values == (0, 1, 0, 3)
    before = backend.identity()
    path.write_text("q 0 quarter 2\n")
    assert backend.identity() != before
    with pytest.raises(InputError, match="overlap or a file of judgements"):
        Fake(relevance="overlop").open()


def test_position_bias_prefers_the_first_whatever_it_is():
    backend = Fake(position_bias=100)
    for shown in (DOCUMENTS, DOCUMENTS[::-1]):
        assert one(backend, text_call(documents=shown)).text.startswith("[1] > [2] > [3]")
    assert one(Fake(position_bias=0.3), label_call()).values == pytest.approx((0.3, 0.7, 1.1, 0.25))
    assert one(backend, label_call("score", DOCUMENTS[:1])).values[0] == 0


def test_noise_belongs_to_query_and_document():
    noisy = one(Fake(noise=0.5), label_call()).values
    assert noisy != SHARES
    turned = one(Fake(noise=0.5), label_call(documents=DOCUMENTS[::-1])).values
    assert turned == noisy[::-1]
    assert one(Fake(noise=0.5, seed=1), label_call()).values != noisy
    assert one(Fake(noise=0.5, model="other"), label_call()).values != noisy
    many = [Document(str(i), "nothing") for i in range(2000)]
    values = one(Fake(noise=0.5), label_call(documents=many, labels=["x"] * 2000)).values
    deviation = math.sqrt(sum(v * v for v in values) / len(values))
    assert deviation == pytest.approx(0.5, rel=0.08)  # five standard errors of 2000 draws


def test_malformed_answers_are_of_four_kinds_and_as_many_as_asked():
    right = one(Fake(), text_call()).text
    seen = {"missing": 0, "repeated": 0, "out of range": 0, "prose": 0, "right": 0}
    for seed in range(400):
        text = one(Fake(malformed=0.5, seed=seed), text_call()).text
        ids = [name for name in text.replace("[", " [").split() if name.startswith("[")]
        if text == right:
            seen["right"] += 1
        elif "Sure!" in text:
            seen["prose"] += 1
        elif "[999]" in text:
            seen["out of range"] += 1
        else:
            seen["missing" if len(ids) == 3 else "repeated"] += 1
            assert len(ids) in (3, 5)
    assert 150 < seen["right"] < 250
    assert all(count > 20 for count in seen.values()), seen
    assert one(Fake(malformed=1), text_call(constrained=True)).text == right


def test_failures_are_as_many_as_asked_and_the_same_again():
    calls = [label_call(documents=(Document(str(i), "x"),), labels="A") for i in range(500)]
    failed = {i for i, reply in Fake(failures=0.2).answer(calls) if isinstance(reply, Failure)}
    assert 60 < len(failed) < 140
    assert {i for i, reply in Fake(failures=0.2).answer(calls) if isinstance(reply, Failure)} == failed


def test_tokens_and_a_prompt_that_is_too_long():
    tokens = Fake(max_length=12).tokens
    assert tokens.limit == 12
    assert tokens.count(Prompt(text="The cat, asleep.", tail="[")) == 6
    assert tokens.count(PROMPT) == 3 + 3
    assert tokens.cut("The  cat, asleep.", 3) == "The  cat,"
    assert tokens.cut("The cat", 9) == "The cat"
    tokens.check_labels(PROMPT, ["A", " B", "12"])
    with pytest.raises(InputError, match="expected one"):
        tokens.check_labels(PROMPT, ["A", "Passage A"])
    assert one(Fake(max_length=6), label_call()).values == SHARES
    assert "max_length=5" in one(Fake(max_length=5), label_call()).reason


@pytest.mark.parametrize(
    ("options", "names"),
    [({"malformed": 1.5}, "malformed"), ({"failures": -1}, "failures"), ({"noise": -1.0}, "noise"),
     ({"max_length": 0}, "max_length"), ({"noize": 1.0}, "noise")],
)  # fmt: skip
def test_wrong_options(options, names):
    with pytest.raises(UsageError, match=names):
        make_backend({"use": "fake"} | options, None)


def test_every_option_is_part_of_the_identity():
    other = {
        "model": "m",
        "noise": 1.0,
        "position_bias": 1.0,
        "malformed": 0.5,
        "failures": 0.5,
        "seed": 3,
        "max_length": 9,
    }
    assert set(other) | {"relevance"} == {f.name for f in fields(Fake)}
    for name, value in other.items():
        assert Fake(**{name: value}).identity() != Fake().identity()


def test_a_call_without_a_request_is_refused():
    with pytest.raises(UsageError, match="request"):
        one(Fake(), LabelCall(PROMPT, ("A",)))

"""Judging by a language model: the parser, upstream's prompts, votes, graders, holes, and the mark of a machine's label."""

import hashlib
import json
import re

import pytest
from cribble.errors import InputError, UsageError
from cribble.eval import compare, evaluate
from cribble.eval.judging import Verdict
from cribble.eval.judging.asked import load_prompt, prompt_names
from cribble.eval.judging.asking import judge_pairs
from cribble.eval.judging.filling import filled, top_pairs
from cribble.eval.judging.parsing import read_label
from cribble.eval.judging.planning import plan_judging
from cribble.eval.judging.umbrela import Umbrela
from cribble.eval.judging.votes import vote
from cribble.eval.judging.widedeep import DEFAULT_ROLES, WideDeep
from cribble.models.backends import make_backend
from cribble.models.calls import Reply
from cribble.models.ledger import Ledger
from cribble.records import Document, Qrels, Query, Run
from cribble.tests.models.loopback_llm import Answers, LoopbackLLM, relevance
from cribble.tests.models.tiny_language_models import save_language_model

TEXTS = {
    "all": "molten rock is called lava",
    "half": "rock music",
    "none": "bread and water",
}
QUERIES = {"q": "molten rock", "r": "bread"}
PAIRS = {"q": ["all", "half", "none"], "r": ["none", "all"]}
#: Three times the share of the query's words, in whole numbers.
WORDS = {"q": {"all": 3, "half": 2, "none": 0}, "r": {"none": 3, "all": 0}}


class Texts:
    def get_many(self, ids):
        return {i: Document(i, TEXTS[i]) for i in ids if i in TEXTS}


def judged(grader, backend=None, **options):
    return judge_pairs(PAIRS, QUERIES, Texts(), grader, backend or make_backend("fake", None), **options)


# ---- the parser -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "label"),
    [
        # What umbrela 0.0.7's patterns made of these: 1, 1, 3, 2, 1, 0.
        ("The passage relates to 1 topic. ##final score: 3", 3),
        ("##final score: 10", "outside_scale"),
        ("score: 5 (out of 3)", "no_score"),
        ("2.5", "not_whole"),
        ("The year 2021 was it", "no_score"),
        ("I'm sorry, but I can't help with that.", "no_score"),
        ("##final score: 2", 2),
        ("## Final Score: 2", 2),
        ("**Final score: 1**", 1),
        ("##final score: **0**.", 0),
        ("- Final score (O): 2", "no_score"),
        ("M: ##final score: 1\nT: ##final score: 3\nO: ##final score: 2", 2),
        ("M: 3\nT: 2\nO: final score: 1\n", 1),
        ("##final score: 2\n##final score: 2", 2),
        ("##final score: 2\nOn second thought:\n##final score: 3", "contradictory"),
        ("##final score: score", "not_whole"),
        ("##final score: 2.5", "not_whole"),
        ("##final score: 2/3", "not_whole"),
        ("##final score: -1", "outside_scale"),
        ("##final score: 2 or 3", "not_whole"),
        ("##final score: 2. I hope that this helps.", "not_whole"),
        ("The final score: of a football match was 3", "no_score"),
        ("<think>final score: 1, no, better 3</think>\n##final score: 2", 2),
        ("<think>It is 1.\n2</think>3", 3),
        ("3", 3),
        (" '2' ", 2),
        ("3 reasons speak for it", "no_score"),
        ("", "no_score"),
        ("It is somewhat related.\n2", "no_score"),
        ("final score: 99999999999999999999", "not_whole"),
    ],
)
def test_nothing_is_guessed(text, label):
    assert read_label(text) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("The passage holds 3 facts.\n\n2", 2),
        ("Related, but no answer.\nCategory: 1", 1),
        ("Related, but no answer.\nRelevance category **1**.", 1),
        ("It has the exact answer: 3", "no_score"),
        ("2\nbecause it says so", "no_score"),
        ("Reasons.\n4", "outside_scale"),
        ("Reasons.\n2.5", "not_whole"),
        ("Examples end with ##final score: 1\n##final score: 3", "contradictory"),
        ("Reasons.\n##final score: 3", 3),
    ],
)
def test_a_bare_category_stands_on_the_last_line(text, label):
    assert read_label(text, bare=True) == label


def test_a_cut_answer_is_not_read_where_it_was_cut():
    assert read_label("##final score: 1", finish="length") == "cut"
    assert read_label("##final score: 1\nand", finish="length") == 1
    assert read_label("Reasons.\n1", bare=True, finish="length") == "cut"
    assert read_label("", finish="length") == "cut"


# ---- prompts and votes ------------------------------------------------------------------------------------------------

#: sha256 of castorini/umbrela@e2c4e41's prefix_user; of fewshot-bing with its examples taken out and {examples} there.
UPSTREAM = {
    "zeroshot-bing": "c92537a4f97293dfe1fd5f3dccc3f7dea44e3ace65061a74dbf8afc833441546",
    "zeroshot-basic": "20e78e821fb9e57aa2ab25f028e28d7f19ec051dd266e11e8880719d42b9d8bb",
    "fewshot-bing": "1034565146363f8b818a9e65d99c347f38607c8ee1a8ce29bae28a207296ade5",
    "fewshot-basic": "2842de54d7e81787a2287b83d8f55a430cb25cac2153d3def16952be0952a140",
}


def test_prompts_are_upstreams_byte_for_byte():
    assert prompt_names("umbrela") == sorted(UPSTREAM)
    for name, digest in UPSTREAM.items():
        (turn,) = load_prompt("umbrela", name).turns
        text = turn["user"].replace("{passages}", "{passage}").replace("{instruction}", "{examples}")
        assert hashlib.sha256(text.encode()).hexdigest() == digest, name


def test_examples_stand_in_the_prompt(tmp_path):
    rows = [
        {"query": "a", "passage": "b {query}", "label": 0, "steps": "1. think"},
        {"query": "c", "passage": "d", "label": 3},
    ]
    path = tmp_path / "examples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    grader = Umbrela(prompt="fewshot-bing", examples=str(path))
    backend = make_backend("fake", None)
    (call,) = next(grader.grade(Query("q", QUERIES["q"]), Document("all", TEXTS["all"]), backend.tokens))
    (message,) = call.prompt.messages
    shown = (
        "###\n\nquery: a\npassage: b {query}\n\n### Steps:\n\n1. think\n\n##final score: 0\n\n###\n\n"
        "query: c\npassage: d\n\n##final score: 3\n\n###\n\nImportant Instruction"
    )
    assert shown in message.content
    assert "Query: molten rock\nPassage: molten rock is called lava\n" in message.content
    assert judged(grader).qrels().to_dict() == WORDS


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "examples.jsonl:1: no valid JSON"),
        ("[]", "expected an object with the texts query and passage"),
        ('{"query": "a", "passage": ""}', "expected an object with the texts"),
        ('{"query": "a", "passage": "b", "label": 4}', "the label is 4, expected a whole number from 0 to 3"),
        ('{"query": "a", "passage": "b", "label": true}', "the label is True"),
        ("", "holds no example"),
    ],
)
def test_wrong_examples_are_refused_before_anything_is_asked(tmp_path, line, told):
    path = tmp_path / "examples.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match=told):
        judged(Umbrela(prompt="fewshot-basic", examples=str(path)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"prompt": "zeroshot-bong"}, "did you mean 'zeroshot-bing'"),
        ({"prompt": "fewshot-bing"}, "name their file"),
        ({"examples": "x.jsonl"}, "has no place for examples"),
        ({"samples": 0}, "samples is 0"),
        ({"samples": 3}, "3 samples at temperature 0 are all alike"),
        ({"seed": 1}, "seed=1 has no effect at temperature 0"),
        ({"vote": "mean"}, "vote=mean has no effect on one sample"),
        ({"vote": "median", "samples": 3, "temperature": 1.0}, "vote is 'median'"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"words": 0}, "words is 0"),
    ],
)
def test_options_without_effect_are_refused(options, told):
    with pytest.raises(UsageError, match=told):
        Umbrela(**options)


@pytest.mark.parametrize(
    "name", ["prompt", "examples", "samples", "temperature", "seed", "vote", "max_tokens", "words"]
)
def test_every_option_of_umbrela_has_an_effect(name, tmp_path):
    """Another value changes what is asked, or what becomes of the answers."""
    for i in (1, 2):
        row = json.dumps({"query": "a", "passage": f"b{i}", "label": i})
        (tmp_path / f"{i}.jsonl").write_text(row + "\n")
    usual = {
        "prompt": "fewshot-bing",
        "examples": str(tmp_path / "1.jsonl"),
        "samples": 2,
        "temperature": 0.5,
        "seed": 3,
    }
    other = {"prompt": "fewshot-basic", "examples": str(tmp_path / "2.jsonl"), "samples": 3, "temperature": 0.6}
    other |= {"seed": 4, "vote": "mean", "max_tokens": 99, "words": 2}
    graders = [Umbrela(**usual), Umbrela(**(usual | {name: other[name]}))]
    tokens = make_backend("fake", None).tokens
    gradings = [grader.grade(Query("q", QUERIES["q"]), Document("all", TEXTS["all"]), tokens) for grader in graders]
    asked = [next(grading) for grading in gradings]
    if name != "vote":
        assert asked[0] != asked[1]
        return
    verdicts = []
    for grading in gradings:
        with pytest.raises(StopIteration) as done:
            grading.send([Reply(text=f"##final score: {label}") for label in (0, 3)])
        verdicts.append(done.value.value.label)
    assert verdicts == [0, 1]


@pytest.mark.parametrize("name", ["roles", "temperature", "seed", "vote", "max_tokens", "words"])
def test_every_option_of_widedeep_has_an_effect(name):
    usual = {"roles": ["a reader", "a cook"], "temperature": 0.5, "seed": 3}
    other = {
        "roles": ["a reader", "a smith"],
        "temperature": 0.6,
        "seed": 4,
        "vote": "mean",
        "max_tokens": 99,
        "words": 2,
    }
    tokens, verdicts, asked = make_backend("fake", None).tokens, [], []
    for options in (usual, usual | {name: other[name]}):
        grading = WideDeep(**options).grade(Query("q", QUERIES["q"]), Document("all", TEXTS["all"]), tokens)
        asked.append([next(grading), grading.send([Reply(text="good"), Reply(text="bad")])])
        with pytest.raises(StopIteration) as done:
            grading.send([Reply(text=f"##final score: {label}") for label in (0, 3)])
        verdicts.append(done.value.value.label)
    assert verdicts == [0, 1] if name == "vote" else asked[0] != asked[1]


@pytest.mark.parametrize("options", [{"roles": 0}, {"roles": []}, {"words": 0}, {"seed": 1}, {"vote": "x"}])
def test_widedeeps_options(options):
    with pytest.raises(UsageError):
        WideDeep(**options)


def test_votes():
    assert vote([], "majority") is None
    assert vote([3, 2, 3], "majority") == 3
    assert vote([3, 0], "majority") == 0
    assert [vote(labels, "mean") for labels in ([1, 2], [1, 2, 2], [0, 3], [3, 3, 0, 3])] == [1, 2, 1, 2]


# ---- graders over backends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grader", "calls"),
    [
        (Umbrela(), 5),
        (Umbrela(prompt="zeroshot-basic", words=3), 5),
        (Umbrela(samples=3, temperature=0.7, seed=5), 15),
        (Umbrela(samples=2, temperature=0.7, vote="mean"), 10),
        (WideDeep(roles=["a reader", "an expert"]), 5 * 4),
        (WideDeep(), 5 * 7),
    ],
)
def test_labels_and_calls_over_the_oracle(grader, calls):
    """The fake backend grades by words in common; a plan counts what the run asks."""
    found = judged(grader)
    assert found.qrels().to_dict() == WORDS
    assert found.counts["calls"] == calls
    assert found.counts["failed_pairs"] == 0
    assert found.counts["default_roles"] == (5 if grader == WideDeep() else 0)
    planned = plan_judging(PAIRS, QUERIES, Texts(), grader, make_backend("fake", None))
    assert (planned["calls"], planned["pairs"]) == (calls, 5)
    if isinstance(grader, Umbrela):
        assert planned["prompt_tokens"] == found.counts["prompt_tokens"]


def test_a_judgement_file_as_oracle(tmp_path):
    wanted = {"q": {"all": 1, "half": 3, "none": 2}, "r": {"none": 0, "all": 1}}
    Qrels.from_dict(wanted).write(tmp_path / "q.txt")
    assert (
        judged(Umbrela(), make_backend({"use": "fake", "relevance": str(tmp_path / "q.txt")}, None)).qrels().to_dict()
        == wanted
    )


def test_what_cannot_be_read_has_no_label_and_is_told_apart():
    pairs = {"q": [f"d{i}" for i in range(60)]}

    class Many:
        def get_many(self, ids):
            return {i: Document(i, f"molten rock {i}") for i in ids if i != "d7"}

    backend = make_backend({"use": "fake", "malformed": 0.6, "failures": 0.2, "seed": 3}, None)
    found = judge_pairs(pairs, QUERIES, Many(), Umbrela(), backend)
    counts = found.counts
    assert counts["missing_texts"] == 1
    assert counts["pairs"] == 59
    assert counts["failed_no_reply"] > 3 and counts["failed_no_score"] > 3 and counts["failed_not_whole"] > 3  # noqa: PT018
    assert counts["failed_outside_scale"] > 0 and len(found.failed) == counts["failed_pairs"]  # noqa: PT018
    assert found.qrels().num_rows == 59 - counts["failed_pairs"]
    with pytest.raises(InputError, match=r"pairs have no label, more than the budget max_failure_rate=0.1 allows"):
        judge_pairs(pairs, QUERIES, Many(), Umbrela(), backend, max_failure_rate=0.1)
    with pytest.raises(
        InputError, match=r"no label could be read for any of 59 pairs \(59 no_reply\); the first call failed"
    ):
        judge_pairs(pairs, QUERIES, Many(), Umbrela(), make_backend({"use": "fake", "failures": 1.0}, None))
    with pytest.raises(InputError, match="query 'x' has no text"):
        judge_pairs({"x": ["all"]}, QUERIES, Texts(), Umbrela(), backend)
    with pytest.raises(InputError, match="none of the 1 documents to judge has a text"):
        judge_pairs({"q": ["elsewhere"]}, QUERIES, Texts(), Umbrela(), backend)


@pytest.mark.parametrize("grader", [Umbrela(words=2), WideDeep(words=2, roles=["a reader"])])
def test_documents_that_are_cut_are_counted(grader):
    found = judged(grader)
    assert found.counts["cut_documents"] == 4, "all but the two words of rock music"
    long = Umbrela(max_tokens=20)
    prompt = sum(judged(long, make_backend("fake", None)).counts[n] for n in ("prompt_tokens",)) // 5
    tight = judged(long, make_backend({"use": "fake", "max_length": prompt + 20}, None))
    assert 0 < tight.counts["cut_documents"] < 5


def test_a_prompt_that_does_not_fit_is_a_failure_of_its_pair():
    with pytest.raises(InputError, match=r"5 too_long"):
        judged(Umbrela(max_tokens=60), make_backend({"use": "fake", "max_length": 100}, None))


class Grades(Answers):
    """Answers as a chat model would that grades: roles, reviews, a final score by words in common; or prose."""

    def __call__(self, path, body):
        text = self._text(body) if path == "/v1/chat/completions" else None
        answer = super().__call__(path, body)
        if text is not None:
            answer["choices"][0] |= {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return answer

    def _text(self, body):
        prompt = body["messages"][-1]["content"]
        query, passage = re.search(r"^Query: (.*)\nPassage: (.*)$", prompt, re.M).groups()
        if "Name 3 different reviewers" in prompt:
            return "1. Reviewer: a geologist, who looks at facts\n2. A cook\n\n3) **A reader**"
        if "from your point of view alone" in prompt:
            return f"Says {re.search('You are this reviewer: (.*)', prompt)[1]}."
        heard = prompt.count("\nSays ")
        return f"{heard} reviews.\n##final score: {round(3 * relevance(query, passage))}"


def served(server, **options):
    return make_backend({"use": "openai", "url": server.url, "backoff_seconds": 0.01, **options}, "loopback")


def test_an_openai_server_and_the_ledger(tmp_path):
    """Every answer is kept: a second run asks nothing; samples are calls of their own."""
    with LoopbackLLM() as server, Ledger.at(tmp_path / "ledger.sqlite") as book:
        server.answers = Grades()
        found = judged(Umbrela(), served(server), ledger=book)
        assert found.qrels().to_dict() == WORDS
        asked = len(server.asked)
        again = judged(Umbrela(), served(server), ledger=book)
        assert again.verdicts == found.verdicts
        assert (again.counts["reused_calls"], len(server.asked)) == (5, asked)
        several = judged(Umbrela(samples=2, temperature=0.5), served(server), ledger=book)
        assert (several.counts["reused_calls"], several.counts["calls"]) == (0, 10)
        assert several.verdicts["q", "half"] == Verdict(2, (2, 2))
        assert {body.get("temperature") for body in server.asked[-10:]} == {0.5}


def test_reviewers_read_one_another():
    with LoopbackLLM() as server:
        server.answers = Grades()
        found = judged(WideDeep(), served(server))
    assert found.qrels().to_dict() == WORDS
    assert found.counts["default_roles"] == 0
    assert found.counts["calls"] == 5 * 7
    prompts = [body["messages"][-1]["content"] for body in server.asked]
    decisions = [prompt for prompt in prompts if "Weigh the reviews" in prompt]
    assert len(decisions) == 15
    for role in ("a geologist, who looks at facts", "A cook", "A reader"):
        assert all(f"Review by {role}:\nSays {role}." in prompt for prompt in decisions)
    assert len(DEFAULT_ROLES) == 3


def test_a_tiny_causal_model(tmp_path):
    """Random weights in this process: they write something, which is no label, and that is said. Greedy twice is equal,
    other seeds write otherwise."""
    folder = save_language_model(tmp_path / "llama", "llama")
    backend = make_backend({"use": "hf"}, str(folder))
    short = tmp_path / "short.yaml"
    short.write_text('verbs: [score]\nturns:\n  - user: "Query: {query} Passage: {passages} ##final score:"\n')
    grader = Umbrela(prompt=str(short), max_tokens=8)
    with pytest.raises(InputError, match=r"no label could be read for any of 5 pairs"):
        judged(grader, backend)

    def texts(grader):
        calls = next(grader.grade(Query("q", QUERIES["q"]), Document("all", TEXTS["all"]), backend.tokens))
        return [reply.text for _, reply in sorted(backend.answer(calls))]

    assert texts(grader) == texts(grader)
    assert len(set(texts(Umbrela(prompt=str(short), samples=3, temperature=1.0, max_tokens=8)))) == 3


# ---- holes and marks --------------------------------------------------------------------------------------------------

HUMAN = {"q": {"a": 1, "b": -1, "z": 2}, "r": {"c": 1}}
RUN = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}, "r": {"a": 1.0}, "x": {"a": 1.0}}


def test_holes_of_the_top_are_filled_and_marked(tmp_path):
    human, run = Qrels.from_dict(HUMAN, name="people"), Run.from_dict(RUN)
    other = Run.from_dict({"q": {"c": 9.0, "d": 1.0}})
    assert top_pairs([run, other], 2) == {"q": ["a", "b", "c", "d"], "r": ["a"], "x": ["a"]}
    assert top_pairs([run, other], 2, without=human) == {"q": ["b", "c", "d"], "r": ["a"]}
    machine = Qrels.from_dict({"q": {"a": 0, "b": 2, "c": 3}, "r": {"a": 1}}, machine=True)
    both = filled(human, machine)
    assert both.to_dict() == {"q": {"a": 1, "b": 2, "z": 2, "c": 3}, "r": {"c": 1, "a": 1}}
    assert set(both.machine_pairs()) == {("q", "b"), ("q", "c"), ("r", "a")}
    both.write(tmp_path / "both.txt")
    assert "q machine b 2\n" in (tmp_path / "both.txt").read_text()
    again = Qrels.read(tmp_path / "both.txt")
    assert (again, set(again.machine_pairs())) == (both, set(both.machine_pairs()))
    assert set(filled(again, machine).machine_pairs()) == set(both.machine_pairs())
    with pytest.raises(UsageError, match="BEIR's columns can't say which labels are a machine's"):
        both.write(tmp_path / "both.tsv")
    human.write(tmp_path / "human.tsv")
    assert not Qrels.read(tmp_path / "human.tsv").has_machine_labels


def test_the_share_of_machine_labels_stands_beside_scores():
    """q: of a, b, c in the best three and z beneath two of four labels are a machine's; r: one of two."""
    machine = Qrels.from_dict({"q": {"b": 2, "c": 0}, "r": {"a": 1}}, machine=True)
    both = filled(Qrels.from_dict(HUMAN), machine)
    run = Run.from_dict({"q": RUN["q"], "r": RUN["r"]})
    evaluation = evaluate(run, both, "nDCG@1 AP WSS@95 nDCG@3")
    names = ["nDCG@1", "Machine@1", "AP", "Machine", "WSS@95", "nDCG@3", "Machine@3"]
    assert list(map(str, evaluation.measures)) == names
    assert evaluation.per_query("Machine") == {"q": 2 / 4, "r": 1 / 2}
    assert evaluation.per_query("Machine@1") == {"q": 1 / 3, "r": 1 / 2}
    assert evaluate(run, HUMAN, "Machine").mean("Machine") == 0
    assert list(evaluate(run, HUMAN, "AP").means) == ["AP"]
    tested = compare({"one": run, "twin": run}, both, "nDCG@1 AP").measures
    assert list(map(str, tested)) == ["nDCG@1", "AP"], "the share is no merit"

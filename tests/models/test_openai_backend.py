"""The openai backend against a real server on 127.0.0.1, which misbehaves on demand. Oracle: the server's own formulas."""

import json
import logging
import math
import re
import threading
import time
from dataclasses import dataclass, field

import pytest
from cribble.errors import CribbleError, InputError, SetupError, UsageError
from cribble.models.backends import make_backend
from cribble.models.backends.openai import OpenAI
from cribble.models.calls import (
    AttentionCall,
    Failure,
    GenerateCall,
    LabelCall,
    LikelihoodCall,
    Message,
    Prompt,
    Reply,
    Request,
    Usage,
)
from cribble.models.ledger import Ledger, asker
from cribble.models.tokenizing import HFTokens
from cribble.records import Document, Query
from cribble.tests.models.loopback_llm import CHANGED, REPLACED, LoopbackLLM, relevance, token_logprob

QUERY = "red fox jumps high"
PASSAGES = {"A": "a dog sleeps", "B": "the fox is red", "C": "red fox jumps very high", "D": "a high hill"}
USER = "".join(f"[{label}] {text}\n" for label, text in PASSAGES.items()) + f"Search Query: {QUERY}.\nRank them."
PROMPT = Prompt(messages=(Message("system", "You rank."), Message("user", USER)))
LETTER = USER.replace("Rank them.", "Answer with one letter.")
LABELS = LabelCall(Prompt(messages=(Message("system", "You rank."), Message("user", LETTER))), tuple(PASSAGES))
TEXT = GenerateCall(PROMPT, 40)
RANKED = "[C] > [B] > [D] > [A]"
SECRET = "sk-loopback-secret"


def logprobs(passages=PASSAGES):
    values = [4 * relevance(QUERY, text) for text in passages.values()]
    total = math.log(sum(map(math.exp, values)))
    return [value - total for value in values]


def backend(at, **options):
    options = {"retries": 3, "backoff_seconds": 0.01, "timeout_seconds": 5.0} | options
    return OpenAI(model="loopback", url=at.url, **options)


def one(backend, call):
    ((position, reply),) = backend.answer([call])
    assert position == 0
    return reply


def collect(seen, answers):
    """Keep what comes also where an error ends it."""
    for answer in answers:
        seen.append(answer)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture(scope="module")
def good():
    with LoopbackLLM() as server:
        yield server


# ---- what is sent and read ----------------------------------------------------------------------------------------------


def test_labels_over_chat(good):
    reply = one(backend(good), LABELS)
    assert reply.values == pytest.approx(logprobs(), abs=1e-12)
    assert reply.usage == Usage(len(("You rank.\n" + LETTER).split()), 2, 1)
    sent = {"model": "loopback", "temperature": 0.0, "max_tokens": 1, "logprobs": True, "top_logprobs": 20}
    messages = [{"role": "system", "content": "You rank."}, {"role": "user", "content": LETTER}]
    assert good.asked[-1] == sent | {"messages": messages}


def test_labels_over_completions(good):
    reply = one(backend(good, api="completions", top_logprobs=7), LabelCall(Prompt(text=LETTER), tuple(PASSAGES)))
    assert reply.values == pytest.approx(logprobs(), abs=1e-12)
    sent = {"model": "loopback", "temperature": 0.0, "max_tokens": 1, "logprobs": 7, "prompt": LETTER}
    assert good.asked[-1] == sent


def test_fewer_top_logprobs_than_labels_are_nan(good):
    values = one(backend(good, top_logprobs=2), LABELS).values
    expected = logprobs()
    assert [i for i, value in enumerate(values) if math.isnan(value)] == [0, 3]
    assert [values[1], values[2]] == pytest.approx([expected[1], expected[2]], abs=1e-12)


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_texts(good, api):
    prompt = PROMPT if api == "chat" else Prompt(text=USER)
    chosen = backend(good, api=api)
    assert one(chosen, GenerateCall(prompt, 40)) == Reply(Usage(len(good_prompt(api).split()), 2, 15), text=RANKED)
    cut = one(chosen, GenerateCall(prompt, 7))
    assert (cut.text, cut.finish) == ("[C] > [B]", "length")
    stopped = one(chosen, GenerateCall(prompt, 40, stop=(" > [D]", "no")))
    assert (stopped.text, stopped.finish) == ("[C] > [B]", "stop")
    assert good.asked[-1]["stop"] == [" > [D]", "no"]


def good_prompt(api):
    return "You rank.\n" + USER if api == "chat" else USER


def test_stop_strings_beyond_the_servers_four_are_cut_here(good):
    stops = ("a1", "a2", "a3", "a4", " > [B]")
    assert one(backend(good), GenerateCall(PROMPT, 40, stop=stops)).text == "[C]"
    assert good.asked[-1]["stop"] == list(stops[:4])


def test_temperature_and_seed_are_sent_when_they_matter(good):
    one(backend(good), GenerateCall(PROMPT, 40, temperature=0.7, seed=5))
    assert (good.asked[-1]["temperature"], good.asked[-1]["seed"]) == (0.7, 5)
    one(backend(good), TEXT)
    assert good.asked[-1]["temperature"] == 0.0
    assert "seed" not in good.asked[-1]


def test_extra_fields_are_sent_and_none_leaves_one_out(good):
    one(backend(good, extra={"reasoning_effort": "low", "temperature": None}), TEXT)
    assert good.asked[-1]["reasoning_effort"] == "low"
    assert "temperature" not in good.asked[-1]


def test_exactly_as_long_as(good):
    call = GenerateCall(PROMPT, exactly_as_long_as="[A] > [B]")
    one(backend(good), call)
    count = backend(good).tokens.length("[A] > [B]")
    assert good.asked[-1]["max_tokens"] == count
    assert "min_tokens" not in good.asked[-1]
    one(backend(good, server="vllm"), call)
    assert good.asked[-1]["max_tokens"] == good.asked[-1]["min_tokens"] == count


TAIL = Prompt(messages=(Message("user", USER),), tail="[")


@pytest.mark.parametrize(
    ("options", "message", "fields"),
    [
        ({"server": "vllm"}, {}, {"add_generation_prompt": False, "continue_final_message": True}),
        ({"prefill": "continue"}, {}, {"add_generation_prompt": False, "continue_final_message": True}),
        ({"prefill": "prefix"}, {"prefix": True}, {}),
        ({"prefill": "assistant"}, {}, {}),
    ],
)
def test_an_answer_that_begins_already(good, options, message, fields):
    assert one(backend(good, **options), GenerateCall(TAIL, 40)).text == RANKED[1:]
    sent = good.asked[-1]
    assert sent["messages"][-1] == {"role": "assistant", "content": "["} | message
    assert {name: sent.get(name) for name in fields} == fields
    assert ("continue_final_message" in sent) == bool(fields)
    assert one(backend(good, **options), LabelCall(TAIL, tuple(PASSAGES))).values == pytest.approx(logprobs())


def test_a_beginning_that_the_model_writes_itself(good):
    trusting = backend(good, prefill="written")
    assert one(trusting, GenerateCall(TAIL, 40)).text == RANKED[1:]
    assert [message["role"] for message in good.asked[-1]["messages"]] == ["user"]
    assert one(trusting, LabelCall(TAIL, tuple(PASSAGES))).values == pytest.approx(logprobs())
    assert good.asked[-1]["max_tokens"] == 2
    elsewhere = Prompt(messages=TAIL.messages, tail="(")  # the server writes "[" there
    assert all(map(math.isnan, one(trusting, LabelCall(elsewhere, tuple(PASSAGES))).values))


def test_the_tail_over_completions_is_the_prompts_end(good):
    assert one(backend(good, api="completions"), GenerateCall(Prompt(text=USER, tail="["), 40)).text == RANKED[1:]
    assert good.asked[-1]["prompt"] == USER + "["
    one(backend(good, api="completions", server="vllm"), GenerateCall(Prompt(text=USER, special=False), 40))
    assert good.asked[-1]["add_special_tokens"] is False


def test_a_model_without_a_system_role(good):
    one(backend(good, system_role=False), TEXT)
    assert good.asked[-1]["messages"] == [{"role": "user", "content": "You rank.\n\n" + USER}]


def test_thinking_is_switched_where_the_server_can(good, caplog):
    prompt = Prompt(messages=PROMPT.messages, thinking=False)
    one(backend(good, server="vllm"), GenerateCall(prompt, 40))
    assert good.asked[-1]["chat_template_kwargs"] == {"enable_thinking": False}
    plain = backend(good)
    with caplog.at_level(logging.INFO, "cribble"):
        list(plain.answer([GenerateCall(prompt, 40)] * 2))
    assert "chat_template_kwargs" not in good.asked[-1]
    assert len(re.findall("no switch for thinking", caplog.text)) == 1


@pytest.mark.parametrize("options", [{"server": "vllm"}, {"guided": "guided_choice", "prefill": "assistant"}])
def test_constrained_answers_name_every_id_once(good, options):
    names = tuple(f"[{label}]" for label in PASSAGES)
    first = len(good.asked)
    call = GenerateCall(TAIL, choices=names, constrained=True)
    reply = one(backend(good, **options), call)
    assert reply.text == RANKED[1:]
    sent = good.asked[first:]
    choices = [body.get("guided_choice") or body["structured_outputs"]["choice"] for body in sent]
    assert choices[0] == ["A]", "B]", "C]", "D]"]
    assert choices[1] == [" > [A]", " > [B]", " > [D]"]
    assert [body["messages"][-1]["content"] for body in sent] == ["[", "[C]", "[C] > [B]"]
    assert reply.usage.prompt == sum(len("\n".join(m["content"] for m in body["messages"]).split()) for body in sent)
    top = one(backend(good, **options), GenerateCall(TAIL, choices=names, constrained=True, top=2))
    assert top.text == "C] > [B]"


# ---- with the model's tokenizer -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A folder with a tokenizer and a chat template, and a configuration, as a model's folder has them."""
    import transformers
    from cribble.tests.models.conftest import train_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(folder, decoder=True)
    transformers.Qwen3Config(vocab_size=600, max_position_embeddings=4096).save_pretrained(folder)
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    loaded.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    loaded.save_pretrained(folder)
    return str(folder)


def test_chats_are_rendered_for_completions(good, tokenizer):
    exact = backend(good, api="completions", server="vllm", tokenizer=tokenizer)
    one(exact, GenerateCall(Prompt(messages=PROMPT.messages, tail="["), 40))
    assert good.asked[-1]["prompt"] == f"<system>You rank.</><user>{USER}</><assistant>["
    assert good.asked[-1]["add_special_tokens"] is False


def test_label_tokens_are_asked_for_by_id(good, tokenizer):
    exact = backend(good, server="vllm", tokenizer=tokenizer)
    ids = HFTokens(tokenizer).label_ids(LABELS.prompt, LABELS.labels)
    assert one(exact, LABELS).values == tuple(token_logprob(token) for token in ids)
    assert good.asked[-1]["logprob_token_ids"] == list(ids)
    with pytest.raises(InputError, match="not one token"):
        one(exact, LabelCall(PROMPT, ("A", "unheard")))


def test_likelihoods_are_those_of_the_targets_tokens(good, tokenizer):
    exact = backend(good, api="completions", server="vllm", tokenizer=tokenizer)
    tokens = HFTokens(tokenizer)
    targets = (" the cat", " a dog in the city")
    reply = one(exact, LikelihoodCall(PROMPT, targets))
    expected = [sum(map(token_logprob, tokens.encode(target))) for target in targets]
    assert reply.values == pytest.approx(expected, abs=1e-9)
    lengths = [len(tokens.ids(PROMPT)) + len(tokens.encode(target)) for target in targets]
    assert reply.usage == Usage(sum(lengths), 0, 2)
    assert [len(body["prompt"]) for body in good.asked[-2:]] == lengths


def test_a_tokenizer_that_counts_otherwise_is_told_once(good, tokenizer, caplog):
    exact = backend(good, tokenizer=tokenizer)
    with caplog.at_level(logging.WARNING, "cribble"):
        list(exact.answer([TEXT, TEXT]))
    assert len(re.findall("check that it is the model's own", caplog.text)) == 1
    assert f"counts {HFTokens(tokenizer).count(PROMPT)}" in caplog.text


# ---- misbehaviour -------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """What the server does first (then it behaves), the call, and what must come of it: the right answer after so many
    requests, a failure of this call, or an error for all."""

    kinds: str
    outcome: object
    match: str = ""
    call: object = LABELS
    requests: int = 0
    options: dict = field(default_factory=dict)


RIGHT, MISSING = "right", "missing"
ROWS = [
    Row("429", RIGHT, requests=2),
    Row("429-after", RIGHT, requests=2),
    Row("429-date", RIGHT, requests=2),
    Row("500 503 html-502", RIGHT, requests=4),
    Row("half", RIGHT, requests=2),
    Row("short", RIGHT, requests=2),
    Row("closed", RIGHT, requests=2),
    Row("html", RIGHT, requests=2),
    Row("array", RIGHT, requests=2),
    Row("hang", RIGHT, requests=2, options={"timeout_seconds": 0.3}),
    Row("two-choices", RIGHT, requests=1),
    Row("two-choices", RIGHT, requests=1, call=TEXT),
    Row("no-usage", RIGHT, requests=1),
    Row("few-logprobs", MISSING, requests=1),
    Row("odd-labels", MISSING, requests=1),
    Row("spaced-labels", RIGHT, requests=1),
    Row("500 500 500 500", Failure, r"status 500 \(internal error\), 4 times", requests=4),
    Row("hang", Failure, r"no answer within 0\.2 s", requests=1, options={"timeout_seconds": 0.2, "retries": 0}),
    Row("half half half half", Failure, r"no JSON object", requests=4),
    Row("too-long", Failure, r"too long for the server .*maximum context length is 64", requests=1),
    Row("413", Failure, r"too long for the server", requests=1),
    Row("no-choices", Failure, r"no choices", requests=1),
    Row("filtered", Failure, r"content filter", requests=1, call=TEXT),
    Row("refusal", Failure, r"refused: I can't do that", requests=1, call=TEXT),
    Row("no-text", Failure, r"no text but int", requests=1, call=TEXT),
    Row("odd-form", Failure, r"unknown form", requests=1),
    Row("long-text", Failure, r"none of the choices", requests=1, options={"server": "vllm"},
        call=GenerateCall(PROMPT, choices=("[A]", "[B]"), constrained=True)),
    Row("no-logprobs", SetupError, r"gives no log-probabilities", requests=1),
    Row("401", SetupError, r"refuses the key in the variable OPENAI_API_KEY \(status 401\): set", requests=1),
    Row("403", SetupError, r"status 403 \(this country is not served\)", requests=1),
    Row("404", SetupError, r"status 404 \(The model `x` does not exist\): check url, model and api", requests=1),
    Row("400", UsageError, r"refuses the request \(status 400: unknown parameter 'top_logprobs'\)", requests=1),
    Row("quota", SetupError, r"quota is spent", requests=1),
    Row("429-tomorrow", SetupError, r"asks to wait for 86,400 s", requests=1),
    Row("moved", SetupError, r"has moved to http://127\.0\.0\.1:9/elsewhere", requests=1),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kinds)
def test_a_server_that_misbehaves(row, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with LoopbackLLM(row.kinds.split()) as server:
        asking = backend(server, **row.options)
        outcome = None
        try:
            outcome = one(asking, row.call)
        except CribbleError as error:
            outcome = error
    assert len(server.asked) == row.requests
    if row.outcome in (RIGHT, MISSING):
        right(row, outcome)
    else:
        assert type(outcome) is row.outcome, outcome
        said = outcome.reason if isinstance(outcome, Failure) else str(outcome)
        assert re.search(row.match, said), said
    assert SECRET not in f"{outcome} {caplog.text} {asking!r} {asking.identity()}"


def right(row, outcome):
    assert isinstance(outcome, Reply), outcome
    if row.call is TEXT:
        assert outcome.text == RANKED
    elif row.outcome is RIGHT:
        assert outcome.values == pytest.approx(logprobs(), abs=1e-12)
    else:
        listed = [1, 2] if row.kinds == "few-logprobs" else []
        assert [i for i, value in enumerate(outcome.values) if not math.isnan(value)] == listed


def test_every_misbehaviour_is_in_the_table():
    assert {kind for row in ROWS for kind in row.kinds.split()} == {
        *REPLACED,
        *CHANGED,
        "hang",
        "half",
        "short",
        "closed",
    }


@pytest.mark.parametrize(("kind", "least"), [("429-after", 1.0), ("429-date", 0.9)])
def test_the_wait_that_a_server_asks_for_is_kept_by_all(kind, least):
    with LoopbackLLM([kind]) as server:
        calls = [LABELS] * 2
        assert all(isinstance(reply, Reply) for _, reply in backend(server, concurrency=1).answer(calls))
        assert server.times[1] - server.times[0] >= least
        assert server.times[2] - server.times[1] < 0.9


def test_waits_grow():
    with LoopbackLLM(["500"] * 4) as server:
        one(backend(server, retries=4, backoff_seconds=0.1), LABELS)
    waits = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    for i, wait in enumerate(waits):  # from half of 0.1 · 2**i on; the rest is the machine's
        assert 0.05 * 2**i <= wait < 0.1 * 2**i + 2.0


def test_a_server_that_always_fails_ends_the_work():
    with LoopbackLLM(always="500") as server:
        asking = backend(server, retries=0, concurrency=2)
        replies = []
        with pytest.raises(SetupError, match=r"4 calls in a row got no answer from http://127.*status 500"):
            collect(replies, asking.answer([LABELS] * 50))
    assert len(server.asked) <= 6
    assert all(isinstance(reply, Failure) for _, reply in replies)


def test_a_server_that_is_not_there():
    with LoopbackLLM() as server:
        url = server.url
    asking = OpenAI(model="loopback", url=url, retries=1, backoff_seconds=0.01)
    for act in (asking.open, lambda: one(asking, LABELS)):
        with pytest.raises(SetupError, match=r"can't be reached: the connection failed \(.*refused\), 2 times"):
            act()


def test_an_error_for_all_comes_after_the_answers_that_are_paid():
    with LoopbackLLM(["", "", "404"], delay=0.05) as server:
        seen = []
        with pytest.raises(SetupError, match="404"):
            collect(seen, backend(server, concurrency=3).answer([LABELS] * 50))
    answered = len(server.asked) - 1
    assert sum(isinstance(reply, Reply) for _, reply in seen) == answered
    assert answered <= 8


# ---- many calls ---------------------------------------------------------------------------------------------------------


def test_requests_run_at_a_time_and_replies_keep_their_positions():
    prompts = [Prompt(messages=(Message("user", f"[A] x\n[B] y {i}\nSearch Query: {i}."),)) for i in range(40)]
    with LoopbackLLM(delay=0.1) as server:
        start = time.monotonic()
        replies = dict(backend(server, concurrency=8).answer([GenerateCall(p, 40) for p in prompts]))
        assert time.monotonic() - start < 40 * 0.1
    assert server.most_at_once == 8
    assert sorted(replies) == list(range(40))
    assert all(reply.text == "[B] > [A]" for reply in replies.values())
    with LoopbackLLM(delay=0.01) as server:
        list(backend(server, concurrency=1).answer([LABELS] * 5))
    assert server.most_at_once == 1


def test_replies_come_as_they_are_ready():
    with LoopbackLLM(["hang"]) as server:
        asking = backend(server, concurrency=2, timeout_seconds=0.6, retries=0)
        replies = list(asking.answer([LABELS] * 4))
    assert [type(reply) for _, reply in replies] == [Reply, Reply, Reply, Failure]
    assert sorted(position for position, _ in replies) == [0, 1, 2, 3]


def test_leaving_early_asks_no_more():
    with LoopbackLLM(delay=0.02) as server:
        answers = backend(server, concurrency=2).answer([LABELS] * 100)
        next(answers)
        answers.close()
        time.sleep(0.1)
        count = len(server.asked)
        assert count <= 4
        time.sleep(0.1)
        assert len(server.asked) == count
    assert threading.active_count() < 20


# ---- budgets ------------------------------------------------------------------------------------------------------------


def distinct(count):
    request = Request("order", Query("q", QUERY), tuple(Document(k, v) for k, v in PASSAGES.items()))
    return [GenerateCall(Prompt(messages=(Message("user", f"{USER} {i}"),)), 20, request=request) for i in range(count)]


@pytest.mark.parametrize(
    ("limit", "name"),
    [({"max_total_tokens": 400}, "max_total_tokens=400"), ({"max_cost": 0.004, "price_in": 10, "price_out": 10}, "max_cost=0.004")],
)  # fmt: skip
def test_a_budget_stops_before_it_is_exceeded_and_goes_on_from_the_ledger(good, tmp_path, limit, name):
    calls = distinct(30)
    with Ledger.at(tmp_path / "l.sqlite") as ledger:
        asking = backend(good, **limit)
        paid = []
        with pytest.raises(UsageError, match=name) as raised:
            collect(paid, asker(asking, ledger)(calls))
        spent = asking.budget.spent
        assert 0 < spent.prompt + spent.new <= 400
        assert f"{asking.budget.answers:,} answers with {spent.prompt:,} prompt and {spent.new:,} new" in str(
            raised.value
        )
        kept = len(list(ledger.rows()))
        assert 3 <= kept == len(paid) == asking.budget.answers < 30
        first = len(good.asked)
        replies = dict(asker(backend(good), ledger)(calls))
        assert len(good.asked) - first == 30 - kept
        assert sum(reply.reused for reply in replies.values()) == kept


def test_without_a_limit_nothing_stops(good):
    assert len(list(backend(good).answer(distinct(30)))) == 30


def test_costs_that_the_server_does_not_tell_are_counted_here(caplog):
    with LoopbackLLM(always="no-usage") as server:
        asking = backend(server)
        with caplog.at_level(logging.WARNING, "cribble"):
            reply = one(asking, TEXT)
    assert reply.usage == Usage(asking.tokens.count(PROMPT), 0, asking.tokens.length(RANKED))
    assert "token counts are our own" in caplog.text


# ---- the key and the server ---------------------------------------------------------------------------------------------


def test_the_key_comes_from_the_environment(monkeypatch):
    with LoopbackLLM(key=SECRET) as server:
        with pytest.raises(SetupError, match=r"refuses the key and none was sent .*OPENAI_API_KEY"):
            backend(server).open()
        with pytest.raises(SetupError, match="set the environment variable OTHER_KEY"):
            backend(server, key_variable="OTHER_KEY").open()
        monkeypatch.setenv("OTHER_KEY", SECRET)
        other = backend(server, key_variable="OTHER_KEY")
        other.open()
        assert one(other, LABELS).values
        assert server.headers[-1]["Authorization"] == f"Bearer {SECRET}"
        monkeypatch.setenv("OTHER_KEY", SECRET + "\nX: y")
        with pytest.raises(SetupError, match="characters that no key has") as raised:
            backend(server, key_variable="OTHER_KEY").open()
        assert SECRET not in str(raised.value)


def test_the_official_server_needs_a_key_before_anything_is_sent():
    with pytest.raises(SetupError, match=r"https://api\.openai\.com/v1 needs a key: .*OPENAI_API_KEY"):
        OpenAI(model="gpt-x").open()
    assert OpenAI(model="gpt-x").dialect.limit_name == "max_completion_tokens"


def test_the_url_comes_from_the_option_or_the_environment(good, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", good.url + "/")
    assert OpenAI(model="loopback").address == good.url
    OpenAI(model="loopback").open()
    assert OpenAI(model="m", url="http://127.0.0.1:1/v1").address == "http://127.0.0.1:1/v1"


def test_a_model_that_the_server_lacks(good):
    with pytest.raises(SetupError, match=r"has no model 'loopbak': did you mean 'loopback'"):
        OpenAI(model="loopbak", url=good.url).open()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"model": None}, "model=NAME"),
        ({"url": "127.0.0.1:8000"}, "expected http"),
        ({"url": f"http://user:{SECRET}@host/v1"}, "key_variable"),
        ({"url": f"http://host/v1?key={SECRET}"}, "key_variable"),
        ({"url": "http://host:port/v1"}, "can't be read"),
        ({"api": "chats"}, "did you mean 'chat'"),
        ({"server": "vlm"}, "did you mean 'vllm'"),
        ({"prefill": "continues"}, "did you mean 'continue'"),
        ({"guided": "choice"}, "structured_outputs"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"retries": -1}, "retries is -1"),
        ({"timeout_seconds": 0}, "timeout_seconds is 0"),
        ({"backoff_seconds": -1}, "backoff_seconds is -1"),
        ({"top_logprobs": 0}, "top_logprobs is 0"),
        ({"max_total_tokens": 0}, "max_total_tokens is 0"),
        ({"max_cost": 1.0}, "price_in and price_out"),
        ({"price_in": 1.0}, "are for max_cost"),
        ({"max_cost": 1.0, "price_in": -1.0, "price_out": 1.0}, "prices of a million"),
        ({"key": SECRET}, "no option 'key'"),
    ],
)
def test_wrong_options(options, match):
    with pytest.raises(UsageError, match=match) as raised:
        make_backend({"use": "openai", "url": "http://127.0.0.1:9/v1"} | options, "m")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "call", "match"),
    [
        ({}, GenerateCall(TAIL, 9), "prefill=written"),
        ({}, GenerateCall(Prompt(text="x"), 9), "api=completions"),
        ({}, GenerateCall(Prompt(parts=("x",)), 9), "backend hf"),
        ({"api": "completions"}, TEXT, "set tokenizer"),
        ({"api": "completions"}, GenerateCall(Prompt(parts=("x",)), 9), "backend hf"),
        (
            {"prefill": "written"},
            GenerateCall(Prompt(messages=PROMPT.messages, tail="<think></think>"), 9),
            "as long as",
        ),
        ({}, GenerateCall(PROMPT, choices=("[A]",), constrained=True), "server=vllm or guided"),
        ({}, LikelihoodCall(PROMPT, ("x",)), "api=completions, server=vllm and tokenizer"),
        ({}, AttentionCall("h", ("p",), "b", "q", "a"), "no AttentionCall"),
    ],
)
def test_what_this_server_cannot_do_is_refused_before_it_is_asked(good, options, call, match):
    first = len(good.asked)
    with pytest.raises(UsageError, match=match):
        one(backend(good, **options), call)
    assert len(good.asked) == first


def test_the_identity_tells_what_an_answer_depends_on():
    base = {"model": "m", "url": "http://127.0.0.1:9/v1"}
    plain = OpenAI(**base).identity()
    assert all(isinstance(value, str) for value in plain.values())
    telling = {"model": "n", "url": "http://127.0.0.1:8/v1", "api": "completions", "server": "vllm", "top_logprobs": 5}
    telling |= {"prefill": "assistant", "guided": "guided_choice", "system_role": False, "extra": {"x": 1}}
    for name, value in telling.items():
        assert OpenAI(**(base | {name: value})).identity() != plain, name
    same = {"concurrency": 2, "retries": 1, "timeout_seconds": 9.0, "backoff_seconds": 0.5, "max_total_tokens": 9}
    assert OpenAI(**base, **same).identity() == plain
    assert json.dumps(plain)

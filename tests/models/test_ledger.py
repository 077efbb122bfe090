"""The ledger: what is kept, found again and never lost; kills and concurrent writers with real processes."""

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, fields, replace

import pytest
from cribble.errors import InputError, SetupError
from cribble.models import ledger as ledger_module
from cribble.models.backends.fake import Fake
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
from cribble.models.ledger import Ledger, asker, judgement_key, prompt_hash
from cribble.records import Document, Query
from cribble.rerankers.candidates import Candidates
from cribble.rerankers.judges import Answer, Judge
from cribble.rerankers.llm import totals
from cribble.rerankers.scheduler import schedule
from cribble.rerankers.strategies import Sorted, Strategy


@dataclass
class Paid(Fake):
    """The fake backend as one whose answers are worth keeping; `asked` are the prompts that it was paid for."""

    remembered = True

    def __post_init__(self):
        super().__post_init__()
        self.asked = []

    def answer(self, calls):
        for i, reply in super().answer(calls):
            self.asked.append(calls[i].prompt.text)
            yield i, reply


def call(text, query="red fox", document="a red dog"):
    return LabelCall(Prompt(text=text), ("A", "B"), Request("score", Query("q", query), (Document("d", document),)))


@pytest.fixture
def ledger(tmp_path):
    with Ledger.at(tmp_path / "ledger.sqlite") as opened:
        yield opened


# ---- keeping and finding ------------------------------------------------------------------------------------------------


def test_equal_calls_are_asked_once_and_never_again(ledger):
    backend = Paid()
    calls = [call("x"), call("y"), call("x"), call("x")]
    replies = dict(asker(backend, ledger)(calls))
    assert backend.asked == ["x", "y"]
    assert {i: reply.reused for i, reply in replies.items()} == {0: False, 1: False, 2: True, 3: True}
    assert replies[0] == replies[2] == replies[3]
    again = dict(asker(backend, ledger)([call("y"), call("z"), call("x")]))
    assert backend.asked == ["x", "y", "z"]
    assert {i: reply.reused for i, reply in again.items()} == {0: True, 1: False, 2: True}
    assert (again[2], again[2].usage) == (replies[0], replies[0].usage)


def test_without_a_ledger_equal_calls_are_asked_once_a_batch():
    backend = Paid()
    for _ in range(2):
        assert len(dict(asker(backend, None)([call("x"), call("x")]))) == 2
    assert backend.asked == ["x", "x"]


def test_another_backend_finds_nothing(ledger):
    first, second = Paid(), Paid(seed=1)
    dict(asker(first, ledger)([call("x")]))
    dict(asker(second, ledger)([call("x")]))
    assert (first.asked, second.asked) == (["x"], ["x"])


def test_failures_are_asked_again(ledger):
    failing = Paid(failures=1.0)
    for _ in range(2):
        assert all(isinstance(reply, Failure) for _, reply in asker(failing, ledger)([call("x"), call("x")]))
    assert failing.asked == ["x", "x"]
    assert list(ledger.rows()) == []


def test_the_fake_backend_is_not_written(ledger):
    dict(asker(Fake(), ledger)([call("x")]))
    assert list(ledger.rows()) == []


def test_a_reply_is_kept_before_it_is_handed_on(ledger):
    answers = asker(Paid(), ledger)([call("x"), call("y")])
    next(answers)
    with Ledger.at(ledger.path) as other:
        assert [row.query_id for row in other.rows()] == ["q"]


def test_replies_come_back_exactly(ledger):
    values = (1.5, math.nan, math.inf, -math.inf, -0.0, 1e-45, 0.1)
    reply = Reply(Usage(11, 7, 3), values, "räm \u2028 😀 \x00 \ud800 > [1]", "length")
    ledger.add("k", "m", call("x"), reply)
    (back,) = ledger.find(["k", "other"]).values()
    assert back.reused
    assert (back.usage, back.text, back.finish) == (reply.usage, reply.text, reply.finish)
    assert list(map(repr, back.values)) == list(map(repr, values))


def test_a_row_says_who_asked_what(ledger):
    asked = call("x")
    dict(asker(Paid(model="org/name"), ledger)([asked]))
    (row,) = ledger.rows()
    assert (row.model, row.kind, row.query_id, row.doc_ids) == ("org/name", "LabelCall", "q", ("d",))
    assert row.key == judgement_key(Paid(model="org/name").identity(), asked)
    assert row.prompt == prompt_hash(replace(asked, labels=("C",)))
    assert row.usage == Usage(1, 0, 1)
    assert row.created[:2] == "20"
    assert row.created.endswith("+00:00")


def test_rows_and_lookups_beyond_a_page(ledger, monkeypatch):
    monkeypatch.setattr(ledger_module, "_PAGE", 10)
    monkeypatch.setattr(ledger_module, "_KEYS_AT_ONCE", 7)
    for i in range(40):
        ledger.add(f"{i % 20}", "m", call("x"), Reply(text=str(i)))
    assert [row.reply["text"] for row in ledger.rows()] == [str(i) for i in range(20)]
    assert len(ledger.find([str(i) for i in range(30)])) == 20


# ---- the key ------------------------------------------------------------------------------------------------------------

PROMPT = Prompt(messages=(Message("user", "x"),))
PLAIN = [
    PROMPT,
    LabelCall(PROMPT, ("A", "B")),
    GenerateCall(PROMPT, 5),
    LikelihoodCall(PROMPT, ("a",)),
    AttentionCall("h", ("p",), "b", "q", "a"),
]


@pytest.mark.parametrize("plain", PLAIN, ids=lambda value: type(value).__name__)
def test_every_field_that_the_model_sees_is_part_of_the_key(plain):
    def key(value):
        return judgement_key({"model": "m"}, LabelCall(value, ("A",)) if isinstance(value, Prompt) else value)

    notes = [f.name for f in fields(plain) if f.name in ("request", "so_far")]
    names = [f.name for f in fields(plain) if f.name not in notes]
    assert len({key(replace(plain, **{name: "changed"})) for name in names} | {key(plain)}) == len(names) + 1
    assert {key(replace(plain, **{name: "changed"})) for name in notes} <= {key(plain)}


def test_the_kind_and_the_identity_are_part_of_the_key():
    assert judgement_key({}, LikelihoodCall(PROMPT, ("A",))) != judgement_key({}, LabelCall(PROMPT, ("A",)))
    assert judgement_key({"a": "1", "b": "2"}, call("x")) == judgement_key({"b": "2", "a": "1"}, call("x"))
    assert judgement_key({"model": "m"}, call("x")) != judgement_key({"model": "n"}, call("x"))


# ---- files --------------------------------------------------------------------------------------------------------------


def test_auto_is_in_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CRIBBLE_CACHE", str(tmp_path / "new" / "cache"))
    with Ledger.at("auto") as opened:
        assert opened.path == tmp_path / "new" / "cache" / "ledger.sqlite"
        assert opened.path.exists()


def foreign(path):
    sqlite3.connect(path).execute("CREATE TABLE x (y)").connection.close()


def later(path):
    Ledger.at(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def damaged(path):
    with Ledger.at(path) as opened:
        for i in range(200):
            opened.add(str(i), "m", call("x"), Reply(text="x" * 200))
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda path: path.write_text("no database at all, but long enough to have a header" * 4),
            InputError,
            "no SQLite",
        ),
        (foreign, InputError, "another program"),
        (later, InputError, "version 99"),
        (damaged, InputError, "damaged"),
        (lambda path: path.mkdir(), SetupError, "can't be opened"),
    ],
    ids=["text", "foreign", "later", "damaged", "folder"],
)
def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path, make, error, words):
    path = tmp_path / "l.sqlite"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(error, match=words) as raised, Ledger.at(path) as opened:
        list(opened.rows())
    assert str(path) in str(raised.value)
    assert before is None or words == "damaged" or path.read_bytes() == before


def test_an_empty_file_becomes_a_ledger(tmp_path):
    (tmp_path / "l.sqlite").touch()
    with Ledger.at(tmp_path / "l.sqlite") as opened:
        assert list(opened.rows()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="off for none"):
        Ledger.at(tmp_path / "file" / "l.sqlite")


def test_a_full_disk_is_said_and_what_was_kept_stays(ledger):
    ledger.add("small", "m", call("x"), Reply(text="kept"))
    ledger._connection.execute("PRAGMA max_page_count = 6")
    with pytest.raises(SetupError, match="disk is full"):
        ledger.add("big", "m", call("x"), Reply(text="x" * 100_000))
    with Ledger.at(ledger.path) as other:
        assert [row.reply["text"] for row in other.rows()] == ["kept"]


def test_a_file_that_may_not_be_written(ledger):
    ledger._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(SetupError, match="may not be written"):
        ledger.add("k", "m", call("x"), Reply())


# ---- processes ----------------------------------------------------------------------------------------------------------

ASKER = """
import sys, time
from cribble.models.calls import LabelCall, Prompt, Request
from cribble.models.ledger import Ledger, asker
from cribble.records import Document, Query
from cribble.models.backends.fake import Fake

class Paid(Fake):
    remembered = True
    def answer(self, calls):
        for i, reply in super().answer(calls):
            time.sleep(float(sys.argv[4]))
            print("paid", calls[i].prompt.text, flush=True)
            yield i, reply

request = Request("score", Query("q", "x"), (Document("d", "x"),))
calls = [LabelCall(Prompt(text=str(i)), ("A",), request) for i in range(int(sys.argv[2]), int(sys.argv[3]))]
for i, reply in asker(Paid(), Ledger.at(sys.argv[1]))(calls):
    print("got", calls[i].prompt.text, flush=True)
"""


def start(path, first, last, pause):
    command = [sys.executable, "-c", ASKER, str(path), str(first), str(last), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def said(lines):
    """How often each call was paid, and which answers were delivered."""
    words = [line.split() for line in lines if line.endswith("\n")]
    return Counter(w[1] for w in words if w[0] == "paid"), {w[1] for w in words if w[0] == "got"}


def test_a_killed_process_loses_no_judgement_that_it_delivered(tmp_path):
    path = tmp_path / "l.sqlite"
    paid = Counter()
    delivered = set()
    for _ in range(3):
        process = start(path, 0, 3000, 0.001)
        lines = [process.stdout.readline() for _ in range(41)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()
        now_paid, now_delivered = said(lines)
        assert not set(now_paid) & delivered
        assert len(now_paid) >= 1
        paid += now_paid
        delivered |= now_delivered
    with Ledger.at(path) as opened:
        assert opened._run("PRAGMA integrity_check", ()) == [("ok",)]
    # What was paid twice can only be the one answer that was in flight at each kill.
    assert sum(count - 1 for count in paid.values()) <= 3


def test_processes_that_write_at_once_share_one_file(tmp_path):
    path = tmp_path / "l.sqlite"
    processes = [start(path, 50 * i, 50 * i + 100, 0) for i in range(4)]
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert len(said(out.splitlines(keepends=True))[1]) == 100
    with Ledger.at(path) as opened:
        assert opened._run("PRAGMA integrity_check", ()) == [("ok",)]
        assert len(list(opened.rows())) == 250


# ---- in a rerun ---------------------------------------------------------------------------------------------------------


class Score(Judge):
    verbs = frozenset({"score"})

    def call(self, request, tokens):
        return LabelCall(Prompt(text=request.query.text + request.documents[0].text), ("A",), request), {}

    def read(self, request, call, reply):
        return Answer(scores=reply.values)


class Each(Strategy):
    verb = "score"

    def sort(self, n):
        scores = [answer.scores[0] for answer in (yield [(i,) for i in range(n)])]
        order = sorted(range(n), key=lambda i: -scores[i])
        return Sorted(order, [scores[i] for i in order])


def test_a_rerun_counts_what_it_reuses(ledger):
    texts = ["a dog", "a red fox", "red", "a red fox"]
    candidates = [Candidates(Query("q", "red fox"), [Document(str(i), text) for i, text in enumerate(texts)])]

    def run(backend):
        return schedule(Each(), Score(), backend.tokens, asker(backend, ledger), candidates)

    first, second = run(Paid()), run(Paid())
    assert totals(first)["reused_calls"] == 1  # the two foxes
    assert totals(second)["reused_calls"] == totals(second)["calls"] == 4
    assert first[0].sorted == second[0].sorted
    assert first[0].usage == second[0].usage
    assert json.dumps(totals(first)) != json.dumps(totals(second))

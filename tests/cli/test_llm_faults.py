"""Kills in the middle of an LLM reranking: nothing that was delivered is paid twice, and the run comes out the same.

The server is a process on 127.0.0.1 whose log says what it was asked and what it answered.
"""

import json
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from cribble.models.ledger import Ledger
from cribble.records import Run
from cribble.tests.cli.script import DOCUMENTS, QUERIES

DEPTH, CONCURRENCY = 6, 4
#: PRP asks for every pair in both orders.
CALLS = len(QUERIES) * DEPTH * (DEPTH - 1)


class Server:
    """The loopback server in a process of its own."""

    def __init__(self, log, *options):
        self.log = log
        command = [sys.executable, "-m", "cribble.tests.models.loopback_llm", "--log", str(log), *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def entries(self):
        lines = self.log.read_text().splitlines(keepends=True) if self.log.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def paid(self, since=0):
        """How often each call was asked, after so many lines of the log."""
        return Counter(json.dumps(e["body"], sort_keys=True) for e in self.entries()[since:] if "asked" in e)

    def wait_for_answers(self, count, since):
        end = time.monotonic() + 60
        while sum(e.get("answered", -1) >= 0 for e in self.entries()[since:]) < count:
            assert time.monotonic() < end
            time.sleep(0.01)

    def close(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(*options, name="log.jsonl"):
        servers.append(Server(tmp_path / name, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def place(collection, tmp_path):
    """A folder with `run.trec`: every document for every query, in the order of their ids."""
    ids = sorted(DOCUMENTS)
    run = Run.from_dict({q: {d: float(len(ids) - i) for i, d in enumerate(ids)} for q in QUERIES}, name="run")
    run.write(tmp_path / "run.trec")
    return tmp_path


def arguments(collection, port, out, reranker="prp-allpair", **options):
    backend = {"url": f"http://127.0.0.1:{port}/v1", "api": "completions", "concurrency": CONCURRENCY} | options
    settings = [part for name, value in backend.items() for part in ("--set", f"backend.{name}={value}")]
    command = ["rerank", "run.trec", "--dataset", f"beir:{collection}", "--reranker", reranker, "--model", "loopback"]
    return [*command, "--backend", "openai", "--depth", str(DEPTH), "--out", out, "--json", *settings]


def cache(place, name):
    return {"CRIBBLE_CACHE": str(place / name), "NO_PROXY": "127.0.0.1"}


def test_a_killed_rerank_pays_nothing_twice(cribble, collection, place, serve):
    server = serve("--delay", "0.01")
    whole = cribble(*arguments(collection, server.port, "whole.trec"), cwd=place, env=cache(place, "a"))
    assert whole.results["provenance"]["calls"] == CALLS
    undisturbed = server.paid()
    assert set(undisturbed.values()) == {1}
    assert len(undisturbed) == CALLS

    since = len(server.entries())
    process = cribble.start(*arguments(collection, server.port, "again.trec"), cwd=place, env=cache(place, "b"))
    server.wait_for_answers(CALLS // 3, since)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (place / "again.trec").exists()
    again = cribble(*arguments(collection, server.port, "again.trec"), cwd=place, env=cache(place, "b"))
    expected = Run.read(place / "whole.trec")
    assert expected != Run.read(place / "run.trec")
    assert Run.read(place / "again.trec") == expected
    paid = server.paid(since)
    assert set(paid) == set(undisturbed)
    twice = sum(count - 1 for count in paid.values())
    assert twice <= CONCURRENCY, "only what was on its way when the process died may be asked again"
    assert again.results["provenance"]["reused_calls"] >= CALLS // 3 - CONCURRENCY
    assert again.results["provenance"]["calls"] == CALLS

    since = len(server.entries())
    heap = arguments(collection, server.port, "heap.trec", "prp-heapsort")
    assert cribble(*heap, cwd=place, env=cache(place, "b")).results["run"] == "heap.trec"
    assert not server.paid(since), "another sort of the same comparisons is free"
    with Ledger.at(place / "b" / "ledger.sqlite") as ledger:
        assert ledger.summary()[0].judgements == CALLS


def test_a_killed_server_ends_the_work_and_a_rerun_goes_on(cribble, collection, place, serve):
    server = serve("--delay", "0.01")
    patience = {"retries": 1, "backoff_seconds": 0.05}
    command = arguments(collection, server.port, "out.trec", **patience)
    process = cribble.start(*command, cwd=place, env=cache(place, "c"))
    server.wait_for_answers(CALLS // 3, 0)
    server.close()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert b"can't be reached" in err
    assert b"Traceback" not in err
    second = serve("--delay", "0.01", "--port", str(server.port))
    done = cribble(*command, cwd=place, env=cache(place, "c"))
    assert done.results["provenance"]["failed_queries"] == 0
    paid = second.paid()  # both servers write the same log
    assert len(paid) == CALLS
    # Asked again is only what had no answer: each worker's request, and its retry.
    assert sum(count - 1 for count in paid.values()) <= 2 * CONCURRENCY


def test_ctrl_c_does_not_wait_for_a_server_that_hangs(cribble, collection, place, serve):
    server = serve("--always", "hang")
    process = cribble.start(*arguments(collection, server.port, "out.trec"), cwd=place, env=cache(place, "d"))
    end = time.monotonic() + 60
    while sum(server.paid().values()) < CONCURRENCY:
        assert time.monotonic() < end
        time.sleep(0.02)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert time.monotonic() - start < 10  # the server would hold its answers back for 20
    assert b"interrupted; run the same command again to go on" in err

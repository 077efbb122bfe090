"""Feedback on query vectors: Pyserini's and FIRST's own numbers, brute force, exclusions, chains, configs."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from cribble.configs.building import check_stages, over_index
from cribble.configs.schema import parse_config
from cribble.errors import UsageError
from cribble.estimate import config_estimate
from cribble.index.exact import unit_length
from cribble.pipeline import run_pipeline
from cribble.records import Query, Run
from cribble.retrievers.dense_prf import DensePRF
from cribble.retrievers.feedback import Found
from cribble.retrievers.query_learning import Learning, learned_vector
from cribble.retrievers.reranker_feedback import RerankerFeedback
from cribble.stage import Context, Reranker, Retriever
from cribble.tests.retrievers.dense_by_hash import DenseByHash

QUERY = np.array([0.6, -0.2, 0.1, 0.3])
VECTORS = np.array(
    [
        [0.5, 0.1, -0.3, 0.2],
        [0.2, 0.4, 0.1, -0.1],
        [-0.3, 0.2, 0.5, 0.4],
        [0.1, -0.6, 0.2, 0.2],
        [-0.2, 0.3, -0.4, 0.6],
    ]
)
QUERIES = [Query("q1", "sea stone tree"), Query("q2", "木 fire"), Query("q3", "snow and snow"), Query("q4", "")]


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    return DenseByHash.over(tmp_path_factory.mktemp("dense") / "index")


@dataclass
class ByNumber(Reranker):
    """The document with the highest number first: an order, or scores."""

    depth: int = 10
    score_kind: str = field(default="logit")
    batches: list = field(default_factory=list, init=False, repr=False)

    def options(self):
        return {"depth": self.depth}

    def rerank(self, queries, run, texts):
        self.batches.append(len(queries))
        rankings = [(q.id, run.ids(q.id), [float(d[1:]) / 9 for d in run.ids(q.id)]) for q in queries]
        return Run.from_rankings(rankings, score_kind=self.score_kind, provenance={"calls": len(queries)})


# ---- pseudo-relevance feedback ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"depth": 3}, [0.25, 0.125, 0.1, 0.2]),
        ({"method": "rocchio", "depth": 5, "alpha": 0.4, "beta": 0.6}, [0.276, -0.032, 0.052, 0.276]),
        ({"method": "rocchio"}, [0.9 * 0.6 + 0.04 / 3, -0.18 + 0.07 / 3, 0.1, 0.27 + 0.05 / 3]),
        (
            {"method": "rocchio", "depth": 5, "negatives": 2, "gamma": 0.2},
            [0.5633333333333334, -0.12666666666666668, 0.12, 0.20666666666666667],
        ),
    ],
)
def test_moved_vectors_equal_pyserinis(options, expected, dense):
    """Oracle: what Pyserini 1.6's DenseVectorAveragePrf and DenseVectorRocchioPrf gave for these vectors, 1e-12."""
    stage = DensePRF(dense, **options)
    rows = VECTORS[: stage.depth]
    found = Found(QUERY, [str(i) for i in range(len(rows))], np.zeros(len(rows)), rows)
    assert stage._moved(found) == pytest.approx(expected, abs=1e-12)


def brute_force(dense, queries, depth, exclude):
    """Average feedback in float64 over all vectors at once: per query the ids, best first."""
    index = dense.opened
    rows = index.vectors(np.arange(len(index))).astype(np.float64)
    ids = np.array(index.texts.ids.to_pylist())
    asked = unit_length(dense.query_vectors(queries).values)[0].astype(np.float64)
    answers = {}
    for query, vector in zip(queries, asked, strict=True):
        kept = ~np.isin(ids, list(exclude.get(query.id, ())))
        best = np.argsort(-(rows @ vector)[kept], kind="stable")[:depth]
        moved = np.vstack([vector, rows[kept][best]]).mean(axis=0)
        scores = (rows[kept] @ moved) / np.linalg.norm(moved)
        answers[query.id] = (ids[kept], scores)
    return answers


def test_the_search_with_the_moved_vector_equals_brute_force_without_excluded_documents(dense):
    queries = QUERIES[:3]
    exclude = {"q1": frozenset(dense(queries).ids("q1")[:2])}
    run = DensePRF(dense, k=20, depth=4)(queries, exclude=exclude)
    for query_id, (ids, scores) in brute_force(dense, queries, 4, exclude).items():
        found = dict(zip(ids.tolist(), scores.tolist(), strict=True))
        assert run.ids(query_id) == sorted(found, key=lambda d: (np.float32(found[d]), d), reverse=True)[:20]
        assert run[query_id].scores == pytest.approx([found[d] for d in run.ids(query_id)], abs=1e-6)
    assert run.score_kind == "cosine"
    assert run.provenance["feedback_documents"] == 12


def test_feedback_of_feedback_starts_from_the_learned_vector(dense):
    inner = DensePRF(dense, depth=2)
    once, twice = inner.learned(QUERIES, Context()), DensePRF(inner, depth=2).learned(QUERIES, Context())
    by_hand = DensePRF(_Given(dense, once.vectors), depth=2).learned(QUERIES, Context())
    assert np.array_equal(twice.vectors.values, by_hand.vectors.values)
    assert not np.array_equal(once.vectors.values, twice.vectors.values)


@dataclass
class _Given(Retriever):
    """A dense retriever whose query vectors are given."""

    inner: DenseByHash
    values: object

    def query_vectors(self, queries):
        return self.values

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_no_more_documents_than_any_part_gives(dense):
    few = DenseByHash(dense.opened, k=4)
    for stage in (DensePRF(few, k=9), DensePRF(DensePRF(few), k=9), DensePRF(DensePRF(dense, k=4), k=9)):
        run = stage(QUERIES, exclude={"q1": frozenset(["d1"])})
        assert {len(run.ids(query.id)) for query in QUERIES} == {4}


def test_a_query_that_finds_nothing_keeps_its_vector(dense):
    everything = frozenset(dense.opened.texts.ids.to_pylist())
    for stage in (DensePRF(dense), RerankerFeedback(dense, ByNumber())):
        run = stage(QUERIES[:1], exclude={"q1": everything})
        assert run.ids("q1") == []
        assert run.provenance["feedback_documents"] == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"method": "ance"}, "method is 'ance', expected average or rocchio"),
        ({"depth": 0}, "depth is 0"),
        ({"method": "rocchio", "negatives": 3}, "negatives is 3, expected 0 to 2"),
        ({"alpha": 0.4}, "alpha has no effect on method=average"),
        ({"negatives": 1}, "negatives has no effect on method=average"),
        ({"method": "rocchio", "gamma": 0.1}, "set negatives"),
        ({"method": "rocchio", "beta": float("nan")}, "beta is nan"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, complaint, dense):
    with pytest.raises(UsageError, match=complaint):
        DensePRF(dense, **options)


# ---- feedback from a reranker -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "start", "targets", "spread", "expected"),
    [
        ("kl", QUERY, [1.0, 4.0, -2.0, 0.5, 3.0], 6.0, [0.1672601, 0.1906477, 0.0033279, -0.1138372]),
        ("ranknet", QUERY, [5.0, 1.0, 4.0, 2.0, 3.0], 4.0, [0.5801081, -0.1800703, 0.0809672, 0.3199171]),
        (
            "ranknet",
            [0.167260080575943, 0.190647691488266, 0.003327886341139674, -0.11383720487356186],
            [5.0, 1.0, 4.0, 2.0, 3.0],
            4.0,
            [0.1538968, 0.1707503, -0.0159202, -0.0939314],
        ),
    ],
)
def test_learned_vectors_equal_the_authors(loss, start, targets, spread, expected):
    """Oracle: the float32 vectors of FIRST's own distill.py and loss.py after 100 and 20 steps, 1e-5."""
    how = Learning(loss, *{"kl": (100, 0.005), "ranknet": (20, 0.001)}[loss])
    learned = learned_vector(np.array(start), VECTORS, np.array(targets), spread, "dot", how)
    assert learned == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("loss", ["kl", "ranknet"])
def test_the_learned_order_is_nearer_to_the_rerankers(similarity, loss, tmp_path):
    dense = DenseByHash.over(tmp_path / "index", similarity=similarity)
    stage = RerankerFeedback(dense, ByNumber(), loss=loss, steps=40, learning_rate=0.02)
    queries = QUERIES[:3]
    first = dense(queries).top(10)
    again = stage(queries, texts=dense.texts())

    def agreement(run, query_id):
        """Pairs of the first ten that stand in the reranker's order, as a share."""
        kept = [int(d[1:]) for d in run.ids(query_id) if d in set(first.ids(query_id))]
        return np.mean([a > b for i, a in enumerate(kept) for b in kept[i + 1 :]])

    for query in queries:
        assert agreement(again, query.id) > agreement(first, query.id)
    assert again.provenance["calls"] == 3
    assert again.score_kind == similarity


def test_nothing_to_learn_is_counted_and_leaves_the_search_as_it_was(dense):
    run = RerankerFeedback(dense, ByNumber(depth=1), depth=None)(QUERIES[:2])
    assert run == dense(QUERIES[:2])
    assert run.provenance["queries_without_feedback"] == 2


def test_a_reranker_of_orders_is_learned_from_by_ranknet(dense):
    assert RerankerFeedback(dense, ByNumber(score_kind="rank")).learning == Learning("ranknet", 20, 0.001)
    assert RerankerFeedback(dense, ByNumber()).learning == Learning("kl", 100, 0.005)
    with pytest.raises(UsageError, match="gives an order and no scores"):
        RerankerFeedback(dense, ByNumber(score_kind="rank"), loss="kl")


def test_reranked_queries_are_checkpointed_in_small_batches(dense, tmp_path):
    """An LLM's judgements of 16 queries are what a crash may cost."""
    queries = [Query(f"q{i}", f"sea tree {i}") for i in range(20)]
    reranker = ByNumber()
    done = run_pipeline(RerankerFeedback(dense, reranker, steps=5), queries, tmp_path)
    assert reranker.batches == [0, 16, 4]  # zero queries check the stage
    again = ByNumber()
    assert run_pipeline(RerankerFeedback(dense, again, steps=5), queries, tmp_path).run == done.run
    assert again.batches == [0]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda dense: DensePRF(ByNumber()), "has none: give it of"),
        (lambda dense: RerankerFeedback(ByNumber(), ByNumber()), "has none: give it of"),
        (lambda dense: RerankerFeedback(dense, dense), "learns from a reranker"),
        (lambda dense: RerankerFeedback(dense, ByNumber(), depth=11), "reranks the best 10 only"),
        (lambda dense: RerankerFeedback(dense, ByNumber(), depth=1), "depth is 1"),
        (lambda dense: RerankerFeedback(dense, ByNumber(), loss="mse"), "expected kl or ranknet"),
        (lambda dense: RerankerFeedback(dense, ByNumber(), steps=0), "steps is 0"),
        (lambda dense: RerankerFeedback(dense, ByNumber(), learning_rate=0.0), "learning_rate is 0.0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(make, complaint, dense):
    with pytest.raises(UsageError, match=complaint):
        make(dense)


# ---- configs ------------------------------------------------------------------------------------------------------------

STAGES = [
    {
        "use": "reranker-feedback",
        "of": {"use": "dense-prf", "of": {"use": "dense"}, "method": "rocchio", "depth": 5},
        "reranker": [{"use": "maxsim", "depth": 20}, {"use": "maxsim", "depth": 10}],
    },
    {"use": "maxsim", "depth": 20},
]


def test_a_config_nests_the_stages_and_its_dry_run_counts_them():
    check_stages(STAGES)
    config = parse_config({"dataset": "sample:stdlib", "pipeline": STAGES})
    steps = config_estimate(config).results["steps"]
    assert [step["step"] for step in steps] == ["index dense", "rerank maxsim"]  # equal steps are told once
    with pytest.raises(UsageError, match="maxsim has no option 'dept'"):
        check_stages([STAGES[0] | {"reranker": {"use": "maxsim", "dept": 20}}])


def test_the_command_line_puts_a_retriever_around_an_indexs_own(dense):
    path = str(dense.opened.path)
    of = {"k": 5}
    options = {"k": 7, "of": of, "depth": 2, "reranker": {"use": "maxsim", "depth": 4}}
    stage = over_index(path, "reranker-feedback", options)
    assert isinstance(stage, RerankerFeedback)
    assert (stage.k, stage.depth, stage.of.k, stage.of.index, stage.reranker.depth) == (7, 2, 5, path, 4)
    assert over_index(path, None, {"k": 3}).k == 3
    with pytest.raises(UsageError, match="bm25 has no option 'of'"):
        over_index(path, "bm25", {})
    with pytest.raises(UsageError, match=r"set its options as of\.NAME=VALUE"):
        over_index(path, "dense-prf", {"of": "dense"})

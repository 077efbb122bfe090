"""The Cosine Adapter: order never changes, one threshold cuts, files are checked, and fitting beats a plain threshold."""

import json

import numpy as np
import pytest
from cribble.cli import app
from cribble.corpora.dataset import Dataset
from cribble.errors import InputError, UsageError
from cribble.eval.cosine_fitting import Fitting, fit_cosine_adapter
from cribble.eval.cosine_training import Pairs, train
from cribble.records import Qrels, Query
from cribble.retrievers.cosine_adapter import CosineAdapter, keep_order
from cribble.retrievers.cosine_map import FORMS, CosineMap
from cribble.retrievers.dense_prf import DensePRF
from cribble.tests.index.builds import SPEC, WORDS, build_flat, make_documents
from cribble.tests.retrievers.adapters import random_map, save_adapter
from cribble.tests.retrievers.dense_by_hash import DenseByHash
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

QUERIES = [Query(f"q{i}", f"{WORDS[i % len(WORDS)]} {WORDS[(i * 5 + 1) % len(WORDS)]}") for i in range(60)]


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    return DenseByHash.over(tmp_path_factory.mktemp("dense") / "index")


cosines = st.lists(st.floats(-1, 1, width=32), max_size=40)


@example([-1.0], "power", 4, 30.0)  # an exponent of 0, and no share
@settings(max_examples=100, deadline=None)
@given(cosines, st.sampled_from(FORMS), st.integers(0, 9), st.sampled_from([0.1, 1.0, 30.0, 1000.0]))
def test_order_within_a_query_never_changes(values, form, seed, scale):
    """Also where the map is so steep that all probabilities round to 0 or 1: scores fall exactly where cosines fall."""
    before = np.sort(np.array(values, np.float64))[::-1]
    adapter = random_map(SPEC, seed=seed, form=form, scale=scale)
    query = np.random.default_rng(seed).standard_normal((1, SPEC.dim))
    probabilities = adapter.probabilities(adapter.parameters(query)[0], before)
    assert np.isfinite(probabilities).all()
    assert (np.diff(probabilities) <= 0).all()
    scores = keep_order(before, probabilities).astype(np.float32)  # as trec_eval compares them
    assert np.array_equal(np.diff(scores) < 0, np.diff(before) < 0)
    assert np.array_equal(np.diff(scores) == 0, np.diff(before) == 0)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_the_stage_keeps_what_reaches_the_threshold_in_the_retrievers_order(dense, tmp_path):
    adapter = save_adapter(tmp_path / "adapter", SPEC, seed=3)
    plain, whole = dense(QUERIES), CosineAdapter(dense, adapter)(QUERIES)
    assert [whole.ids(q.id) for q in QUERIES] == [plain.ids(q.id) for q in QUERIES]
    assert whole.score_kind == "prob"
    middle = float(np.median(whole.scores))
    cut = CosineAdapter(dense, adapter, threshold=middle)(QUERIES)
    for query in QUERIES:
        kept = [d for d, s in zip(whole.ids(query.id), whole[query.id].scores, strict=True) if s >= middle]
        assert cut.ids(query.id) == kept
    assert cut.provenance["filtered_out"] == plain.num_rows - cut.num_rows > 0
    assert cut.provenance["queries_left_empty"] == sum(not cut.ids(q.id) for q in QUERIES) > 0
    few = CosineAdapter(dense, adapter, k=3)(QUERIES)
    assert [few.ids(q.id) for q in QUERIES] == [plain.ids(q.id)[:3] for q in QUERIES]
    fewer = CosineAdapter(DenseByHash(dense.opened, k=2), adapter)(QUERIES, exclude={"q0": frozenset(["d1"])})
    assert {len(fewer.ids(q.id)) for q in QUERIES} == {2}


def test_a_map_without_a_network_is_a_global_threshold_on_the_cosine(dense, tmp_path):
    """Zero weights: the same rising function for all queries, so one cosine separates what stays."""
    flat = {name: np.zeros_like(value) for name, value in random_map(SPEC, seed=1).weights.items()}
    CosineMap("power", flat, 0.6, 0.1, 0.5, SPEC).save(tmp_path / "constant")
    plain, cut = dense(QUERIES), CosineAdapter(dense, tmp_path / "constant", threshold=0.45)(QUERIES)
    kept = np.concatenate([plain[q.id].scores[: len(cut.ids(q.id))] for q in QUERIES])
    lost = np.concatenate([plain[q.id].scores[len(cut.ids(q.id)) :] for q in QUERIES])
    assert len(kept)
    assert len(lost)
    assert kept.min() > lost.max()


def test_what_does_not_fit_is_refused(dense, tmp_path):
    adapter = save_adapter(tmp_path / "adapter", SPEC, seed=3)
    with pytest.raises(UsageError, match="maps the cosines of a dense retriever"):
        CosineAdapter(DensePRF(dense), adapter)
    with pytest.raises(UsageError, match=r"threshold is 1\.5"):
        CosineAdapter(dense, adapter, threshold=1.5)
    dots = DenseByHash(build_flat(tmp_path / "dots", make_documents(5), similarity="dot"))
    with pytest.raises(UsageError, match="scores of the kind dot"):
        CosineAdapter(dots, adapter).check()
    other = save_adapter(tmp_path / "other", type(SPEC)("other", dim=SPEC.dim), seed=3)
    with pytest.raises(InputError, match="made by another encoder"):
        CosineAdapter(dense, other).check()
    with pytest.raises(InputError, match=r"holds no adapter\.json"):
        CosineAdapter(dense, tmp_path / "nowhere").check()


def test_files_are_written_whole_and_belong_together(tmp_path):
    one = random_map(SPEC, seed=1, threshold=0.25)
    one.save(tmp_path / "one")
    again = CosineMap.load(tmp_path / "one")
    query = np.random.default_rng(0).standard_normal((3, SPEC.dim))
    assert np.array_equal(again.parameters(query), one.parameters(query))
    assert (again.threshold, again.encoder, again.facts) == (0.25, SPEC, {"seed": 1})
    random_map(SPEC, seed=2).save(tmp_path / "two")
    (tmp_path / "one" / "adapter.safetensors").write_bytes((tmp_path / "two" / "adapter.safetensors").read_bytes())
    with pytest.raises(InputError, match="is not the file that"):
        CosineMap.load(tmp_path / "one")
    for text, complaint in (("{", "is no JSON"), ("{}", "is no adapter's description"), ("[]", "is no adapter's")):
        (tmp_path / "two" / "adapter.json").write_text(text)
        with pytest.raises(InputError, match=complaint):
            CosineMap.load(tmp_path / "two")


# ---- fitting ------------------------------------------------------------------------------------------------------------


def made_pairs(queries, seed):
    """Relevance by a threshold on the cosine that hangs on the query's first coordinate, with noise."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((queries, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = np.sort(rng.uniform(0, 1, (queries, 30)), axis=1)[:, ::-1]
    chance = 1 / (1 + np.exp(-25 * (found - 0.6 - 0.35 * vectors[:, :1])))
    relevant = rng.random(found.shape) < chance
    return Pairs(vectors, np.arange(0, 30 * queries + 1, 30), found.ravel(), relevant.ravel(), relevant.sum(axis=1))


@pytest.mark.parametrize("form", ["linear", "power"])
def test_the_network_learns_what_hangs_on_the_query(form):
    """A threshold that moves with the query: the map tells the pairs of new queries apart better than the cosine does."""
    from cribble.eval.cosine_fitting import probabilities
    from cribble.eval.set_measures import average_precision

    trained = train(made_pairs(300, 1), made_pairs(60, 2), form=form, hidden=16, epochs=120, seed=0)
    again = train(made_pairs(300, 1), made_pairs(60, 2), form=form, hidden=16, epochs=120, seed=0)
    assert all(np.array_equal(trained.weights[name], again.weights[name]) for name in trained.weights)
    new = made_pairs(100, 3)
    spec = type(SPEC)("made", dim=8)
    adapter = CosineMap(form, trained.weights, trained.mean, trained.deviation, 0.5, spec)
    scores = probabilities(adapter, new)
    assert average_precision(scores, new.relevant) > average_precision(new.cosines, new.relevant) + 0.01
    assert abs(scores.mean() - new.relevant.mean()) < 0.05  # calibrated: the mean probability is the share


def test_a_network_with_nothing_to_learn_leaves_the_global_map():
    """Relevance that hangs on the cosine alone, few queries: stopped early, near the plain threshold."""
    pairs = made_pairs(40, 4)
    rng = np.random.default_rng(5)
    plain = Pairs(
        pairs.vectors, pairs.offsets, pairs.cosines, rng.random(len(pairs.cosines)) < pairs.cosines**4, pairs.total
    )
    halves = [plain.of(np.arange(0, 30)), plain.of(np.arange(30, 40))]
    trained = train(*halves, form="linear", hidden=16, epochs=300, seed=0)
    assert trained.epochs < 100


@pytest.fixture(scope="module")
def judged(dense):
    """Relevant are the documents that hold both words of a query."""
    texts = {d.id: d.full_text.split() for d in make_documents(60)}
    wanted = {q.id: {d: 1 for d, words in texts.items() if set(q.text.split()) <= set(words)} for q in QUERIES}
    qrels = Qrels.from_dict({q: found or {"d0": 0} for q, found in wanted.items()})
    return Dataset("made", QUERIES, qrels, open_documents=lambda: iter(make_documents(60)))


def test_fitting_writes_a_map_that_the_stage_uses(dense, judged, tmp_path):
    fitting = Fitting(depth=20, folds=3, epochs=20, hidden=4, form="linear")
    done, again = (fit_cosine_adapter(dense, judged, fitting) for _ in range(2))
    assert done.measures == again.measures
    assert all(np.array_equal(done.map.weights[name], again.map.weights[name]) for name in done.map.weights)
    assert (done.queries, done.pairs) == (60, 1200)
    done.map.save(tmp_path / "adapter")
    run = CosineAdapter(dense, tmp_path / "adapter")(judged)
    assert 0 < run.num_rows < dense(judged).num_rows
    assert (run.scores >= done.map.threshold - 1e-6).all()
    all_but_few = fit_cosine_adapter(dense, judged, Fitting(depth=60, folds=3, epochs=5, recall=0.95))
    assert all_but_few.measures["adapter"]["recall"] > 0.85
    with pytest.raises(InputError, match="too few for 40 folds"):
        fit_cosine_adapter(dense, judged, Fitting(folds=40))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["form=cubic"], "form 'cubic' is unknown"),
        (["dept=3"], "did you mean 'depth'"),
        (["depth=deep"], "cosine-adapter: depth is 'deep', expected a whole number"),
        (["folds=1"], "folds is 1, expected at least 2"),
        (["recall=1.5"], "recall is 1.5"),
    ],
)
def test_the_command_refuses_wrong_options(options, complaint, dense, tmp_path):
    settings = [part for option in options for part in ("--set", option)]
    where = ["--dataset", "sample:stdlib", "--out", str(tmp_path / "out")]
    arguments = ["fit", "cosine-adapter", str(dense.opened.path), *where, *settings]
    assert complaint in str(CliRunner().invoke(app, arguments).exception)
    assert "cosine-adapter" in str(CliRunner().invoke(app, ["fit", "cosine", *arguments[2:]]).exception)


def test_an_adapter_is_not_overwritten_by_chance(dense, tmp_path):
    save_adapter(tmp_path, SPEC, seed=1)
    facts = json.loads((tmp_path / "adapter.json").read_text())
    where = ["--dataset", "sample:stdlib", "--out", str(tmp_path)]
    shown = CliRunner().invoke(app, ["fit", "cosine-adapter", str(dense.opened.path), *where])
    assert "holds an adapter already" in str(shown.exception)
    assert json.loads((tmp_path / "adapter.json").read_text()) == facts

"""Tuning of approximate indexes: recall against brute force, the least setting that reaches the target, the command."""

import json

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.eval.tuning import tune
from cribble.index.opening import find_kind
from cribble.records import Document
from cribble.vectors import Dense, EncoderSpec

ROWS, DIM = 3000, 32
SPEC = EncoderSpec("made", dim=DIM, similarity="cosine")


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    return rng.standard_normal((ROWS, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def queries():
    return Dense(np.random.default_rng(1).standard_normal((30, DIM)).astype(np.float32))


@pytest.fixture(scope="module")
def build(vectors, tmp_path_factory):
    root = tmp_path_factory.mktemp("tuned")

    def built(kind):
        def encode(batch):
            return Dense(vectors[[int(document.id) for document in batch]])

        documents = [Document(str(i), "text") for i in range(ROWS)]
        return find_kind(kind).build(root / kind, documents, encode, spec=SPEC, corpus="made", total=ROWS)

    return built


def brute_recall(index, vectors, queries, k, parameters):
    """Share of the k nearest by float64 cosines, one query at a time."""
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    hits = 0
    for query in queries.values:
        best = set(np.argsort(-(unit @ query.astype(np.float64)))[:k].tolist())
        (found,) = index.search(Dense(query[None]), k, **parameters)
        hits += len(best & {int(i) for i in found.ids})
    return hits / (k * len(queries))


@pytest.mark.parametrize(("kind", "name"), [("ivf-flat", "nprobe"), ("hnsw", "ef"), ("two-level", "candidates")])
def test_the_curve_is_that_of_brute_force_and_the_least_value_is_chosen(kind, name, build, vectors, queries):
    index = build(kind)
    curve = tune(index, queries, 10, 0.99)
    for setting in curve.settings:
        assert setting.recall == pytest.approx(brute_recall(index, vectors, queries, 10, setting.parameters), abs=1e-9)
        assert 0 < setting.milliseconds <= setting.slowest
    assert curve.chosen.recall >= 0.99
    less = [s for s in curve.settings if s.parameters.get(name, 1e9) < curve.chosen.parameters[name]]
    assert less
    assert max(s.recall for s in less) < 0.99


@pytest.mark.parametrize("kind", ["ivf-pq", "pq"])
def test_codes_that_do_not_reach_the_target_are_verified(kind, build, queries):
    curve = tune(build(kind), queries, 5, 0.9)
    assert curve.chosen.recall >= 0.9
    assert curve.chosen.parameters["verify"] > 5
    assert all(s.recall < 0.9 for s in curve.settings if "verify" not in s.parameters)


def test_equal_vectors_are_alike(tmp_path, queries):
    """Twenty copies of each vector: which of them are found makes no difference."""
    rows = np.repeat(np.random.default_rng(2).standard_normal((50, DIM)), 20, axis=0).astype(np.float32)
    documents = [Document(str(i), "text") for i in range(len(rows))]
    encode = lambda batch: Dense(rows[[int(d.id) for d in batch]])  # noqa: E731
    index = find_kind("sq8").build(tmp_path / "sq8", documents, encode, spec=SPEC, corpus="made", total=len(rows))
    assert tune(index, queries, 10, 0.95).chosen.recall == 1


def test_what_can_not_be_tuned_is_refused(build, vectors, queries):
    with pytest.raises(UsageError, match="a flat index is searched exactly"):
        tune(build("flat"), queries, 10, 0.9)
    index = build("sq8")
    for k, target, complaint in ((0, 0.9, "k is 0"), (10, 0.0, r"recall is 0\.0"), (10, 1.1, r"recall is 1\.1")):
        with pytest.raises(UsageError, match=complaint):
            tune(index, queries, k, target)
    with pytest.raises(InputError, match="no queries"):
        tune(index, Dense(np.zeros((0, DIM), np.float32)), 10, 0.9)


def test_what_no_setting_reaches_is_said(build, queries):
    from cribble.commands.dense import _advice, _as_set

    index = build("sq4")
    index.check_parameters({"verify": 1})
    curve = tune(index, queries, 10, 1.0)
    assert curve.chosen is None or curve.chosen.recall == 1.0
    results = {"target": 1.0, "settings": [{"recall": 0.7}]}
    assert "no setting finds 1.0 of the exact answer, the best 0.7000" in _advice(results, None)
    assert _as_set({"nprobe": 3, "verify": 9}) == "nprobe=3 verify=9"
    assert json.dumps([vars(setting) for setting in curve.settings])

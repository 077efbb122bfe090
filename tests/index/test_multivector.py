"""Indexes of token vectors: equal to MaxSim written out, exact at every cut, changed, killed, refused."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.index.changes import add_documents, compact_index, delete_documents
from cribble.index.multivector import MultivectorIndex
from cribble.index.multivector_files import STORAGE, read, stored
from cribble.index.multivector_pooling import pooled
from cribble.index.opening import open_index, verify_index
from cribble.records import DescribedDocument, Document
from cribble.tests.index import token_builds
from cribble.tests.index.builds import deaths, make_documents
from cribble.tests.index.token_builds import DIM, SPEC, build_exact, build_muvera, encode, encode_tokens
from cribble.vectors import EncoderSpec, MultiVector

DOCUMENTS = make_documents(90)
TEXTS = [d.full_text for d in DOCUMENTS[:6]] + ["sea", "木 stone río"]


def ragged(rng, count, lengths):
    offsets = np.concatenate([[0], np.cumsum(rng.choice(lengths, count))])
    return MultiVector(rng.standard_normal((int(offsets[-1]), DIM)).astype(np.float32), offsets)


def build_random(path, storage, similarity, vectors, **options):
    """An index of ragged random vectors: document `i` is matrix i, every second one twice, so that scores tie."""
    documents = [Document(f"{i:03d}", "x") for i in range(len(vectors))]
    spec = EncoderSpec("random", dim=DIM, similarity=similarity)

    def own(batch):
        return MultiVector.of([vectors[int(d.id) // 2 * 2] for d in batch], DIM)

    return build_exact(path, documents, encode=own, spec=spec, storage=storage, shard_documents=31, **options)


def ranked(index, query, k, kept=None):
    """Scores in float64 over the vectors as they are stored, best first, ids descending among equal ones."""
    vectors = index.vectors(np.arange(len(index)))
    query = query.astype(np.float64)
    if index.similarity == "cosine":
        query = query / np.linalg.norm(query, axis=1, keepdims=True)
    rows = []
    for i in range(len(vectors)):
        own = vectors[i].astype(np.float64)
        if not len(own) or not len(query) or (kept is not None and f"{i:03d}" not in kept):
            continue
        matches = query @ own.T
        if index.similarity == "l2":
            matches = 2 * matches - (query**2).sum(1)[:, None] - (own**2).sum(1)
        rows.append((round(float(matches.max(1).sum()), 9), f"{i:03d}"))
    return sorted(rows, reverse=True)[:k]


@pytest.mark.parametrize("similarity", ["dot", "cosine", "l2"])
@pytest.mark.parametrize("storage", STORAGE)
def test_equal_to_the_definition_over_what_is_stored(tmp_path, storage, similarity):
    """Oracle: float64 numpy; scores at 1e-5 relative (int8: its scale is multiplied once more), order and ties exact."""
    rng = np.random.default_rng(5)
    vectors, queries = ragged(rng, 100, (0, 1, 3, 30)), ragged(rng, 7, (0, 1, 4, 33))
    index = build_random(tmp_path / "i", storage, similarity, vectors)
    assert index.score_kind == "maxsim"
    for kept in (None, {f"{i:03d}" for i in range(0, 100, 7)}, {f"{i:03d}" for i in range(98)}):
        found = index.search(queries, 20, allow=kept)
        for i, (ids, scores) in enumerate(found):
            expected = ranked(index, queries[i], 20, kept)
            assert ids.tolist() == [doc_id for _, doc_id in expected]
            assert scores == pytest.approx([score for score, _ in expected], rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("similarity", ["dot", "l2"])
def test_results_for_less_are_the_head_of_those_for_more(tmp_path, similarity):
    rng = np.random.default_rng(6)
    index = build_random(tmp_path / "i", "float16", similarity, ragged(rng, 300, (1, 2, 9)))
    queries = ragged(rng, 9, (1, 8))
    whole = index.search(queries, 300)
    assert all(len(ranking.ids) == 300 for ranking in whole)
    for k in (1, 10, 100, 299):
        for cut, ranking in zip(index.search(queries, k), whole, strict=True):
            assert cut.ids.tolist() == ranking.ids[:k].tolist()
            assert cut.scores.tolist() == ranking.scores[:k].tolist()


@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_torch_scans_to_the_same_bits(tmp_path, storage):
    rng = np.random.default_rng(7)
    index = build_random(tmp_path / "i", storage, "cosine", ragged(rng, 200, (0, 1, 12)))
    queries = ragged(rng, 5, (1, 8))
    on_torch = MultivectorIndex.open(tmp_path / "i", device="torch:cpu")
    for one, two in zip(index.search(queries, 10), on_torch.search(queries, 10), strict=True):
        assert one.ids.tolist() == two.ids.tolist()
        assert one.scores.tolist() == two.scores.tolist()


def test_numbers_are_rounded_as_their_formats_say():
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(8).standard_normal((50, 24)).astype(np.float32) * np.logspace(-20, 20, 50)[:, None]
    values = values.astype(np.float32)
    half = torch.from_numpy(values).bfloat16().float().numpy()
    assert read(stored(values, "bfloat16")[0], "bfloat16").tolist() == half.tolist()
    codes, scales = stored(values, "int8")
    assert (np.abs(codes * scales[:, None] - values) <= 0.501 * scales[:, None]).all()
    assert np.abs(codes).max() == 127
    assert stored(np.zeros((1, 4), np.float32), "int8")[0].tolist() == [[0, 0, 0, 0]]


def test_bytes_and_tokens_are_counted(tmp_path, caplog):
    documents = [*DOCUMENTS[:20], Document("nothing", " ")]
    sizes = {}
    for storage in STORAGE:
        index = build_exact(tmp_path / storage, documents, storage=storage)
        sizes[storage] = index.manifest.counts["vector_bytes_per_document"]
        assert index.manifest.counts["tokens"] == len(encode(documents).tokens)
        assert index.manifest.counts["without_tokens"] == 1
    assert "1 documents have no token vectors: no query finds them" in caplog.text
    assert "nothing" not in index.search(encode_tokens(["sea"]), 100)[0].ids
    tokens = index.manifest.counts["tokens"] / 21
    assert sizes["float32"] - sizes["float16"] == pytest.approx(tokens * 2 * DIM, abs=2)
    assert sizes["float16"] == sizes["bfloat16"]
    assert sizes["float16"] - sizes["int8"] == pytest.approx(tokens * (DIM - 4), abs=16)  # and a file's header


def test_mean_divides_by_the_querys_tokens(tmp_path):
    index = build_exact(tmp_path / "sum", DOCUMENTS)
    mean = build_exact(tmp_path / "mean", DOCUMENTS, mean=True)
    by_spec = EncoderSpec(**{**SPEC.to_json(), "extra": {"scores": "meanmaxsim"}})
    assert build_exact(tmp_path / "spec", DOCUMENTS, spec=by_spec).mean
    for text, one, two in zip(
        TEXTS, index.search(encode_tokens(TEXTS), 5), mean.search(encode_tokens(TEXTS), 5), strict=True
    ):
        assert one.ids.tolist() == two.ids.tolist()
        assert two.scores == pytest.approx(one.scores / len(text.split()))


def test_a_query_that_is_not_finite_is_refused(tmp_path):
    index = build_exact(tmp_path / "i", DOCUMENTS[:5])
    queries = encode_tokens(["sea", "木 stone río"])
    queries.tokens[-1, 0] = np.nan
    with pytest.raises(InputError, match="a token of query 1 holds NaN or infinity"):
        index.search(queries, 3)


# ---- pooling ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The symmetric non-negative hollow")  # of scipy, about Stanford's points
@pytest.mark.parametrize("factor", [1.5, 2, 100])
def test_pooled_tokens_are_those_of_sentence_transformers(factor):
    """Oracle: sentence_transformers' HierarchicalTokenPooling (scipy or fastcluster), 1e-5; Stanford's by its definition."""
    torch = pytest.importorskip("torch")
    from scipy.cluster.hierarchy import fcluster, linkage
    from sentence_transformers.multi_vector_encoder.modules.token_pooling import HierarchicalTokenPooling

    vectors = ragged(np.random.default_rng(9), 12, (1, 2, 3, 30))
    tokens = vectors.tokens / np.linalg.norm(vectors.tokens, axis=1, keepdims=True)
    vectors = MultiVector(tokens, vectors.offsets)
    theirs = HierarchicalTokenPooling(factor, normalize_embeddings=False)
    mine, stanford = pooled(vectors, factor, "sentence-transformers"), pooled(vectors, factor, "stanford")
    for i in range(12):
        assert mine[i] == pytest.approx(theirs.pool_one(torch.from_numpy(vectors[i])).numpy(), abs=1e-5)
        count = max(int(len(vectors[i]) // factor), 1)
        if count == len(vectors[i]):
            assert stanford[i].tolist() == vectors[i].tolist()
            continue
        labels = fcluster(linkage(1 - vectors[i] @ vectors[i].T, method="ward"), t=count, criterion="maxclust")
        means = [vectors[i][labels == label].mean(0) for label in sorted(set(labels))]
        assert stanford[i] == pytest.approx(np.array(means), abs=1e-5)


def test_a_pooled_index_is_smaller_and_records_how(tmp_path):
    plain = build_exact(tmp_path / "plain", DOCUMENTS)
    half = build_exact(tmp_path / "half", DOCUMENTS, pool_factor=2)
    other = build_exact(tmp_path / "other", DOCUMENTS, pool_factor=2, pool="stanford")
    assert half.manifest.counts["tokens"] < 0.6 * plain.manifest.counts["tokens"]
    assert (half.manifest.options["pool_factor"], half.manifest.options["pool"]) == (2, "sentence-transformers")
    assert np.linalg.norm(half.vectors(np.arange(5)).tokens, axis=1) == pytest.approx(1, abs=1e-3)
    queries = encode_tokens(TEXTS)
    assert other.search(queries, 5)[0].scores.tolist() != half.search(queries, 5)[0].scores.tolist()
    add_documents(tmp_path / "half", lambda: [DOCUMENTS[0]._replace(id="again")], encode, spec=SPEC, corpus="more")
    found = open_index(tmp_path / "half").search(encode_tokens([DOCUMENTS[0].full_text]), 2)[0]
    assert found.ids.tolist() == ["d0", "again"]
    assert found.scores[0] == found.scores[1]


# ---- changes, death ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [build_exact, lambda path, documents: build_muvera(path, documents, structure="hnsw")],
    ids=["multivector-exact", "muvera"],
)
def test_a_changed_index_gives_what_a_fresh_one_gives(tmp_path, build):
    path = tmp_path / "i"
    build(path, DOCUMENTS[:60])
    more = [DescribedDocument.of(d, {"year": i}) for i, d in enumerate(DOCUMENTS[60:])]
    add_documents(path, lambda: more, encode, spec=SPEC, corpus="more")
    gone = [d.id for d in DOCUMENTS[5:70:3]]
    delete_documents(path, gone)
    left = [d for d in DOCUMENTS if d.id not in gone]
    fresh = [
        (r.ids.tolist(), r.scores.tolist()) for r in build(tmp_path / "fresh", left).search(encode_tokens(TEXTS), 30)
    ]
    for _ in range(2):
        index = open_index(path)
        assert [(r.ids.tolist(), r.scores.tolist()) for r in index.search(encode_tokens(TEXTS), 30)] == fresh
        found = index.search(encode_tokens(TEXTS), 30, where="year >= 20")
        assert {i for r in found for i in r.ids} <= {d.id for d in more[20:] if d.id not in gone}
        compact_index(path)
    assert open_index(path).manifest.counts["tokens"] == len(encode(left).tokens)
    verify_index(path)


@pytest.mark.parametrize(("kind", "stride"), [("multivector-exact", 15), ("muvera", 19)])
def test_death_at_steps_of_a_build(tmp_path, kind, stride):
    rows = deaths(token_builds.__file__, tmp_path, kind, 9, stride)
    assert {row["state"] for row in rows} == {"unfinished", "whole"}


# ---- what is refused ----------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused(tmp_path):
    index = build_exact(tmp_path / "i", DOCUMENTS[:9])
    with pytest.raises(InputError, match="query tokens have 5 dimensions, the index 16"):
        index.search(MultiVector.of([np.ones((2, 5), np.float32)], 5), 3)
    other = EncoderSpec(**{**SPEC.to_json(), "extra": {"document_length": 64}})
    with pytest.raises(InputError, match="document_length: 64 asked for, None recorded"):
        MultivectorIndex.open(tmp_path / "i", spec=other)
    with pytest.raises(InputError, match="gave 9 matrices of 5 dimensions for 9 documents, expected 9 of 16"):
        build_exact(
            tmp_path / "j", DOCUMENTS[:9], encode=lambda d: MultiVector.of([np.ones((1, 5), np.float32)] * len(d), 5)
        )
    with pytest.raises(UsageError, match="device 'gpu' is unknown"):
        MultivectorIndex.open(tmp_path / "i", device="gpu")
    for options, message in [
        ({"storage": "int4"}, "storage 'int4' is unknown"),
        ({"similarity": "manhattan"}, "similarity 'manhattan' is unknown"),
        ({"pool_factor": 0.5}, "pool_factor is 0.5, expected 1"),
        ({"pool": "stanford"}, "pool='stanford' has no effect without a pool_factor"),
        ({"pool": "stamford", "pool_factor": 2}, "did you mean 'stanford'"),
    ]:
        with pytest.raises(UsageError, match=message):
            build_exact(tmp_path / "k", DOCUMENTS[:9], **options)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_numbers_that_can_not_be_stored_are_refused_by_document(tmp_path, value):
    def broken(batch):
        matrices = [np.ones((2, DIM), np.float32) for _ in batch]
        matrices[3][1, 2] = value
        return MultiVector.of(matrices, DIM)

    with pytest.raises(InputError, match="document 'd3' holds NaN or infinity, or overflows float16"):
        build_exact(tmp_path / "i", DOCUMENTS[:9], encode=broken, similarity="dot")

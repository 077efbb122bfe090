"""MUVERA indexes: exact where all are candidates, near where not, by every structure; parameters have effects or raise."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.errors import UsageError
from cribble.index.muvera import MuveraIndex
from cribble.index.opening import open_index
from cribble.records import Document
from cribble.tests.index.token_builds import DIM, build_exact, build_muvera, build_tokens
from cribble.vectors import EncoderSpec, MultiVector

pytest.importorskip("faiss")

COUNT = 1200


def clustered(seed, count, lengths):
    """Token matrices around 60 centres, a few of which each text has."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((60, DIM))
    matrices = []
    for size in rng.choice(lengths, count):
        own = centres[rng.choice(60, 4)]
        matrices.append((own[rng.integers(0, 4, size)] + 0.3 * rng.standard_normal((size, DIM))).astype(np.float32))
    return MultiVector.of(matrices, DIM)


VECTORS = clustered(1, COUNT, (4, 12, 30))
QUERIES = clustered(2, 25, (3, 8))
DOCUMENTS = [Document(str(i), "x") for i in range(COUNT)]
SPEC = EncoderSpec("clustered", dim=DIM, similarity="cosine")


def encode(batch):
    return MultiVector.of([VECTORS[int(d.id)] for d in batch], DIM)


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    path = tmp_path_factory.mktemp("exact") / "i"
    return build_exact(path, DOCUMENTS, encode=encode, spec=SPEC, shard_documents=500)


@pytest.fixture(scope="module")
def muvera(tmp_path_factory):
    path = tmp_path_factory.mktemp("muvera") / "i"
    return build_tokens("muvera", path, DOCUMENTS, encode, spec=SPEC, shard_documents=500, partition_bits=4)


def test_more_candidates_find_more_and_all_find_all(exact, muvera):
    few, some = (muvera.recall(QUERIES, 10, candidates=n) for n in (10, 100))
    assert few < some
    assert some > 0.9
    assert muvera.recall(QUERIES, 10, candidates=COUNT) == 1
    for one, two in zip(exact.search(QUERIES, 50), muvera.search(QUERIES, 50, candidates=COUNT), strict=True):
        assert one.ids.tolist() == two.ids.tolist()
        assert one.scores.tolist() == two.scores.tolist()


def test_what_is_found_has_its_exact_score(exact, muvera):
    every = [dict(zip(r.ids, r.scores, strict=True)) for r in exact.search(QUERIES, COUNT)]
    for scores, ranking in zip(every, muvera.search(QUERIES, 20), strict=True):
        assert [scores[i] for i in ranking.ids] == ranking.scores.tolist()
        assert len(ranking.ids) == 20


@pytest.mark.parametrize("share", [2, 3, 30])
def test_filters(exact, muvera, share):
    allowed = [str(i) for i in range(0, COUNT, share)]
    found = muvera.search(QUERIES, 5, allow=allowed, candidates=300)
    expected = exact.search(QUERIES, 5, allow=allowed)
    both = sum(len(set(a.ids) & set(b.ids)) for a, b in zip(found, expected, strict=True))
    assert all(set(r.ids) <= set(allowed) for r in found)
    assert both > 0.95 * 5 * len(found)


@pytest.mark.parametrize(
    ("structure", "options", "parameters"),
    [
        ("ivf-flat", {"nlist": 8}, {"nprobe": 8}),
        ("hnsw", {"links": 16}, {"ef": 400}),
        ("sq8", {}, {}),
        ("ivf-pq", {"nlist": 4, "m": 64, "bits": 4}, {"nprobe": 4}),
    ],
)
def test_every_structure_proposes(tmp_path, muvera, structure, options, parameters):
    options = {"partition_bits": 4, "structure": structure} | options
    build_tokens("muvera", tmp_path / "i", DOCUMENTS, encode, spec=SPEC, shard_documents=500, **options)
    index = open_index(tmp_path / "i")
    assert isinstance(index, MuveraIndex)
    assert index.recall(QUERIES, 10, candidates=300, **parameters) > 0.8
    assert index.manifest.counts["proposal_bytes_per_document"] > 0
    for name in {"nprobe", "ef"} - set(parameters):
        with pytest.raises(UsageError, match=f"muvera over {structure} is not searched with {name}"):
            index.search(QUERIES, 5, **{name: 3})


def test_fewer_than_asked_for_are_told(tmp_path, caplog):
    build_tokens(
        "muvera", tmp_path / "i", DOCUMENTS, encode, spec=SPEC, partition_bits=2, structure="ivf-flat", nlist=32
    )
    found = open_index(tmp_path / "i").search(QUERIES, 200, nprobe=1)
    short = sum(len(r.ids) < 200 for r in found)
    assert short > 0
    assert f"{short} of 25 queries were proposed fewer than 200 documents" in caplog.text


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"partition_bits": 1}, True),
        ({"projected": 2}, True),
        ({"projected": 0}, True),
        ({"repetitions": 2}, True),
        ({"encoding_seed": 1}, True),
        ({"numbering": "gray"}, True),
        ({"encoding_storage": "float32"}, True),
    ],
)
def test_options_of_the_encodings_change_them(tmp_path, options, changed):
    plain = build_muvera(tmp_path / "plain", DOCUMENTS[:40], encode=encode, spec=SPEC)
    other = build_muvera(tmp_path / "other", DOCUMENTS[:40], encode=encode, spec=SPEC, **options)
    one, two = (np.load(index.path / "shards/00000/vectors.npy") for index in (plain, other))
    assert (one.shape != two.shape or one.dtype != two.dtype or not np.array_equal(one, two)) == changed
    assert other.recall(QUERIES, 5, candidates=40) == 1


def test_what_makes_no_sense_is_refused(tmp_path, muvera):
    for options, message in [
        ({"similarity": "l2"}, "similarity has to be dot or cosine"),
        ({"structure": "hnws"}, "structure 'hnws' is unknown: did you mean 'hnsw'"),
        ({"nlist": 3}, "flat encodings has no option 'nlist'"),
        ({"structure": "hnsw", "nlist": 3}, "muvera over hnsw index has no option 'nlist'"),
        ({"encoding_storage": "int8"}, "encoding_storage is 'int8'"),
        ({"projected": 17}, "projected is 17, expected 1 to 16"),
    ]:
        with pytest.raises(UsageError, match=message):
            build_muvera(tmp_path / "i", DOCUMENTS, encode=encode, spec=SPEC, **options)
    assert not (tmp_path / "i").exists()
    with pytest.raises(UsageError, match="muvera over flat is not searched with nprobe"):
        muvera.search(QUERIES, 5, nprobe=3)
    with pytest.raises(UsageError, match="candidates is 0, expected at least 1"):
        muvera.search(QUERIES, 5, candidates=0)

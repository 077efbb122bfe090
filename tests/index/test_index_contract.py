"""What every index kind promises. A new kind joins by a line in `BUILDERS`."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from cribble.errors import InputError, SetupError, UsageError
from cribble.index.opening import index_kinds, open_index, verify_index
from cribble.records import Document, Run
from cribble.tests.index.bag_builds import build_bags, encode_bags
from cribble.tests.index.binary_builds import build_coded
from cribble.tests.index.builds import build_flat, build_kind, encode_texts, make_documents
from cribble.tests.index.sparse_builds import SPEC as SPARSE_SPEC
from cribble.tests.index.sparse_builds import build_inverted, encode_sparse
from cribble.tests.index.token_builds import build_exact, build_muvera, build_plaid, encode_tokens
from cribble.vectors import Sparse


def build_lucene(path, documents, **options):
    from cribble.index.lucene import LuceneIndex

    return LuceneIndex.build(path, documents, **{"corpus": "made", "shard_documents": 16, **options})


def build_bm25(path, documents, **options):
    from cribble.index.bm25_inverted import Bm25InvertedIndex

    return Bm25InvertedIndex.build(path, documents, **{"corpus": "made", "shard_documents": 16, **options})


def encode_impacts(texts):
    """`encode_sparse` in whole numbers."""
    found = encode_sparse(texts)
    return Sparse(found.indptr, found.ids, np.rint(found.weights * 1000), found.terms)


def build_impact(path, documents, **options):
    from cribble.index.lucene_impact import LuceneImpactIndex

    def encode(batch):
        return encode_impacts([document.full_text for document in batch])

    options = {"corpus": "made", "shard_documents": 16, "spec": SPARSE_SPEC} | options
    return LuceneImpactIndex.build(path, documents, encode, **options)


def build_seismic(path, documents, **options):
    """Searched so that nothing is left out."""

    def encode(batch):
        return encode_sparse([document.full_text for document in batch])

    index = build_kind("seismic", path, documents, encode, **{"spec": SPARSE_SPEC} | options)
    index.search = partial(index.search, query_cut=1000, heap_factor=0.0)
    return index


def build_plaid_for_all(path, documents, **options):
    """Searched so that all documents are candidates and none is left out."""
    index = build_plaid(path, documents, **options)
    index.search = partial(index.search, ncells=1024, threshold=-2.0, ndocs=1000)
    return index


def approximate(kind, parameters, build_it=build_kind, **options):
    """How to build this kind, to be searched with `parameters` under which nothing is approximate at this size."""

    def build(path, documents, **given):
        index = build_it(kind, path, documents, **(options | given))
        index.search = partial(index.search, **parameters)
        return index

    return build, encode_texts, "faiss"


_VERIFIED = {"verify": True}

#: Kind → how to build it, how to make its queries from texts, and the package that it needs.
BUILDERS = {
    "flat": (build_flat, encode_texts, "faiss"),
    "lucene": (build_lucene, list, "pyserini"),
    "bm25-inverted": (build_bm25, list, "numba"),
    "lucene-impact": (build_impact, encode_impacts, "pyserini"),
    "inverted": (build_inverted, encode_sparse, "numba"),
    "multivector-exact": (build_exact, encode_tokens, "numba"),
    "colberter": (build_bags, encode_bags, "numba"),
    "muvera": (build_muvera, encode_tokens, "faiss"),  # so few documents are all candidates
    "plaid": (build_plaid_for_all, encode_tokens, "numba"),
    "seismic": (build_seismic, encode_sparse, "seismic"),
    "ivf-flat": approximate("ivf-flat", _VERIFIED | {"nprobe": 9}, nlist=3),
    "hnsw": approximate("hnsw", _VERIFIED),
    "pq": approximate("pq", _VERIFIED),
    "ivf-pq": approximate("ivf-pq", _VERIFIED),
    "opq-ivf-pq": approximate("opq-ivf-pq", _VERIFIED),
    "sq8": approximate("sq8", _VERIFIED),
    "sq4": approximate("sq4", _VERIFIED),
    "fp16": approximate("fp16", _VERIFIED),
    "bf16": approximate("bf16", _VERIFIED),
    "two-level": approximate("two-level", {"pq_weight": 0}),
    "factory": approximate("factory", _VERIFIED, factory="PCA8,IVF2,SQ8"),
    "sign": approximate("sign", _VERIFIED),
    "lsh": approximate("lsh", _VERIFIED | {"nprobe": 9}, bits=24, structure="ivf", nlist=3),
    "itq": approximate("itq", _VERIFIED),
    "bebr": approximate("bebr", _VERIFIED, build_coded),
}

ODD = [
    Document("ünïcode/ö", "río zebra", "title"),
    Document("文書 1", "木 quagga"),
    Document("with space", "okapi stone"),
    Document("../../etc/passwd", "gnu lake"),
    Document("\t-1", "ibis rain"),
    Document("🦜", "macaw wind"),
    Document("", "the document whose id is empty"),
]


#: Kinds that go through all tests; the others differ from these in FAISS's structure only.
THOROUGH = (
    "flat",
    "lucene",
    "bm25-inverted",
    "inverted",
    "multivector-exact",
    "colberter",
    "plaid",
    "hnsw",
    "ivf-pq",
    "two-level",
    "itq",
    "bebr",
)
#: Kinds whose build goes over the documents more than once.
TWO_PASSES = ("plaid",)

FOR_ALL = ("test_results_are_a_run", "test_allow_filters_before_the_cut")


def pytest_generate_tests(metafunc):
    if "kind" in metafunc.fixturenames:
        every = metafunc.function.__name__ in FOR_ALL
        metafunc.parametrize("kind", sorted(BUILDERS if every else THOROUGH), indirect=True)


@pytest.fixture
def kind(request):
    if importlib.util.find_spec(BUILDERS[request.param][2]) is None:
        pytest.skip(f"{BUILDERS[request.param][2]} is not installed")
    return request.param


@pytest.fixture
def build(kind):
    return BUILDERS[kind][0]


@pytest.fixture
def query(kind):
    return BUILDERS[kind][1]


def test_all_kinds_have_a_builder():
    assert set(index_kinds()) == set(BUILDERS)


DOCUMENTS = make_documents(50)


def test_opens_as_its_kind_and_holds_the_documents(tmp_path, kind, build):
    once = DOCUMENTS if kind in TWO_PASSES else iter(DOCUMENTS)
    built = build(tmp_path / "i", once, total=50)
    index = open_index(tmp_path / "i")
    assert type(index) is type(built)
    assert index.manifest.kind == kind
    assert len(index) == len(index.texts) == 50
    assert index.manifest.shards == [16, 16, 16, 2]
    assert list(index.texts) == DOCUMENTS
    assert index.texts.get_many(["d49", "d0", "d50"]) == {"d0": DOCUMENTS[0], "d49": DOCUMENTS[49]}
    assert verify_index(tmp_path / "i") == index.manifest
    assert index_kinds()[kind]


def test_results_are_a_run(tmp_path, build, query):
    """Known ids, each once, best first, equal scores by id descending: what `Run` orders again stays as it is."""
    index = build(tmp_path / "i", DOCUMENTS)
    texts = [d.full_text for d in DOCUMENTS[:20]]
    found = index.search(query(texts), 30)
    assert len(found) == 20
    run = Run.from_rankings([(f"q{i}", *r) for i, r in enumerate(found)], name="x", score_kind=index.score_kind)
    known = {d.id for d in DOCUMENTS}
    for i, (ids, scores) in enumerate(found):
        assert ids.dtype == object
        assert scores.dtype == np.float64
        assert ids[0] == f"d{i}"
        assert set(ids) <= known
        assert run.ids(f"q{i}") == ids.tolist()


def test_a_short_list_is_the_head_of_a_long_one(tmp_path, build, query):
    index = build(tmp_path / "i", DOCUMENTS + [d._replace(id=f"copy {d.id}") for d in DOCUMENTS])
    texts = [d.full_text for d in DOCUMENTS[:9]]
    long = index.search(query(texts), 100)
    for k in (1, 2, 7, 50):
        for (ids, scores), (all_ids, all_scores) in zip(index.search(query(texts), k), long, strict=True):
            assert ids.tolist() == all_ids[:k].tolist()
            assert scores.tolist() == all_scores[:k].tolist()


def test_queries_alone_or_together_give_the_same(tmp_path, build, query):
    index = build(tmp_path / "i", DOCUMENTS)
    texts = [d.full_text for d in DOCUMENTS]
    together = index.search(query(texts), 10)
    for text, (ids, scores) in zip(texts, together, strict=True):
        alone = index.search(query([text]), 10)[0]
        assert alone.ids.tolist() == ids.tolist()
        assert alone.scores.tolist() == scores.tolist()


def test_more_than_there_are_nothing_asked_and_wrong_k(tmp_path, build, query):
    index = build(tmp_path / "i", DOCUMENTS)
    ids, scores = index.search(query([DOCUMENTS[0].text]), 1000)[0]
    assert len(set(ids)) == len(ids) == len(scores) <= 50
    assert index.search(query([]), 10) == []
    for k in (0, -1):
        with pytest.raises(UsageError, match=f"k is {k}"):
            index.search(query(["sea"]), k)


def test_allow_filters_before_the_cut(tmp_path, build, query):
    index = build(tmp_path / "i", DOCUMENTS)
    texts = [d.full_text for d in DOCUMENTS[:10]]
    allowed = {f"d{i}" for i in range(1, 50, 4)}
    everything = index.search(query(texts), 50)
    for (ids, scores), (all_ids, all_scores) in zip(
        index.search(query(texts), 5, allow=allowed), everything, strict=True
    ):
        kept = [i for i, doc_id in enumerate(all_ids) if doc_id in allowed][:5]
        assert ids.tolist() == all_ids[kept].tolist()
        assert scores.tolist() == all_scores[kept].tolist()
    for nothing in (set(), {"nobody"}):
        assert [len(ids) for ids, _ in index.search(query(texts), 5, allow=nothing)] == [0] * 10


def test_odd_ids_and_a_single_document(tmp_path, build, query):
    index = build(tmp_path / "odd", ODD)
    assert index.texts.get_many([d.id for d in ODD]) == {d.id: d for d in ODD}
    for document in ODD:
        assert index.search(query([document.full_text]), 1)[0].ids.tolist() == [document.id]
    single = build(tmp_path / "one", ODD[:1])
    assert single.search(query(["río zebra"]), 5)[0].ids.tolist() == [ODD[0].id]
    assert {p.name for p in tmp_path.iterdir()} == {"odd", "one"}


def test_documents_of_ten_megabytes_and_of_nothing(tmp_path, build, query):
    long = Document("long", "moss lake " * (1 << 20), "a title")
    empty = Document("empty", "")
    index = build(tmp_path / "i", [*DOCUMENTS, long, empty])
    assert index.texts.get_many(["long", "empty"]) == {"long": long, "empty": empty}
    assert index.manifest.counts["empty_texts"] == 1
    assert "long" in index.search(query(["moss lake"]), 52)[0].ids


def test_an_interrupted_build_resumes_to_equal_results(tmp_path, build, query):
    class Broken:
        def __iter__(self):
            yield from DOCUMENTS[:40]
            raise OSError("the network share went away")

    with pytest.raises(OSError, match="went away"):
        build(tmp_path / "i", Broken())
    with pytest.raises(SetupError, match="unfinished index: run the same build command again"):
        open_index(tmp_path / "i")
    resumed, straight = build(tmp_path / "i", DOCUMENTS), build(tmp_path / "j", DOCUMENTS)
    assert resumed.manifest.fingerprint == straight.manifest.fingerprint
    texts = [d.full_text for d in DOCUMENTS]
    for a, b in zip(resumed.search(query(texts), 20), straight.search(query(texts), 20), strict=True):
        assert a.ids.tolist() == b.ids.tolist()
        assert a.scores.tolist() == b.scores.tolist()


def test_bad_corpora_are_refused(tmp_path, build):
    with pytest.raises(InputError, match="has no documents"):
        build(tmp_path / "i", [])
    with pytest.raises(InputError, match="'d3' occurs more than once"):
        build(tmp_path / "i", [*DOCUMENTS, DOCUMENTS[3]])


def test_whole_indexes_are_replaced_only_on_demand(tmp_path, build):
    build(tmp_path / "i", DOCUMENTS)
    with pytest.raises(SetupError, match="overwrite"):
        build(tmp_path / "i", DOCUMENTS)
    assert len(build(tmp_path / "i", DOCUMENTS[:7], overwrite=True)) == 7


def test_a_flipped_byte_in_any_file_is_refused(tmp_path, build):
    build(tmp_path / "i", DOCUMENTS[:20])
    files = [p for p in Path(tmp_path / "i").rglob("*") if p.is_file() and p.name != "plan.json" and p.stat().st_size]
    for file in files:
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 0x80]))
        with pytest.raises(SetupError) as caught:
            open_index(tmp_path / "i")
        assert str(file) in str(caught.value)
        file.write_bytes(data)
    open_index(tmp_path / "i")

"""ColBERTer indexes: every mode equal to its definition written out, exact at cuts, changed, killed, refused."""

from __future__ import annotations

import os

import numpy as np
import pytest
from cribble.errors import InputError, SetupError, UsageError
from cribble.index import colberter_files
from cribble.index.changes import add_documents, compact_index, delete_documents
from cribble.index.colberter import ColberterIndex
from cribble.index.colberter_options import MODES
from cribble.index.opening import open_index, verify_index
from cribble.records import DescribedDocument, Document
from cribble.tests.index import bag_builds
from cribble.tests.index.bag_builds import EXACT_SPEC, SPEC, build_bags, build_exact_bags, encode, encode_bags
from cribble.tests.index.builds import deaths, make_documents
from cribble.vectors import BagVectors, EncoderSpec, MultiVector

DOCUMENTS = make_documents(90)
TEXTS = [d.full_text for d in DOCUMENTS[:6]] + ["sea", "木 stone río"]
CLS_DIM = 20


def random_bags(seed, count, dim, sizes):
    """Texts of some of 40 words each, a random vector for every word in every text."""
    rng = np.random.default_rng(seed)
    bags, words = [], []
    for size in rng.choice(sizes, count):
        words.append(rng.choice(np.arange(1, 41, dtype=np.uint32) * 100_000_007, size, replace=False))
        bags.append(rng.standard_normal((size, dim)).astype(np.float32))
    cls = rng.standard_normal((count, CLS_DIM)).astype(np.float32)
    return BagVectors(cls, MultiVector.of(bags, dim), np.concatenate(words))


def words_of(vectors, i):
    return vectors.words[vectors.bags.offsets[i] : vectors.bags.offsets[i + 1]]


def taken(vectors, rows):
    words = np.concatenate([np.zeros(0, np.uint32), *(words_of(vectors, i) for i in rows)])
    return BagVectors(vectors.cls[rows], MultiVector.of([vectors.bags[i] for i in rows], 0), words)


def build_random(path, vectors, *, exact, mix=0.3, **options):
    """Document `i` has the vectors of `i // 2 * 2`, so that scores tie."""
    spec = EncoderSpec(
        "random",
        dim=vectors.bags.tokens.shape[1],
        similarity="dot",
        extra={"cls_dim": CLS_DIM, "exact_match": exact, "mix": mix},
    )
    documents = [Document(f"{i:03d}", "x") for i in range(len(vectors))]

    def own(batch):
        return taken(vectors, [int(d.id) // 2 * 2 for d in batch])

    return build_bags(path, documents, encode=own, spec=spec, shard_documents=31, **options)


def as_stored(values, storage):
    """Numbers as the storages say, in float64."""
    if storage == "int8":
        scale = (np.abs(values).max(axis=1, keepdims=True, initial=0) / np.float32(127)).astype(np.float32)
        return (np.rint(values / scale) * scale).astype(np.float32).astype(np.float64)
    return values.astype(storage).astype(np.float64)


def parts_of(queries, vectors, i, storage, *, exact):
    """Per document its score by [CLS], by words, and whether its words propose it."""
    bow, proposes = np.zeros(len(vectors)), np.zeros(len(vectors), bool)
    cls = as_stored(vectors.cls, storage) @ queries.cls[i].astype(np.float64)
    query, query_words = queries.bags[i].astype(np.float64), words_of(queries, i)
    for d in range(len(vectors)):
        if not len(vectors.bags[d]) or not len(query):
            continue
        products = query @ as_stored(vectors.bags[d], storage).T
        if exact:
            same = query_words[:, None] == words_of(vectors, d)[None]
            bow[d], proposes[d] = np.where(same, products, 0).max(axis=1, initial=0).sum(), same.any()
        else:
            bow[d], proposes[d] = products.max(axis=1).sum(), True
    return cls, bow, proposes


def best_rows(values, allowed, count):
    """By value, then id, descending."""
    order = sorted(np.flatnonzero(allowed), key=lambda d: (round(values[d], 5), d), reverse=True)
    return set(order[:count])


def expected(cls, bow, proposes, mode, *, mix, allowed, wanted):
    rows = set()
    if mode in ("cls", "cls-bow", "hybrid"):
        rows |= best_rows(cls, allowed, wanted)
    if mode in ("bow", "bow-cls", "hybrid"):
        rows |= best_rows(bow, allowed & proposes, wanted)
    values = {"cls": cls, "bow": bow}.get(mode, mix * cls + (1 - mix) * bow)
    order = sorted(rows, key=lambda d: (round(values[d], 5), d), reverse=True)
    return [f"{d:03d}" for d in order], values[order]


@pytest.mark.parametrize(("exact", "dim"), [(False, 32), (False, 1), (True, 8), (True, 1)])
@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_every_mode_is_its_definition_over_what_is_stored(tmp_path, storage, exact, dim):
    """Oracle: float64 numpy; scores at 1e-5, order and ties exact (scores that differ by less than 1e-5 count as tied)."""
    vectors, queries = random_bags(3, 100, dim, (0, 1, 5, 12)), random_bags(4, 6, dim, (0, 1, 4, 9))
    index = build_random(tmp_path / "i", vectors, exact=exact, storage=storage)
    vectors = taken(vectors, [i // 2 * 2 for i in range(100)])
    for mode in MODES:
        for kept, wanted in ((None, 17), ([f"{i:03d}" for i in range(0, 100, 3)], 9)):
            allowed = np.array([kept is None or f"{i:03d}" in kept for i in range(100)])
            candidates = {} if mode in ("cls", "bow") else {"candidates": wanted}
            found = index.search(queries, 9, allow=kept, mode=mode, **candidates)
            for i, (ids, scores) in enumerate(found):
                parts = parts_of(queries, vectors, i, storage, exact=exact)
                limit = 9 if mode in ("cls", "bow") else wanted
                names, values = expected(*parts, mode, mix=0.3, allowed=allowed, wanted=limit)
                assert scores == pytest.approx(values[:9], rel=1e-5, abs=1e-5)
                assert ids.tolist() == names[:9]


@pytest.mark.parametrize("build", [build_bags, build_exact_bags])
def test_no_two_modes_are_the_same(tmp_path, build):
    build(tmp_path / "i", DOCUMENTS)
    index = open_index(tmp_path / "i")
    assert isinstance(index, ColberterIndex)
    queries = encode_bags(TEXTS)
    few = {"candidates": 1}
    found = [index.search(queries, 1, mode=mode, **({} if mode in ("cls", "bow") else few)) for mode in MODES]
    assert len({str([(r.ids.tolist(), r.scores.tolist()) for r in rankings]) for rankings in found}) == len(MODES)


def test_a_document_without_words_is_found_by_its_single_vector_alone(tmp_path, caplog):
    """Its bag counts 0, and no bag proposes it; upstream's pairwise scoring gives 0 too, its encoded vectors -1000 a word."""
    documents = [*DOCUMENTS[:20], Document("nothing", " ")]
    index = build_bags(tmp_path / "i", documents)
    assert "1 documents have no word vectors" in caplog.text
    assert index.manifest.counts["without_words"] == 1
    assert index.manifest.counts["word_vectors"] == len(encode(documents).words)
    for mode, there in (("hybrid", True), ("cls-bow", True), ("bow-cls", False), ("cls", True), ("bow", False)):
        ids, scores = index.search(encode_bags(["sea stone"]), 21, mode=mode)[0]
        assert ("nothing" in ids) == there
        if there:
            assert scores[ids.tolist().index("nothing")] == 0


def test_exact_matches_propose_what_shares_a_word(tmp_path, caplog):
    documents = [Document("a", "sea stone"), Document("b", "tree"), Document("c", "stone fire fire")]
    index = build_exact_bags(tmp_path / "i", documents)
    query = encode_bags(["stone fire"])
    assert [r.ids.tolist() for r in index.search(query, 3, mode="bow")] == [["c", "a"]]
    assert index.search(query, 3, mode="bow")[0].scores == pytest.approx([2, 1], abs=1e-3)
    assert "1 of 1 queries were proposed fewer than 3 documents by mode bow" in caplog.text
    assert set(index.search(query, 3)[0].ids) == {"a", "b", "c"}
    assert [len(r.ids) for r in index.search(encode_bags(["unheard"]), 3, mode="bow")] == [0]


def test_a_negative_match_counts_as_none(tmp_path):
    """As upstream: products of unequal words are 0 before the greatest is taken."""
    spec = EncoderSpec(**{**EXACT_SPEC.to_json(), "dim": 1, "extra": {"cls_dim": 1, "exact_match": True, "mix": 0.5}})

    def own(batch):
        one = np.ones((len(batch), 1), np.float32)
        bags = MultiVector.of([np.array([[-2], [3]], np.float32)] * len(batch), 1)
        return BagVectors(one, bags, np.array([7, 9] * len(batch), np.uint32))

    index = build_bags(tmp_path / "i", [Document("a", "x")], encode=own, spec=spec)
    query = BagVectors(np.ones((1, 1), np.float32), MultiVector.of([np.ones((2, 1), np.float32)], 1), np.uint32([7, 9]))
    assert index.search(query, 1, mode="bow")[0].scores.tolist() == [3]
    assert index.search(query, 1)[0].scores.tolist() == [2]


def test_results_for_less_are_the_head_of_those_for_more(tmp_path):
    for exact in (False, True):
        vectors, queries = random_bags(5, 300, 8, (1, 2, 9)), random_bags(6, 9, 8, (1, 5))
        index = build_random(tmp_path / f"i{exact}", vectors, exact=exact)
        for mode in MODES:
            candidates = {} if mode in ("cls", "bow") else {"candidates": 300}
            whole = index.search(queries, 300, mode=mode, **candidates)
            for k in (1, 10, 100, 299):
                for cut, ranking in zip(index.search(queries, k, mode=mode, **candidates), whole, strict=True):
                    assert cut.ids.tolist() == ranking.ids[:k].tolist()
                    assert cut.scores.tolist() == ranking.scores[:k].tolist()


@pytest.mark.parametrize("spec", [SPEC, EXACT_SPEC], ids=["colberter", "exact"])
def test_shards_do_not_all_stay_open(tmp_path, spec, monkeypatch):
    """Each mapped file costs a file descriptor: here of 2 shards, beside a few of the whole index."""
    monkeypatch.setattr(colberter_files, "_OPEN_SHARDS", 2)
    queries = encode_bags(TEXTS)
    few = build_bags(tmp_path / "few", DOCUMENTS, spec=spec, shard_documents=90)
    expected = [few.search(queries, 9, mode=mode) for mode in MODES]
    before = len(os.listdir("/proc/self/fd"))
    index = build_bags(tmp_path / "many", DOCUMENTS, spec=spec, shard_documents=5)
    for mode, rankings in zip(MODES, expected, strict=True):
        for one, two in zip(index.search(queries, 9, mode=mode), rankings, strict=True):
            assert one.ids.tolist() == two.ids.tolist()
            assert one.scores.tolist() == two.scores.tolist()
    assert len(os.listdir("/proc/self/fd")) - before < 18


def test_bytes_are_counted(tmp_path):
    """Retrieval card §3.1: 2 bytes a number, and 4 a word where matches are exact: 2.2 kB at 128 and 32 dimensions with 30.9
    words, 440 B at 1 dimension; 8 more for each document's place."""
    for dim, exact, size in ((32, False, 2 * (128 + 31 * 32)), (1, True, 2 * (128 + 31) + 4 * 31)):
        spec = EncoderSpec("b", dim=dim, extra={"cls_dim": 128, "exact_match": exact, "mix": 0.5})

        def own(batch, dim=dim):
            words = np.tile(np.arange(31, dtype=np.uint32), len(batch))
            bags = MultiVector.of([np.ones((31, dim), np.float32)] * len(batch), dim)
            return BagVectors(np.ones((len(batch), 128), np.float32), bags, words)

        documents = [Document(str(i), "x") for i in range(2000)]
        counts = build_bags(tmp_path / str(dim), documents, encode=own, spec=spec, shard_documents=1000).manifest.counts
        assert counts["vector_bytes_per_document"] == pytest.approx(size + 8, abs=2)
        assert counts.get("proposal_bytes_per_document") == (pytest.approx(2 * 31, abs=2) if exact else None)


# ---- changes, death ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["float16", "int8"])
@pytest.mark.parametrize("spec", [SPEC, EXACT_SPEC], ids=["colberter", "exact"])
def test_a_changed_index_gives_what_a_fresh_one_gives(tmp_path, spec, storage):
    path, queries = tmp_path / "i", encode_bags(TEXTS)
    build_bags(path, DOCUMENTS[:60], spec=spec, storage=storage)
    more = [DescribedDocument.of(d, {"year": i}) for i, d in enumerate(DOCUMENTS[60:])]
    add_documents(path, lambda: more, encode, spec=spec, corpus="more")
    gone = [d.id for d in DOCUMENTS[5:70:3]]
    delete_documents(path, gone)
    left = [d for d in DOCUMENTS if d.id not in gone]
    build_bags(tmp_path / "fresh", left, spec=spec, storage=storage)

    def found(index):
        return [
            (r.ids.tolist(), r.scores.tolist())
            for mode in MODES
            for r in open_index(index).search(queries, 30, mode=mode)
        ]

    fresh = found(tmp_path / "fresh")
    for _ in range(2):
        assert found(path) == fresh
        seen = open_index(path).search(queries, 30, where="year >= 20")
        assert {i for r in seen for i in r.ids} <= {d.id for d in more[20:] if d.id not in gone}
        compact_index(path)
    assert open_index(path).manifest.counts["word_vectors"] == len(encode(left).words)
    verify_index(path)


@pytest.mark.parametrize(("kind", "stride"), [("colberter", 15), ("exact", 19)])
def test_death_at_steps_of_a_build(tmp_path, kind, stride):
    rows = deaths(bag_builds.__file__, tmp_path, kind, 9, stride)
    assert {row["state"] for row in rows} == {"unfinished", "whole"}


def test_a_flipped_byte_in_any_file_is_refused(tmp_path):
    build_exact_bags(tmp_path / "i", DOCUMENTS[:20], storage="int8")
    names = {p.name for p in (tmp_path / "i").rglob("*.npy")}
    assert {"cls.npy", "cls_scales.npy", "scales.npy", "words.npy", "posting_rows.npy", "max_norm.npy"} <= names
    for file in (tmp_path / "i").rglob("*.npy"):
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 0x80]))
        with pytest.raises(SetupError, match=file.name):
            open_index(tmp_path / "i")
        file.write_bytes(data)


# ---- what is refused ----------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused(tmp_path):
    index = build_bags(tmp_path / "i", DOCUMENTS[:9])
    queries = encode_bags(["sea"])
    with pytest.raises(InputError, match="query vectors have 5 and 8 dimensions, the index 12 and 8"):
        index.search(BagVectors(np.ones((1, 5), np.float32), queries.bags, queries.words), 3)
    with pytest.raises(InputError, match="exact_match: True asked for, False recorded"):
        ColberterIndex.open(tmp_path / "i", spec=EXACT_SPEC)
    with pytest.raises(InputError, match="lacks dim, or cls_dim, exact_match or mix in extra"):
        build_bags(tmp_path / "j", DOCUMENTS[:9], spec=EncoderSpec("dense", dim=8))
    with pytest.raises(
        InputError, match="gave 9 vectors of 12 and 8 dimensions for 9 documents, expected 9 of 12 and 5"
    ):
        build_bags(tmp_path / "j", DOCUMENTS[:9], spec=EncoderSpec(**{**SPEC.to_json(), "dim": 5}))
    for options, message in [
        ({"mode": "clsbow"}, "mode 'clsbow' is unknown: did you mean 'cls-bow'"),
        ({"candidates": 0}, "candidates is 0, expected at least 1"),
        ({"mode": "bow", "candidates": 3}, "candidates has no effect: mode bow"),
    ]:
        with pytest.raises(UsageError, match=message):
            index.search(queries, 3, **options)
    with pytest.raises(UsageError, match="storage 'float8' is unknown"):
        build_bags(tmp_path / "j", DOCUMENTS[:9], storage="float8")


@pytest.mark.parametrize("part", ["vector", "word vector"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_numbers_that_can_not_be_stored_are_refused_by_document(tmp_path, value, part):
    def broken(batch):
        vectors = encode(batch)
        (vectors.cls[3] if part == "vector" else vectors.bags[3])[0] = value
        return vectors

    with pytest.raises(InputError, match=f"a {part} of document 'd3' holds NaN or infinity, or overflows float16"):
        build_bags(tmp_path / "i", DOCUMENTS[:9], encode=broken)

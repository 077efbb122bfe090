"""The inverted index as a whole: results against the dot product, death during a build, changes, filters, refusals."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from cribble.errors import InputError, SetupError, UsageError
from cribble.index.changes import add_documents, compact_index, delete_documents
from cribble.index.inverted import InvertedIndex
from cribble.index.opening import open_index, verify_index
from cribble.records import DescribedDocument, Document
from cribble.tests.index import sparse_builds
from cribble.tests.index.builds import contents, deaths, make_documents, state
from cribble.tests.index.sparse_builds import SPEC, TERMS, build_inverted, encode, encode_sparse
from cribble.vectors import EncoderSpec, Sparse

SCRIPT = Path(sparse_builds.__file__)
DOCUMENTS = make_documents(90)


@cache
def _row(text: str) -> tuple[tuple[int, float], ...]:
    return tuple(zip(*(column.tolist() for column in encode_sparse([text]).row(0)), strict=True))


def ranked(documents: list[Document], text: str, k: int, keep=lambda d: True) -> list[tuple[str, float]]:
    """The definition, over weights as they are: products added up in float64, ids descending where sums are equal."""
    query = dict(_row(text))
    scored = []
    for document in filter(keep, documents):
        total = 0.0
        for term, weight in _row(document.full_text):
            total += query.get(term, 0.0) * weight
        scored.append((total, document.id.encode()))
    return [(doc_id.decode(), score) for score, doc_id in sorted(scored, reverse=True) if score > 0][:k]


def pairs(ranking) -> list[tuple[str, float]]:
    return list(zip(ranking.ids.tolist(), ranking.scores.tolist(), strict=True))


def test_float32_storage_gives_the_definition_with_ties(tmp_path):
    copies = [d._replace(id=f"copy of {d.id}") for d in DOCUMENTS[::2]]
    index = build_inverted(tmp_path / "i", [*DOCUMENTS, *copies], storage="float32")
    texts = [d.full_text for d in DOCUMENTS[:10]] + ["sea", "no such word", "", "río 木 sea"]
    for k in (1, 8, 500):
        for text, ranking in zip(texts, index.search(encode_sparse(texts), k), strict=True):
            assert pairs(ranking) == ranked([*DOCUMENTS, *copies], text, k)


def test_storage_decides_how_weights_are_rounded(tmp_path):
    """8 bits of weights up to 1 are off by at most 1/2 of 1/250; a score here is a sum of at most 13 products."""
    text = DOCUMENTS[3].full_text
    exact = dict(ranked(DOCUMENTS, text, 99))
    for storage, error in (("uint8", 13 / 500), ("uint16", 13 / 130_000)):
        found = pairs(
            build_inverted(tmp_path / storage, DOCUMENTS, storage=storage).search(encode_sparse([text]), 99)[0]
        )
        assert found[0][0] == "d3"
        assert found != list(exact.items())
        assert all(abs(score - exact[doc_id]) < error for doc_id, score in found)


def test_documents_without_terms_are_counted_and_never_found(tmp_path, caplog):
    index = build_inverted(tmp_path / "i", [*DOCUMENTS, Document("nothing", "")])
    assert index.manifest.counts["empty_vectors"] == 1
    assert "1 documents have no terms" in caplog.text
    assert len(index.search(encode_sparse([" ".join(d.full_text for d in DOCUMENTS)]), 500)[0].ids) == len(DOCUMENTS)


def test_filters_come_before_the_cut(tmp_path):
    described = [DescribedDocument.of(d, {"year": i % 7}) for i, d in enumerate(DOCUMENTS)]
    index = build_inverted(tmp_path / "i", described, storage="float32")
    text, year = "sea stone moss", {d.id: i % 7 for i, d in enumerate(DOCUMENTS)}
    allowed = {f"d{i}" for i in range(0, 90, 3)}
    for options, keep in (
        ({"allow": allowed}, lambda d: d.id in allowed),
        ({"deny": allowed}, lambda d: d.id not in allowed),
        ({"where": "year >= 5"}, lambda d: year[d.id] >= 5),
        ({"allow": allowed, "where": "year = 2"}, lambda d: d.id in allowed and year[d.id] == 2),
        ({"allow": []}, lambda d: False),
    ):
        assert pairs(index.search(encode_sparse([text]), 4, **options)[0]) == ranked(DOCUMENTS, text, 4, keep)


def test_approx_is_faster_but_only_nearly_right(tmp_path):
    index = build_inverted(tmp_path / "i", DOCUMENTS)
    texts = [d.full_text for d in DOCUMENTS]
    exact, near = index.search(encode_sparse(texts), 10), index.search(encode_sparse(texts), 10, approx=0.2)
    recall = np.mean([len(set(a.ids) & set(b.ids)) / 10 for a, b in zip(exact, near, strict=True)])
    assert 0.6 < recall < 1
    with pytest.raises(UsageError, match=r"approx is -0\.1"):
        index.search(encode_sparse(["sea"]), 1, approx=-0.1)


# ---- changes --------------------------------------------------------------------------------------------------------


def test_a_changed_index_searches_like_one_built_anew(tmp_path):
    more = [d._replace(id=f"new {d.id}") for d in make_documents(20)]
    path = tmp_path / "i"
    build_inverted(
        path, DOCUMENTS, storage="float32"
    )  # the step of others is that of the largest weight, deleted or not
    add_documents(path, lambda: more, encode, spec=SPEC, corpus="more")
    delete_documents(path, [f"d{i}" for i in range(0, 90, 4)])
    left = [d for i, d in enumerate(DOCUMENTS) if i % 4] + more
    texts = [d.full_text for d in DOCUMENTS[:12]]
    fresh = [pairs(r) for r in build_inverted(tmp_path / "j", left, storage="float32").search(encode_sparse(texts), 30)]
    assert [pairs(r) for r in open_index(path).search(encode_sparse(texts), 30)] == fresh
    compact_index(path)
    compacted = open_index(path)
    assert [pairs(r) for r in compacted.search(encode_sparse(texts), 30)] == fresh
    assert compacted.manifest.counts["postings"] == sum(len(encode([d]).ids) for d in left)
    verify_index(path)


# ---- death and damage -----------------------------------------------------------------------------------------------


def test_a_killed_build_goes_on_at_the_next_shard(tmp_path):
    build_inverted(tmp_path / "reference", DOCUMENTS)
    path = tmp_path / "i"
    command = [sys.executable, str(SCRIPT), "build", str(path), "90", "16"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
    for _ in range(3):
        assert process.stdout.readline() == "shard\n"
        process.stdin.write("\n")
        process.stdin.flush()
    assert process.stdout.readline() == "shard\n"  # three shards stand, the fourth waits
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert state(path) == "unfinished"
    encoded: list[int] = []
    build_inverted(path, DOCUMENTS, lambda batch: encoded.append(len(batch)) or encode(batch))
    assert sum(encoded) == 90 - 3 * 16
    assert contents(path) == contents(tmp_path / "reference")


def test_death_at_every_step_of_what_spans_the_shards(tmp_path):
    """Every third step from the last shard on: what comes before is as with flat indexes (test_index_crash.py)."""
    rows = deaths(SCRIPT, tmp_path, 40, 3, least=10)
    whole = [row["state"] == "whole" for row in rows]
    assert whole == sorted(whole)
    assert not whole[0]


@pytest.mark.parametrize(
    "name", ["whole/postings/frequent_weights.npy", "whole/id_ranks.npy", "shards/00001/weights.npy"]
)
def test_a_flipped_byte_is_refused_by_name(tmp_path, name):
    build_inverted(tmp_path / "i", DOCUMENTS)
    data = bytearray((tmp_path / "i" / name).read_bytes())
    data[-1] ^= 1
    (tmp_path / "i" / name).write_bytes(data)
    with pytest.raises(SetupError, match=name):
        open_index(tmp_path / "i")


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [float("nan"), -0.5, 0.0, float("inf")])
def test_weights_that_are_not_positive_and_finite_are_refused(tmp_path, weight):
    def broken(batch):
        return Sparse.of([(np.array([7]), np.array([1.0])), (np.array([3]), np.array([weight]))], TERMS)

    with pytest.raises(
        InputError, match=f"sparse vector 1 has a weight that is not positive and finite: term 3, weight {weight}"
    ):
        build_inverted(tmp_path / "i", DOCUMENTS[:2], broken)


def test_another_encoder_or_vocabulary_is_refused_with_both_values(tmp_path):
    build_inverted(tmp_path / "i", DOCUMENTS)
    other = EncoderSpec(**{**SPEC.to_json(), "extra": {"vocabulary": "other words"}})
    with pytest.raises(InputError, match="vocabulary: 'other words' asked for, 'hashed words' recorded"):
        InvertedIndex.open(tmp_path / "i", spec=other)
    index = InvertedIndex.open(tmp_path / "i", spec=SPEC)
    with pytest.raises(InputError, match="vocabulary of 30,522 terms, the index 4,096"):
        index.search(Sparse.of([(np.array([1]), np.array([1.0]))], 30_522), 5)
    with pytest.raises(InputError, match="over 5 terms for 16 documents, expected 16 over 4,096"):
        build_inverted(
            tmp_path / "j", DOCUMENTS, lambda batch: Sparse.of([(np.array([1]), np.array([1.0]))] * len(batch), 5)
        )


def test_options_that_make_no_sense_are_refused(tmp_path):
    cosine = EncoderSpec("words", dim=TERMS, similarity="cosine")
    for options, error in (
        ({"storage": "float16"}, "storage 'float16' is unknown"),
        ({"spec": cosine}, "compared by cosine and its vectors are not of unit length"),
        ({"spec": EncoderSpec("words", similarity="dot")}, "dim 0, expected the vocabulary's size"),
    ):
        with pytest.raises((InputError, UsageError), match=error):
            build_inverted(tmp_path / "i", DOCUMENTS, **options)
    assert not (tmp_path / "i").exists()


# ---- real queries ---------------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.skipif("CRIBBLE_DATA" not in os.environ, reason="needs the real collections under CRIBBLE_DATA")
@pytest.mark.parametrize(
    ("name", "terms"), [("splade-pp-ed", (20, 60)), ("splade-v3", (10, 60)), ("unicoil.0shot", (3, 15))]
)
def test_real_query_vectors_load_and_search(tmp_path, name, terms):
    """Anserini's pseudo-texts repeat a term by its whole weight. As documents, each finds what the dot product says."""
    path = Path(os.environ["CRIBBLE_DATA"], "query-vectors-dl19", f"topics.dl19-passage.{name}.tsv.gz")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        counts = {qid: Counter(text.split(" ")) for qid, text in (line.rstrip("\n").split("\t") for line in lines)}
    vocabulary = {word: i for i, word in enumerate(sorted(set().union(*counts.values())))}
    rows = {
        qid: (np.array([vocabulary[w] for w in sorted(bag)]), np.array([bag[w] for w in sorted(bag)]))
        for qid, bag in counts.items()
    }
    assert len(rows) == 43
    assert terms[0] <= np.mean([len(ids) for ids, _ in rows.values()]) <= terms[1]
    spec = EncoderSpec(name, dim=len(vocabulary), similarity="dot")
    documents = [Document(qid, " ".join(counts[qid])) for qid in rows]
    index = InvertedIndex.build(
        tmp_path / "i", documents, lambda batch: Sparse.of([rows[d.id] for d in batch], len(vocabulary)),
        spec=spec, corpus="queries", storage="uint16",
    )  # fmt: skip
    assert index.postings.step == 1
    matrix = np.zeros((len(rows), len(vocabulary)))
    for row, (ids, weights) in zip(matrix, rows.values(), strict=True):
        row[ids] = weights
    products = matrix @ matrix.T
    for own, ranking in zip(products, index.search(Sparse.of(list(rows.values()), len(vocabulary)), 43), strict=True):
        expected = sorted(((s, d.id) for s, d in zip(own.tolist(), documents, strict=True) if s > 0), reverse=True)
        assert [(s, i) for i, s in pairs(ranking)] == expected

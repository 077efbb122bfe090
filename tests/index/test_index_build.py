"""What a build refuses, and how it goes on after an interruption."""

from __future__ import annotations

import hashlib
import logging
import tracemalloc

import numpy as np
import pytest
from cribble.errors import InputError, SetupError, UsageError
from cribble.ids import _scramble, hashes, id_column, words
from cribble.index import shards as shards_module
from cribble.index.flat import FlatIndex
from cribble.index.seen import SeenHashes
from cribble.records import Document
from cribble.tests.index.builds import SPEC, build_flat, contents, encode, make_documents, state
from cribble.vectors import Dense


class Stop(Exception):
    pass


def interrupted_build(path, documents, after: int, **options):
    """Build until the encoder has seen `after` documents, then fail."""
    left = [after]

    def failing(batch):
        left[0] -= len(batch)
        if left[0] < 0:
            raise Stop
        return encode(batch)

    with pytest.raises(Stop):
        build_flat(path, documents, failing, **options)
    assert state(path) == "unfinished"


def test_resumed_build_is_byte_identical_and_encodes_only_what_is_missing(tmp_path):
    documents = make_documents(100)
    interrupted_build(tmp_path / "a", documents, 50)
    encoded = []
    build_flat(tmp_path / "a", documents, lambda batch: encoded.extend(d.id for d in batch) or encode(batch))
    assert encoded == [f"d{i}" for i in range(48, 100)]
    build_flat(tmp_path / "b", documents)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: [*d[:5], d[5]._replace(text="other"), *d[6:]],
        lambda d: [*d[:5], d[5]._replace(title="other"), *d[6:]],
        lambda d: [*d[:5], d[5]._replace(id="other"), *d[6:]],
        lambda d: [d[1], d[0], *d[2:]],
        lambda d: d[1:],
        lambda d: d[:20],
        lambda d: [*d[:5], d[5]._replace(text=d[5].title + d[5].text, title=""), *d[6:]],
    ],
    ids=["text", "title", "id", "order", "one less", "shorter", "title moved into the text"],
)
def test_a_corpus_that_changed_since_is_refused(tmp_path, change):
    documents = make_documents(100)
    interrupted_build(tmp_path / "a", documents, 50)
    with pytest.raises(InputError, match="corpus made is not the one") as caught:
        build_flat(tmp_path / "a", change(documents))
    assert "overwrite" in str(caught.value)
    assert state(tmp_path / "a") == "unfinished"


def test_documents_after_the_finished_shards_may_change(tmp_path):
    documents = make_documents(100)
    interrupted_build(tmp_path / "a", documents, 50)
    build_flat(tmp_path / "a", documents[:60])
    build_flat(tmp_path / "b", documents[:60])
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"storage": "float16"}, "options.storage: 'float16' asked for, 'float32' recorded"),
        ({"similarity": "dot"}, "options.similarity: 'dot' asked for, 'cosine' recorded"),
        ({"shard_documents": 8}, "shard_documents: 8 asked for, 16 recorded"),
        ({"corpus": "other"}, "corpus: 'other' asked for, 'made' recorded"),
        ({"spec": SPEC.__class__("hash", "r2", dim=16)}, "encoder.revision: 'r2' asked for, 'r1' recorded"),
    ],
)
def test_a_build_resumes_only_under_an_equal_plan(tmp_path, options, told):
    documents = make_documents(100)
    interrupted_build(tmp_path / "a", documents, 50)
    with pytest.raises(SetupError) as caught:
        build_flat(tmp_path / "a", documents, **options)
    assert told in str(caught.value)
    build_flat(tmp_path / "a", documents, overwrite=True, **options)
    assert state(tmp_path / "a") == "whole"


def test_a_damaged_finished_shard_is_built_again_and_said(tmp_path, caplog):
    documents = make_documents(100)
    interrupted_build(tmp_path / "a", documents, 50)
    file = tmp_path / "a" / "shards" / "00001" / "vectors.npy"
    file.write_bytes(file.read_bytes()[:-4] + b"flip")
    with caplog.at_level(logging.WARNING, "cribble"):
        build_flat(tmp_path / "a", documents)
    assert "00001: a finished shard is damaged and is built again" in caplog.text
    build_flat(tmp_path / "b", documents)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_whole_index_is_left_alone_unless_overwrite_is_asked_for(tmp_path):
    build_flat(tmp_path / "a", make_documents(40))
    before = contents(tmp_path / "a")
    with pytest.raises(SetupError, match=r"an index is here already.*overwrite"):
        build_flat(tmp_path / "a", make_documents(40))
    assert contents(tmp_path / "a") == before
    build_flat(tmp_path / "a", make_documents(50), overwrite=True)
    assert len(FlatIndex.open(tmp_path / "a")) == 50


def test_overwriting_makes_the_old_index_absent_before_it_touches_anything(tmp_path):
    build_flat(tmp_path / "a", make_documents(40))
    with pytest.raises(Stop):
        build_flat(tmp_path / "a", make_documents(40), lambda batch: (_ for _ in ()).throw(Stop), overwrite=True)
    assert state(tmp_path / "a") == "unfinished"
    build_flat(tmp_path / "a", make_documents(40))
    build_flat(tmp_path / "b", make_documents(40))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_overwriting_by_an_empty_corpus_keeps_the_old_index(tmp_path):
    build_flat(tmp_path / "a", make_documents(40))
    with pytest.raises(InputError, match="no documents"):
        build_flat(tmp_path / "a", [], overwrite=True)
    assert state(tmp_path / "a") == "whole"


def test_an_empty_corpus_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="made: the corpus has no documents"):
        build_flat(tmp_path / "a", iter([]))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_folders_and_files_are_never_touched(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(SetupError, match="holds other files"):
        build_flat(tmp_path, make_documents(5), overwrite=overwrite)
    with pytest.raises(SetupError, match="a file is in the way"):
        build_flat(tmp_path / "thesis.tex", make_documents(5), overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(("first", "second"), [(3, 4), (3, 70), (40, 99), (15, 16)])
def test_a_repeated_id_is_refused_by_name(tmp_path, first, second):
    documents = make_documents(100)
    documents[second] = documents[second]._replace(id=f"d{first}")
    with pytest.raises(InputError, match=f"document id 'd{first}' occurs more than once"):
        build_flat(tmp_path / "a", documents)


def test_a_repeated_id_is_also_found_after_an_interruption(tmp_path):
    documents = make_documents(100)
    interrupted_build(tmp_path / "a", documents, 50)
    documents[90] = documents[90]._replace(id="d7")
    with pytest.raises(InputError, match="document id 'd7' occurs more than once"):
        build_flat(tmp_path / "a", documents)


def colliding_ids() -> tuple[str, str]:
    """Two ids of 16 letters with one hash. The hash mixes in 8 letters at a time and can be undone by the last 8: for
    many first halves, solve for the second, and take the first that is printable.
    """
    rng = np.random.default_rng(0)
    goal = "collision-aaaaaa"
    heads = ["".join(map(chr, row)) for row in rng.integers(97, 123, (100_000, 8))]

    def after_first_half(ids: list[str]) -> np.ndarray:
        first = next(iter(words(id_column(ids))))
        return _scramble(_scramble(np.full(len(ids), 16, np.uint64)) ^ first)

    last_half = np.frombuffer(goal[8:].encode(), ">u8").astype(np.uint64)[0]
    tails = after_first_half([head + goal[8:] for head in heads]) ^ after_first_half([goal])[0] ^ last_half
    letters = tails.astype(">u8").view(np.uint8).reshape(-1, 8)
    row = np.flatnonzero(((letters >= 33) & (letters < 127)).all(axis=1))[0]
    other = heads[row] + letters[row].tobytes().decode()
    assert other != goal
    assert hashes(id_column([other])) == hashes(id_column([goal]))
    return goal, other


def test_different_ids_with_one_hash_are_both_kept(tmp_path):
    goal, other = colliding_ids()
    documents = make_documents(60)
    documents[3] = documents[3]._replace(id=goal)
    documents[50] = documents[50]._replace(id=other)
    index = build_flat(tmp_path / "a", documents)
    assert index.texts.rows_of([goal, other, "d4"]).tolist() == [3, 50, 4]
    assert index.texts.get_many([other])[other] == documents[50]
    documents[55] = documents[55]._replace(id=other)
    with pytest.raises(InputError, match="occurs more than once"):
        build_flat(tmp_path / "b", documents)


def test_seen_hashes_agree_with_a_set():
    rng = np.random.default_rng(5)
    seen, known = SeenHashes(), set()
    for size in (5, 1, 100, 3, 3, 3, 800, 40):
        values = rng.integers(0, 3000, size).astype(np.uint64)
        counts = {v: values.tolist().count(v) for v in values.tolist()}
        assert seen.add(values).tolist() == [v in known or counts[v] > 1 for v in values.tolist()]
        known |= set(values.tolist())


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (Document("x", "half \ud800 pair"), "document 'x' holds half of a surrogate pair"),
        (Document("x", "fine", "\udfff"), "document 'x' holds half of a surrogate pair"),
        (Document(7, "number"), "id, text and title must be str"),
    ],
)
def test_documents_that_are_no_unicode_text_are_refused_by_id(tmp_path, document, told):
    with pytest.raises(InputError, match=told):
        build_flat(tmp_path / "a", [*make_documents(3), document])


@pytest.mark.parametrize(
    ("encoder", "told"),
    [
        (lambda batch: Dense(np.zeros((len(batch) - 1, 16), np.float32)), r"shape \(15, 16\) for 16 documents"),
        (lambda batch: Dense(np.zeros((len(batch), 8), np.float32)), r"expected \(16, 16\)"),
        (lambda batch: Dense(np.full((len(batch), 16), np.nan, np.float32)), "NaN"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(tmp_path, encoder, told):
    with pytest.raises(InputError, match=told):
        build_flat(tmp_path / "a", make_documents(40), encoder)


def test_options_are_checked_with_the_nearest_spelling(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'cosine'"):
        build_flat(tmp_path / "a", make_documents(4), similarity="cosin")
    with pytest.raises(UsageError, match="did you mean 'float16'"):
        build_flat(tmp_path / "a", make_documents(4), storage="float1")
    with pytest.raises(UsageError, match="shard_documents is 0"):
        build_flat(tmp_path / "a", make_documents(4), shard_documents=0)
    with pytest.raises(InputError, match="dim 0"):
        build_flat(tmp_path / "a", make_documents(4), spec=SPEC.__class__("m"))
    build_flat(tmp_path / "a", make_documents(4))
    with pytest.raises(UsageError, match="device 'gpu' is unknown"):
        FlatIndex.open(tmp_path / "a", device="gpu")


def test_overflow_of_float16_is_refused_by_document(tmp_path):
    def large(batch):
        return Dense(np.full((len(batch), 16), 1e6, np.float32))

    with pytest.raises(InputError, match="document 'd0' overflows float16"):
        build_flat(tmp_path / "a", make_documents(4), large, similarity="dot", storage="float16")


def test_counts_are_summed_over_shards_and_kept(tmp_path, caplog):
    documents = [*make_documents(30), Document("e1", ""), Document("e2", " \n"), Document("t", "", "only a title")]
    cut = [0]

    def encode_some(batch):
        cut[0] += sum("sea" in d.text for d in batch)
        return encode(batch)

    with caplog.at_level(logging.WARNING, "cribble"):
        index = build_flat(tmp_path / "a", documents, encode_some, truncated=lambda: cut[0])
    truncated = sum("sea" in d.text for d in documents)
    assert index.manifest.counts == {"empty_texts": 2, "truncated_texts": truncated, "zero_vectors": 2}
    assert "2 documents have a zero vector" in caplog.text


def test_fingerprint_is_the_sha256_of_the_framed_documents(tmp_path):
    documents = make_documents(20)
    digest = hashlib.sha256()
    for d in documents:
        parts = [d.id.encode(), d.text.encode(), d.title.encode()]
        digest.update(b"%d %d %d\n" % tuple(map(len, parts)) + b"".join(parts))
    assert build_flat(tmp_path / "a", documents).manifest.fingerprint == digest.hexdigest()


def test_long_documents_close_a_shard_early(tmp_path, monkeypatch):
    monkeypatch.setattr(shards_module, "SHARD_CHARACTERS", 1000)
    documents = [Document(f"d{i}", "sea " * 100) for i in range(10)]
    assert build_flat(tmp_path / "a", documents).manifest.shards == [3, 3, 3, 1]


def test_memory_of_a_build_does_not_grow_with_the_corpus(tmp_path):
    def cheap(batch):
        return Dense(np.ones((len(batch), 16), np.float32))

    def peak(count: int) -> int:
        stream = (Document(f"d{i}", f"{i} " + "tree " * 200) for i in range(count))
        tracemalloc.start()
        build_flat(tmp_path / str(count), stream, cheap, shard_documents=250)
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    peak(250)  # imports and caches
    assert peak(2500) < 1.3 * peak(500)

"""Builds and changes of PLAID indexes: what is learnt from which documents, resumed after any death, nothing encoded twice."""

from __future__ import annotations

import json
import logging
import os
import tracemalloc
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.index import plaid_sample, plaid_training, token_kmeans
from cribble.index.changes import add_documents, compact_index, delete_documents
from cribble.index.generations import leftovers
from cribble.index.opening import open_index, verify_index
from cribble.index.plaid_files import CODEC_FILES, PlaidShard, Postings, open_codec
from cribble.index.plaid_options import centroid_count, held_out, sample_size
from cribble.index.residual_buckets import least_squares_buckets
from cribble.index.residual_codec import ResidualCodec
from cribble.index.token_clusters import NearestCentroids, lloyd
from cribble.index.token_kmeans import shares, token_centroids
from cribble.records import Document
from cribble.tests.index import token_builds
from cribble.tests.index.builds import arm, contents, deaths, make_documents, state
from cribble.tests.index.test_residual_codec import clustered
from cribble.tests.index.token_builds import DIM, SPEC, build_plaid, encode
from cribble.vectors import EncoderSpec, MultiVector

DOCUMENTS = make_documents(60)


@pytest.fixture(autouse=True)
def without_sync(monkeypatch):
    """No test here cuts the power, and syncing takes most of the time."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def third(monkeypatch):
    """A sample of a third of the documents, as large corpora have."""
    monkeypatch.setattr(plaid_sample, "sample_size", lambda documents: documents // 3)


class Encoded(list):
    """An encoder that notes the ids which it is given, and fails at the call `broken`."""

    def __init__(self, broken=None):
        self.broken = broken
        self.calls = 0

    def __call__(self, batch):
        self.calls += 1
        if self.calls == self.broken:
            raise OSError("the encoder went away")
        self += [document.id for document in batch]
        return encode(batch)


def shards_of(path):
    return [PlaidShard.open(folder) for folder in open_index(path).manifest.shard_folders(path)]


def decoded(path, row):
    """The tokens of a row as searches see them."""
    codec = open_codec(open_index(path).manifest.whole_folder(path), 4)
    for shard in shards_of(path):
        if row < len(shard):
            own = slice(*shard.offsets[row : row + 2])
            return codec.decode(shard.codes[own], shard.residuals[own])
        row -= len(shard)
    raise IndexError(row)


# ---- what is learnt from what ---------------------------------------------------------------------------------------


def test_sizes_are_stanfords():
    """Oracle: the formulas of ColBERT's collection_indexer.py, worked out by hand."""
    assert [sample_size(n) for n in (1, 5000, 30_720, 50_000, 200_000)] == [1, 5000, 30_720, 39_191, 78_383]
    assert [centroid_count(n) for n in (1, 300_000, 3_000_000, 12_000_000)] == [16, 8192, 16_384, 32_768]
    assert [held_out(n) for n in (999, 1000, 10_000_000)] == [0, 50, 50_000]


def test_the_sample_depends_on_the_seed_and_the_number_of_documents():
    one, again, other = (plaid_sample.chosen_rows(50_000, seed) for seed in (1, 1, 2))
    assert (one == again).all()
    assert len(one) == 39_191
    assert (np.diff(one) > 0).all()
    assert not (one == other).all()


def test_bytes_depend_on_documents_options_and_seed_only(tmp_path):
    build_plaid(tmp_path / "a", DOCUMENTS)
    build_plaid(tmp_path / "b", DOCUMENTS)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    build_plaid(tmp_path / "c", DOCUMENTS, seed=7)
    one, other = contents(tmp_path / "a"), contents(tmp_path / "c")
    assert one["whole/centroids.npy"] != other["whole/centroids.npy"]


def test_how_documents_are_encoded_together_changes_nothing(tmp_path, monkeypatch, third):
    build_plaid(tmp_path / "a", DOCUMENTS)
    monkeypatch.setattr("cribble.index.plaid_writer.ENCODED_AT_ONCE", 5)
    monkeypatch.setattr(plaid_sample, "ENCODED_AT_ONCE", 3)
    monkeypatch.setattr(plaid_sample, "_BLOCK", 50)
    monkeypatch.setattr(plaid_training, "_HELD_NUMBERS", 0)
    build_plaid(tmp_path / "b", DOCUMENTS)
    one, other = contents(tmp_path / "a"), contents(tmp_path / "b")
    differing = {name for name in one if one[name] != other[name]}
    assert {Path(name).name for name in differing} <= {"fidelity.npy", "shard.json", "manifest.json"}  # sums of float64


def test_postings_sizes_and_counts_by_hand(tmp_path):
    index = build_plaid(tmp_path / "i", [*DOCUMENTS, Document("empty", "")])
    postings = Postings.open(tmp_path / "i" / "whole")
    rows, sizes = defaultdict(set), defaultdict(int)
    first = tokens = 0
    for shard in shards_of(tmp_path / "i"):
        for i in range(len(shard)):
            for code in shard.codes[shard.offsets[i] : shard.offsets[i + 1]].tolist():
                rows[code].add(first + i)
                sizes[code] += 1
                tokens += 1
        first += len(shard)
    for code in range(len(postings.sizes)):
        own = postings.rows[postings.offsets[code] : postings.offsets[code + 1]].tolist()
        assert own == sorted(rows[code])
        assert postings.sizes[code] == sizes[code]
    counts = index.manifest.counts
    assert (counts["tokens"], counts["without_tokens"], counts["empty_texts"]) == (tokens, 1, 1)
    assert counts["centroids"] == len(postings.sizes) == 256
    original = [t for d in DOCUMENTS for t in encode([d]).tokens]
    found = np.concatenate([decoded(tmp_path / "i", row) for row in range(len(DOCUMENTS))])
    original = np.array(original) / np.linalg.norm(original, axis=1, keepdims=True)
    cosine = (original * found).sum(axis=1).mean()
    assert counts["decoded_cosine_millionths"] / 1e6 == pytest.approx(cosine, abs=1e-4)


def test_a_token_is_kept_alike_in_the_sample_beside_it_and_added(tmp_path, third):
    """The codec is given; a document's codes do not depend on the way it came in."""
    build_plaid(tmp_path / "i", DOCUMENTS)
    copies = [d._replace(id=f"copy of {d.id}") for d in DOCUMENTS]
    add_documents(tmp_path / "i", lambda: copies, encode, spec=SPEC, corpus="copies")
    for row in range(60):
        assert (decoded(tmp_path / "i", row) == decoded(tmp_path / "i", 60 + row)).all()


def test_centroids_are_as_long_as_tokens_lie_along_them(tmp_path):
    """All of one length, the mean cosine of a token and its centroid. Oracle: with centroids of length 1 and the same bits the
    decoded tokens are farther off."""
    tokens = clustered(5, 6000, 32, centres=3000, noise=0.8)
    vectors = MultiVector(tokens, np.arange(0, 6001, 30))

    def given(batch):
        return MultiVector.of([vectors[int(d.id)] for d in batch], 32)

    documents = [Document(str(i), str(i)) for i in range(200)]
    index = build_plaid(
        tmp_path / "i", documents, encode=given, spec=EncoderSpec("made", dim=32), centroids=256, bits=2
    )
    codec = open_codec(tmp_path / "i" / "whole", 2)
    lengths = np.linalg.norm(codec.centroids, axis=1)
    unit = codec.centroids / lengths[:, None]
    nearest = (tokens @ unit.T).argmax(axis=1)
    assert lengths.mean() == pytest.approx((tokens * unit[nearest]).sum(axis=1).mean(), abs=0.1)
    assert np.ptp(lengths) < 0.02
    other = ResidualCodec(unit, *least_squares_buckets(tokens - unit[nearest], 2), 2)
    theirs = (other.decode(*other.encode(tokens)) * tokens).sum(axis=1).mean()
    assert index.manifest.counts["decoded_cosine_millionths"] / 1e6 > theirs


def test_of_many_tokens_a_centroid_some_are_learnt_from(tmp_path, monkeypatch):
    """They are as many as said, and the build says nothing else; the seed chooses them."""
    seen = []

    def counting(blocks, tokens, dim, count, iterations, seed, advance):
        seen.append((tokens, sum(map(len, blocks())), count))
        return token_centroids(blocks, tokens, dim, count, iterations, seed, advance)

    monkeypatch.setattr(plaid_training, "token_centroids", counting)
    monkeypatch.setattr(plaid_training, "_LEARNT_TOKENS", 10)
    for name in ("i", "j"):
        build_plaid(tmp_path / name, DOCUMENTS, centroids=32)
    assert seen == [(320, 320, 32)] * 2
    assert contents(tmp_path / "i") == contents(tmp_path / "j")


# ---- two passes -----------------------------------------------------------------------------------------------------


def test_nothing_is_encoded_twice_and_nothing_is_left(tmp_path, third):
    encoded = Encoded()
    build_plaid(tmp_path / "i", DOCUMENTS, encode=encoded)
    assert sorted(encoded) == sorted(d.id for d in DOCUMENTS)
    assert len(set(encoded[:20])) == 20  # the sample first
    assert sorted(os.listdir(tmp_path / "i")) == ["manifest.json", "plan.json", "shards", "whole"]


@pytest.mark.parametrize("sampled", ["all", "a third"])
def test_builds_that_break_anywhere_resume_to_the_same_bytes(tmp_path, sampled, request):
    """At each call of the encoder in turn; what stands is not encoded again."""
    if sampled == "a third":
        request.getfixturevalue("third")
    build_plaid(tmp_path / "reference", DOCUMENTS, encode=(counting := Encoded()))
    for broken in range(1, counting.calls + 1):
        path = tmp_path / f"broken{broken}"
        first, second = Encoded(broken), Encoded()
        with pytest.raises(OSError, match="went away"):
            build_plaid(path, DOCUMENTS, encode=first)
        assert state(path) == "unfinished"
        build_plaid(path, DOCUMENTS, encode=second)
        assert contents(path) == contents(tmp_path / "reference")
        assert sorted([*first, *second]) == sorted(counting)


def test_death_at_steps_of_a_build(tmp_path):
    deaths(token_builds.__file__, tmp_path, "plaid", 3, 9, least=8)


def interrupted(path):
    """A build that has its sample, its codec and its first shard."""
    with pytest.raises(OSError, match="went away"):
        build_plaid(path, DOCUMENTS, encode=Encoded(6))
    assert (path / "training/codec").exists()
    assert sorted(os.listdir(path / "shards")) == ["00000"]


@pytest.mark.parametrize(
    "name", ["sample/00001/tokens.npy", "sample/00001/shard.json", "codec/centroids.npy", "codec/shard.json"]
)
@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_damaged_and_missing_training_files_are_made_again(tmp_path, third, name, how, caplog):
    build_plaid(tmp_path / "reference", DOCUMENTS)
    interrupted(tmp_path / "i")
    file = tmp_path / "i/training" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x11
    file.unlink() if how == "gone" else file.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        build_plaid(tmp_path / "i", DOCUMENTS)
    assert "built again" in caplog.text
    assert contents(tmp_path / "i") == contents(tmp_path / "reference")


def test_shards_of_another_codec_are_made_again(tmp_path, third):
    """Where the codec has to be learnt again and comes out another, as on another machine, no shard of the old one stays."""
    build_plaid(tmp_path / "reference", DOCUMENTS)
    interrupted(tmp_path / "i")
    (tmp_path / "i/shards/00000/codec.txt").write_text("another\n")
    entry = json.loads((tmp_path / "i/shards/00000/shard.json").read_text())
    del entry["files"]["codec.txt"]
    (tmp_path / "i/shards/00000/shard.json").write_text(json.dumps(entry))
    encoded = Encoded()
    build_plaid(tmp_path / "i", DOCUMENTS, encode=encoded)
    assert len(encoded) == 40
    assert contents(tmp_path / "i") == contents(tmp_path / "reference")


def test_a_left_training_folder_goes_with_the_next_change(tmp_path):
    build_plaid(tmp_path / "i", DOCUMENTS)
    (tmp_path / "i/training/sample").mkdir(parents=True)
    manifest = verify_index(tmp_path / "i")
    assert "training" in leftovers(tmp_path / "i", manifest)[0]
    delete_documents(tmp_path / "i", ["d3"])
    assert not (tmp_path / "i/training").exists()


class Changing:
    """Documents of which one is another from the n-th pass on: after two looks whether there are any and whether this is an
    iterator, one counts, one takes the sample, one makes shards."""

    def __init__(self, passes):
        self.left = passes

    def __iter__(self):
        self.left -= 1
        changed = [*DOCUMENTS[:30], DOCUMENTS[30]._replace(text="another"), *DOCUMENTS[31:]]
        return iter(DOCUMENTS if self.left > 0 else changed)


@pytest.mark.parametrize("passes", [4, 5])
def test_a_corpus_that_changes_is_noticed(tmp_path, passes, third):
    documents = Changing(passes)
    with pytest.raises(InputError, match=r"changed (while|between)"):
        build_plaid(tmp_path / "i", documents)
    assert state(tmp_path / "i") == "unfinished"
    build_plaid(tmp_path / "i", DOCUMENTS, overwrite=True)
    assert state(tmp_path / "i") == "whole"


def test_an_interrupted_sample_of_another_corpus_is_refused(tmp_path, third):
    with pytest.raises(OSError, match="went away"):
        build_plaid(tmp_path / "i", DOCUMENTS, encode=Encoded(3))
    with pytest.raises(InputError, match="is not the one that was read before the interruption"):
        build_plaid(tmp_path / "i", [DOCUMENTS[0]._replace(text="another"), *DOCUMENTS[1:]])


def test_an_iterator_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(UsageError, match="more than once"):
        build_plaid(tmp_path / "i", iter(DOCUMENTS))
    assert not (tmp_path / "i").exists()


def test_truncated_texts_are_counted_once(tmp_path, third):
    cut = [0]

    def cutting(batch):
        cut[0] += sum(int(document.id[1:]) % 5 == 0 for document in batch)
        return encode(batch)

    index = build_plaid(tmp_path / "i", DOCUMENTS, encode=cutting, truncated=lambda: cut[0])
    assert index.manifest.counts["truncated_texts"] == 12
    more = [d._replace(id=f"d{i}") for i, d in enumerate(make_documents(10), 100)]
    change = add_documents(tmp_path / "i", lambda: more, cutting, spec=SPEC, corpus="more", truncated=lambda: cut[0])
    assert change.manifest.counts["truncated_texts"] == 14


# ---- few, equal and odd documents -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "texts",
    [
        ["alone"],
        ["", ""],
        ["same word"] * 30,
        ["one", "", "one two three"],
        ["a b c d e f g h i j k l m n o p q r s t u"],
    ],
)
@pytest.mark.parametrize("bits", [1, 8])
def test_few_and_equal_documents(tmp_path, texts, bits):
    """Fewer tokens than centroids, or than cut-offs: each is its own centroid. No tokens at all: nothing is found."""
    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    index = build_plaid(tmp_path / "i", documents, bits=bits)
    for text in texts:
        query = encode([Document("", text)])
        ids, scores = index.search(query, 50, mode="exhaustive")[0]
        if text:
            assert scores[0] == pytest.approx(len(text.split()), abs=2e-2)
            assert texts[int(ids[0])].split()[: len(text.split())] == text.split()
        else:
            assert len(ids) == 0


def test_tokens_of_length_zero_are_left_out_and_counted(tmp_path, third):
    def encode_zeros(batch):
        found = encode(batch)
        tokens = found.tokens.copy()
        tokens[found.offsets[:-1]] = 0
        return MultiVector(tokens, found.offsets)

    index = build_plaid(tmp_path / "i", DOCUMENTS, encode=encode_zeros)
    assert index.manifest.counts["zero_tokens"] == 60
    assert index.manifest.counts["tokens"] == sum(len(encode([d]).tokens) - 1 for d in DOCUMENTS)


def test_bad_vectors_and_options_are_refused(tmp_path):
    def not_a_number(batch):
        found = encode(batch)
        found.tokens[3] = np.nan
        return found

    with pytest.raises(InputError, match="'d0' holds NaN"):
        build_plaid(tmp_path / "i", DOCUMENTS, encode=not_a_number)
    for options, message in [
        ({"bits": 3}, "bits is 3"),
        ({"centroids": 0}, "centroids is 0"),
        ({"kmeans_iterations": 0}, "kmeans_iterations is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"storage": "int8"}, "storage='int8' has no effect"),
        ({"similarity": "l2"}, "multivector-exact"),
        ({"similarity": "dot"}, "multivector-exact"),
    ]:
        with pytest.raises(UsageError, match=message):
            build_plaid(tmp_path / "j", DOCUMENTS, **options)
        assert not (tmp_path / "j").exists()
    spec = EncoderSpec("words", dim=DIM, similarity="dot", normalised=True)
    assert len(build_plaid(tmp_path / "dot", DOCUMENTS[:5], spec=spec)) == 5


def test_options_have_effects(tmp_path):
    index = build_plaid(tmp_path / "i", DOCUMENTS, centroids=32, pool_factor=2.0)
    assert index.manifest.counts["centroids"] == 32
    assert index.manifest.counts["tokens"] < 0.6 * sum(len(encode([d]).tokens) for d in DOCUMENTS)
    other = build_plaid(tmp_path / "j", DOCUMENTS, centroids=32, pool_factor=2.0, kmeans_iterations=1)
    assert contents(tmp_path / "i")["whole/centroids.npy"] != contents(tmp_path / "j")["whole/centroids.npy"]
    assert (
        other.manifest.counts["decoded_cosine_millionths"] <= index.manifest.counts["decoded_cosine_millionths"] + 2000
    )


# ---- changes --------------------------------------------------------------------------------------------------------


def test_changes_keep_the_codec_and_make_the_postings_anew(tmp_path):
    """Oracle: the files of an index after a change are those of the same rows before it, in another place."""
    path = tmp_path / "i"
    build_plaid(path, DOCUMENTS)
    before = {name: (path / "whole" / name).read_bytes() for name in CODEC_FILES}
    tokens = [decoded(path, row) for row in range(60)]
    more = [d._replace(id=f"new {d.id}") for d in make_documents(20)]
    add_documents(path, lambda: more, encode, spec=SPEC, corpus="more")
    change = delete_documents(path, [d.id for d in DOCUMENTS[::2]] + ["new d7"])
    kept = sum(len(encode([d]).tokens) for d in [*DOCUMENTS[1::2], *more[:7], *more[8:]])
    assert change.manifest.counts["tokens"] == kept
    index = open_index(compacted(path), verify=True)
    assert index.manifest.rows == 49
    assert index.manifest.counts["tokens"] == kept
    assert 900_000 < index.manifest.counts["decoded_cosine_millionths"] <= 1_000_000
    whole = index.manifest.whole_folder(path)
    assert before == {name: (whole / name).read_bytes() for name in CODEC_FILES}
    for row in range(30):
        assert (decoded(path, row) == tokens[2 * row + 1]).all()
    postings = Postings.open(whole)
    assert postings.sizes.sum() == kept
    assert postings.rows.max() == 48
    found = index.search(encode([more[3]]), 1, ncells=512, threshold=-2.0, ndocs=1000)[0]
    assert found.ids.tolist() == ["new d3"]


def compacted(path):
    compact_index(path)
    return path


@pytest.mark.parametrize("operation", ["add", "compact"])
def test_a_change_that_dies_ends_the_same_when_it_is_repeated(tmp_path, operation):
    """Dies at every fifth sync, rename or creation of a folder; oracle: the files of a change that nothing disturbed."""
    more = [d._replace(id=f"new {d.id}") for d in make_documents(6)]

    def change(path):
        if operation == "add":
            add_documents(path, lambda: more, encode, spec=SPEC, corpus="more")
        else:
            compact_index(path)

    def base(path):
        build_plaid(path, DOCUMENTS[:12], shard_documents=4)
        delete_documents(path, ["d0", "d5"])
        return path

    change(base(tmp_path / "reference"))
    wanted = contents(tmp_path / "reference")
    generation = open_index(base(tmp_path / "before")).manifest.generation
    died = 0
    for step in range(1, 200, 5):
        path = base(tmp_path / f"killed{step}")
        child = os.fork()
        if child == 0:
            arm(step, ("fsync", "rename", "replace", "mkdir"))
            change(path)
            os._exit(0)
        survived = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        verify_index(path)
        if open_index(path).manifest.generation == generation:
            change(path)
        found = contents(path)
        assert {name: found.get(name) for name in wanted if "manifest" not in name} == {
            name: digest for name, digest in wanted.items() if "manifest" not in name
        }
        died += 1
        if survived:
            break
    assert died > 3


# ---- centroids ------------------------------------------------------------------------------------------------------


def blocks_of(tokens, size):
    return lambda: (tokens[i : i + size] for i in range(0, len(tokens), size))


def centroids_of(tokens, count, iterations=4, size=1000, seed=1):
    return token_centroids(
        blocks_of(tokens, size), len(tokens), tokens.shape[1], count, iterations, seed, lambda steps=1: None
    )


def test_centroids_are_as_good_as_plain_kmeans():
    """Oracle: spherical Lloyd's from random tokens, all compared with all, 4 iterations; mean cosine of other tokens."""
    tokens = clustered(1, 12_000, 32, centres=600, noise=0.6)
    rest, apart = tokens[:10_000], tokens[10_000:]
    found = centroids_of(rest, 1024)
    plain, _ = lloyd(rest, rest[np.random.default_rng(0).permutation(10_000)[:1024]].copy(), 4)
    ours, theirs = ((apart @ own.T).max(axis=1).mean() for own in (found, plain))
    assert ours > theirs - 0.005
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=0, atol=1e-6)
    used = np.bincount(NearestCentroids(found).of(rest), minlength=1024)
    assert np.count_nonzero(used == 0) < 10


def test_blocks_do_not_matter_and_the_seed_does():
    tokens = clustered(2, 3000, 24, centres=300)
    one, other = centroids_of(tokens, 256, size=17), centroids_of(tokens, 256, size=5000)
    assert (one == other).all()
    assert not (one == centroids_of(tokens, 256, seed=2)).all()


def test_fewer_tokens_than_centroids_and_equal_tokens():
    tokens = clustered(3, 20, 8)
    assert (centroids_of(tokens, 64) == tokens).all()
    same = np.repeat(tokens[:3], 100, axis=0)
    found = centroids_of(same, 32)
    assert found.shape == (32, 8)
    assert np.isfinite(found).all()
    assert (same @ found.T).max(axis=1).min() > 0.999


def test_shares_add_up_in_proportion():
    sizes = np.array([7, 0, 1, 92])
    assert shares(sizes, 10).tolist() == [1, 0, 0, 9]
    assert shares(sizes, 100).tolist() == sizes.tolist()


def test_not_all_tokens_are_held(tmp_path, monkeypatch):
    """1,000 documents of 100 tokens of 64 numbers, 26 MB as float32: the most that NumPy holds at a time stays under half."""
    monkeypatch.setattr(plaid_training, "_HELD_NUMBERS", 1 << 16)
    monkeypatch.setattr(token_kmeans, "_START_NUMBERS", 1 << 20)
    monkeypatch.setattr(plaid_sample, "_BLOCK", 4096)
    monkeypatch.setattr(plaid_sample, "ENCODED_AT_ONCE", 64)
    monkeypatch.setattr("cribble.index.plaid_writer.ENCODED_AT_ONCE", 64)
    spec = EncoderSpec("made", dim=64)

    def many(batch):
        return MultiVector.of([clustered(int(document.id), 100, 64) for document in batch], 64)

    documents = [Document(str(i), "x") for i in range(1000)]
    build_plaid(tmp_path / "warm", documents[:100], encode=many, spec=spec, centroids=256)
    tracemalloc.start()
    try:
        build_plaid(tmp_path / "i", documents, encode=many, spec=spec, centroids=256, kmeans_iterations=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 13e6

"""MaxSim of stored tokens, by all ways this CPU has, against a float64 einsum over what is stored."""

from __future__ import annotations

import itertools
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.index import maxsim_stored as module
from cribble.index.maxsim import maxsim
from cribble.index.maxsim_amx import AMX, amx_allowed
from cribble.index.maxsim_stored import StoredQueries, maxsim_stored, maxsim_stored_all, ways
from cribble.index.maxsim_tile import FOURS, ROWS
from cribble.index.multivector import MultivectorIndex
from cribble.index.multivector_files import STORAGE, read, stored
from cribble.records import Document
from cribble.tests.index.token_builds import build_exact
from cribble.vectors import EncoderSpec, MultiVector

WAYS = [(storage, way) for storage in STORAGE for way in ways(storage)]
LENGTHS = (0, 0, 1, 1, 2, 9, 31, 32, 33, 64, 200)


def unit(rng, count, dim):
    values = rng.standard_normal((count, dim)).astype(np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def ragged(rng, count, lengths=LENGTHS):
    return np.concatenate([[0], np.cumsum(rng.choice(lengths, count))])


def decoded(numbers, scales, storage):
    """What is stored, as float64."""
    values = read(numbers, storage).astype(np.float64)
    return values * scales[:, None] if storage == "int8" else values


def naive(query, tokens, offsets):
    """The definition: a float64 einsum per document, the maximum, the sum."""
    scores = np.full(len(offsets) - 1, -1.0 * len(query))
    for i, (start, end) in enumerate(itertools.pairwise(offsets)):
        if start < end:
            scores[i] = np.einsum("qd,td->qt", query.astype(np.float64), tokens[start:end]).max(axis=1).sum()
    return scores


def scored(storage, way, query, numbers, scales, offsets):
    side = StoredQueries.of(query, np.array([0, len(query)]), storage, way)
    out = np.full((1, len(offsets) - 1), np.nan, np.float32)
    side.score(numbers, scales, offsets, out, 0)
    return out[0], side


def test_what_this_cpu_has_is_tested():
    """A path that is not tested here is not used here."""
    assert {way for _, way in WAYS} >= {"blocks"}
    assert (("bfloat16", "amx") in WAYS) == (AMX and amx_allowed())
    assert (("int8", "vnni") in WAYS) == FOURS
    assert (("float16", "float32") in WAYS) == (ROWS > 0)


@pytest.mark.parametrize(("storage", "way"), WAYS)
@pytest.mark.parametrize("dim", [1, 3, 16, 47, 64, 96, 128, 130])
def test_equal_to_a_float64_einsum(storage, way, dim):
    """Within 1e-5 relative of |q| |d|, which are 1; int8 within the bound of its query, which is below 2e-4."""
    rng = np.random.default_rng(dim)
    for terms in (1, 5, 16, 17, 33, 64, 100):
        offsets = ragged(rng, 40)
        query, (numbers, scales) = unit(rng, terms, dim), stored(unit(rng, int(offsets[-1]), dim), storage)
        got, side = scored(storage, way, query, numbers, scales, offsets)
        expected = naive(query, decoded(numbers, scales, storage), offsets)
        exact = storage != "int8" or way in ("float32", "blocks")
        assert np.abs(got - expected).max() <= (1e-5 if exact else 2e-4) * terms
        bound = side.errors(dim, 1.01).sum() + 2.0**-23 * terms
        assert np.abs(got - expected).max() <= bound


@pytest.mark.parametrize(("storage", "way"), WAYS)
def test_bounds_hold_whatever_the_size_of_numbers(storage, way):
    """Tokens from 2^-20 to 2^10 (float16 has no more), query tokens with one number far above the others, and zeros."""
    rng = np.random.default_rng(1)
    for power in (-20.0, -5.0, 10.0):
        offsets = ragged(rng, 30)
        tokens = unit(rng, int(offsets[-1]), 70) * np.float32(2.0**power)
        tokens[::7] = 0
        query = unit(rng, 20, 70)
        query[::3, 5] *= 1000
        query[4] = 0
        query[5] *= np.float32(1e-30)
        numbers, scales = stored(tokens, storage)
        values = decoded(numbers, scales, storage)
        got, side = scored(storage, way, query, numbers, scales, offsets)
        largest = np.linalg.norm(values, axis=1).max()
        norms = np.linalg.norm(query.astype(np.float64), axis=1)
        bound = side.errors(70, largest).sum() + 2.0**-23 * (norms * largest).sum()
        filled = np.diff(offsets) > 0
        assert np.abs(got - naive(query, values, offsets))[filled].max() <= bound
        assert (got[~filled] == -20).all()


@pytest.mark.parametrize(("storage", "way"), WAYS)
def test_when_all_similarities_are_negative(storage, way):
    """No zero of a padded row, column or dimension may win; an empty document comes last."""
    rng = np.random.default_rng(0)
    query, offsets = np.abs(unit(rng, 4, 18)), np.array([0, 10, 10, 11, 30])
    numbers, scales = stored(-np.abs(unit(rng, 30, 18)), storage)
    got, _ = scored(storage, way, query, numbers, scales, offsets)
    assert (got < 0).all()
    assert got == pytest.approx(naive(query, decoded(numbers, scales, storage), offsets), rel=2e-4)
    assert got[1] == got.min() == -4.0


@pytest.mark.parametrize("way", [way for storage, way in WAYS if storage == "bfloat16"])
def test_a_bfloat16_query_is_multiplied_as_it_is(way):
    """float32 sums of exact products of bfloat16: 1e-5 relative to a score of size 32; one part, not two."""
    rng = np.random.default_rng(2)
    offsets = ragged(rng, 50)
    numbers, scales = stored(unit(rng, int(offsets[-1]), 128), "bfloat16")
    query = read(stored(unit(rng, 32, 128), "bfloat16")[0], "bfloat16")
    got, side = scored("bfloat16", way, query, numbers, scales, offsets)
    assert len(side.parts) == 1
    assert side.errors(128, 1.0).sum() <= 32 * 300 * 2.0**-24
    assert np.abs(got - naive(query, decoded(numbers, scales, "bfloat16"), offsets)).max() <= 1e-5


@pytest.mark.parametrize(("storage", "way"), WAYS)
def test_rows_may_lie_anywhere(storage, way):
    """At an odd address, in a wider array, with every second column, from an offset on, read-only."""
    rng = np.random.default_rng(3)
    offsets = np.array([0, 40, 40, 75])
    numbers, scales = stored(unit(rng, 75, 64), storage)
    query = unit(rng, 7, 64)
    expected, _ = scored(storage, way, query, numbers, scales, offsets)
    wide = np.zeros((75, 129), numbers.dtype)
    wide[:, 1:65] = numbers
    assert scored(storage, way, query, wide[:, 1:65], scales, offsets)[0].tolist() == expected.tolist()
    wide[:, 1::2] = numbers
    wide.setflags(write=False)
    assert scored(storage, way, query, wide[:, 1::2], scales, offsets)[0].tolist() == expected.tolist()
    later = scored(storage, way, query, numbers, scales, offsets[2:])[0]
    assert later.tolist() == expected[2:].tolist()


@pytest.mark.parametrize("storage", STORAGE)
def test_many_queries_and_the_mean(storage):
    """Each query alone gives what all together give, to the precision of the sums' order; a query without tokens gets 0."""
    rng = np.random.default_rng(4)
    starts = np.array([0, 3, 3, 40, 41])
    queries, offsets = MultiVector(unit(rng, 41, 32), starts), ragged(rng, 25)
    tokens = unit(rng, int(offsets[-1]), 32)
    numbers, scales = stored(tokens, storage)
    given = {"scales": scales} if storage == "int8" else {}
    together = maxsim_stored_all(queries, numbers, offsets, **given)
    means = maxsim_stored_all(queries, numbers, offsets, mean=True, **given)
    for i, terms in enumerate(np.diff(starts)):
        alone = maxsim_stored(queries[i], numbers, offsets, **given)
        assert together[i] == pytest.approx(alone, abs=1e-5 * max(1, terms))
        assert means[i] == pytest.approx(together[i] / max(1, terms), abs=1e-6)
    assert (together[1] == 0).all()
    assert together == pytest.approx(np.stack([maxsim(queries[i], tokens, offsets) for i in range(4)]), abs=0.3)
    assert maxsim_stored(queries[0], numbers[:0], np.array([0, 0]), **({"scales": scales[:0]} if given else {})) == [-3]


def test_what_does_not_fit_is_refused():
    query, offsets = np.ones((1, 4), np.float32), np.array([0, 2])
    with pytest.raises(InputError, match="numbers are float64, expected float32"):
        maxsim_stored(query, np.ones((2, 4)), offsets)
    with pytest.raises(InputError, match="query tokens have 4 dimensions, document tokens 3"):
        maxsim_stored(query, np.ones((2, 3), np.float16), offsets)
    with pytest.raises(UsageError, match="scales come with int8 numbers and no others, here with int8"):
        maxsim_stored(query, np.ones((2, 4), np.int8), offsets)
    with pytest.raises(UsageError, match="here with float16"):
        maxsim_stored(query, np.ones((2, 4), np.float16), offsets, scales=np.ones(2, np.float32))
    with pytest.raises(InputError, match=r"scales are float64 \(2,\), expected float32 \(2,\)"):
        maxsim_stored(query, np.ones((2, 4), np.int8), offsets, scales=np.ones(2))
    with pytest.raises(InputError, match="offsets have to ascend from 0 or more to at most 2"):
        maxsim_stored(query, np.ones((2, 4), np.float16), np.array([0, 3]))
    with pytest.raises(UsageError, match="by 'abacus': this machine has"):
        StoredQueries.of(query, np.array([0, 1]), "int8", "abacus")


@pytest.mark.parametrize("storage", STORAGE)
def test_an_index_finds_the_same_to_the_last_bit_by_all_ways(tmp_path, monkeypatch, storage):
    """Near-equal documents, whose order only the float64 scores decide; whole, filtered, and by torch."""
    rng = np.random.default_rng(5)
    dim, count = 40, 150
    base = unit(rng, 9, dim)
    vectors = [base + np.float32(10.0 ** -rng.integers(2, 6)) * unit(rng, 9, dim) for _ in range(count)]
    documents = [Document(f"{i:03d}", "x") for i in range(count)]
    spec = EncoderSpec("random", dim=dim, similarity="cosine")

    def encode(batch):
        return MultiVector.of([vectors[int(d.id)] for d in batch], dim)

    build_exact(tmp_path / "i", documents, encode=encode, spec=spec, storage=storage, shard_documents=64)
    index = MultivectorIndex.open(tmp_path / "i")
    queries = MultiVector(base[[0, 1, 2, 3, 4, 1, 8]], np.array([0, 4, 4, 7]))
    allowed = [d.id for d in documents[::3]]

    def found(index):
        some = [index.search(queries, 10), index.search(queries, 140), index.search(queries, 7, allow=allowed)]
        return [(r.ids.tolist(), r.scores.tolist()) for rankings in some for r in rankings]

    expected = found(MultivectorIndex.open(tmp_path / "i", device="torch:cpu"))
    assert len(expected[0][0]) == 10
    for way in ways(storage):
        monkeypatch.setattr(module, "ways", lambda storage, way=way: [way])
        assert found(index) == expected


@pytest.mark.parametrize("storage", STORAGE)
def test_threads_and_a_forked_process_have_tiles_of_their_own(storage):
    """Eight threads at once, which release the GIL, and a child: all give what one gives."""
    rng = np.random.default_rng(6)
    offsets = ragged(rng, 300)
    numbers, scales = stored(unit(rng, int(offsets[-1]), 128), storage)
    queries = [unit(rng, 32, 128) for _ in range(8)]
    given = {"scales": scales} if storage == "int8" else {}

    def work(query):
        return [maxsim_stored(query, numbers, offsets, **given).tobytes() for _ in range(5)]

    alone = [work(query)[0] for query in queries]
    with ThreadPoolExecutor(8) as pool:
        for expected, found in zip(alone, pool.map(work, queries), strict=True):
            assert found == [expected] * 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that threads were started before
        child = os.fork()
    if child == 0:
        os._exit(0 if work(queries[0])[0] == alone[0] else 1)
    assert os.waitpid(child, 0)[1] == 0

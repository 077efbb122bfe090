"""The residual codec against Stanford's as its source describes it, written out number by number."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.index.residual_buckets import quantile_buckets
from cribble.index.residual_codec import ResidualCodec, read_centroids, rounded_centroids
from cribble.index.token_clusters import NearestCentroids, lloyd
from cribble.index.token_products import columns_of, ordered_product, plain_product


def unit(rng, count, dim):
    found = rng.standard_normal((count, dim)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def clustered(seed, count, dim, centres=40, noise=0.5):
    """Unit tokens around some directions, as token states are."""
    rng = np.random.default_rng(seed)
    own = unit(np.random.default_rng(0), centres, dim)[rng.integers(0, centres, count)]
    found = own + noise * unit(rng, count, dim)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def made(bits, dim, count=64, seed=1):
    """A codec whose cut-offs are of tokens that it does not see later."""
    tokens = clustered(seed, 600, dim)
    centroids = read_centroids(*rounded_centroids(tokens[:count]))
    nearest = (tokens @ centroids.T).argmax(axis=1)
    cutoffs, weights = quantile_buckets(tokens - centroids[nearest], bits)
    return ResidualCodec(centroids, cutoffs, weights, bits)


def encoded_by_hand(codec, tokens):
    """Codes and packed bytes in loops: the first of the best centroids by float64 products; the bucket is the number of
    cut-offs below the residual; a bucket's lowest bit first; bits fill bytes from the highest."""
    codes, rows = [], []
    for token in tokens:
        products = codec.centroids.astype(np.float64) @ token.astype(np.float64)
        code = int(products.argmax())
        bits = []
        for value, centre in zip(token, codec.centroids[code], strict=True):
            residual = np.float32(value - centre)
            bucket = sum(1 for bound in codec.cutoffs if bound < residual)
            bits += [(bucket >> position) & 1 for position in range(codec.bits)]
        bits += [0] * (-len(bits) % 8)
        rows.append([int("".join(map(str, bits[at : at + 8])), 2) for at in range(0, len(bits), 8)])
        codes.append(code)
    return np.array(codes), np.array(rows, np.uint8)


def decoded_by_hand(codec, codes, residuals):
    rows = []
    for code, packed in zip(codes, residuals, strict=True):
        bits = list(itertools.chain.from_iterable(map(int, f"{byte:08b}") for byte in packed))
        row = []
        for i in range(codec.dim):
            own = bits[i * codec.bits : (i + 1) * codec.bits]
            bucket = sum(bit << position for position, bit in enumerate(own))
            row.append(float(codec.centroids[code, i]) + float(codec.weights[bucket]))
        rows.append(np.array(row) / np.linalg.norm(row))
    return np.array(rows)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("dim", [16, 24, 21, 5, 128])
def test_codes_bytes_and_decoded_tokens_are_the_references(bits, dim):
    """Oracle: the loops above. Codes and bytes equal, decoded to 1e-6. 21 and 5 dimensions leave bits of a byte over."""
    codec = made(bits, dim)
    tokens = clustered(2, 40, dim)
    codes, residuals = codec.encode(tokens)
    assert (codes.dtype, residuals.dtype) == (np.uint16, np.uint8)
    assert residuals.shape == (40, -(-dim * bits // 8))
    wanted_codes, wanted_bytes = encoded_by_hand(codec, tokens)
    assert codes.tolist() == wanted_codes.tolist()
    assert residuals.tolist() == wanted_bytes.tolist()
    decoded = codec.decode(codes, residuals)
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, decoded_by_hand(codec, codes, residuals), rtol=0, atol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_residual_equal_to_a_cutoff_lies_below_it(bits):
    """Oracle: torch.bucketize, which Stanford's code calls. Residuals are cut-offs, their neighbours and infinity."""
    torch = pytest.importorskip("torch")
    cutoffs = np.linspace(-0.5, 0.5, 2**bits - 1).astype(np.float32)
    weights = np.arange(2**bits, dtype=np.float32)
    values = np.concatenate([cutoffs, np.nextafter(cutoffs, np.float32(1)), np.nextafter(cutoffs, np.float32(-1))])
    values = np.concatenate([values, [-np.inf, np.inf]]).astype(np.float32)
    codec = ResidualCodec(np.zeros((1, len(values)), np.float32), cutoffs, weights, bits)
    packed = codec.pack(values[None], np.zeros(1, np.int64))
    bits_of = np.unpackbits(packed[0])[: bits * len(values)].reshape(-1, bits)
    found = (bits_of.astype(np.int64) << np.arange(bits)).sum(axis=1)
    assert found.tolist() == torch.bucketize(torch.from_numpy(values), torch.from_numpy(cutoffs)).tolist()


def test_cutoffs_and_weights_are_quantiles_over_all_dimensions():
    """Oracle: torch.quantile at Stanford's places, k / 2^b and (k + ½) / 2^b; float32 against float64 interpolation."""
    torch = pytest.importorskip("torch")
    residuals = np.random.default_rng(3).standard_normal((500, 12)).astype(np.float32)
    for bits in (1, 2, 4):
        steps = torch.arange(2**bits) / 2**bits
        cutoffs, weights = quantile_buckets(residuals, bits)
        values = torch.from_numpy(residuals).flatten()
        np.testing.assert_allclose(cutoffs, values.quantile(steps[1:]), rtol=0, atol=1e-6)
        np.testing.assert_allclose(weights, values.quantile(steps + 0.5 / 2**bits), rtol=0, atol=1e-6)


def test_nothing_encodes_to_nothing():
    codec = made(2, 16)
    codes, residuals = codec.encode(np.zeros((0, 16), np.float32))
    assert (codes.shape, residuals.shape) == ((0,), (0, 4))
    assert codec.decode(codes, residuals).shape == (0, 16)


def test_more_bits_decode_nearer():
    tokens = clustered(4, 400, 48)
    cosines = []
    for bits in (1, 2, 4, 8):
        codec = made(bits, 48)
        cosines.append(float((codec.decode(*codec.encode(tokens)) * tokens).sum(axis=1).mean()))
    assert cosines == sorted(cosines)
    assert cosines[1] > 0.92
    assert cosines[3] > 0.999


def test_what_a_token_becomes_does_not_depend_on_the_others():
    """Alone, in any order and in any part: bytes are equal, also where groups of centroids are looked into."""
    tokens = clustered(5, 3000, 32, centres=900)
    codec = made(2, 32)
    for centroids in (codec.centroids, clustered(6, 1500, 32, centres=900)):
        own = ResidualCodec(centroids, codec.cutoffs, codec.weights, 2)
        codes, residuals = own.encode(tokens)
        order = np.random.default_rng(0).permutation(len(tokens))
        assert (own.encode(tokens[order])[0] == codes[order]).all()
        for some in (slice(0, 1), slice(7, 20), slice(1, 2999)):
            part = own.encode(tokens[some])
            assert (part[0] == codes[some]).all()
            assert (part[1] == residuals[some]).all()


def test_equally_near_centroids_give_the_first():
    tokens = clustered(7, 2000, 24, centres=1000)
    for count in (100, 700):  # compared with all, and in groups
        centroids = np.concatenate([tokens[:count], tokens[:count]])
        assert NearestCentroids(centroids).of(tokens).max() < count


def test_in_groups_the_nearest_is_found_almost_always():
    """Oracle: the product with all. One in fifty may be missed, for one that is 1 % less near on average over all."""
    tokens, centroids = clustered(8, 4000, 64, centres=1500, noise=0.7), clustered(9, 2048, 64, centres=1500, noise=0.3)
    products = tokens @ centroids.T
    found = NearestCentroids(centroids).of(tokens)
    assert (found == products.argmax(axis=1)).mean() > 0.98
    reached = products[np.arange(len(tokens)), found].mean()
    assert reached > 0.99 * products.max(axis=1).mean()


def test_products_have_one_order_of_additions():
    """To 1e-5 those of NumPy; rows alone and together to the last bit; and the loop for CPUs without fused instructions."""
    rng = np.random.default_rng(10)
    tokens, vectors = unit(rng, 57, 40), unit(rng, 70, 40)
    columns = columns_of(vectors)
    found = ordered_product(tokens, columns)
    np.testing.assert_allclose(found[:, :70], tokens @ vectors.T, rtol=0, atol=1e-5)
    assert (found[:, 70:] == found[:, :1]).all()
    for row in (0, 13, 56):
        assert (ordered_product(tokens[row : row + 1], columns)[0] == found[row]).all()
    out = np.zeros(found.shape, np.float32)
    plain_product(tokens, columns, out)
    np.testing.assert_allclose(out, found, rtol=0, atol=1e-5)


def test_rounded_centroids_are_whole_multiples_and_stay_so():
    """What is searched is what the files hold: rounding again changes nothing."""
    centroids = np.concatenate([unit(np.random.default_rng(11), 200, 33), np.zeros((1, 33), np.float32)])
    numbers, scales = rounded_centroids(centroids)
    assert np.abs(numbers[:-1].astype(int)).max(axis=1).tolist() == [127] * 200
    searched = read_centroids(numbers, scales)
    assert np.abs(searched - centroids).max() <= scales.max() / 2 + 1e-7
    again, scales_again = rounded_centroids(searched)
    assert (again == numbers).all()
    assert (read_centroids(again, scales_again) == searched).all()


def test_states_of_a_real_model():
    """Token states of the embedded MiniLM: 384 dimensions, by the loops above."""
    from cribble.models.multivector_options import make_token_encoder
    from cribble.records import Document

    texts = [
        "The boundary layer of a flat plate in a supersonic stream.",
        "Ranking documents by their tokens' best match.",
    ]
    vectors = make_token_encoder(None, device="cpu").encode_documents(
        [Document(str(i), t) for i, t in enumerate(texts)]
    )
    tokens = np.ascontiguousarray(vectors.tokens, np.float32)
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    centroids = read_centroids(*rounded_centroids(lloyd(tokens, tokens[:6].copy(), 4)[0]))
    nearest = (tokens @ centroids.T).argmax(axis=1)
    codec = ResidualCodec(centroids, *quantile_buckets(tokens - centroids[nearest], 2), 2)
    codes, residuals = codec.encode(tokens)
    wanted_codes, wanted_bytes = encoded_by_hand(codec, tokens)
    assert codes.tolist() == wanted_codes.tolist()
    assert residuals.tolist() == wanted_bytes.tolist()
    decoded = codec.decode(codes, residuals)
    np.testing.assert_allclose(decoded, decoded_by_hand(codec, codes, residuals), rtol=0, atol=1e-6)
    assert (decoded * tokens).sum(axis=1).mean() > 0.9


def test_bad_codecs_are_refused():
    codec = made(2, 16)
    with pytest.raises(UsageError, match="bits is 3"):
        ResidualCodec(codec.centroids, codec.cutoffs, codec.weights, 3)
    with pytest.raises(InputError, match="3 cut-offs and 4 weights at 2 bits"):
        ResidualCodec(codec.centroids, codec.cutoffs[:2], codec.weights, 2)

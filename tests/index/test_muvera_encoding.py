"""MUVERA's fixed-dimensional encodings against fastembed's published values and against the definition written out."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.errors import UsageError
from cribble.index.muvera_encoding import FixedDimensional
from cribble.vectors import MultiVector


def one(matrix):
    return MultiVector(matrix, np.array([0, len(matrix)]))


def test_values_that_fastembed_publishes():
    """qdrant/fastembed tests/test_postprocess.py: default_rng(42).random((10, 128)), k_sim 5, dim_proj 16, 20 repetitions."""
    tokens = one(np.random.default_rng(42).random((10, 128)))
    encoding = FixedDimensional(128, 5, 16, 20, 42)
    document, query = encoding.documents(tokens)[0], encoding.queries(tokens)[0]
    assert document.shape == query.shape == (10_240,)
    assert document[:3] == pytest.approx([-2.61810007e-04, 1.89005750, -2.32070747], abs=1e-6)
    assert query[query != 0][:3] == pytest.approx([-0.85783903, 1.1077204, -0.09522747], abs=1e-6)


def written_out(tokens, encoding, document):
    """The definition, part by part, with fastembed's matrices and ties."""
    random = np.random.default_rng(encoding.seed)
    planes = [random.normal(size=(encoding.dim, encoding.bits)) for _ in range(encoding.repetitions)]
    kept = encoding.projected or encoding.dim
    signs = random.choice([-1, 1], size=(encoding.repetitions, encoding.dim, kept)) if kept < encoding.dim else None
    pieces = []
    for r in range(encoding.repetitions):
        codes = ["".join("1" if x > 0 else "0" for x in token @ planes[r]) for token in tokens]
        every = [format(i, f"0{encoding.bits}b")[::-1] for i in range(2**encoding.bits)]
        if encoding.numbering == "gray":
            every = [format(i ^ (i >> 1), f"0{encoding.bits}b") for i in range(2**encoding.bits)]
        for code in every:
            mine = [token for token, c in zip(tokens, codes, strict=True) if c == code]
            if mine:
                centre = np.mean(mine, axis=0) if document else np.sum(mine, axis=0)
            elif document:
                away = [sum(a != b for a, b in zip(code, c, strict=True)) for c in every]
                there = [c in codes for c in every]
                nearest = min((d, i) for i, (d, t) in enumerate(zip(away, there, strict=True)) if t)[1]
                centre = tokens[codes.index(every[nearest])]
            else:
                centre = np.zeros(encoding.dim)
            pieces.append(centre if signs is None else centre @ signs[r] / np.sqrt(kept))
    return np.concatenate(pieces)


@pytest.mark.parametrize("numbering", ["binary", "gray"])
@pytest.mark.parametrize("projected", [None, 3])
@pytest.mark.parametrize("bits", [1, 3])
def test_encodings_are_the_definition(bits, projected, numbering):
    rng = np.random.default_rng(bits)
    vectors = MultiVector(rng.standard_normal((14, 8)), np.array([0, 1, 1, 5, 14]))
    encoding = FixedDimensional(8, bits, projected, 4, 7, numbering)
    documents, queries = encoding.documents(vectors), encoding.queries(vectors)
    assert documents.dtype == np.float32
    for i in (0, 2, 3):
        assert documents[i] == pytest.approx(written_out(vectors[i], encoding, True), abs=1e-5)
        assert queries[i] == pytest.approx(written_out(vectors[i], encoding, False), abs=1e-5)
    assert not documents[1].any()
    assert not queries[1].any()


def test_products_estimate_maxsim():
    """With 20 repetitions the estimates of 60 documents correlate with their MaxSim by more than .8."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((6, 32))
    tokens = centres[rng.integers(0, 6, 600)] + 0.3 * rng.standard_normal((600, 32))
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    documents, query = MultiVector(tokens, np.arange(0, 601, 10)), tokens[rng.integers(0, 600, 8)]
    encoding = FixedDimensional(32, 4, None, 20)
    estimates = encoding.documents(documents) @ encoding.queries(one(query))[0]
    exact = [(query @ documents[i].T).max(1).sum() for i in range(60)]
    assert np.corrcoef(estimates, exact)[0, 1] > 0.8


def test_what_can_not_be_is_refused():
    for options, message in [
        ({"bits": 13}, "bits is 13, expected 0 to 12"),
        ({"projected": 9}, "projected is 9, expected 1 to 8"),
        ({"repetitions": 0}, "repetitions is 0"),
        ({"numbering": "grey"}, "did you mean 'gray'"),
    ]:
        with pytest.raises(UsageError, match=message):
            FixedDimensional(8, **({"projected": None} | options))

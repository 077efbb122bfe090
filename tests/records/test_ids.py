"""Ids as numbers: words compare as bytes do, hashes depend on the string alone, columns join exactly."""

import numpy as np
import pyarrow as pa
import pytest
from cribble.errors import InputError
from cribble.ids import _LONG, hashes, id_column, joined_ids, order_descending, words
from hypothesis import given, settings
from hypothesis import strategies as st

#: Short alphabets make shared prefixes; astral characters sort otherwise in UTF-16 than in UTF-8.
TEXT = st.one_of(
    st.text(st.sampled_from("ab\x00"), max_size=20),
    st.text(st.sampled_from("aé文\uffff😀𝄞"), max_size=12),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.sampled_from(
        ["x" * 7, "x" * 8, "x" * 9, "x" * _LONG, "x" * (_LONG + 1), "x" * (_LONG + 1) + "y", "x" * 300 + "😀"]
    ),
)


def by_bytes(text):
    return text.encode()


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=40))
def test_word_order_is_byte_order(ids):
    table = list(zip(*[word.tolist() for word in words(id_column(ids))], strict=True))
    assert [i for _, i in sorted(zip(table, ids, strict=True))] == sorted(ids, key=by_bytes)
    for left, right in zip(table, ids, strict=True):
        for other, text in zip(table, ids, strict=True):
            assert (left == other) == (right == text)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), TEXT), max_size=40))
def test_order_descending_is_pythons(rows):
    groups, ids = np.array([g for g, _ in rows], np.int64), [i for _, i in rows]
    order = order_descending(id_column(ids), groups)
    expected = sorted(sorted(rows, key=lambda row: row[1].encode(), reverse=True), key=lambda row: row[0])
    assert [rows[i] for i in order] == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=30), st.integers(0, 2**63), st.data())
def test_equal_strings_hash_equally_wherever_they_stand(ids, seed, data):
    alone = {i: int(hashes(id_column([i]), seed)[0]) for i in ids}
    column = id_column(["lead", *ids, "x" * 500, "trail"])
    assert hashes(column, seed)[1:-2].tolist() == [alone[i] for i in ids]
    start = data.draw(st.integers(0, len(ids)))
    assert hashes(column.slice(1 + start), seed)[:-2].tolist() == [alone[i] for i in ids[start:]]
    assert hashes(pa.array(ids, pa.string()), seed).tolist() == [alone[i] for i in ids]
    assert len(set(alone.values())) == len(alone)


def test_a_seed_a_row():
    column, seeds = id_column(["a", "a", "b"]), np.array([1, 2, 1])
    assert hashes(column, seeds).tolist() == [int(hashes(column[i : i + 1], int(seeds[i]))[0]) for i in range(3)]
    assert len(set(hashes(column, seeds).tolist())) == 3


def test_hashes_over_several_blocks():
    ids = [f"document-{i % 70_000}" for i in range(140_000)]
    found = hashes(id_column(ids))
    assert (found[:70_000] == found[70_000:]).all()
    assert len(np.unique(found)) == 70_000


def test_an_id_of_megabytes_costs_no_more_than_its_bytes():
    ids = [f"d{i}" for i in range(50_000)] + ["x" * 5_000_000, "x" * 5_000_000 + "y"]
    column = id_column(ids)
    assert len(np.unique(hashes(column))) == len(ids)
    order = order_descending(column, np.zeros(len(ids), np.int64))
    assert order[:2].tolist() == [50_001, 50_000]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.lists(TEXT, max_size=8), st.integers(0, 3), st.integers(0, 2)), max_size=5))
def test_joined_pieces_are_their_rows(pieces):
    kinds = [pa.string(), pa.large_string(), pa.string_view()]
    arrays = [pa.array(ids, kinds[kind]).slice(skip) for ids, skip, kind in pieces]
    joined = joined_ids(list(arrays))
    joined.validate(full=True)
    assert joined.type == pa.large_string()
    assert joined.to_pylist() == [i for array in arrays for i in array.to_pylist()]


@pytest.mark.parametrize(
    "ids",
    [
        ["a", "é"],
        ("a", "é"),
        (i for i in ["a", "é"]),
        np.array(["a", "é"]),
        np.array(["a", "é"], object),
        pa.array(["a", "é"]),
        pa.array(["x", "a", "é"]).slice(1),
        pa.array(["a", "é"]).dictionary_encode(),
        pa.array(["a", "é"], pa.string_view()),
        pa.chunked_array([["a"], [], ["é"]], pa.string()),
        pa.chunked_array([pa.array(["a", "é"]).dictionary_encode()]),
    ],
    ids=lambda ids: type(ids).__name__,
)
def test_columns_of_any_kind(ids):
    column = id_column(ids)
    assert column.type == pa.large_string()
    assert column.to_pylist() == ["a", "é"]


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        (["a", 7], r"document id 7 is of type int, expected str"),
        (["a", None], r"document id None is of type NoneType"),
        ([b"a"], r"document id b'a' is of type bytes"),
        ([1.5], r"1\.5 is of type float"),
        (np.array([1, 2]), r"1 is of type int"),
        (pa.array(["a", None]), r"document id: row 2 of 2 is null"),
        (pa.array([1, 2]), r"document id: a column of type int64, expected strings"),
        (pa.array([b"a"]), r"a column of type binary, expected strings"),
        (pa.array([1, 2]).dictionary_encode(), r"a column of type dictionary<.*expected strings"),
        (["a", "\ud800"], r"lone surrogate"),
    ],
)
def test_anything_but_strings_is_refused(ids, match):
    with pytest.raises(InputError, match=match):
        id_column(ids, "document id")

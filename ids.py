"""Columns of ids as numbers: 64-bit words and hashes of Arrow strings, a whole column at a time.

Text ids are compared, sorted and looked up by the million; doing so in Python objects costs gigabytes and minutes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .errors import InputError

_MIX = np.uint64(0x9E3779B97F4A7C15)
_MIX2 = np.uint64(0xBF58476D1CE4E5B9)
#: _LOW_BYTES[n] keeps the n lowest bytes of a word.
_LOW_BYTES = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
_BLOCK = 1 << 16
#: Ids with more bytes are handled one by one: a single one of a megabyte would make a column of many megabytes.
_LONG = 256


def id_column(ids: Iterable[str] | pa.Array | pa.ChunkedArray, what: str = "id") -> pa.Array:
    """`ids` as one Arrow `large_string` array; anything but `str` is refused, naming the value."""
    if isinstance(ids, pa.Array | pa.ChunkedArray):
        if ids.null_count:
            row = pc.index(ids.is_null(), True).as_py()
            raise InputError(f"{what}: row {row + 1} of {len(ids)} is null, expected an id")
        kind = ids.type.value_type if pa.types.is_dictionary(ids.type) else ids.type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            raise InputError(f"{what}: a column of type {ids.type}, expected strings: convert ids with cast('string')")
        if isinstance(ids, pa.ChunkedArray):
            return joined_ids(ids.chunks)
        return ids if ids.type == pa.large_string() else ids.cast(pa.large_string())
    values = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    for value in values:
        if not isinstance(value, str):
            raise InputError(
                f"{what} {value!r} is of type {type(value).__name__}, expected str: convert ids with str()"
            )
    try:
        return pa.array(values, pa.large_string())
    except UnicodeEncodeError as error:
        raise InputError(f"{what} {error.object!r} holds a lone surrogate: ids must be valid Unicode") from error


def joined_ids(pieces: list[pa.Array]) -> pa.Array:
    """String arrays without nulls as one `large_string` array. `pieces` is emptied on the way, so that the memory of
    each is free again before the next is copied.
    """
    known = (pa.string(), pa.large_string())
    pieces[:] = [piece if piece.type in known else piece.cast(pa.large_string()) for piece in reversed(pieces)]
    rows = sum(len(piece) for piece in pieces)
    size = sum(int(offsets[-1] - offsets[0]) for offsets in map(_offsets, pieces))
    offsets_buffer, text_buffer = pa.allocate_buffer(8 * (rows + 1)), pa.allocate_buffer(size)
    offsets, text = np.frombuffer(offsets_buffer, np.int64), np.frombuffer(text_buffer, np.uint8)
    row = end = 0
    while pieces:
        piece = pieces.pop()
        own = _offsets(piece)
        first, last = int(own[0]), int(own[-1])
        np.add(own[:-1], end - first, out=offsets[row : row + len(piece)])
        if last > first:
            text[end : end + last - first] = np.frombuffer(piece.buffers()[2], np.uint8)[first:last]
        row, end = row + len(piece), end + last - first
    offsets[row] = end
    return pa.Array.from_buffers(pa.large_string(), rows, [None, offsets_buffer, text_buffer])


def words(ids: pa.Array) -> Iterator[np.ndarray]:
    """The strings of `ids` cut into 8-byte big-endian words, zero-padded: one uint64 array (n,) per word position.

    Comparing the words in order compares the strings by their UTF-8 bytes, as `strcmp` (and so trec_eval) does.
    """
    n = len(ids)
    offsets = _offsets(ids)
    lengths = np.diff(offsets)
    longest = int(lengths.max()) if n else 0
    if not longest:
        yield np.zeros(n, np.uint64)
        return
    first, last = int(offsets[0]), int(offsets[-1])
    padded = np.zeros(last - first + 8, np.uint8)  # so that the last word may be read past the end
    padded[: last - first] = np.frombuffer(ids.buffers()[2], np.uint8)[first:last]
    every_byte = np.ndarray((len(padded) - 7,), "<u8", buffer=padded.data, strides=(1,))
    starts = offsets[:-1] - first
    for position in range(0, longest, 8):
        at = starts if not position else np.minimum(starts + position, len(every_byte) - 1)
        word = every_byte[at]
        word &= _LOW_BYTES[np.clip(lengths - position, 0, 8)]
        yield word.byteswap(inplace=True)
    if not padded[: last - first].all():
        yield lengths.astype(np.uint64)  # with NUL bytes the padding is ambiguous: the shorter one comes first


def _offsets(ids: pa.Array) -> np.ndarray:
    """Where each string starts in the data buffer, and where the last one ends: (n + 1,) int64, or int32 for `string`."""
    if not len(ids):
        return np.zeros(1, np.int64)
    kind = np.int64 if ids.type == pa.large_string() else np.int32
    return np.frombuffer(ids.buffers()[1], kind)[ids.offset : ids.offset + len(ids) + 1]


def hashes(ids: pa.Array, seed: np.ndarray | int = 0) -> np.ndarray:
    """One 64-bit hash (n,) uint64 per string, mixed with `seed` (a number or one per row). Equal strings hash equally."""
    state = np.full(len(ids), seed, np.uint64) if np.isscalar(seed) else np.asarray(seed).astype(np.uint64)
    for start in range(0, len(ids), _BLOCK):  # in blocks, so that what is thrown away stays in the cache
        rows = slice(start, start + _BLOCK)
        column = ids[rows]
        lengths = np.diff(_offsets(column))
        if len(column) and lengths.max() > _LONG:
            column, lengths = _digest_long(column, lengths)
        block = _scramble(state[rows] ^ lengths.astype(np.uint64))
        for position, word in enumerate(words(column)):
            mixed = _scramble(block ^ word)
            # Words beyond a string's end are not mixed in: its hash must not depend on how long its neighbours are.
            block = np.where(lengths > 8 * position, mixed, block) if position else mixed
        state[rows] = block
    return state


def _digest_long(ids: pa.Array, lengths: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """`ids` with a digest in the place of each long one, and their lengths."""
    texts = ids.to_pylist()
    for row in np.flatnonzero(lengths > _LONG).tolist():
        texts[row] = hashlib.blake2b(texts[row].encode(), digest_size=16).hexdigest()
    digested = pa.array(texts, pa.large_string())
    return digested, np.diff(_offsets(digested))


def _scramble(value: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele et al., OOPSLA 2014), in place on a fresh array."""
    value = value + _MIX
    value ^= value >> np.uint64(30)
    value *= _MIX2
    value ^= value >> np.uint64(31)
    return value


def order_descending(ids: pa.Array, groups: np.ndarray) -> np.ndarray:
    """Row order (n,) that sorts by `groups` ascending, then by id descending in byte order."""
    if len(ids) and np.diff(_offsets(ids)).max() > _LONG:
        order = pc.array_sort_indices(ids, order="descending").to_numpy().astype(np.int64)
    else:
        keys = list(words(ids))
        order = np.argsort(
            ~keys[-1]
        )  # nothing was sorted before it, so this first and dearest sort needs not be stable
        for key in reversed(keys[:-1]):
            order = order[np.argsort(~key[order], kind="stable")]
    if len(groups):
        groups = groups - groups.min()
        groups = groups.astype(np.min_scalar_type(int(groups.max())))  # narrow integers are sorted in linear time
    return order[np.argsort(groups[order], kind="stable")]

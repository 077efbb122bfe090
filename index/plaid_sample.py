"""The sample that centroids are learnt from: documents by seed and position, encoded once, kept on the disk until the build
is done. Their folders are made as shards are, each whole or absent, so that a killed build goes on after the last.

tokens.npy (T, d) float16, offsets.npy (n + 1,) int64, digests.npy (n, 16) uint8: which documents these are
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..progress import Advance
from ..records import Document
from .durable import commit_folder, file_table, remove, write_array
from .growing import GrowingArray
from .plaid_options import sample_size
from .row_file import RowFile
from .shards import cut, feed, numbered, shard_entry, standing
from .token_encoding import TokenEncoding, as_tokens

TOKENS, OFFSETS, DIGESTS = "tokens.npy", "offsets.npy", "digests.npy"

#: Documents that are encoded at a time.
ENCODED_AT_ONCE = 256

#: Tokens of a block.
_BLOCK = 1 << 16


def chosen_rows(documents: int, seed: int) -> np.ndarray:
    """The rows of the sample (m,) int64, ascending."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(documents, sample_size(documents), replace=False))


def digest_of(document: Document, corpus: str) -> bytes:
    """What tells a document from all others: 16 bytes of the SHA-256 of its id, text, title and metadata."""
    digest = hashlib.sha256()
    feed(digest, [document], corpus)
    return digest.digest()[:16]


def take_sample(
    home: Path,
    documents: Iterable[Document],
    limit: int,
    rows: np.ndarray,
    encoding: TokenEncoding,
    corpus: str,
    advance: Advance,
) -> str:
    """Encode the documents at `rows`, a folder in `home` for each `limit` documents of the corpus; those that stand stay.

    Returns the fingerprint of all documents. Raises `InputError` where a folder that stands is of other documents.
    """
    digest = hashlib.sha256()
    first = 0
    for number, shard in enumerate(cut(documents, limit)):
        feed(digest, shard, corpus)
        own = rows[slice(*np.searchsorted(rows, [first, first + len(shard)]))] - first
        first += len(shard)
        folder = numbered(home, number)
        entry = standing(folder)
        if entry is None:
            _make(folder, [shard[row] for row in own], digest.hexdigest(), encoding, corpus, advance)
        elif entry["fingerprint"] != digest.hexdigest() or entry["documents"] != len(own):
            raise InputError(
                f"{home}: the corpus {corpus} is not the one that was read before the interruption: restore it, or build "
                f"with overwrite"
            )
        else:
            advance(len(own))
        del shard
    return digest.hexdigest()


def _make(
    final: Path,
    documents: list[Document],
    fingerprint: str,
    encoding: TokenEncoding,
    corpus: str,
    advance: Advance,
) -> None:
    aside = final.with_name(f"{final.name}.tmp")
    aside.mkdir()
    try:
        before, zero = encoding.cut_texts(), 0
        sizes = [np.zeros(1, np.int64)]
        with GrowingArray(aside / TOKENS, np.float16, (encoding.dim,)) as tokens:
            for start in range(0, len(documents), ENCODED_AT_ONCE):
                batch = documents[start : start + ENCODED_AT_ONCE]
                found = encoding.tokens(batch)
                tokens.append(found.halves)
                sizes.append(found.sizes)
                zero += found.zero
                advance(len(batch))
        offsets = np.cumsum(np.concatenate(sizes))
        write_array(aside / OFFSETS, [offsets], len(offsets), (), np.int64)
        digests = np.frombuffer(b"".join(digest_of(d, corpus) for d in documents), np.uint8).reshape(-1, 16)
        write_array(aside / DIGESTS, [digests], len(digests), (16,), np.uint8)
        counts = {"truncated_texts": encoding.cut_texts() - before, "zero_tokens": zero}
        entry = {"documents": len(documents), "fingerprint": fingerprint, "counts": counts, "files": file_table(aside)}
        (aside / "shard.json").write_text(json.dumps(entry, indent=1, sort_keys=True) + "\n")
        commit_folder(aside, final)
    except BaseException:
        remove(aside)
        raise


class Sample:
    """The documents in the folders of `home` that have any, of tokens of `dim` dimensions."""

    def __init__(self, home: Path, dim: int) -> None:
        self.dim = dim
        self._folders = [f for f in sorted(home.iterdir()) if f.is_dir() and shard_entry(f)["documents"]]
        self._files = [RowFile(folder / TOKENS) for folder in self._folders]
        self._offsets = [np.load(folder / OFFSETS) for folder in self._folders]
        self._places: dict[bytes, tuple[int, int]] = {}
        self._counts: dict[bytes, dict[str, int]] = {}
        for number, folder in enumerate(self._folders):
            digests = np.load(folder / DIGESTS).tobytes()
            own = [digests[at : at + 16] for at in range(0, len(digests), 16)]
            self._places |= {digest: (number, row) for row, digest in enumerate(own)}
            self._counts[own[0]] = shard_entry(folder)["counts"]

    @property
    def documents(self) -> int:
        """Documents of the sample."""
        return sum(len(offsets) - 1 for offsets in self._offsets)

    @property
    def tokens(self) -> int:
        """Their tokens."""
        return sum(int(offsets[-1]) for offsets in self._offsets)

    def blocks(self) -> Iterator[np.ndarray]:
        """All tokens (t, d) float32 of unit length, in blocks."""
        for file in self._files:
            for first in range(0, len(file), _BLOCK):
                yield as_tokens(file.read(first, min(first + _BLOCK, len(file))))

    def of(self, digest: bytes) -> np.ndarray | None:
        """The tokens (t, d) float16 of the document that `digest_of` tells from the others, if it is in the sample."""
        place = self._places.get(digest)
        if place is None:
            return None
        number, row = place
        return self._files[number].read(*self._offsets[number][row : row + 2].tolist())

    def counts(self, digest: bytes) -> dict[str, int]:
        """What was counted as a folder was made whose first document this is."""
        return self._counts.get(digest, {})

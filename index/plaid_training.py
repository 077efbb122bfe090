"""The first pass of a PLAID build: a sample is encoded, and centroids, cut-offs and weights are learnt from it.

training/sample/00000/     the sample (plaid_sample.py)
training/codec/            what was learnt; once it stands, the pass is over

A folder that is damaged is made again. The build removes all of it when the index stands.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..progress import progress
from ..records import Document
from .durable import commit_folder, file_table, remove
from .plaid_files import CODEC_FILES, write_codec
from .plaid_options import centroid_count, held_out
from .plaid_sample import Sample, chosen_rows, take_sample
from .residual_buckets import BUCKETS
from .residual_codec import ResidualCodec, read_centroids, rounded_centroids
from .shards import feed, standing
from .token_clusters import NearestCentroids
from .token_encoding import TokenEncoding
from .token_kmeans import token_centroids

logger = logging.getLogger("cribble")

SAMPLE, CODEC = "sample", "codec"

#: Samples of no more numbers than this are held in memory while centroids are learnt: 256 MB.
_HELD_NUMBERS = 1 << 26

#: Of a sample with more tokens a centroid so many are learnt from, by seed (FAISS, which Stanford's calls, takes 256).
_LEARNT_TOKENS = 96


def trained(folder: Path, documents: Iterable[Document], corpus: str, limit: int, encoding: TokenEncoding) -> str:
    """Make `training/codec` and `training/sample` in `folder`, or what is missing of them. Returns the corpus' fingerprint.

    `documents` are gone over anew for each pass. Raises `InputError` for a corpus that changed since the build began.
    """
    folder.mkdir(exist_ok=True)
    home = folder / SAMPLE
    home.mkdir(exist_ok=True)
    for aside in [*folder.glob("*.tmp"), *home.glob("*.tmp")]:
        remove(aside)
    if (made := standing(folder / CODEC)) is not None:
        for part in sorted(home.iterdir()):
            standing(part)  # a damaged one goes: its documents are encoded with the others
        return str(made["fingerprint"])
    count, fingerprint = _counted(documents, corpus)
    options = encoding.options
    rows = chosen_rows(count, options["seed"])
    with progress(f"sample of {folder.parent.name}", len(rows), "docs") as advance:
        seen = take_sample(home, documents, limit, rows, encoding, corpus, advance)
    if seen != fingerprint:
        raise InputError(
            f"{folder.parent}: the corpus {corpus} changed while its sample was taken: build with overwrite"
        )
    sample = Sample(home, encoding.dim)
    codec = learnt(sample, count * sample.tokens / max(1, sample.documents), options, folder.parent.name)
    _write_codec(folder, codec, fingerprint)
    return fingerprint


def learnt(sample: Sample, tokens: float, options: Mapping[str, Any], name: str) -> ResidualCodec:
    """The codec for an index of about `tokens` tokens, from its sample. `name` is for the progress bar."""
    rng = np.random.default_rng(options["seed"])
    apart = np.zeros(sample.tokens, bool)
    apart[rng.choice(sample.tokens, held_out(sample.tokens), replace=False)] = True
    count = options["centroids"] or centroid_count(tokens)
    learnt_from = ~apart
    if (spare := int(learnt_from.sum()) - _LEARNT_TOKENS * count) > 0:
        learnt_from[rng.choice(np.flatnonzero(learnt_from), spare, replace=False)] = False
    learning = int(learnt_from.sum())
    if learning < count:
        logger.info("%s: %d tokens to learn from, so there are no more centroids than these", name, learning)
    if not learning:
        return _of_nothing(sample.dim, options["bits"])
    small = sample.tokens * sample.dim <= _HELD_NUMBERS
    held = [block[part] for block, part in _parted(sample, learnt_from)] if small else None

    def blocks() -> Iterable[np.ndarray]:
        return held if held is not None else (block[part] for block, part in _parted(sample, learnt_from))

    iterations = options["kmeans_iterations"]
    with progress(f"centroids of {name}", learning * iterations, "tokens") as advance:
        found = token_centroids(blocks, learning, sample.dim, count, iterations, options["seed"], advance)
    # a sample too small to hold any out is measured itself
    measured = np.concatenate([block[part] if apart.any() else block for block, part in _parted(sample, apart)])
    nearest = NearestCentroids(found).of(measured)
    # tokens lie as far along their centroid as their cosine: with centroids of that length less of them is left over
    length = np.einsum("td,td->t", measured, found[nearest]).mean()
    centroids = read_centroids(*rounded_centroids(found * np.float32(length)))
    cutoffs, weights = BUCKETS[options["buckets"]](measured - centroids[nearest], options["bits"])
    return ResidualCodec(centroids, cutoffs, weights, options["bits"])


def _parted(sample: Sample, apart: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The sample's blocks, each with the part of `apart` that is of its tokens."""
    first = 0
    for block in sample.blocks():
        yield block, apart[first : first + len(block)]
        first += len(block)


def _of_nothing(dim: int, bits: int) -> ResidualCodec:
    """The codec of documents without tokens."""
    return ResidualCodec(
        np.zeros((1, dim), np.float32), np.zeros(2**bits - 1, np.float32), np.zeros(2**bits, np.float32), bits
    )


def codec_digest(folder: Path) -> str:
    """What tells the codec in `folder` from all others."""
    digest = hashlib.sha256()
    for name in CODEC_FILES:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _write_codec(folder: Path, codec: ResidualCodec, fingerprint: str) -> None:
    aside = folder / f"{CODEC}.tmp"
    aside.mkdir()
    write_codec(aside, codec)
    (aside / "shard.json").write_text(
        json.dumps({"fingerprint": fingerprint, "files": file_table(aside)}, indent=1) + "\n"
    )
    commit_folder(aside, folder / CODEC)


def _counted(documents: Iterable[Document], corpus: str) -> tuple[int, str]:
    digest = hashlib.sha256()
    count = 0
    with progress(f"count {corpus}", None, "docs") as advance:
        for document in documents:
            feed(digest, [document], corpus)
            count += 1
            advance()
    return count, digest.hexdigest()

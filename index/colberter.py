"""ColBERTer: a vector a document and a bag of word vectors, either of which proposes and both of which decide.

After Hofstätter et al. (CIKM 2022), §4.3: their workflows CLS → BOW, BOW → CLS and hybrid.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from ..errors import InputError, UsageError, suggest
from ..records import Document, Ranking
from ..registry import register
from ..vectors import BagVectors, EncoderSpec, MultiVector
from .best import sort_descending
from .build import build_index
from .colberter_files import STORAGE, Shards
from .colberter_options import LEAST_CANDIDATES, check_search
from .colberter_parts import Part
from .colberter_postings import Postings
from .colberter_writer import LARGEST, ColberterWriter
from .filtering import selected_rows
from .id_ranks import open_ranks
from .manifest import Manifest, Plan
from .of_encoder import OfEncoder
from .texts import TextStore
from .token_search import best_of

logger = logging.getLogger("cribble")

#: Scores of one batch of queries, 4 bytes each.
_SCORES = 1 << 24

_NO_ROWS = np.zeros(0, np.int64)


class _Query(NamedTuple):
    """One query's vector (1, c), word vectors (t, d) and word ids (t,); of exact matches also all documents' scores by words,
    and which share a word."""

    cls: np.ndarray
    tokens: np.ndarray
    by_words: tuple[np.ndarray, np.ndarray] | None


@register("colberter")
class ColberterIndex(OfEncoder):
    """A vector and a bag of word vectors per document (ColBERTer), searched through either part or both.

    A score is m · cls + (1 - m) · bow, with m the encoder's learned mix: `cls` the inner product of the single vectors,
    `bow` the sum over a query's words of their greatest inner product with a word of the document, with the same word only
    where the encoder matches exactly. A document without word vectors has 0 for `bow`, as a query word has that no word of
    a document may match; upstream gives its padding's -1000 a query word to the former when vectors are stored, and 0 when
    it scores pairs.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self.texts = TextStore(path, manifest)
        self.widths, self.exact_match, self.mix = bag_facts(manifest.encoder)
        self.score_kind = "dot"
        shards = Shards(manifest.shard_folders(path), manifest.options["storage"], self.exact_match)
        starts = np.concatenate([[0], np.cumsum(manifest.shards)]).astype(np.int64)
        whole = manifest.whole_folder(path)
        self._ranks = open_ranks(whole)
        largest = np.load(whole / LARGEST)
        self._cls = Part(shards, "cls", starts, float(largest[0]), self._ranks)
        self._bags = Part(shards, "bags", starts, float(largest[1]), self._ranks)
        self._postings = Postings(whole, shards, starts) if self.exact_match else None

    @classmethod
    def build(
        cls,
        path: str | Path,
        documents: Iterable[Document],
        encode: Callable[[list[Document]], BagVectors],
        *,
        spec: EncoderSpec,
        corpus: str,
        total: int | None = None,
        shard_documents: int = 4096,
        storage: str = "float16",
        truncated: Callable[[], int] | None = None,
        overwrite: bool = False,
    ) -> Self:
        """Encode `documents` into the folder `path`, or go on with a build that was interrupted there (see build.py).

        `spec` is the identity of `encode`, whose `extra` has `cls_dim`, `exact_match` and `mix`. `storage` is float32,
        float16 or int8 (a scale a vector). `truncated` returns the encoder's running count of cut texts. Memory holds a
        shard's texts and the vectors of 256 documents.
        Errors: those of `build_index`; `InputError` for vectors that do not fit; `UsageError` for an unknown storage.
        """
        if storage not in STORAGE:
            raise UsageError(f"colberter index: storage {storage!r} is unknown: {suggest(storage, STORAGE)}")
        widths, exact_match, _ = bag_facts(spec)
        writer = ColberterWriter(encode, widths, storage, exact_match, truncated)
        plan = Plan(cls.registered_name, corpus, shard_documents, {"storage": storage}, spec)
        manifest = build_index(path, documents, writer, plan, total=total, overwrite=overwrite)
        if empty := manifest.counts["without_words"]:
            logger.warning("%s: %d documents have no word vectors: only their single vectors find them", path, empty)
        return cls.open(path, verify=False)

    @classmethod
    def change_writer(
        cls,
        manifest: Manifest,
        encode: Callable[[list[Document]], BagVectors],
        truncated: Callable[[], int] | None = None,
    ) -> ColberterWriter:
        """What adds to, deletes from and compacts the index of this `manifest` (changes.py)."""
        widths, exact_match, _ = bag_facts(manifest.encoder)
        return ColberterWriter(encode, widths, manifest.options["storage"], exact_match, truncated)

    def search(
        self,
        queries: BagVectors,
        k: int,
        *,
        allow: Collection[str] | None = None,
        deny: Collection[str] | None = None,
        where: str | None = None,
        mode: str = "hybrid",
        candidates: int | None = None,
    ) -> list[Ranking]:
        """Per query the best `k` documents: ids (m,) str objects and scores (m,) float64, best first, m <= k.

        `mode` says what proposes: the single vectors (cls-bow), the bags (bow-cls) or both (hybrid), each the exact best
        `candidates` by it (2 · k, at least 1,000), never fewer than k; they are ranked by both parts. `cls` and `bow` rank
        by that part alone, unweighted. Bags propose documents with word vectors only, and where matches are exact only
        those that share a word. Equal scores order by document id descending. `allow`, `deny` and `where` limit the
        search, see `filtering.selected_rows`.
        """
        self._check(queries, k, mode, candidates)
        wanted = k if mode in ("cls", "bow") else max(k, candidates or max(LEAST_CANDIDATES, 2 * k))
        mask = selected_rows(self.texts, allow=allow, deny=deny, where=where)
        selection = None if mask is None else np.flatnonzero(mask)
        available = len(self._cls.filled) if selection is None else len(selection)
        found: list[Ranking] = []
        step = max(1, _SCORES // max(1, available))
        for first in range(0, len(queries), step):
            found += self._found(queries[first : first + step], k, mode, wanted, selection)
        if short := sum(len(ranking.ids) < min(k, available) for ranking in found):
            logger.warning(
                "%s: %d of %d queries were proposed fewer than %d documents by mode %s: another mode proposes more",
                self.path, short, len(found), min(k, available), mode,
            )  # fmt: skip
        return found

    def _check(self, queries: BagVectors, k: int, mode: str, candidates: int | None) -> None:
        if k < 1:
            raise UsageError(f"k is {k}, expected at least 1")
        check_search(mode, candidates)
        widths = queries.cls.shape[1], queries.bags.tokens.shape[1]
        if len(queries) and widths != self.widths:
            raise InputError(
                f"{self.path}: query vectors have {widths[0]} and {widths[1]} dimensions, the index {self.widths[0]} and "
                f"{self.widths[1]}: use its encoder"
            )
        if not (np.isfinite(queries.cls).all() and np.isfinite(queries.bags.tokens).all()):
            raise InputError(f"{self.path}: a query's vectors hold NaN or infinity: check the model's dtype")

    def _found(
        self, queries: BagVectors, k: int, mode: str, wanted: int, selection: np.ndarray | None
    ) -> list[Ranking]:
        each = [self._query(queries, i, mode) for i in range(len(queries))]
        proposed = [_NO_ROWS] * len(each)
        if mode != "bow" and mode != "bow-cls":
            single = MultiVector(np.ascontiguousarray(queries.cls, np.float32), np.arange(len(queries) + 1))
            proposed = self._cls.best(single, wanted, selection)
        if mode != "cls" and mode != "cls-bow":
            by_bags = self._by_bags(queries, each, wanted, selection)
            proposed = [np.union1d(*pair) for pair in zip(proposed, by_bags, strict=True)]
        return [self._ranked(query, rows, k, mode) for query, rows in zip(each, proposed, strict=True)]

    def _query(self, queries: BagVectors, i: int, mode: str) -> _Query:
        tokens = np.ascontiguousarray(queries.bags[i], np.float32)
        span = slice(queries.bags.offsets[i], queries.bags.offsets[i + 1])
        by_words = self._postings.scores(tokens, queries.words[span]) if self._postings and mode != "cls" else None
        return _Query(np.ascontiguousarray(queries.cls[i : i + 1], np.float32), tokens, by_words)

    def _by_bags(
        self, queries: BagVectors, each: list[_Query], wanted: int, selection: np.ndarray | None
    ) -> list[np.ndarray]:
        """Per query the rows of the best `wanted` by words, ascending."""
        if self._postings is None:
            bags = MultiVector(np.ascontiguousarray(queries.bags.tokens, np.float32), queries.bags.offsets)
            return self._bags.best(bags, wanted, selection)
        found = []
        for scores, shared in (query.by_words for query in each if query.by_words):
            rows = np.flatnonzero(shared) if selection is None else selection[shared[selection]]
            best, values = np.empty(min(wanted, len(rows)), np.int64), np.empty(min(wanted, len(rows)))
            sort_descending(rows, scores[rows], self._ranks, best, values)
            found.append(np.sort(best))
        return found

    def _ranked(self, query: _Query, rows: np.ndarray, k: int, mode: str) -> Ranking:
        """The best `k` of `rows` (m,), ascending, by what `mode` ranks by."""
        bow = cls = np.zeros(len(rows))
        if mode != "bow":
            cls = self._cls.scores(query.cls, rows)
        if mode != "cls":
            bow = query.by_words[0][rows] if query.by_words else self._bags.scores(query.tokens, rows)
        values = cls if mode == "cls" else bow if mode == "bow" else self.mix * cls + (1 - self.mix) * bow
        return best_of(self.texts, self._ranks, rows, values, k)


def bag_facts(spec: EncoderSpec | None) -> tuple[tuple[int, int], bool, float]:
    """Dimensions of [CLS] and word vectors, whether only equal words match, and the mix, of an encoder's `spec`."""
    extra: dict[str, Any] = spec.extra if spec else {}
    if spec is None or not {"cls_dim", "exact_match", "mix"} <= extra.keys() or spec.dim < 1:
        raise InputError(
            f"colberter index: the encoder spec of {spec.model if spec else None!r} lacks dim, or cls_dim, exact_match or mix "
            f"in extra: expected that of a ColBERTer encoder"
        )
    return (int(extra["cls_dim"]), spec.dim), bool(extra["exact_match"]), float(extra["mix"])

"""PLAID: token vectors as centroids and a few bits a dimension, searched in stages (Santhanam et al. 2022)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from ..records import Document, Ranking
from ..registry import register
from ..vectors import EncoderSpec, MultiVector
from .build import build_index
from .id_ranks import open_ranks
from .manifest import Manifest
from .multivector import MultivectorIndex, warn_of_empty
from .of_encoder import OfEncoder
from .plaid_files import PlaidShard, Postings, open_codec
from .plaid_parameters import Probing, Stages, checked_parameters
from .plaid_stages import staged
from .plaid_tokens import PlaidTokens
from .plaid_warp import estimated
from .plaid_writer import PlaidWriter, plaid_plan
from .texts import TextStore
from .token_search import NO_RANKING, best_of, checked_queries, findable_rows, share_found

logger = logging.getLogger("cribble")


class _Search(NamedTuple):
    """What is done with each query, whatever the others are: in which mode, its parameters, the rows that may be found."""

    mode: str
    parameters: Stages | Probing | None
    findable: np.ndarray | None


@register("plaid")
class PlaidIndex(OfEncoder):
    """Token vectors as the number of a centroid and b bits a dimension, found by centroids, scored by MaxSim.

    A score is the sum over a query's tokens of their best match among the decoded tokens of a document (`mean`: divided by
    their number); equal scores order by document id descending, also where a stage cuts. A document without token vectors
    is not found, and a query without any finds nothing. What a query finds depends on no other query or search.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self.texts = TextStore(path, manifest)
        self.dim = manifest.encoder.dim if manifest.encoder else 0
        self.mean: bool = manifest.options["mean"]
        self.score_kind = "maxsim"
        whole = manifest.whole_folder(path)
        shards = [PlaidShard.open(folder) for folder in manifest.shard_folders(path)]
        self.tokens = PlaidTokens(shards, open_codec(whole, manifest.options["bits"]))
        self.postings = Postings.open(whole)
        self._ranks = open_ranks(whole)

    @classmethod
    def build(
        cls,
        path: str | Path,
        documents: Iterable[Document],
        encode: Callable[[list[Document]], MultiVector],
        *,
        spec: EncoderSpec,
        corpus: str,
        total: int | None = None,
        shard_documents: int = 4096,
        truncated: Callable[[], int] | None = None,
        overwrite: bool = False,
        **options: Any,
    ) -> Self:
        """Encode `documents` into the folder `path`, or go on with a build that was interrupted there (see build.py).

        They are gone through twice: a sample is encoded and `centroids` are learnt from it (None: the power of two up to
        16 · √tokens) in `kmeans_iterations` (4) by `seed` (42); then all are encoded, the sample not again, and kept as
        `bits` (2) a dimension beside a centroid's number, in `buckets` of least-squares (the default) or, as Stanford's, of
        quantiles. `similarity`, `mean`, `pool_factor`, `pool` and `truncated` are as of `MultivectorIndex.build`; only
        directions are kept, so the similarity has to be cosine.
        Errors: those of `build_index`; `InputError` for vectors that do not fit; `UsageError` for a bad option, and for
        documents that can be gone through only once.
        """
        plan = plaid_plan(cls.registered_name, corpus, spec, shard_documents, **options)
        writer = PlaidWriter(encode, spec.dim, plan.options, truncated)
        warn_of_empty(path, build_index(path, documents, writer, plan, total=total, overwrite=overwrite))
        return cls.open(path, verify=False)

    @classmethod
    def change_writer(
        cls,
        manifest: Manifest,
        encode: Callable[[list[Document]], MultiVector],
        truncated: Callable[[], int] | None = None,
    ) -> PlaidWriter:
        """What adds to, deletes from and compacts the index of this `manifest` (changes.py)."""
        dim = manifest.encoder.dim if manifest.encoder else 0
        return PlaidWriter(encode, dim, manifest.options, truncated)

    def search(
        self,
        queries: MultiVector,
        k: int,
        *,
        allow: Collection[str] | None = None,
        deny: Collection[str] | None = None,
        where: str | None = None,
        mode: str | None = None,
        **parameters: Any,
    ) -> list[Ranking]:
        """Per query the best `k` documents: ids (m,) str objects and scores (m,) float64, best first, m <= k.

        `mode` plaid (the default) goes by the stages of plaid_stages.py, with `ncells`, `threshold` and `ndocs` (by k: 4,
        0.5, 512 up to 10; 8, 0.45, 2048 up to 100; else 8, 0.4, 8 · k and at least 4096). It scores max(k, ndocs / 4)
        documents, so that the best for two k are prefixes of each other where all three are given and ndocs is at least
        four times either k. `warp` adds up matches of the tokens of `nprobe` centroids (32) a query token and estimates
        what is missing with `t_prime` (plaid_warp.py). `exhaustive` scores all documents.

        Fewer than k documents are found only where no more are candidates, which is counted in a warning; `ncells` that
        are not given are doubled for a query until k are. `allow`, `deny` and `where` limit the search
        (`filtering.selected_rows`): where they leave no more than would be candidates without them, all are candidates.
        Raises `UsageError` for a parameter of another mode, or a bad value.
        """
        queries = checked_queries(self.path, queries, k, self.dim, "cosine")
        search = self._planned(
            mode or "plaid", parameters, k, findable_rows(self.texts, self.tokens.filled, allow, deny, where)
        )
        found = [self._found(queries[i], k, search) for i in range(len(queries))]
        self._warn_of_few(queries, found, k, search)
        return found

    def recall(self, queries: MultiVector, k: int, exact: MultivectorIndex | None = None, **parameters: Any) -> float:
        """The share of the exact best `k` documents that a search with these parameters finds, over all `queries`.

        `exact` is an index of the same documents that says which these are; without it an exhaustive search of this index
        does, so that only what the stages lose counts, and not what the codec does.
        """
        truth = self.search(queries, k, mode="exhaustive") if exact is None else exact.search(queries, k)
        return share_found(truth, self.search(queries, k, **parameters))

    def vectors(self, rows: np.ndarray) -> MultiVector:
        """The decoded token vectors, as scores see them, of the documents in `rows` (n,), ascending."""
        return self.tokens.vectors(np.asarray(rows, np.int64))

    def _planned(self, mode: str, parameters: dict[str, Any], k: int, findable: np.ndarray | None) -> _Search:
        given = checked_parameters(mode, parameters)
        if mode == "plaid":
            return _Search(mode, Stages.of(given, k), findable)
        if mode == "warp":
            sizes = self.postings.sizes
            return _Search(mode, Probing.of(given, int(sizes.sum(dtype=np.int64)), len(sizes)), findable)
        return _Search(mode, None, findable)

    def _found(self, query: np.ndarray, k: int, search: _Search) -> Ranking:
        if not len(query):
            return NO_RANKING
        if isinstance(search.parameters, Stages):
            rows, values = staged(query, self.tokens, self.postings, self._ranks, search.parameters, search.findable)
        elif isinstance(search.parameters, Probing):
            rows, values = estimated(query, self.tokens, self.postings, search.parameters, search.findable)
        else:
            rows = np.arange(len(self.tokens.filled)) if search.findable is None else search.findable
            values = self.tokens.maxsim(query, rows)
        if self.mean:
            values = values / len(query)
        return best_of(self.texts, self._ranks, rows, values, k)

    def _warn_of_few(self, queries: MultiVector, found: list[Ranking], k: int, search: _Search) -> None:
        available = len(self.tokens.filled) if search.findable is None else len(search.findable)
        wanted, sizes = min(k, available), np.diff(queries.offsets)
        if short := sum(len(ranking.ids) < wanted and size > 0 for ranking, size in zip(found, sizes, strict=True)):
            logger.warning(
                "%s: %d of %d queries had fewer than %d candidates: search with larger %s",
                self.path, short, len(found), wanted, "nprobe" if search.mode == "warp" else "ncells",
            )  # fmt: skip

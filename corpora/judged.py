"""Which queries of a collection count: those that its judgements name."""

from __future__ import annotations

import logging
from pathlib import Path

from ..errors import InputError
from ..records import Qrels, Query

logger = logging.getLogger("cribble")


def judged_only(queries: list[Query], qrels: Qrels | None, source: str | Path, split: str = "") -> list[Query]:
    """The queries that `qrels` judges, as BEIR and trec_eval count them; without judgements, all.

    Left-out queries are counted at INFO; judged queries whose text is missing at WARNING, as they can only score 0. No
    judged query at all is an `InputError`: the two files belong to different collections.
    """
    if qrels is None:
        return queries
    kept = [query for query in queries if query.id in qrels]
    judged_in = split or qrels.name
    if len(kept) < len(queries):
        left_out = len(queries) - len(kept)
        logger.info("%s: %d of %d queries have no judgement in %s: left out", source, left_out, len(queries), judged_in)
    missing = len(qrels) - len(kept)
    if missing:
        known = {query.id for query in kept}
        example = next(query_id for query_id in qrels if query_id not in known)
        form = "%s: %d of the %d queries judged in %s are not in it (%r is the first); they score 0"
        logger.warning(form, source, missing, len(qrels), judged_in, example)
    if not kept:
        expected = f"{qrels.query_ids[0]!r}" if len(qrels) else "nothing"
        has = f"{queries[0].id!r}" if queries else "nothing"
        raise InputError(
            f"{source}: none of its {len(queries)} queries is judged in {judged_in}: ids like {has} here, "
            f"like {expected} there"
        )
    return kept

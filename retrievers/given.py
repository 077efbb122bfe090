"""Candidates that someone else retrieved: a run file, or the run that comes with a dataset."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import InputError
from ..records import Query, Run
from ..registry import register
from ..run_files import read_run
from ..stage import Retriever

logger = logging.getLogger("cribble")


@register("given")
@dataclass
class Given(Retriever):
    """The best `k` rows of the run file `run` for each query; a query that the file lacks gets none and is counted later."""

    run: str | Path
    k: int = 1000

    @cached_property
    def candidates(self) -> Run:
        return read_run(self.run)

    @property
    def label(self) -> str:
        return Path(self.run).name

    def artifacts(self) -> dict[str, str]:
        import hashlib

        path = Path(self.run)
        return {"run": hashlib.sha256(path.read_bytes()).hexdigest()} if path.exists() else {}

    def begin(self, queries: list[Query]) -> None:
        asked = {query.id for query in queries}
        others = [query_id for query_id in self.candidates if query_id not in asked]
        if others and len(others) < len(self.candidates):  # none in common is an error of `retrieve`
            logger.warning(
                "%s: %d of its %d queries are not among the %d asked and are left out (%r is the first)",
                self.run,
                len(others),
                len(self.candidates),
                len(asked),
                others[0],
            )

    def retrieve(self, queries: list[Query], k: int) -> Run:
        wanted = [query.id for query in queries]
        if wanted and not any(query_id in self.candidates for query_id in wanted):
            raise InputError(
                f"{self.run} has none of the {len(wanted)} queries (it has {self.candidates.query_ids[:3]}, asked for "
                f"{wanted[:3]}): is it a run of this dataset?"
            )
        return self.candidates.select(wanted).top(k)

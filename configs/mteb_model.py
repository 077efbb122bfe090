"""A config's system as a model for mteb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..corpora.dataset import Dataset
from ..errors import UsageError, suggest
from ..eval.mteb_adapter import MtebSearch
from ..registry import find
from ..rerankers.candidates import TextReranker
from ..stage import Stage
from .building import build_pipeline, check_stages, stage_names
from .schema import load_config


def mteb_model(
    system: str | Path | Sequence[Mapping[str, Any]],
    name: str = "cribble/pipeline",
    *,
    indexes: str | Path = "indexes",
    facts: Mapping[str, Any] | None = None,
) -> MtebSearch:
    """A pipeline for `mteb.evaluate`: a list of stages such as `[{"use": "bm25"}]`, or `CONFIG[:SYSTEM]`, a config and which
    of its systems. Indexes are built in `indexes`, one a corpus, and used again. A reranker alone ranks the candidates of reranking tasks.
    """
    stages = _stages(str(system)) if isinstance(system, str | Path) else list(system)
    alone = len(stages) == 1 and stage_names().get(str(stages[0].get("use"))) == "rerankers"
    if not alone:
        check_stages(stages)

    def build(dataset: Dataset) -> Stage:
        if not alone:
            return build_pipeline(stages, dataset, Path(indexes), {})
        options = dict(stages[0])
        cls: type[TextReranker] = find("rerankers", options.pop("use"))
        return cls(**options)

    return MtebSearch(build, name, facts=facts)


def _stages(where: str) -> list[dict[str, Any]]:
    config, _, system = where.partition(":")
    loaded = load_config(config)
    system = system or next(iter(loaded.pipeline))
    if system not in loaded.pipeline:
        raise UsageError(f"{config} has no system {system!r}: {suggest(system, loaded.pipeline)}")
    return loaded.pipeline[system]

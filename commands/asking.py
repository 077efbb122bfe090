"""Questions: search, and list."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..corpora import list_datasets
from ..envelope import Answer, Table
from ..errors import UsageError, suggest
from ..registry import entries
from ..stage import Stage

if TYPE_CHECKING:
    pass

logger = logging.getLogger("cribble")

#: What can be listed; those with a room list what is registered there.
_ROOMS = {
    "retrievers": "retrievers",
    "indexes": "index",
    "rerankers": "rerankers",
    "strategies": "rerankers/strategies",
    "judges": "rerankers/judges",
    "backends": "models/backends",
    "measures": "eval/measures",
    "graders": "eval/judging",
}
LISTS = ("datasets", *_ROOMS, "templates", "models", "fusions", "configs", "suites")


def search_text(
    where: str, text: str, k: int, options: dict[str, Any], retriever: str | None = None, *, explain: bool = False
) -> Answer:
    """The best `k` documents for `text`, from an index folder (see `over_index`) or a config's (first) pipeline; to
    `explain` shows what matched, of late interaction."""
    if not text.strip():
        raise UsageError("the text to search for is empty")
    if k < 1:
        raise UsageError(f"--k {k}: expected at least 1")
    pipeline: Stage
    if Path(where).is_dir():
        from ..configs.building import over_index

        pipeline = over_index(where, retriever, options)
    else:
        from ..configs.experiment import first_pipeline
        from ..configs.schema import load_config, preset_names

        if where not in preset_names() and not Path(where).exists():
            raise UsageError(
                f"{where!r} is neither the folder of an index, nor a config's file, nor a shipped config: "
                f"{suggest(where, preset_names())}"
            )
        if options or retriever:
            raise UsageError("--set and --retriever are for an index; change a config's stages in the file")
        pipeline = first_pipeline(load_config(where))
    if explain:
        from .explaining import explained, explaining_stage, hit_lines

        stage = explaining_stage(pipeline)
    hits = pipeline.search(text, k)
    results: list[dict[str, Any]] = [
        {
            "rank": hit.rank,
            "id": hit.document.id,
            "score": hit.score,
            "title": hit.document.title,
            "text": hit.document.text,
        }
        for hit in hits
    ]
    if explain:
        explanations = explained(stage, text, hits)
        for result, explanation in zip(results, explanations, strict=True):
            result["explanation"] = None if explanation is None else explanation.to_dict()
        return Answer(results, [], hit_lines(hits, explanations) or ["nothing found"])
    rows = [[str(hit.rank), f"{hit.score:.4f}", hit.document.id, snippet(hit.document.full_text, text)] for hit in hits]
    return Answer(results, [Table(["rank", "score", "document", "text"], rows)], [] if hits else ["nothing found"])


def snippet(text: str, query: str, width: int = 160) -> str:
    """About `width` characters of `text` around the place with the most words of `query`."""
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    words = [word for word in query.lower().split() if len(word) > 2]
    lower = text.lower()
    found = sorted(at for word in words for at in [lower.find(word)] if at >= 0)
    best = max(found, key=lambda at: sum(at <= other < at + width for other in found), default=0)
    start = max(0, best - width // 4)
    return ("…" if start else "") + text[start : start + width].strip() + ("…" if start + width < len(text) else "")


def list_names(what: str) -> Answer:
    """Names of one kind with a line about each."""
    if what not in LISTS:
        raise UsageError(f"list {what!r}: {suggest(what, LISTS)}")
    rows = [list(row) for row in _names(what)]
    return Answer([{"name": name, "description": text} for name, text in rows], [Table([what, ""], rows)])


def _names(what: str) -> Sequence[tuple[str, str]]:
    if what == "datasets":
        return list_datasets()
    if what in _ROOMS:
        return [(entry.name, entry.summary) for entry in entries(_ROOMS[what]).values()]
    if what == "templates":
        from ..rerankers.prompts import load_template, template_names

        return [(name, load_template(name).source) for name in template_names()]
    if what == "models":
        from ..models.known import known_models
        from ..rerankers.cards import card_rows

        return [*known_models(), *card_rows()]
    if what == "fusions":
        from ..fusion import OWN_METHODS, RANX_METHODS

        return [(name, "computed here") for name in OWN_METHODS] + [(name, "by ranx") for name in RANX_METHODS]
    if what == "suites":
        from .suites import suite_rows

        return suite_rows()
    from ..configs.schema import load_config, preset_names

    return [(name, ", ".join(load_config(name).pipeline)) for name in preset_names()]

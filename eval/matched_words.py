"""What late interaction matched in the best documents of some queries, for the report page's explorer of queries."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import CribbleError
from ..excerpt import excerpt
from ..explanation import Explanation, WordShare
from ..progress import progress
from ..records import TextSource
from ..stage import Retriever, Stage

logger = logging.getLogger("cribble")

#: Characters of a document on the page, and steps of colour.
_WIDTH, _LEVELS = 320, 4


@dataclass(frozen=True)
class Explaining:
    """A stage that can say what it matched, where the texts of its documents are, and the texts that retrievers search with
    instead of a query's own."""

    stage: Stage
    texts: TextSource
    search_texts: Mapping[str, str]


@dataclass(frozen=True)
class MatchedWords:
    """Of one run: by query and document the pieces of an excerpt, and notes on that document; `notes` hold for all."""

    documents: Mapping[str, Mapping[str, tuple[list[Any], list[str]]]]
    notes: tuple[str, ...] = ()


def explaining(pipeline: Stage, texts: TextSource | None, search_texts: Mapping[str, str]) -> Explaining | None:
    """The last stage of a pipeline that can say what it matched; None where there is none, or no texts are."""
    stages = [stage for stage in pipeline.walk() if stage.explains]
    return Explaining(stages[-1], texts, search_texts) if stages and texts is not None else None


def matched_words(
    name: str,
    by_part: Mapping[str, Explaining],
    tops: Mapping[str, Sequence[str]],
    query_texts: Mapping[str, str],
) -> MatchedWords | None:
    """The matches of the run `name` in its best documents by query (`tops`; `part/query` where there are parts). A model
    whose tokens can't be told is warned of, and gives None; so do no documents."""
    found: dict[str, dict[str, Explanation]] = {}
    with progress(f"explaining {name}", sum(map(len, tops.values())), "documents") as advance:
        for query_id, doc_ids in tops.items():
            part, _, inner = ("", "", query_id) if "" in by_part else query_id.partition("/")
            if part in by_part:
                text = query_texts.get(query_id, "")
                try:
                    found[query_id] = _explained(by_part[part], inner, text, doc_ids)
                except CribbleError as error:
                    logger.warning("%s: the report does not show what matched: %s", name, error)
                    return None
            advance(len(doc_ids))
    explanations = [explanation for row in found.values() for explanation in row.values()]
    if not explanations:
        return None
    told = Counter(note for explanation in explanations for note in explanation.notes)
    common = tuple(note for note in explanations[0].notes if told[note] == len(explanations))
    documents = {
        query_id: {doc_id: (_pieces(e), _own_notes(e, common)) for doc_id, e in row.items()}
        for query_id, row in found.items()
    }
    return MatchedWords(documents, common)


def _explained(by: Explaining, query_id: str, text: str, doc_ids: Sequence[str]) -> dict[str, Explanation]:
    from ..models.image_documents import image_of

    if isinstance(by.stage, Retriever):
        text = by.search_texts.get(query_id, text)
    documents = by.texts.get_many(list(doc_ids))
    readable = [d for doc_id in doc_ids if (d := documents.get(doc_id)) is not None and not image_of(d)]
    return {document.id: by.stage.explain_match(text, document) for document in readable}


def _pieces(explanation: Explanation) -> list[Any]:
    """Texts, and [word, level from 1 to 4, what it adds] for words that matched."""
    total = explanation.score
    return [
        text if share is None else [text, _level(share), _told(share, total)]
        for text, share in excerpt(explanation, _WIDTH)
    ]


def _level(share: WordShare) -> int:
    return min(_LEVELS, 1 + int(share.strength * _LEVELS))


def _told(share: WordShare, total: float) -> str:
    asked = list(dict.fromkeys(share.asked))
    more = f", … ({len(share.asked)} in all)" if len(asked) > 6 else ""
    return f"adds {share.contribution:.3f} of {total:.3f}: {', '.join(asked[:6])}{more}"


def _own_notes(explanation: Explanation, common: Sequence[str]) -> list[str]:
    told = [explanation.heading()] if explanation.differs else []
    return told + [note for note in explanation.notes if note not in common]

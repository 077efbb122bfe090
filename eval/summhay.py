"""Summary of a Haystack (Laban et al. 2024): coverage, citation and joint scores of judged bullets, and its retrieval side.

A haystack is the JSON of salesforce/summary-of-a-haystack: `documents` (document_id, document_text, insights_included)
and `subtopics` (subtopic_id, subtopic, query, insights, retriever, summaries, eval_summaries). Documents are cited by
their place in it, from 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError, UsageError, suggest
from ..models.calls import Tokens
from ..records import Qrels, Query

#: How well a bullet covers an insight: the judge's word → its score.
COVERAGE = {"FULL_COVERAGE": 1.0, "PARTIAL_COVERAGE": 0.5, "NO_COVERAGE": 0.0}

_CITED = re.compile(r"\[([\d, ]+)\]")


@dataclass(frozen=True)
class InsightScore:
    """One insight of a summary. `precision`, `recall` and their F1 `citation` compare the numbers that the matched bullet
    cites with the documents that hold the insight; they are None where it is not covered. `joint` is coverage times
    citation, 0 where it is not covered. `unmatched` says that a covering bullet was named that is not there."""

    insight: str
    coverage: float
    precision: float | None
    recall: float | None
    citation: float | None
    joint: float
    unmatched: bool = False


@dataclass(frozen=True)
class SummHayScores:
    """Means of a summary key: coverage and joint over all insights, citation over the covered ones (None where there are
    none), so that joint is not coverage times citation. `unmatched` counts covered insights without their bullet."""

    coverage: float
    citation: float | None
    joint: float
    precision: float | None
    recall: float | None
    insights: int
    covered: int
    unmatched: int


def cited(bullet: str) -> set[int]:
    """The document numbers in a bullet's square brackets: `[3][5, 7]` has 3, 5 and 7."""
    return {int(number) for found in _CITED.findall(bullet) for number in found.split(",") if number.strip().isdigit()}


def sources(haystack: Mapping[str, Any]) -> dict[str, set[int]]:
    """The numbers of the documents that hold each insight."""
    found: dict[str, set[int]] = {}
    for number, document in enumerate(haystack["documents"], 1):
        for insight in document["insights_included"]:
            found.setdefault(insight, set()).add(number)
    return found


def score_bullets(
    bullets: Sequence[str], judged: Sequence[Mapping[str, Any]], gold: Mapping[str, set[int]]
) -> list[InsightScore]:
    """Scores of one summary. `judged` has insight_id, coverage (`COVERAGE`) and bullet_id (from 1) of each insight.

    A bullet_id that names no bullet leaves a covered insight without citations; upstream takes another bullet there.
    """
    return [_insight(bullets, entry, gold) for entry in judged]


def _insight(bullets: Sequence[str], entry: Mapping[str, Any], gold: Mapping[str, set[int]]) -> InsightScore:
    insight, word = str(entry["insight_id"]), entry["coverage"]
    if word not in COVERAGE:
        raise InputError(f"insight {insight!r} has the coverage {word!r}: {suggest(str(word), COVERAGE)}")
    coverage = COVERAGE[word]
    if not coverage:
        return InsightScore(insight, 0.0, None, None, None, 0.0)
    if insight not in gold:
        raise InputError(f"insight {insight!r} is covered by the summary and held by no document of the haystack")
    number = str(entry.get("bullet_id", "")).strip()
    matched = number.isdigit() and 1 <= int(number) <= len(bullets)
    named, wanted = cited(bullets[int(number) - 1]) if matched else set(), gold[insight]
    both = len(named & wanted)
    precision, recall = both / len(named) if named else 0.0, both / len(wanted)
    citation = 2 * both / (len(named) + len(wanted))
    return InsightScore(insight, coverage, precision, recall, citation, coverage * citation, not matched)


def summary_keys(haystack: Mapping[str, Any]) -> list[str]:
    """The summaries that are judged, in their order: `summary_subtopic_vector_gpt-4o`."""
    keys = [key for subtopic in haystack["subtopics"] for key in subtopic.get("eval_summaries", {})]
    return list(dict.fromkeys(keys))


def score_haystacks(haystacks: Sequence[Mapping[str, Any]], key: str) -> SummHayScores:
    """The scores of a summary key over all insights of all subtopics of all haystacks.

    Raises `InputError` where no subtopic has a judged summary of that key.
    """
    scores: list[InsightScore] = []
    for haystack in haystacks:
        gold = sources(haystack)
        for subtopic in haystack["subtopics"]:
            if key in subtopic.get("summaries", {}) and key in subtopic.get("eval_summaries", {}):
                scores += score_bullets(subtopic["summaries"][key], subtopic["eval_summaries"][key], gold)
    if not scores:
        known = list(dict.fromkeys(k for haystack in haystacks for k in summary_keys(haystack)))
        raise InputError(f"no judged summary is called {key!r}: {suggest(key, known)}")
    covered = [score for score in scores if score.coverage]
    return SummHayScores(
        coverage=float(np.mean([score.coverage for score in scores])),
        citation=_mean([score.citation for score in covered]),
        joint=float(np.mean([score.joint for score in scores])),
        precision=_mean([score.precision for score in covered]),
        recall=_mean([score.recall for score in covered]),
        insights=len(scores),
        covered=len(covered),
        unmatched=sum(score.unmatched for score in scores),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


# ---- the retrieval side -----------------------------------------------------------------------------------------------


def haystack_queries(haystack: Mapping[str, Any]) -> list[Query]:
    """One query a subtopic: its question, a space, its name."""
    return [Query(str(s["subtopic_id"]), f"{s['query']} {s['subtopic']}") for s in haystack["subtopics"]]


def oracle_scores(haystack: Mapping[str, Any], subtopic: Mapping[str, Any]) -> dict[str, int]:
    """How many of the subtopic's insights each document holds, by document id: what the oracle retriever ranks by."""
    wanted = {insight["insight_id"] for insight in subtopic["insights"]}
    return {
        str(document["document_id"]): sum(insight in wanted for insight in document["insights_included"])
        for document in haystack["documents"]
    }


def haystack_qrels(haystack: Mapping[str, Any]) -> Qrels:
    """Judgements of the documents for each subtopic: the oracle's scores as labels."""
    rows = {str(s["subtopic_id"]): oracle_scores(haystack, s) for s in haystack["subtopics"]}
    return Qrels.from_dict(rows, name=str(haystack.get("topic", "haystack")))


@dataclass(frozen=True)
class Packed:
    """A document in a packed context: its number in the haystack from 1, its text, and whether that was cut."""

    number: int
    id: str
    text: str
    cut: bool = False


def pack(haystack: Mapping[str, Any], scores: Mapping[str, float], budget: int, tokens: Tokens) -> list[Packed]:
    """The best documents whose texts have `budget` tokens together; the last one is cut to fit, not dropped.

    Equal scores keep the haystack's order. `tokens` is any tokenizer of a backend; upstream's is cl100k_base with a
    budget of 15,000. A document without a score is refused.
    """
    if budget < 1:
        raise UsageError(f"budget is {budget} tokens, expected at least 1")
    documents = haystack["documents"]
    for document in documents:
        if document["document_id"] not in scores:
            raise InputError(f"document {document['document_id']!r} of the haystack has no score")
    order = sorted(range(len(documents)), key=lambda i: -scores[documents[i]["document_id"]])
    packed: list[Packed] = []
    left = budget
    for i in order:
        text, name = documents[i]["document_text"], str(documents[i]["document_id"])
        length = tokens.length(text)
        if length >= left:
            packed.append(Packed(i + 1, name, text if length == left else tokens.cut(text, left), length > left))
            break
        left -= length
        packed.append(Packed(i + 1, name, text))
    return packed

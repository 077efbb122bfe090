"""The terms of a corpus: candidates between stop words, scored by how often and how they stand (no tagger is needed)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, UsageError, suggest
from ..records import Document

_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*|[^\s\w]")

#: English function words: none of them is in a term.
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a about above after again against all almost also although always am among an and another any anyone are as at
        be became because been before being below between both but by can cannot could did do does doing done down due
        during each either else etc even ever every few for from further had has have having he hence her here hers him his
        how however i if in indeed into is it its itself just least less many may me might more most much must my near
        neither never no nor not now of off often on once one only onto or other others our out over own per perhaps quite
        rather same see seem seems several shall she should since so some such than that the their them then there thereby
        therefore these they this those though through thus to together too toward towards two under until up upon us use
        used using very via was we well were what when where whereas whether which while who whose why will with within
        without would yet you your""",
    )
)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidate terms of a corpus. `terms` are in order of first sight, words in lower case with one space between;
    `frequency` and `documents` (t,) int64 count occurrences and documents; `by_document` names each document's terms by
    position; `size` is the number of documents."""

    terms: tuple[str, ...]
    frequency: np.ndarray
    documents: np.ndarray
    by_document: tuple[tuple[int, ...], ...]
    size: int

    @property
    def lengths(self) -> np.ndarray:
        """Words of each term (t,) int64."""
        return np.array([term.count(" ") + 1 for term in self.terms], np.int64)


def candidates(documents: Iterable[Document], *, max_words: int = 4, min_frequency: int = 2) -> Candidates:
    """Runs of one to `max_words` words that cross no stop word, punctuation mark or number, seen `min_frequency` times or
    more. Raises `InputError` where nothing is left."""
    if max_words < 1 or min_frequency < 1:
        raise UsageError(f"max_words={max_words}, min_frequency={min_frequency}: expected at least 1")
    frequency: Counter[str] = Counter()
    spread: Counter[str] = Counter()
    found: list[list[str]] = []
    for document in documents:
        own = Counter(_runs(document.full_text, max_words))
        frequency.update(own)
        spread.update(own.keys())
        found.append(list(own))
    terms = [term for term, count in frequency.items() if count >= min_frequency]
    if not terms:
        raise InputError(
            f"no term of {len(found)} documents is seen {min_frequency} times: lower min_frequency, or add documents"
        )
    place = {term: i for i, term in enumerate(terms)}
    return Candidates(
        tuple(terms),
        np.array([frequency[term] for term in terms], np.int64),
        np.array([spread[term] for term in terms], np.int64),
        tuple(tuple(place[term] for term in own if term in place) for own in found),
        len(found),
    )


def _runs(text: str, max_words: int) -> Iterable[str]:
    run: list[str] = []
    for word in [*_WORD.findall(text.lower()), "."]:
        if len(word) > 1 and word not in STOP_WORDS and not word[0].isdigit():
            run.append(word)
            continue
        for start in range(len(run)):
            for end in range(start + 1, min(start + max_words, len(run)) + 1):
                yield " ".join(run[start:end])
        run = []


# ---- base scores ------------------------------------------------------------------------------------------------------


def base_scores(found: Candidates, method: str) -> np.ndarray:
    """Scores (t,) float64 of the candidates by a method of `METHODS`."""
    if method not in METHODS:
        raise UsageError(f"base {method!r} is unknown: {suggest(method, METHODS)}")
    return METHODS[method](found)


def _total_frequency(found: Candidates) -> np.ndarray:
    return found.frequency.astype(np.float64)


def _tf_idf(found: Candidates) -> np.ndarray:
    """Occurrences times ln(N / df)."""
    scores: np.ndarray = found.frequency * np.log(found.size / found.documents)
    return scores


def _residual_idf(found: Candidates) -> np.ndarray:
    """ln(N / df) less what a Poisson process of that many occurrences would have (Church & Gale 1995)."""
    by_chance = -np.log1p(-np.exp(-found.frequency / found.size))
    scores: np.ndarray = np.log(found.size / found.documents) - by_chance
    return scores


def _c_value(found: Candidates) -> np.ndarray:
    """log2(|t| + 1) · (f(t) - mean f of the longer candidates that hold t) (Frantzi et al. 2000; + 1 as Barrón-Cedeño et
    al. 2009 have it, so that single words count)."""
    holders = _holders(found.terms)
    outside = [np.mean([found.frequency[i] for i in holders[term]]) if holders[term] else 0.0 for term in found.terms]
    scores: np.ndarray = np.log2(found.lengths + 1) * (found.frequency - np.array(outside))
    return scores


def _basic(found: Candidates) -> np.ndarray:
    """|t| ln f(t) + .72 · the number of longer candidates that hold t (Bordea et al. 2013)."""
    holders = _holders(found.terms)
    scores: np.ndarray = found.lengths * np.log(found.frequency) + 0.72 * np.array(
        [len(holders[t]) for t in found.terms]
    )
    return scores


def _combo_basic(found: Candidates) -> np.ndarray:
    """|t| ln f(t) + .75 · longer candidates that hold t + .1 · shorter ones that t holds (Astrakhantsev 2015)."""
    holders = _holders(found.terms)
    held = Counter(i for inside in holders.values() for i in inside)
    more = 0.75 * np.array([len(holders[t]) for t in found.terms]) + 0.1 * np.array(
        [held[i] for i in range(len(found.terms))]
    )
    scores: np.ndarray = found.lengths * np.log(found.frequency) + more
    return scores


def _holders(terms: Sequence[str]) -> dict[str, list[int]]:
    """The positions of the longer candidates that hold each term as whole words."""
    known, found = set(terms), defaultdict(list)
    for i, term in enumerate(terms):
        words = term.split(" ")
        inside = {" ".join(words[a:b]) for a in range(len(words)) for b in range(a + 1, len(words) + 1)} - {term}
        for part in inside & known:
            found[part].append(i)
    return found


METHODS: dict[str, Callable[[Candidates], np.ndarray]] = {
    "frequency": _total_frequency,
    "tf-idf": _tf_idf,
    "ridf": _residual_idf,
    "c-value": _c_value,
    "basic": _basic,
    "combo-basic": _combo_basic,
}


# ---- how good they are ------------------------------------------------------------------------------------------------


def precision_at(
    order: Sequence[str], known: frozenset[str], cutoffs: Sequence[int] = (50, 100, 200, 500)
) -> dict[str, float]:
    """Precision at the cutoffs that the list reaches, their mean, and F1 at K = the known terms among the list."""
    hits = np.cumsum([term in known for term in order])
    reached = [k for k in cutoffs if k <= len(order)] or [len(order)]
    values = {f"P@{k}": float(hits[k - 1]) / k for k in reached}
    true = int(hits[-1])
    return {
        **values,
        "mean_precision": float(np.mean(list(values.values()))),
        # At K = R precision and recall are one number, and so is F1.
        "f1": float(hits[true - 1]) / true if true else 0.0,
    }

"""Why a document is where it is: what each token of a query matched in it, and where it stood after each stage.

In late interaction a score is a sum over the query's tokens, so that it can be taken to pieces exactly: `TokenMatch` is one
summand. `Explanation` holds those of one query and document, `PipelineExplanation` the explanations of a pipeline's stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .records import Document

#: What a token is: of the text itself, put there by the tokenizer, of the prompt before the text, or filling a query up.
KINDS = ("text", "special", "prompt", "expansion")

#: A score that the stage gave otherwise is told beside the sum where they differ by more than so much of it.
_EQUAL = 1e-4


@dataclass(frozen=True)
class TokenText:
    """What a token vector stands for: `token` as the tokenizer writes it, its `kind`, one of `KINDS`, and of a token of the
    text its characters `span` [start, end), the whole `word` that these are of, and the characters of that."""

    token: str
    kind: str = "text"
    span: tuple[int, int] | None = None
    word: str = ""
    word_span: tuple[int, int] | None = None

    @property
    def shown(self) -> str:
        """The word for a reader, and the token beside where it is only a part; a token of no word as it is."""
        if not self.word:
            return self.token
        whole = self.word_span is None or self.span == self.word_span
        return self.word if whole else f"{self.word} ({self.token})"


@dataclass(frozen=True)
class TokenMatch:
    """One summand of a score: a query token, what it adds, and the document token that it matched best (None: there was
    none, and it gets the least that there is)."""

    query: TokenText
    contribution: float
    document: TokenText | None


@dataclass(frozen=True)
class WordShare:
    """A word of the document at the characters `span`: what it won of the score in all, from which query tokens (`asked`, as
    a reader sees them), and how strong that is from 0 to 1, the document's strongest word being 1."""

    word: str
    span: tuple[int, int]
    contribution: float
    asked: tuple[str, ...]
    strength: float


@dataclass(frozen=True)
class Explanation:
    """What each token of `query` matched in `document`, and so gave to its `score`, which is the sum of `matches`.

    `stage` explains itself; `stage_score` is what it gave the document in its own way (None: it did not find it), which is
    another number where an index keeps compressed or pooled vectors; `notes` say so. A match that is no better than `least`
    counts nothing for a word's strength. Spans are characters of the document's full text (title, a space, text).
    """

    query: str
    document: Document
    stage: str
    matches: tuple[TokenMatch, ...]
    stage_score: float | None = None
    notes: tuple[str, ...] = ()
    least: float = 0.0

    @property
    def score(self) -> float:
        """The sum of the contributions."""
        return float(sum(match.contribution for match in self.matches))

    @property
    def differs(self) -> bool:
        """Whether the stage gave another score than the sum, by more than rounding."""
        return self.stage_score is None or not self.near(self.stage_score)

    def near(self, score: float) -> bool:
        """Whether a score is the sum, but for rounding."""
        return abs(score - self.score) <= _EQUAL * max(1e-12, abs(self.score))

    @property
    def words(self) -> tuple[WordShare, ...]:
        """The document's words that a query token matched best, strongest first, then in the text's order."""
        won: dict[tuple[int, int], list[TokenMatch]] = {}
        for match in self.matches:
            if match.document is not None and match.document.word_span is not None:
                won.setdefault(match.document.word_span, []).append(match)
        raised = {span: sum(max(0.0, m.contribution - self.least) for m in own) for span, own in won.items()}
        largest = max(raised.values(), default=0.0) or 1.0
        text = self.document.full_text
        shares = [
            WordShare(
                word=text[slice(*span)],
                span=span,
                contribution=sum(m.contribution for m in own),
                asked=tuple(m.query.shown for m in own),
                strength=raised[span] / largest,
            )
            for span, own in won.items()
        ]
        return tuple(sorted(shares, key=lambda share: (-share.strength, share.span)))

    def lines(self) -> list[str]:
        """For a reader without colours: scores, a line a query token (those that fill it up are one), notes."""
        lines = [self.heading()]
        rows = match_rows(self.matches)
        widths = [max(len(row[i]) for row in rows) for i in range(3)] if rows else []
        lines += [
            "  ".join(
                cell.rjust(width) if i == 1 else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return lines + [f"({note})" for note in self.notes]

    def heading(self) -> str:
        """The score in a line, and the stage's where that is another."""
        text = f"{self.stage}: {self.document.id!r} has {self.score:.4f}"
        if self.stage_score is None:
            return text + ", and was not found by the stage"
        return text + (f" by its token vectors, {self.stage_score:.4f} by the stage" if self.differs else "")

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def to_dict(self) -> dict[str, Any]:
        """Everything but the texts, ready for JSON."""

        def token(text: TokenText | None) -> dict[str, Any] | None:
            if text is None:
                return None
            return {"token": text.token, "kind": text.kind, "word": text.word, "span": text.span}

        return {
            "stage": self.stage,
            "score": self.score,
            "stage_score": self.stage_score,
            "matches": [
                {"query": token(m.query), "contribution": m.contribution, "document": token(m.document)}
                for m in self.matches
            ],
            "words": [
                {"word": w.word, "span": w.span, "contribution": w.contribution, "asked": list(w.asked)}
                for w in self.words
            ],
            "notes": list(self.notes),
        }


def match_rows(matches: Sequence[TokenMatch]) -> list[tuple[str, str, str]]:
    """(query token, contribution, what it matched) as texts, in the query's order; the tokens that fill a query up in one row."""
    rows = [
        (match.query.shown, f"{match.contribution:.4f}", match.document.shown if match.document else "nothing")
        for match in matches
        if match.query.kind != "expansion"
    ]
    filling = [match for match in matches if match.query.kind == "expansion"]
    if filling:
        found = dict.fromkeys(match.document.shown for match in filling if match.document is not None)
        best = ", ".join(list(found)[:4]) + (f", … ({len(found)} in all)" if len(found) > 4 else "")
        total = sum(match.contribution for match in filling)
        rows.append((f"{filling[0].query.token} × {len(filling)}", f"{total:.4f}", best or "nothing"))
    return rows


@dataclass(frozen=True)
class Trace:
    """Where a document stood after one stage: rank from 1 and score, or None where it was not among the candidates."""

    stage: str
    rank: int | None
    score: float | None
    candidates: int

    def __str__(self) -> str:
        if self.rank is None or self.score is None:
            return f"{self.stage}: not among the {self.candidates} found"
        return f"{self.stage}: {self.rank} of {self.candidates}, {self.score:.4f}"


@dataclass(frozen=True)
class PipelineExplanation:
    """Where `document` stood after each stage of a pipeline for `query` (`traces`), and for each stage that scores by late
    interaction what the query's tokens matched (`matches`; empty where there is no such stage)."""

    query: str
    document: Document
    traces: tuple[Trace, ...]
    matches: tuple[Explanation, ...]

    def __str__(self) -> str:
        lines = [f"{self.document.id!r} for {self.query!r}", *map(str, self.traces)]
        for explanation in self.matches:
            lines += ["", *explanation.lines()]
        return "\n".join(lines)

"""Relevance judgements by a language model: prompts, a strict parser, votes, and the filling of holes in human ones.

A grader is a registered dataclass whose `grade` is a generator: it yields calls for one (query, document) pair, gets
their replies, and returns a verdict. It holds no model, so that ledger, backends and tests work for every grader alike.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

from ...models.calls import Failure, GenerateCall, Reply, Tokens
from ...records import Document, Query

ROOM = "eval/judging"

#: Labels that are asked for: lowest and highest.
SCALE = (0, 3)

#: A round: calls for one pair, and in their order what came back.
Grading = Generator[list[GenerateCall], list[Reply | Failure], "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """What a grader made of a pair. `label` is None where no answer could be read. `votes` are the labels that were read,
    `failures` the kinds of what could not be (`parsing.KINDS`), `repairs` what went
    another way than planned (`cut_documents`, `default_roles`)."""

    label: int | None
    votes: tuple[int, ...] = ()
    failures: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()


class Grader:
    """Base of all graders."""

    registered_name: ClassVar[str] = ""

    def grade(self, query: Query, document: Document, tokens: Tokens) -> Grading:
        """Ask about one pair; `tokens` is the backend's tokenizer. Raises `rerankers.judges.TooLong` where the prompt does
        not fit even with one word of the document."""
        raise NotImplementedError

    def open(self) -> None:
        """Read files that the grader needs, so that a wrong one is refused before anything is asked."""

"""Grades pairs in lock-step over a backend with the ledger in front, and counts what it cost and what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ...errors import InputError
from ...models.backends import Backend
from ...models.calls import Call, Failure, GenerateCall, Reply, Tokens
from ...models.ledger import Ledger, asker
from ...progress import progress
from ...records import Document, Qrels, Query, TextSource
from ...rerankers.judges import TooLong
from . import Grader, Grading, Verdict

#: Pairs whose prompts are held at a time.
_AT_ONCE = 256

Pair = tuple[Query, Document]


@dataclass
class Judged:
    """Verdicts by (query id, document id), and counts: calls, reused_calls, prompt_tokens, new_tokens, pairs, failed_pairs,
    missing_texts, failures by kind (`failed_no_score`), repairs. `reason` is the backend's first failure."""

    verdicts: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    reason: str = ""

    def qrels(self, name: str = "machine") -> Qrels:
        """The labels that could be read, each marked as a machine's."""
        rows: dict[str, dict[str, int]] = {}
        for (query, document), verdict in self.verdicts.items():
            if verdict.label is not None:
                rows.setdefault(query, {})[document] = verdict.label
        return Qrels.from_dict(rows, name=name, machine=True)

    @property
    def failed(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """The pairs without a label, and why."""
        return {pair: verdict.failures for pair, verdict in self.verdicts.items() if verdict.label is None}


def judge_pairs(
    pairs: Mapping[str, Sequence[str]],
    queries: Mapping[str, str],
    texts: TextSource,
    grader: Grader,
    backend: Backend,
    *,
    ledger: Ledger | None = None,
    max_failure_rate: float = 1.0,
) -> Judged:
    """Grade documents by query. Every reply is in the ledger before the next is asked, so that a rerun pays for nothing
    twice. A pair without a text, or whose answer can't be read, has no label, and is counted.

    Raises `InputError` for a query without a text, where every pair failed, and where more than `max_failure_rate` did.
    """
    unknown = [query for query in pairs if query not in queries]
    if unknown:
        raise InputError(
            f"query {unknown[0]!r} has no text ({len(unknown)} of {len(pairs)}): judge with the run's own dataset"
        )
    grader.open()
    backend.open()
    judged = Judged()
    ask = asker(backend, ledger if backend.remembered else None)
    total = sum(map(len, pairs.values()))
    with progress("judging", total, "pairs") as advance:
        for block in _blocks(pairs, queries, texts, judged):
            judged.verdicts |= _graded(block, grader, backend.tokens, ask, judged)
            advance(len(block))
    _check(judged, total, max_failure_rate)
    return judged


def _blocks(
    pairs: Mapping[str, Sequence[str]], queries: Mapping[str, str], texts: TextSource, judged: Judged
) -> Iterator[list[Pair]]:
    """Pairs with their texts, some at a time; those without a text are counted."""
    flat = [(query, document) for query, documents in pairs.items() for document in documents]
    for start in range(0, len(flat), _AT_ONCE):
        part = flat[start : start + _AT_ONCE]
        found = texts.get_many({document for _, document in part})
        known = [(query, found[document]) for query, document in part if document in found]
        judged.counts["missing_texts"] += len(part) - len(known)
        yield [(Query(query, queries[query]), document) for query, document in known]


def _graded(
    block: Sequence[Pair], grader: Grader, tokens: Tokens, ask: Callable, judged: Judged
) -> dict[tuple[str, str], Verdict]:
    """Run the graders of a block side by side: the calls of all of them are asked together, round by round."""
    running: dict[tuple[str, str], Grading] = {}
    replies: dict[tuple[str, str], list[Reply | Failure] | None] = {}
    for query, document in block:
        key = (query.id, document.id)
        running[key], replies[key] = grader.grade(query, document, tokens), None
    verdicts: dict[tuple[str, str], Verdict] = {}
    while running:
        wanted: list[tuple[tuple[str, str], list[GenerateCall]]] = []
        for key in list(running):
            step = _step(running[key], replies[key])
            if isinstance(step, Verdict):
                verdicts[key] = step
                del running[key]
            else:
                wanted.append((key, step))
        answers = _answers([call for _, calls in wanted for call in calls], ask, judged)
        for key, calls in wanted:
            replies[key] = [next(answers) for _ in calls]
    return {(query.id, document.id): verdicts[query.id, document.id] for query, document in block}


def _step(grading: Grading, replies: list[Reply | Failure] | None) -> Verdict | list[GenerateCall]:
    try:
        return next(grading) if replies is None else grading.send(replies)
    except StopIteration as done:
        verdict: Verdict = done.value
        return verdict
    except TooLong:
        return Verdict(None, (), ("too_long",))


def _answers(calls: Sequence[Call], ask: Callable, judged: Judged) -> Iterator[Reply | Failure]:
    """The replies in the order of the calls; one that did not come is a failure."""
    found: dict[int, Reply | Failure] = dict(ask(calls)) if calls else {}
    counts = judged.counts
    for reply in found.values():
        if isinstance(reply, Failure):
            judged.reason = judged.reason or reply.reason
            continue
        counts["reused_calls"] += reply.reused
        counts["prompt_tokens"] += reply.usage.prompt
        counts["new_tokens"] += reply.usage.new
    counts["calls"] += len(calls)
    return iter([found.get(i, Failure("the backend gave no answer to a call")) for i in range(len(calls))])


def _check(judged: Judged, total: int, max_failure_rate: float) -> None:
    """Count, and refuse what is no judgement any more."""
    counts, failed = judged.counts, judged.failed
    counts["pairs"], counts["failed_pairs"] = len(judged.verdicts), len(failed)
    for verdict in judged.verdicts.values():
        counts.update(f"failed_{kind}" for kind in verdict.failures)
        counts.update(verdict.repairs)
    if total and not judged.verdicts:
        raise InputError(f"none of the {total} documents to judge has a text: judge with the run's own dataset")
    if failed and len(failed) == len(judged.verdicts):
        kinds = ", ".join(
            f"{counts[f'failed_{kind}']} {kind}" for kind in sorted({k for v in failed.values() for k in v})
        )
        first = f"; the first call failed because {judged.reason}" if judged.reason else ""
        raise InputError(
            f"no label could be read for any of {len(failed)} pairs ({kinds}){first}: check model and prompt"
        )
    if len(failed) > max_failure_rate * max(len(judged.verdicts), 1):
        raise InputError(
            f"{len(failed)} of {len(judged.verdicts)} pairs have no label, more than the budget max_failure_rate="
            f"{max_failure_rate} allows: check model and prompt, or raise the budget"
        )

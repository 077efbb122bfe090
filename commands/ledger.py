"""The work behind `cribble ledger`: what was asked of language models, shown, exported and pruned."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from ..envelope import Answer, Table
from ..errors import InputError, UsageError, suggest
from ..files import file_kind, write_whole
from ..models.ledger import Group, Judgement, Ledger, ledger_path

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


class _Filter(NamedTuple):
    """An SQL condition and its values."""

    where: str
    values: list[Any]


def show_ledger(path: Path | None, model: str | None = None) -> Answer:
    """Judgements by model and kind: how many, bytes, tokens that they cost, oldest and newest."""
    where = _place(path)
    if not where.exists() and path is None:
        return _shown(where, [], 0, "there is none yet: an LLM reranker makes it")
    with _opened(where) as ledger:
        chosen = _chosen(ledger, model=model)
        return _shown(where, ledger.summary(*chosen), ledger.bytes())


def _shown(path: Path, groups: Sequence[Group], size: int, remark: str = "") -> Answer:
    total = sum(group.judgements for group in groups)
    results = {
        "ledger": str(path),
        "judgements": total,
        "file_bytes": size,
        "groups": [_described(group) for group in groups],
    }
    columns = ["model", "kind", "judgements", "KiB", "prompt tokens", "new tokens", "oldest", "newest"]
    rows = [
        [
            group.model,
            group.kind,
            f"{group.judgements:,}",
            f"{group.bytes / 1024:,.1f}",
            f"{group.usage.prompt:,}",
            f"{group.usage.new:,}",
            group.oldest[:19],
            group.newest[:19],
        ]
        for group in groups
    ]
    line = f"{path}: {remark or f'{total:,} judgements, {size / 2**20:,.1f} MiB'}"
    return Answer(results, [Table(columns, rows)] if rows else [], [line])


def _described(group: Group) -> dict[str, Any]:
    usage = {f"{name}_tokens": tokens for name, tokens in group.usage._asdict().items()}
    return {name: value for name, value in group._asdict().items() if name != "usage"} | usage


def export_ledger(
    out: Path, path: Path | None, *, model: str | None = None, kind: str | None = None, query: str | None = None
) -> Answer:
    """Write judgements to a JSON Lines file, in the order in which they were made."""
    if file_kind(out) != "jsonl":
        raise UsageError(f"{out}: judgements are exported as JSON Lines: name a file that ends in .jsonl or .jsonl.gz")
    with _opened(_place(path)) as ledger:
        chosen = _chosen(ledger, model=model, kind=kind, query_id=query)
        with write_whole(out) as stream:
            count = 0
            for row in ledger.rows(*chosen):
                stream.write((json.dumps(_line(row)) + "\n").encode())
                count += 1
    return Answer({"out": str(out), "judgements": count}, lines=[f"{out}: {count:,} judgements"])


def _line(row: Judgement) -> dict[str, Any]:
    return row._asdict() | {"usage": row.usage._asdict()}


def prune_ledger(
    path: Path | None, *, older_than: str | None = None, model: str | None = None, dry_run: bool = False
) -> Answer:
    """Delete judgements that are old, or of one model; they would be asked, and paid for, again."""
    if older_than is None and model is None:
        raise UsageError(
            "prune deletes judgements that were paid for: say which by --older-than 30d or --model NAME "
            "(--older-than 0d means all)"
        )
    before = (
        (datetime.now(UTC) - _duration(older_than)).isoformat(timespec="milliseconds")
        if older_than is not None
        else None
    )
    where = _place(path)
    with _opened(where) as ledger:
        chosen = _chosen(ledger, model=model, before=before)
        count = sum(group.judgements for group in ledger.summary(*chosen))
        if count and not dry_run:
            count = ledger.delete(*chosen)
        left = sum(group.judgements for group in ledger.summary())
        size = ledger.bytes()
    results = {"ledger": str(where), "dry_run": dry_run, "pruned": count, "judgements": left, "file_bytes": size}
    done = "would be deleted" if dry_run else "deleted"
    return Answer(results, lines=[f"{where}: {count:,} judgements {done}, {left:,} are there"])


# ---- the file and the filters -------------------------------------------------------------------------------------------


def _place(path: Path | None) -> Path:
    return ledger_path(path or "auto")


def _opened(path: Path) -> Ledger:
    """The ledger that is there; looking at one never makes one."""
    if not path.exists():
        raise InputError(f"{path}: there is no ledger; name the file by --path, or rerank with an LLM first")
    return Ledger.at(path)


def _chosen(
    ledger: Ledger,
    *,
    model: str | None = None,
    kind: str | None = None,
    query_id: str | None = None,
    before: str | None = None,
) -> _Filter:
    """The condition of the filters that are set; a model or a kind that the ledger does not have is refused."""
    if model is not None or kind is not None:
        groups = ledger.summary()
        _known("model", model, {group.model for group in groups})
        _known("kind", kind, {group.kind for group in groups})
    conditions = {"model = ?": model, "kind = ?": kind, "query_id = ?": query_id, "created <= ?": before}
    used = {condition: value for condition, value in conditions.items() if value is not None}
    return _Filter(" AND ".join(used) or "1", list(used.values()))


def _known(what: str, name: str | None, known: set[str]) -> None:
    if name is not None and name not in known:
        raise UsageError(f"--{what} {name!r}: the ledger has no judgement of this {what}: {suggest(name, known)}")


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,4}(?:\.\d+)?)([hdw])", text.strip())
    if not found:
        raise UsageError(
            f"--older-than {text!r}: expected a number of at most four digits and a unit, h, d or w, such as 30d"
        )
    return timedelta(**{_UNITS[found[2]]: float(found[1])})

"""Every judgement of a language model, kept: an append-only SQLite file that no crash and no second process can spoil.

A judgement is found again by what it depends on (the backend's identity and the whole call), so that a rerun, another
sort or another measure pays for nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from ..errors import InputError, SetupError
from ..files import cache_folder
from .backends import Backend
from .calls import Call, Failure, Reply, Usage

#: "crib", written into the file's header, says whose it is; the schema's version says which columns it has.
_APPLICATION, _VERSION = 0x63726962, 1
#: Seconds that a writer waits for others.
_PATIENCE = 60.0
#: Keys looked up in one statement, below SQLite's oldest limit of 999 variables.
_KEYS_AT_ONCE = 900
#: Rows read together.
_PAGE = 1000

_SCHEMA = """
CREATE TABLE judgements (
    key TEXT PRIMARY KEY,
    created TEXT NOT NULL,
    model TEXT NOT NULL,
    kind TEXT NOT NULL,
    query_id TEXT,
    doc_ids TEXT,
    prompt TEXT NOT NULL,
    reply TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    new_tokens INTEGER NOT NULL
)
"""


class Judgement(NamedTuple):
    """A row: `key` and `prompt` are hashes, `created` an ISO time in UTC, `query_id` and `doc_ids` those of the first
    asker, `reply` what `encode_reply` made."""

    key: str
    created: str
    model: str
    kind: str
    query_id: str | None
    doc_ids: tuple[str, ...]
    prompt: str
    reply: dict[str, Any]
    usage: Usage


class Group(NamedTuple):
    """Judgements of one model and kind: how many, the bytes of their texts, what they cost, ISO times."""

    model: str
    kind: str
    judgements: int
    bytes: int
    usage: Usage
    oldest: str
    newest: str


class Ledger:
    """An open file of judgements. Rows are only ever added; `prune` is the one way to lose some.

    A row is committed before the next answer is awaited. The file is in WAL mode with `synchronous=NORMAL`: a killed
    process loses nothing, a machine that loses its power may lose the last moments' rows, and neither damages the file.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def at(cls, spec: str | Path) -> Self:
        """The ledger in the file `spec`, or in the cache folder for `auto`; made where there is none.

        Raises `InputError` for a file that is something else, `SetupError` where it can't be opened or written.
        """
        path = ledger_path(spec)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(f"{path.parent}: no folder for the ledger ({error.strerror}): {_ELSEWHERE}") from error
        with _explained(path):
            connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                _prepare(connection, path)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ---- judgements -------------------------------------------------------------------------------------------------

    def find(self, keys: Sequence[str]) -> dict[str, Reply]:
        """The replies that are there, by key, marked as reused."""
        found: dict[str, Reply] = {}
        wanted = list(dict.fromkeys(keys))
        for start in range(0, len(wanted), _KEYS_AT_ONCE):
            part = wanted[start : start + _KEYS_AT_ONCE]
            marks = ",".join("?" * len(part))
            columns = "key, reply, prompt_tokens, cached_tokens, new_tokens"
            for key, reply, *usage in self._run(f"SELECT {columns} FROM judgements WHERE key IN ({marks})", part):
                found[key] = decode_reply(json.loads(reply), Usage(*usage))
        return found

    def add(self, key: str, model: str, call: Call, reply: Reply) -> None:
        """Keep a reply; it is on its way to the disk when this returns. One that is there stays as it is."""
        request = call.request
        row = (
            key,
            datetime.now(UTC).isoformat(timespec="milliseconds"),
            model,
            type(call).__name__,
            request.query.id if request else None,
            json.dumps([document.id for document in request.documents]) if request else None,
            prompt_hash(call),
            json.dumps(encode_reply(reply)),
            *reply.usage,
        )
        self._run(f"INSERT OR IGNORE INTO judgements VALUES ({','.join('?' * len(row))})", row)

    def rows(self, where: str = "1", values: Sequence[Any] = ()) -> Iterator[Judgement]:
        """Judgements in the order in which they were added, a page at a time, so that writers are not held up."""
        after = 0
        while True:
            statement = f"SELECT rowid, * FROM judgements WHERE rowid > ? AND ({where}) ORDER BY rowid LIMIT {_PAGE}"
            page = self._run(statement, [after, *values])
            for after, key, created, model, kind, query_id, doc_ids, prompt, reply, *usage in page:  # noqa: B007
                ids = tuple(json.loads(doc_ids)) if doc_ids else ()
                yield Judgement(key, created, model, kind, query_id, ids, prompt, json.loads(reply), Usage(*usage))
            if len(page) < _PAGE:
                return

    def summary(self, where: str = "1", values: Sequence[Any] = ()) -> list[Group]:
        """What there is of each model and kind."""
        texts = ("key", "created", "model", "kind", "query_id", "doc_ids", "prompt", "reply")
        size = " + ".join(f"coalesce(length({name}), 0)" for name in texts)
        columns = (
            f"model, kind, count(*), sum({size}), sum(prompt_tokens), sum(cached_tokens), sum(new_tokens), "
            "min(created), max(created)"
        )
        grouped = f"SELECT {columns} FROM judgements WHERE {where} GROUP BY model, kind ORDER BY model, kind"
        return [
            Group(model, kind, count, size, Usage(*rest[:3]), *rest[3:])
            for model, kind, count, size, *rest in self._run(grouped, values)
        ]

    def delete(self, where: str, values: Sequence[Any]) -> int:
        """Delete judgements and give their space back; how many there were."""
        with self._lock, _explained(self.path):
            deleted = self._connection.execute(f"DELETE FROM judgements WHERE {where}", values).rowcount
            if deleted:
                self._connection.execute("VACUUM")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return deleted

    def bytes(self) -> int:
        """Size of the file and its write-ahead log on disk."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def _run(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._lock, _explained(self.path):
            return self._connection.execute(statement, values).fetchall()


def ledger_path(spec: str | Path) -> Path:
    """The file that `auto` or a path means."""
    return cache_folder() / "ledger.sqlite" if str(spec) == "auto" else Path(spec).expanduser()


# ---- opening --------------------------------------------------------------------------------------------------------

_ELSEWHERE = "name another file as ledger, or off for none"


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the table in a new file; refuse a file of another kind or version."""
    connection.execute("PRAGMA synchronous = NORMAL")
    _check_owner(connection, path)
    _use_wal(connection)
    connection.execute("BEGIN IMMEDIATE")  # other processes wait here, and a file that is read-only says so
    try:
        if not _check_owner(connection, path):
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _check_owner(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is a ledger; False for an empty one."""
    application, version, tables = (
        connection.execute(statement).fetchone()[0]
        for statement in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    )
    if application == _APPLICATION and version == _VERSION:
        return True
    if application == _APPLICATION:
        raise InputError(
            f"{path} is a ledger of version {version}, this cribble writes version {_VERSION}: {_ELSEWHERE}"
        )
    if tables or application:
        raise InputError(f"{path} is an SQLite file of another program, expected a ledger: {_ELSEWHERE}")
    return False


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging. Another process that does so at the same moment makes this fail without waiting."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.02)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = _code(error)
        if code == sqlite3.SQLITE_NOTADB:
            raise InputError(f"{path} is no SQLite file, expected a ledger: {_ELSEWHERE}") from error
        if code == sqlite3.SQLITE_CORRUPT:
            raise InputError(
                f"{path} is damaged ({error}): move it away, or save what it has with sqlite3's .recover"
            ) from error
        reasons = {
            sqlite3.SQLITE_FULL: "the disk is full: free some space, and run again; what was kept stays",
            sqlite3.SQLITE_READONLY: f"it may not be written: change its permissions, or {_ELSEWHERE}",
            sqlite3.SQLITE_CANTOPEN: f"it can't be opened: check that it is a file and may be written, or {_ELSEWHERE}",
            sqlite3.SQLITE_BUSY: f"another process held it for {_PATIENCE:.0f} seconds: end that one, or {_ELSEWHERE}",
        }
        raise SetupError(f"ledger {path}: {reasons.get(code, f'{error}: {_ELSEWHERE}')}") from error


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


# ---- keys and replies -----------------------------------------------------------------------------------------------


def judgement_key(identity: Mapping[str, str], call: Call) -> str:
    """sha256 of all that an answer depends on: who answers, the kind of call, and its fields but `request`."""
    return _digest([dict(identity), type(call).__name__, _content(call)])


def prompt_hash(call: Call) -> str:
    """sha256 of what the model reads: the same for other labels or another decoding."""
    return _digest(_content(getattr(call, "prompt", call)))


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=_content)
    return hashlib.sha256(text.encode()).hexdigest()


def _content(value: Any) -> dict[str, Any]:
    """A dataclass's fields that make it equal to another."""
    if not is_dataclass(value):
        raise TypeError(f"{value!r} can't be part of a key")
    return {f.name: getattr(value, f.name) for f in fields(value) if f.compare}


def encode_reply(reply: Reply) -> dict[str, Any]:
    """As JSON that every reader takes: nan as null, infinities as text."""
    values = [None if math.isnan(v) else float(v) if math.isfinite(v) else repr(float(v)) for v in reply.values]
    return {"values": values, "text": reply.text, "finish": reply.finish}


def decode_reply(content: Mapping[str, Any], usage: Usage) -> Reply:
    """What `encode_reply` made, marked as reused."""
    values = tuple(math.nan if value is None else float(value) for value in content["values"])
    return Reply(usage, values, content["text"], content["finish"], reused=True)


# ---- asking ---------------------------------------------------------------------------------------------------------


def asker(backend: Backend, ledger: Ledger | None) -> Callable[[Sequence[Call]], Iterator[tuple[int, Reply | Failure]]]:
    """`backend.answer` with the ledger in front: what is there is not asked, and of equal calls only the first is.

    Every new reply is kept before it is handed on; failures are not kept, so that a rerun asks them again.
    """
    keep = ledger if backend.remembered else None

    def ask(calls: Sequence[Call]) -> Iterator[tuple[int, Reply | Failure]]:
        identity = backend.identity()
        places: dict[str, list[int]] = {}
        for position, call in enumerate(calls):
            places.setdefault(judgement_key(identity, call), []).append(position)
        found = keep.find(list(places)) if keep else {}
        for key, reply in found.items():
            for position in places[key]:
                yield position, reply
        missing = [key for key in places if key not in found]
        model = identity.get("model", "")
        if not missing:
            return
        for row, answer in backend.answer([calls[places[key][0]] for key in missing]):
            first, *others = places[missing[row]]
            if keep and isinstance(answer, Reply):
                keep.add(missing[row], model, calls[first], answer)
            yield first, answer
            for position in others:
                yield position, _reused(answer)

    return ask


def _reused(reply: Reply | Failure) -> Reply | Failure:
    return reply if isinstance(reply, Failure) else Reply(reply.usage, reply.values, reply.text, reply.finish, True)

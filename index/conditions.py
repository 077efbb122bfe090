"""A condition on metadata, in SQL: SQLite evaluates it over one table, read-only, and may do nothing else.

No statement, query, other table, pragma or attached file can stand in a condition: the text must compile as an
expression in two places that no text but an expression fits, SQLite's authorizer permits one SELECT, that table's
columns and the functions below, and the file is opened read-only and immutable.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ..errors import SetupError, UsageError, suggest
from .metadata import ROW, TABLE, folded, quoted

#: What a condition may call. None reads a file or makes a large value of a small one.
FUNCTIONS = (
    *("abs", "coalesce", "date", "datetime", "glob", "ifnull", "iif", "instr", "json_array_length", "json_extract"),
    *("json_type", "julianday", "length", "like", "lower", "ltrim", "max", "min", "nullif", "round", "rtrim"),
    *("strftime", "substr", "substring", "time", "trim", "typeof", "unicode", "unixepoch", "upper", "->", "->>"),
)

#: Longest condition and longest LIKE or GLOB pattern, in bytes.
_LONGEST, _LONGEST_PATTERN = 100_000, 1000

#: So much of a condition stands in an error.
_SHOWN = 300

#: Texts, and names in SQLite's three kinds of quotes. SQLite reads "name" as a text where there is no such column.
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"((?:[^"]|"")*)"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/""", re.DOTALL)

#: Conditions whose rows are remembered.
_REMEMBERED = 8


class MetadataTable:
    """The table of metadata in the file `path`; `what` names the index in errors.

    `columns` are the fields' names. Every call opens the file anew, so an object may be used from several threads.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what
        with self._opened() as connection:
            rows = connection.execute(f"SELECT name FROM pragma_table_info('{TABLE}')").fetchall()
        self.columns: list[str] = [name for (name,) in rows if name != ROW]
        self.rows = lru_cache(maxsize=_REMEMBERED)(self._rows)

    def _rows(self, where: str) -> np.ndarray:
        """The rows (m,) int64 of the documents that meet the condition `where`, ascending; NULL does not meet it.

        `UsageError` for a condition that SQLite can't read, with the place, and for a column that there is not, with
        the nearest spelling.
        """
        self._check(where)
        with self._opened() as connection:
            connection.set_authorizer(_Authorizer({*self.columns, ROW, "ROWID"}))
            try:
                found = connection.execute(f"SELECT {quoted(ROW)} FROM {TABLE} WHERE (\n{where}\n)").fetchall()
            except sqlite3.Error as error:
                raise self._refusal(where, str(error)) from error
        rows = np.fromiter((row for (row,) in found), np.int64, len(found))
        rows.sort()
        rows.flags.writeable = False
        return rows

    def _check(self, where: str) -> None:
        """Raise `UsageError` unless the text is one condition."""
        if not isinstance(where, str) or not where.strip():
            raise UsageError(f"{self.what}: where={where!r}: expected a condition such as year >= 2020")
        known = {folded(name) for name in self.columns}
        for match in _QUOTED.finditer(where):
            if (name := match[1]) is not None and folded(name.replace('""', '"')) not in known:
                raise UsageError(
                    f"{self.what}: where={where!r}: no column {match[0]} at character {match.start() + 1} (a text stands "
                    f"in single quotes): {suggest(name, self.columns)}"
                )
        if problem := self._problem(where):
            raise self._refusal(where, problem)

    def _problem(self, where: str) -> str:
        """What SQLite says against `where` as an expression, compiled but not run; "" for nothing."""
        allowed = _Authorizer(set(self.columns))
        with self._opened() as connection:
            connection.set_authorizer(allowed)
            try:
                connection.execute(f"EXPLAIN SELECT CASE WHEN (\n{where}\n) THEN 1 END FROM {TABLE}")
            except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
                return allowed.refused or str(error)
        return ""

    def _refusal(self, where: str, problem: str) -> UsageError:
        shown = where if len(where) <= _SHOWN else where[:_SHOWN] + "…"
        start = f"{self.what}: where={shown!r}: "
        if match := re.fullmatch(r"no such column: (.*)", problem):
            return UsageError(f"{start}no column {match[1]!r}: {suggest(match[1], self.columns)}")
        if match := re.fullmatch(r"no such function: (.*)", problem):
            return UsageError(f"{start}no function {match[1]!r}: {suggest(match[1], FUNCTIONS)}")
        if match := re.fullmatch(r'near "(.*)": syntax error', problem, re.DOTALL):
            return UsageError(f"{start}syntax error {self._place(where, match[1])}")
        if match := re.fullmatch(r'unrecognized token: "(.*)"', problem, re.DOTALL):
            place = where.find(match[1].partition("\n)")[0]) + 1
            return UsageError(f"{start}a text or name that does not end, or a wrong sign, at character {place}")
        if problem == "incomplete input":
            return UsageError(f"{start}it ends too early")
        if "bindings" in problem:
            return UsageError(f"{start}it has a parameter (?, :name, @name, $name): write the value")
        return UsageError(f"{start}{problem}: expected one condition on {', '.join(self.columns)}")

    def _place(self, where: str, token: str) -> str:
        """Where the condition's first token is that SQLite can't go on with: the shortest beginning that fails so."""
        for match in re.finditer(re.escape(token), where):
            if self._problem_of_beginning(where[: match.end()]).startswith(f'near "{token}"'):
                return f"at {token!r}, character {match.start() + 1}"
        return "at the end: something is missing, or a bracket too much"

    def _problem_of_beginning(self, text: str) -> str:
        with self._opened() as connection:
            connection.set_authorizer(_Authorizer(set(self.columns)))
            try:
                connection.execute(f"EXPLAIN SELECT CASE WHEN (\n{text}")
            except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
                return str(error)
        return ""

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A connection that can't write; what a damaged file makes SQLite say becomes a `SetupError`."""
        uri = f"file:{quote(str(self.path.resolve()))}?mode=ro&immutable=1"
        try:
            connection = sqlite3.connect(uri, uri=True, cached_statements=0)
            try:
                connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _LONGEST)
                connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _LONGEST_PATTERN)
                connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
                yield connection
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            raise SetupError(
                f"{self.path}: SQLite can't read it ({error}): run `cribble doctor {self.path.parent.parent}`"
            ) from error


class _Authorizer:
    """Permits one SELECT, columns of the table among `columns`, and `FUNCTIONS`. `refused` is the reason of a refusal."""

    def __init__(self, columns: set[str]) -> None:
        self._columns, self._selects, self.refused = columns, 0, ""

    def __call__(self, action: int, first: str | None, second: str | None, *_: object) -> int:
        if action == sqlite3.SQLITE_SELECT:
            self._selects += 1
            if self._selects == 1:
                return sqlite3.SQLITE_OK
            self.refused = "a query can't stand in a condition"
        elif action == sqlite3.SQLITE_READ:
            if first == TABLE and (second in self._columns or not second):
                return sqlite3.SQLITE_OK
            self.refused = f"no such column: {second}" if first == TABLE else f"{first} is not the table of metadata"
        elif action == sqlite3.SQLITE_FUNCTION:
            if second in FUNCTIONS:
                return sqlite3.SQLITE_OK
            self.refused = f"no such function: {second}"
        else:
            self.refused = "only a condition is allowed"
        return sqlite3.SQLITE_DENY

"""JSON over HTTP with patience: retries, waits that a server asks for, and errors that say what to do.

The key is sent and never shown: no message holds it.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

from ..errors import SetupError, UsageError, require

#: Where the server is if nobody says so.
OFFICIAL = "https://api.openai.com/v1"

#: Statuses after which the same request may succeed.
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
#: Seconds beyond which a wait that the server asks for is an error, and the longest wait between tries of our own.
_LONGEST_ASKED, _LONGEST_OWN = 600.0, 60.0
_TOO_LONG = re.compile(
    r"context.length|context.window|maximum context|max_model_len|too long|too many (input )?tokens|prompt is too large|"
    r"reduce the length|exceeds? the (available|maximum|model)",
    re.IGNORECASE,
)
_KEY_LIKE = re.compile(r"\b(sk|key|Bearer)[-_ ][\w\-*.]{6,}")


def key_of(url: str, variable: str) -> str | None:
    """The key in the environment variable, or None where there is none and `url` may do without: a server of one's own
    that was not given another variable than the usual one. Raises `SetupError` for a missing or impossible key."""
    key = os.environ.get(variable, "").strip()
    if not key and (variable != "OPENAI_API_KEY" or url == OFFICIAL):
        raise SetupError(f"openai: {url} needs a key: set the environment variable {variable}")
    if not key.isascii() or not key.isprintable():
        raise SetupError(f"openai: the variable {variable} holds characters that no key has: set it anew")
    return key or None


class Unanswered(Exception):
    """A request that got no usable answer: the others may still get theirs. `server` says that the server itself seems
    to be the reason, `connected` False that not even a connection came about."""

    def __init__(self, reason: str, *, server: bool = False, connected: bool = True) -> None:
        super().__init__(reason)
        self.server, self.connected = server, connected


class _Again(Exception):
    """A try that failed while the next may succeed, after `wait` seconds where the server names them."""

    def __init__(self, reason: str, *, wait: float | None = None, connected: bool = True) -> None:
        super().__init__(reason)
        self.wait, self.connected = wait, connected


class Endpoint:
    """A server under `url`. May be used by several threads.

    `key` is sent as a bearer token, from the environment variable `key_variable`. A request is tried `retries` times
    more, after `backoff` seconds that double each time, or after what the server asks for; then it is `Unanswered`.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        key_variable: str = "",
        timeout: float = 60.0,
        retries: int = 5,
        backoff: float = 1.0,
        connections: int = 8,
    ) -> None:
        self.url, self.timeout, self.retries, self.backoff = url.rstrip("/"), timeout, retries, backoff
        self._key, self._key_variable, self._connections = key, key_variable, connections
        self._quiet_until = 0.0

    @cached_property
    def _http(self) -> Any:
        return require("httpx2", "asking a server")

    @cached_property
    def _client(self) -> Any:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = self._http.Limits(max_connections=self._connections, max_keepalive_connections=self._connections)
        return self._http.Client(headers=headers, timeout=self.timeout, limits=limits, follow_redirects=False)

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object under `path`; errors as those of `post`."""
        return self._ask("GET", path, None, threading.Event())

    def post(self, path: str, body: dict[str, Any], stop: threading.Event) -> dict[str, Any]:
        """The JSON object that the server answers. `stop` ends all waits: the work is over.

        Raises `Unanswered` where one request fails, `SetupError` or `UsageError` where all would.
        """
        return self._ask("POST", path, json.dumps(body).encode(), stop)

    def _ask(self, method: str, path: str, content: bytes | None, stop: threading.Event) -> dict[str, Any]:
        for attempt in range(self.retries + 1):
            _wait(stop, self._quiet_until - time.monotonic())
            if stop.is_set():
                break
            try:
                return self._try(method, path, content)
            except _Again as problem:
                if attempt == self.retries:
                    tries = f", {attempt + 1} times" if attempt else ""
                    raise Unanswered(f"{problem}{tries}", server=True, connected=problem.connected) from problem
                self._pause(attempt, problem.wait, stop)
        raise Unanswered("the work was stopped")

    def _try(self, method: str, path: str, content: bytes | None) -> dict[str, Any]:
        """One request. Raises `_Again` where another may succeed."""
        headers = {"Content-Type": "application/json"}
        try:
            response = self._client.request(method, f"{self.url}/{path}", content=content, headers=headers)
        except self._http.TimeoutException as error:
            connected = not isinstance(error, self._http.ConnectTimeout)
            raise _Again(f"no answer within {self.timeout:g} s", connected=connected) from error
        except self._http.RequestError as error:
            connected = not isinstance(error, self._http.ConnectError)
            text = self._clean(str(error)) or type(error).__name__
            raise _Again(f"the connection failed ({text})", connected=connected) from error
        if response.status_code != 200:
            raise self._refusal(response)
        answer = _object(response)
        if isinstance(answer, str):
            raise _Again(f"the server's answer is no JSON object ({self._clean(answer)!r})")
        return answer

    # ---- waiting ----------------------------------------------------------------------------------------------------

    def _pause(self, attempt: int, asked: float | None, stop: threading.Event) -> None:
        if asked is not None:  # the server speaks to all of us
            self._quiet_until = max(self._quiet_until, time.monotonic() + asked)
            return
        longest = min(self.backoff * 2**attempt, _LONGEST_OWN)
        _wait(stop, random.uniform(longest / 2, longest))

    def _asked_wait(self, response: Any) -> float | None:
        """Seconds of a Retry-After header, a number or a date."""
        header = response.headers.get("Retry-After", "").strip()
        if not header:
            return None
        try:
            seconds = float(header)
        except ValueError:
            try:
                then = parsedate_to_datetime(header)
            except ValueError:
                return None
            seconds = (then.replace(tzinfo=then.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        if seconds > _LONGEST_ASKED:
            raise SetupError(
                f"{self.url} asks to wait for {seconds:,.0f} s (status {response.status_code}): run again then; "
                "judgements in the ledger stay"
            )
        return max(0.0, seconds) if seconds == seconds else None

    # ---- refusals ---------------------------------------------------------------------------------------------------

    def _refusal(self, response: Any) -> Exception:
        """What a status other than 200 means."""
        status, (code, message) = response.status_code, _error_of(response)
        said = self._clean(message)
        if status in (401, 407) or (status == 403 and "key" in message.lower()):
            where = f"in the variable {self._key_variable}" if self._key else "and none was sent"
            how = f"set the environment variable {self._key_variable} to a valid key"
            return SetupError(f"{self.url} refuses the key {where} (status {status}): {how}")
        if code == "insufficient_quota" or status == 402:
            return SetupError(f"{self.url}: the account's quota is spent ({said}): add credit, or name another server")
        if status in _AGAIN:
            return _Again(f"the server answered with status {status} ({said})", wait=self._asked_wait(response))
        if status == 413 or (status in (400, 422) and (code == "context_length_exceeded" or _TOO_LONG.search(message))):
            return Unanswered(f"the prompt is too long for the server ({said})")
        if code == "content_filter" or "content management policy" in message:
            return Unanswered(f"the server's content filter refused the prompt ({said})")
        if status in (400, 422):
            return UsageError(f"{self.url} refuses the request (status {status}: {said}): change the backend's options")
        if 300 <= status < 400:
            return SetupError(f"{self.url} has moved to {response.headers.get('Location', 'elsewhere')}: name that url")
        if status in (403, 404, 405, 410, 501):
            return SetupError(f"{response.url} answers with status {status} ({said}): check url, model and api")
        return _Again(f"the server answered with status {status} ({said})")

    def _clean(self, text: str) -> str:
        """A server's or a library's words in one short line, without the key or what looks like one."""
        if self._key:
            text = text.replace(self._key, "…")
        text = " ".join(_KEY_LIKE.sub("…", text).split())
        return text if len(text) <= 300 else text[:300] + "…"


def _wait(stop: threading.Event, seconds: float) -> None:
    if seconds > 0:
        stop.wait(seconds)


def _object(response: Any) -> dict[str, Any] | str:
    """The JSON object, or the beginning of what came instead."""
    try:
        answer = json.loads(response.content)
    except ValueError:
        return str(response.text[:80])
    return answer if isinstance(answer, dict) else str(answer)[:80]


def _error_of(response: Any) -> tuple[str, str]:
    """(code, message) of an error's body, in any of the shapes that servers have."""
    answer = _object(response)
    if isinstance(answer, str):
        return "", re.sub(r"<[^>]*>", " ", answer) or str(response.reason_phrase)
    error = answer.get("error", answer)
    if not isinstance(error, dict):
        return "", str(error)
    message = error.get("message") or error.get("detail") or error
    return str(error.get("code") or error.get("type") or ""), str(message)

"""What documents are called in a prompt: A, B, C, … or 1, 2, 3, …"""

from __future__ import annotations

import string

from ..errors import UsageError, suggest

#: Names of the schemes. There are 26 letters, and any number of numbers.
SCHEMES = ("letters", "numbers")


def check_scheme(what: str, scheme: str | None) -> None:
    """Refuse a scheme that there isn't; None, a template's own, is fine. `what` names who asks."""
    if scheme is not None and scheme not in SCHEMES:
        raise UsageError(f"{what}: ids {scheme!r} are unknown: {suggest(scheme, SCHEMES)}")


def identifiers(scheme: str, n: int) -> tuple[str, ...]:
    """The names of `n` documents, without brackets. Raises `UsageError` where the scheme has fewer."""
    check_scheme("identifiers", scheme)
    if scheme == "numbers":
        return tuple(str(i) for i in range(1, n + 1))
    if n > len(string.ascii_uppercase):
        raise UsageError(
            f"{n} documents in one prompt, but only the letters A to Z to name them: use smaller windows, or ids=numbers"
        )
    return tuple(string.ascii_uppercase[:n])

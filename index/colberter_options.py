"""What a search of a ColBERTer index may be asked for. Imports nothing heavy."""

from __future__ import annotations

from ..errors import UsageError, suggest

#: What proposes documents, each before what decides among them. A mode of one part alone ranks by that.
MODES = ("hybrid", "cls-bow", "bow-cls", "cls", "bow")

#: Documents that each part proposes where it is not said otherwise: so many, or twice k.
LEAST_CANDIDATES = 1000


def check_search(mode: str, candidates: int | None) -> None:
    """Raise `UsageError` for an unknown mode, and for candidates that are below 1 or that the mode does not have."""
    if mode not in MODES:
        raise UsageError(f"mode {mode!r} is unknown: {suggest(mode, MODES)}")
    if candidates is not None and mode in ("cls", "bow"):
        raise UsageError(f"candidates has no effect: mode {mode} ranks all documents by one part")
    if candidates is not None and candidates < 1:
        raise UsageError(f"candidates is {candidates}, expected at least 1")

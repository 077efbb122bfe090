"""Measures as text, in ir_measures' grammar: `nDCG@10 AP(rel=2)@100, nDCG(dcg='exp-log2')@10`.

White space or commas separate them. Names are matched without regard to case, and the field's other spellings (MAP,
MRR, recall, ndcg_cut_10, P.5) are understood where they can mean one thing only.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from ..errors import UsageError, suggest
from ..registry import entries, find
from .measure import Measure

_PIECE = re.compile(
    r"(?P<name>[A-Za-z][A-Za-z_]*?)(?:[_.](?P<tail>[0-9]{1,18}))?"  # ndcg_cut_10 and ndcg_cut.10 are trec_eval's own spellings
    r"\s*(?:\((?P<options>(?:'[^']*'|\"[^\"]*\"|[^()'\"])*)\))?"
    r"(?:@(?P<cutoff>[^\s,()@]+))?(?=[\s,]|$)"
)
_OPTION = re.compile(r"\s*(?P<key>[A-Za-z_]\w*)\s*=\s*(?P<value>'[^']*'|\"[^\"]*\"|[^\s,'\"]+)\s*(?:,|$)")


def parse_measures(text: str | Measure | Iterable[str | Measure]) -> list[Measure]:
    """Read measures from text, or from a list of texts and measures; each kind once, in the order given.

    Raises `UsageError` with position and nearest spelling for what is no measure, lacks its cutoff, or has an option or
    value that does not exist.
    """
    if isinstance(text, Measure):
        text.check()
        found = [text]
    elif isinstance(text, str):
        found = list(_pieces(text))
    elif not isinstance(text, Iterable):
        raise UsageError(f"measures={text!r}: expected text such as 'nDCG@10 R@100', or a list")
    else:
        found = [measure for item in text for measure in ([item] if isinstance(item, Measure) else _pieces(item))]
        for measure in found:
            measure.check()
    if not found:
        raise UsageError('no measure is given, expected e.g. "nDCG@10 R@100"')
    return list(dict.fromkeys(found))


def _pieces(text: str) -> Iterable[Measure]:
    if not isinstance(text, str):
        raise UsageError(f"a measure is given as {text!r}, a {type(text).__name__}, expected text such as 'nDCG@10'")
    at = 0
    while at < len(text):
        if text[at] in ", \t\r\n":
            at += 1
            continue
        match = _PIECE.match(text, at)
        if match is None:
            rest = re.split(r"[\s,]", text[at:], maxsplit=1)[0]
            hint = "expected a form such as AP(rel=2)@100" if re.search("[(@)]", rest) else _nearest(rest)
            raise UsageError(f"measures {text!r}, position {at + 1}: {rest!r} is no measure: {hint}")
        try:
            measure = _measure(match)
            measure.check()
        except UsageError as error:
            raise UsageError(f"measures {text!r}, position {at + 1}: {error}") from None
        yield measure
        at = match.end()


def _measure(match: re.Match[str]) -> Measure:
    name, tail, cutoff = match["name"], match["tail"], match["cutoff"]
    kind = measures().get(_spellings().get(name.casefold(), ""))
    if kind is None or (tail and cutoff):
        written = match[0].partition("(")[0]
        raise UsageError(f"the measure {written!r} is unknown: {_nearest(written)}")
    options = _options(match["options"] or "", kind)
    if cutoff is None:
        return kind(cutoff=int(tail) if tail else None, **options)
    if not re.fullmatch(r"[0-9]{1,18}", cutoff):
        shown = cutoff if len(cutoff) <= 18 else cutoff[:18] + "…"
        raise UsageError(f"the cutoff {shown!r}: expected a whole number as in {kind.registered_name}@10")
    return kind(cutoff=int(cutoff), **options)


@cache
def measures() -> dict[str, type[Measure]]:
    """Every registered measure by name."""
    return {name: find("eval/measures", name) for name in entries("eval/measures")}


@cache
def _spellings() -> dict[str, str]:
    """Name or alias, in lower case → name."""
    names = {alias.casefold(): name for name, kind in measures().items() for alias in kind.aliases}
    return names | {name.casefold(): name for name in measures()}


def _nearest(written: str) -> str:
    """The tail of an error about an unknown measure: the nearest name, with the cutoff that was asked for."""
    name, at, cutoff = written.partition("@")
    close = difflib.get_close_matches(name.casefold(), _spellings(), n=1, cutoff=0.6)
    known = ", ".join(sorted(measures(), key=str.casefold))
    return f"did you mean {_spellings()[close[0]] + at + cutoff!r}? (known: {known})" if close else f"known: {known}"


def _options(text: str, kind: type[Measure]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    at = 0
    while text[at:].strip():
        match = _OPTION.match(text, at)
        if match is None:
            raise UsageError(f"{kind.registered_name}({text}): expected options of the form key=value, e.g. rel=2")
        key = match["key"]
        if key not in kind.options():
            raise UsageError(f"{kind.registered_name} has no option {key!r}: {suggest(key, kind.options())}")
        if key in options:
            raise UsageError(f"{kind.registered_name}({text}): the option {key!r} is given twice")
        try:
            options[key] = ast.literal_eval(match["value"])
        except (ValueError, SyntaxError):
            options[key] = match["value"]  # a bare word, as in dcg=exp-log2
        at = match.end()
    return options

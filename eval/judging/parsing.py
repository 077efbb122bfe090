"""Reads a label from a model's answer, or says why there is none. Nothing is guessed: a digit in prose is no label."""

from __future__ import annotations

import re

from . import SCALE

#: Why an answer gave no label. `no_reply` and `too_long` are of the call, the others of its text.
KINDS = ("no_score", "not_whole", "outside_scale", "contradictory", "cut", "no_reply", "too_long")

#: `##final score: 2`, anywhere after the marks, or on a line of its own without them; `O:` may stand before it.
_DECLARED = re.compile(
    r"(?:^[ \t>*#-]*(?:\(?O\)?[ \t]*[:.)-][ \t]*)?|##[ \t]*)(?:\*\*)?final[ \t]+score[ \t*]*:(?P<value>.*)$",
    re.I | re.M,
)
#: Scores of the steps before: content match and trust.
_STEP = re.compile(r"^[ \t>*#-]*\(?[MT]\)?[ \t]*[:.)-]", re.I)
#: `2`, `Category: 2`, `Relevance category 2`: the last line of the plain prompt's answer.
_CATEGORY = re.compile(r"(?:(?:relevance[ \t]+)?category[ \t]*[:=]?[ \t]*)?(?P<value>.+)", re.I)
_AROUND = " \t*_`\"'"


def read_label(text: str, *, bare: bool = False, finish: str = "stop") -> int | str:
    """The label that `text` declares by `final score: N`, or one of `KINDS`.

    A text that is a number and nothing else counts; with `bare` also one whose last line is. Several declarations must
    agree. What a model thought before `</think>` does not count. `finish` length means that the text was cut: a score is
    read only where a line came after it.
    """
    text = text.rpartition("</think>")[2]
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return "cut" if finish == "length" else "no_score"
    declared = [found for line in lines if not _STEP.match(line) for found in [_DECLARED.search(line)] if found]
    if declared:
        cut = finish == "length" and declared[-1].string == lines[-1]
        values = {_number(found["value"]) for found in declared}
    else:
        cut = finish == "length"
        last = _CATEGORY.fullmatch(lines[-1].strip(_AROUND))
        whole = last if bare or len(lines) == 1 else None
        values = {_number(whole["value"])} if whole else {"no_score"}
        values = {"no_score" if value == "unclear" else value for value in values}
    if cut:
        return "cut"
    if len(values) > 1:
        return "contradictory"
    (value,) = values
    if isinstance(value, str):
        return "not_whole" if value in ("not_whole", "unclear") else value
    return value if SCALE[0] <= value <= SCALE[1] else "outside_scale"


def _number(written: str) -> int | str:
    """The whole number that is all of `written`, marks of emphasis aside."""
    bare = written.strip(_AROUND).rstrip(".").strip(_AROUND)
    if re.fullmatch(r"[+-]?\d{1,9}", bare):
        return int(bare)
    return "not_whole" if re.fullmatch(r"[+-]?\d*[.,/]\d+", bare) else "unclear"

"""What a generated answer says: which documents it names, in which order, and what had to be repaired to read it.

Repairs are those of the official parsers (RankGPT's `receive_permutation`, rank_llm's `response_utils`): of a repeated id
the first counts, ids that no document has are dropped, documents that are not named follow in their given order. Every
repair is counted by kind; an answer in the form that was asked for has no counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

#: Counts of one answer: documents not named, names once more, names that no document has, and 1 where the text was not
#: in the form asked for; 1 where no choice could be read at all.
REPAIRS = (
    "repaired_missing",
    "repaired_repeated",
    "repaired_out_of_range",
    "repaired_format",
    "repaired_unreadable",
)

_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
#: A capital that stands by itself, but neither the article nor the pronoun: `A passage`, `I think`, `I'm`.
_LETTER = re.compile(r"(?<![^\W_])(?:[B-HJ-Z]|[AI](?!\s+[a-z])|(?<=assage )[AI]|(?<=ocument )[AI])(?![^\W_]|['’]\w)")
_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class Form:
    """How an answer names documents: their `names` in order (`A`, `B` or `1`, `2`), what stands `before` and `after`
    each (`[` and `]`), and the `separator` between two (` > `)."""

    names: tuple[str, ...]
    before: str = "["
    after: str = "]"
    separator: str = " > "

    @cached_property
    def positions(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    @property
    def numbered(self) -> bool:
        return bool(self.names) and self.names[0].isdigit()

    def written(self, position: int) -> str:
        return f"{self.before}{self.names[position]}{self.after}"

    def whole(self, positions: Sequence[int]) -> str:
        """The well-formed answer that names the documents at `positions`."""
        return self.separator.join(map(self.written, positions))


def read_order(
    text: str, form: Form, *, top: int | None = None, cut: bool = False, reasoning: bool = False
) -> tuple[list[int], dict[str, int]]:
    """Positions of all documents, best first, and what was repaired.

    With `top` only the best so many are expected, and no more are taken. `cut` says that the text ended at a limit: an
    id at its very end that could have been a longer one is then left out. `reasoning` says that the answer stands behind
    a chain of thought: where that is cut, there is no answer.
    """
    n = len(form.names)
    expected = n if top is None else min(top, n)
    answer = final_answer(text, reasoning=reasoning and cut)
    named = _strictly(answer, form)
    if named is None and cut:
        named = _strictly(_without_stump(answer, form), form)
    counts = {"repaired_format": int(named is None)}
    found = _found(answer, form, cut=cut, share=0.5) if named is None else named
    order: list[int] = []
    for name in found:
        position = form.positions.get(name)
        if position is None:
            counts["repaired_out_of_range"] = counts.get("repaired_out_of_range", 0) + 1
        elif position in order:
            counts["repaired_repeated"] = counts.get("repaired_repeated", 0) + 1
        elif len(order) < expected:
            order.append(position)
    counts["repaired_missing"] = expected - len(order)
    placed = set(order)
    rest = [position for position in range(n) if position not in placed]
    return order + rest, {kind: count for kind, count in counts.items() if count}


def read_choice(
    text: str, form: Form, labels: Sequence[str] = (), *, reasoning: bool = False
) -> tuple[int | None, dict[str, int]]:
    """The position of the one document that the text names, and what was repaired; None where it names none or several.

    `labels` are further well-formed answers, one a document: what is left to say after a prompt's tail. `reasoning` says
    that a chain of thought is due to end.
    """
    answer = final_answer(text, reasoning=reasoning)
    position = exactly_named(answer, form, labels)
    if position is not None:
        return position, {}
    found = {form.positions[name] for name in _found(answer, form, share=0.0) if name in form.positions}
    if len(found) == 1:
        return found.pop(), {"repaired_format": 1}
    return None, {"repaired_unreadable": 1}


def exactly_named(text: str, form: Form, labels: Sequence[str] = ()) -> int | None:
    """The position of the document whose name is all of the text, white space around it and case aside."""
    said = text.strip().casefold()
    for i in range(len(form.names)):
        if said in (form.written(i).strip().casefold(), *(label.strip().casefold() for label in labels[i : i + 1])):
            return i
    return None


def final_answer(text: str, *, reasoning: bool = False) -> str:
    """What is said after the last `</think>`, and of that what stands in the last `<answer>` tags, where there are such.

    A chain of thought that does not end has no answer: an opened `<think>`, or no `</think>` where `reasoning` says that
    one is due. Its ids are the model's musings, in no order.
    """
    _thought, closed, answer = text.rpartition("</think>")
    if not closed and (reasoning or "<think>" in answer) and not _ANSWER.search(answer):
        return ""
    tagged = _ANSWER.findall(answer)
    return (tagged[-1] if tagged else answer).strip()


# ---- finding names --------------------------------------------------------------------------------------------------


def _without_stump(answer: str, form: Form) -> str:
    """A cut answer without its unfinished last name; with it where only one name goes on like that."""
    head, _, stump = answer.rpartition(form.separator.strip() or form.separator)
    stump = stump.strip()
    fitting = [i for i in range(len(form.names)) if form.written(i).startswith(stump)]
    if len(fitting) == 1 and len(stump) > len(form.before):
        return f"{head.strip()}{form.separator}{form.written(fitting[0])}"
    return head.strip() if fitting else answer


def _strictly(answer: str, form: Form) -> list[str] | None:
    """The names of an answer in the form asked for, those of no document among them; None of any other text."""
    names = []
    for part in _unframed(answer, form).split(form.separator):
        inner = part[len(form.before) : len(part) - len(form.after)]
        if f"{form.before}{inner}{form.after}" != part or not _is_name(inner, form):
            return None
        names.append(inner)
    return names


def _unframed(answer: str, form: Form) -> str:
    """A list without what some prompts ask for around it: `[rankstart] … [rankend]`, or brackets where the names have
    none. The end may lack, as a forced length ends there."""
    answer = answer.removeprefix("[rankstart]").removesuffix("[rankend]").strip()
    return answer.removeprefix("[").removesuffix("]") if "[" not in form.before + form.after else answer


def _is_name(text: str, form: Form) -> bool:
    if form.numbered:
        return text.isascii() and text.isdigit() and (text[0] != "0" or text == "0")
    return len(text) == 1 and "A" <= text <= "Z"


def _found(answer: str, form: Form, *, share: float, cut: bool = False) -> list[str]:
    """The names in a text of any form. Where more than nothing and at least `share` of them stand in the marks asked
    for (`[3]`), only those count: a number in a sentence is no id then."""
    answer = plain(answer)
    bare = list((_NUMBER if form.numbered else _LETTER).finditer(answer))
    marked = list(_marked(form.before, form.after, form.numbered).finditer(answer))
    use_marked = marked and len(marked) >= share * len(bare)
    matches = [(m[1], m.end(1)) for m in marked] if use_marked else [(m[0], m.end()) for m in bare]
    if cut and matches and matches[-1][1] == len(answer) and _could_go_on(matches[-1][0], form):
        matches.pop()
    return [name.lstrip("0") or "0" if form.numbered else name.upper() for name, _ in matches]


@lru_cache(maxsize=64)
def _marked(before: str, after: str, numbered: bool) -> re.Pattern[str]:
    """Names between their marks; the one behind may lack at the text's end, and case does not matter between marks."""
    before, after = (re.escape(mark.strip()) for mark in (before, after))
    name = "[0-9]+" if numbered else "[A-Za-z]" if after else "[A-Z]"
    behind = rf"\s*(?:{after}|\Z)" if after else r"(?![^\W_])"
    return re.compile(rf"(?i:{before})\s*({name}){behind}")


def _could_go_on(name: str, form: Form) -> bool:
    """Whether a cut name could be the beginning of a longer one: 1 of 12."""
    return any(longer != name and longer.startswith(name) for longer in form.names)


def plain(text: str) -> str:
    """The text with other scripts' digits and full-width, raised, lowered or circled signs as plain ones.

    ３ and ³ are digits, and two of them a number; ③ is a number by itself.
    """
    return text if text.isascii() else "".join(map(_plain, text))


@lru_cache(maxsize=4096)
def _plain(sign: str) -> str:
    if sign.isascii():
        return sign
    if sign.isdecimal():
        return str(unicodedata.decimal(sign))
    kind = unicodedata.decomposition(sign).partition(" ")[0]
    if kind in ("<super>", "<sub>", "<wide>"):
        return unicodedata.normalize("NFKC", sign)
    value = unicodedata.numeric(sign, 0.5)
    if unicodedata.category(sign) == "No" and value == int(value):
        return f" {int(value)} "
    return sign

"""Where the passages and the query of an attention call stand among the tokens of its prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import InputError, UsageError
from .calls import AttentionCall, Message

if TYPE_CHECKING:
    from .tokenizing import HFTokens


class Spans(NamedTuple):
    """A rendered prompt: ids (n,) int32, the tokens [start, end) of the query, and those of each passage."""

    ids: np.ndarray
    query: tuple[int, int]
    passages: list[np.ndarray]

    @property
    def passages_end(self) -> int:
        """The tokens up to the last passage's end."""
        return max((int(places[-1]) + 1 for places in self.passages if len(places)), default=0)


def spans_of(call: AttentionCall, tokens: HFTokens, query: str) -> Spans:
    """The call's text with `query` in it, as tokens. A token belongs to the text that its last character is in."""
    text, places = call.head, []
    for passage in call.passages:
        places.append((len(text) + len(call.join), len(text) + len(call.join) + len(passage)))
        text += call.join + passage
    start = len(text) + len(call.before)
    content = text + call.before + query + call.after
    rendered, shift = _rendered(tokens, content, call.chat)
    offsets = tokens.offsets(rendered)
    if offsets is None:
        raise UsageError(f"the tokenizer of {tokens.name} can't say where its tokens are, which attention scores need")
    special = [] if call.chat else tokens.special_ids[0]
    last = np.asarray([end - 1 if end > begin else -1 for begin, end in offsets], np.int64) - shift
    inside = [
        np.flatnonzero((last >= a) & (last < b)) + len(special) for a, b in (*places, (start, start + len(query)))
    ]
    asking = inside.pop()
    if not len(asking):
        raise InputError(f"the query {query!r} has no token of its own in the tokenizer of {tokens.name}")
    ids = np.asarray([*special, *tokens.encode(rendered)], np.int32)
    return Spans(ids, (int(asking[0]), int(asking[-1]) + 1), inside)


def _rendered(tokens: HFTokens, content: str, chat: bool) -> tuple[str, int]:
    """The text that the model reads, and where `content` begins in it (templates may strip white space)."""
    if not chat:
        return content, 0
    rendered = tokens.chat([Message("user", content)])
    bare = content.strip()
    at = rendered.find(bare)
    if at < 0:
        raise InputError(f"the chat template of {tokens.name} changes the text, so that passages can't be found in it")
    return rendered, at - (len(content) - len(content.lstrip()))

"""In-context reranking: documents are ranked by the attention that the query pays to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...errors import UsageError
from ...models.calls import AttentionCall, Call, Reply, Request, Tokens
from ...registry import register
from . import Answer, TooLong
from .prompted import Prompted
from .values import by_values


@register("icr")
@dataclass
class ICR(Prompted):
    """In-context reranking (Chen et al. 2024): attention of the query's tokens to each document, less that of `N/A`.

    All documents are best shown at once. `template` names a prompt whose text is read for attention, `words` cuts
    passages at so many words (None as the template does). `reverse` shows the first document last, next to the query, as
    the paper's experiments do. `heads` are the [layer, head] pairs whose attention counts (QRRanker, retrieval heads);
    none means all of them.
    """

    template: str = "icr-llama-ie"
    words: int | None = None
    reverse: bool = True
    heads: Sequence[Sequence[int]] = ()

    asks = "order"
    verbs = frozenset({"order", "choose", "ends", "prefer"})

    def __post_init__(self) -> None:
        for head in self.heads:
            if not isinstance(head, Sequence) or len(head) != 2 or any(not _is_index(number) for number in head):
                raise UsageError(f"icr: heads has {head!r}, expected pairs [layer, head] of numbers from 0")
        super().__post_init__()

    def call(self, request: Request, tokens: Tokens) -> tuple[Call, Mapping[str, int]]:
        self.check_verb(request)
        if self.reverse:
            request = request._replace(documents=request.documents[::-1])
        call, shrunk = self._fitted(request, tokens)
        heads = tuple((int(layer), int(head)) for layer, head in self.heads)
        return replace(call, heads=heads, request=request), {"shrunk_prompts": 1} if shrunk else {}

    def read(self, request: Request, call: Call, reply: Reply) -> Answer | Call:
        answer = by_values(request.verb, reply.values[::-1] if self.reverse else reply.values)
        # Attention is no logit: of two documents it says which is better, not how probably.
        return replace(answer, scores=()) if request.verb == "prefer" else answer

    def _fitted(self, request: Request, tokens: Tokens) -> tuple[AttentionCall, bool]:
        """The call, with passages shortened by the rule of `prompts.shrink` until it fits the model."""
        names = self.names(len(request.documents))
        words = self.words
        call = self._shown_with(request, names, words, tokens)
        overflow = _overflow(call, tokens)
        if overflow <= 0:
            return call, False
        limit = (
            words or self.shown.words or max(self.shown.document.longest(document) for document in request.documents)
        )
        while overflow > 0:
            if limit <= 1:
                raise TooLong(
                    f"the prompt has {overflow} tokens too many for the model's {tokens.limit}, even with one word of each "
                    f"of the {len(names)} passages: show fewer documents at a time"
                )
            limit = max(1, limit - max(1, overflow // (4 * len(names))))
            call = self._shown_with(request, names, limit, tokens)
            overflow = _overflow(call, tokens)
        return call, True

    def _shown_with(self, request: Request, names: Sequence[str], words: int | None, tokens: Tokens) -> AttentionCall:
        return self.shown.attention(request.query.text, request.documents, names, words=words, tokens=tokens)


def _is_index(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def _overflow(call: AttentionCall, tokens: Tokens) -> int:
    if tokens.limit is None:
        return 0
    queries = (tokens.length(call.before + query + call.after) for query in (call.query, call.null_query))
    passages = "".join(call.join + passage for passage in call.passages)
    return tokens.length(call.head + passages) + max(queries) - tokens.limit

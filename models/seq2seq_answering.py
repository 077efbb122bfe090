"""From calls to replies by an encoder–decoder: the encoder reads the prompt, the decoder starts with its tail."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..errors import InputError, UsageError
from .answering import Answers, Asked, check_finite, sifted, text_reply
from .calls import AttentionCall, Failure, GenerateCall, LabelCall, LikelihoodCall, Prompt, Reply, Usage
from .library_generation import end_tokens
from .seq2seq import Seq2SeqModel, Source
from .tokenizing import HFTokens
from .writing import Writing, writer_of


class Seq2SeqAnswers:
    """Answers of an encoder–decoder. Prompts share nothing, as each token of a prompt sees all others."""

    def __init__(self, model: Seq2SeqModel, tokens: HFTokens) -> None:
        self.model, self.tokens = model, tokens

    def labels(self, asked: Asked[LabelCall]) -> Answers:
        labels = [self.tokens.label_ids(call.prompt, call.labels) for _, call in asked]
        fits, sources, tails, failures = self._sources([call.prompt for _, call in asked])
        yield from ((asked[i][0], failure) for i, failure in failures)
        for batch in self.model.logits(sources, tails):
            for place, logits in batch:
                i = fits[place]
                values = tuple(logits[-1, list(labels[i])].tolist())
                check_finite(values, self.model.name)
                yield asked[i][0], Reply(Usage(self._length(sources[place], tails[place]), 0, 1), values)

    def likelihood(self, asked: Asked[LikelihoodCall]) -> Answers:
        fits, sources, tails, failures = self._sources([call.prompt for _, call in asked])
        yield from ((asked[i][0], failure) for i, failure in failures)
        yield from ((asked[i][0], Reply()) for i in fits if not asked[i][1].targets)
        targets = {i: self._targets(asked[i][1]) for i in fits}
        flat = [(place, t) for place, i in enumerate(fits) for t in range(len(targets[i]))]
        values = {i: [0.0] * len(targets[i]) for i in fits}
        left = {i: len(targets[i]) for i in fits}
        starts = [targets[fits[place]][t][0][:-1] for place, t in flat]
        for batch in self.model.logits([sources[place] for place, _ in flat], starts):
            for row, logits in batch:
                place, t = flat[row]
                i = fits[place]
                ids, count = targets[i][t]
                chosen = torch.tensor(ids[len(ids) - count :], device=logits.device)
                values[i][t] = float(logits[-count:].log_softmax(-1).gather(1, chosen[:, None]).double().sum())
                left[i] -= 1
                if not left[i]:
                    check_finite(values[i], self.model.name)
                    usage = Usage(self._length(sources[place], tails[place]), 0, 0)
                    yield asked[i][0], Reply(usage, tuple(values[i]))

    def generate(self, asked: Asked[GenerateCall]) -> Answers:
        fits, sources, tails, failures = self._sources([call.prompt for _, call in asked])
        yield from ((asked[i][0], failure) for i, failure in failures)
        ends = end_tokens(self.model.model, self.tokens.tokenizer)
        writings = []
        for i, tail in zip(fits, tails, strict=True):
            call = asked[i][1]
            writings.append(Writing(call, writer_of(call, self.tokens, ends, tail)))
        for done in self.model.write(sources, tails, writings):
            for place in done:
                yield asked[fits[place]][0], text_reply(writings[place], self._length(sources[place], tails[place]), 0)

    def attention(self, asked: Asked[AttentionCall]) -> Answers:
        raise UsageError(
            f"{self.model.name} is an encoder–decoder: attention scores need a causal language model (decoder only)"
        )

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _sources(
        self, prompts: Sequence[Prompt]
    ) -> tuple[list[int], list[Source], list[list[int]], list[tuple[int, Failure]]]:
        """Places of the prompts that fit, their sources and tails, and failures of the others. Each part has the whole
        of the encoder's limit."""
        sources = [Source(tuple(tuple(ids) for ids in self.tokens.encoder_ids(prompt))) for prompt in prompts]
        longest = [max(map(len, source.parts)) for source in sources]
        fits, failures = sifted(longest, [0] * len(prompts), self.tokens)
        tails = [self.tokens.encode(prompts[i].tail) for i in fits]
        return fits, [sources[i] for i in fits], tails, failures

    def _targets(self, call: LikelihoodCall) -> list[tuple[list[int], int]]:
        """Each target after the tail as token ids, and how many of these come after the tail's."""
        tail = self.tokens.encode(call.prompt.tail)
        found = []
        for target in call.targets:
            ids = self.tokens.encode(call.prompt.tail + target)
            common = next((k for k, pair in enumerate(zip(tail, ids, strict=False)) if pair[0] != pair[1]), None)
            count = len(ids) - (min(len(tail), len(ids)) if common is None else common)
            if not count:
                raise InputError(
                    f"the target {target!r} adds no token to its prompt in the tokenizer of {self.tokens.name}"
                )
            found.append((ids, count))
        return found

    def _length(self, source: Source, tail: Sequence[int]) -> int:
        return source.length + len(tail)

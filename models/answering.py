"""From calls to replies: what each kind of call asks of a causal model or of an encoder–decoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, UsageError
from .attention_scores import attention_scores, check_heads
from .attention_spans import spans_of
from .calls import AttentionCall, Failure, GenerateCall, LabelCall, LikelihoodCall, Prompt, Reply, Usage
from .causal import CausalModel
from .generation import Job, write
from .library_generation import end_tokens, write_by_library
from .memory import in_halves
from .packed_forward import Reading
from .tokenizing import HFTokens
from .writing import Writing, writer_of

C = TypeVar("C", LabelCall, GenerateCall, LikelihoodCall, AttentionCall)
#: Calls with their positions in what was asked.
Asked = Sequence[tuple[int, C]]
Answers = Iterator[tuple[int, Reply | Failure]]

#: Rows of logits of the whole vocabulary that are held at a time.
_ROWS = 64


class CausalAnswers:
    """Answers of a causal language model. `room` is how many tokens of prompts and texts are held while generating."""

    def __init__(self, model: CausalModel, tokens: HFTokens, room: int) -> None:
        self.model, self.tokens, self.room = model, tokens, room

    def labels(self, asked: Asked[LabelCall]) -> Answers:
        ids = self.tokens.ids_of([call.prompt for _, call in asked])
        labels = [self.tokens.label_ids(call.prompt, call.labels) for _, call in asked]
        fits, failures = sifted([len(row) for row in ids], [1] * len(ids), self.tokens)
        yield from ((asked[i][0], failure) for i, failure in failures)
        for part in self.model.read([Reading(ids[i]) for i in fits]):
            members = [fits[read.place] for read in part]
            logits = self._label_logits([read.hidden[-1:] for read in part], [labels[i] for i in members])
            for i, read, values in zip(members, part, logits, strict=True):
                check_finite(values, self.model.name)
                yield asked[i][0], Reply(Usage(len(ids[i]), read.cached, 1), values)

    def likelihood(self, asked: Asked[LikelihoodCall]) -> Answers:
        prompts = self.tokens.ids_of([call.prompt for _, call in asked])
        spelled = [self._targets(call.prompt, ids, call.targets) for (_, call), ids in zip(asked, prompts, strict=True)]
        longest = [
            max(map(len, [ids, *(whole for whole, _ in own)])) for ids, own in zip(prompts, spelled, strict=True)
        ]
        fits, failures = sifted(longest, [0] * len(asked), self.tokens)
        yield from ((asked[i][0], failure) for i, failure in failures)
        yield from ((asked[i][0], Reply()) for i in fits if not spelled[i])
        flat = [(i, t) for i in fits for t in range(len(spelled[i]))]
        # The last token of a target is looked up, not read.
        readings = [Reading(spelled[i][t][0][:-1], spelled[i][t][1]) for i, t in flat]
        values = {i: [0.0] * len(spelled[i]) for i in fits}
        computed, left = dict.fromkeys(fits, 0), {i: len(spelled[i]) for i in fits}
        for part in self.model.read(readings):
            for read in part:
                i, t = flat[read.place]
                ids, count = spelled[i][t]
                values[i][t] = self._log_probability(read.hidden, ids[len(ids) - count :])
                computed[i] += len(readings[read.place].ids) - read.cached
                left[i] -= 1
                if not left[i]:
                    check_finite(values[i], self.model.name)
                    usage = Usage(len(prompts[i]), max(0, len(prompts[i]) - computed[i]), 0)
                    yield asked[i][0], Reply(usage, tuple(values[i]))

    def generate(self, asked: Asked[GenerateCall]) -> Answers:
        prompts = self.tokens.ids_of([call.prompt for _, call in asked])
        ends = end_tokens(self.model.model, self.tokens.tokenizer)
        writings = []
        for (_, call), ids in zip(asked, prompts, strict=True):
            writings.append(Writing(call, writer_of(call, self.tokens, ends, ids.tolist())))
        fits, failures = sifted([len(ids) for ids in prompts], [w.writer.most for w in writings], self.tokens)
        yield from ((asked[i][0], failure) for i, failure in failures)
        for members in self._written([Job(prompts[i], writings[i]) for i in fits]):
            for place, cached in members:
                i = fits[place]
                yield asked[i][0], text_reply(writings[i], len(prompts[i]), cached)

    def attention(self, asked: Asked[AttentionCall]) -> Answers:
        if self.model.packed is None:
            raise UsageError(f"the attention of {self.model.name} can't be read here: {self.model.why_plain}")
        config = self.model.model.config.get_text_config()
        for position, call in asked:
            check_heads(call.heads, self.model.packed.layers, int(config.num_attention_heads), self.model.name)
            real, null = (spans_of(call, self.tokens, query) for query in (call.query, call.null_query))
            _, failures = sifted([max(len(real.ids), len(null.ids))], [0], self.tokens)
            if failures:
                yield position, failures[0][1]
                continue
            values, shared = attention_scores(self.model.packed, real, null, call.heads)
            check_finite(values, self.model.name)
            read = len(real.ids) + len(null.ids) - real.passages_end  # the passages are read once
            yield position, Reply(Usage(read, shared, 0), values)

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _label_logits(self, states: Sequence[Tensor], labels: Sequence[tuple[int, ...]]) -> list[tuple[float, ...]]:
        """Logits of each state's own labels; states with the same labels in one product."""
        found: list[tuple[float, ...]] = [()] * len(states)
        for ids in dict.fromkeys(labels):
            rows = [row for row, own in enumerate(labels) if own == ids]
            logits = self.model.head.labels(torch.cat([states[row] for row in rows]), ids).cpu().numpy()
            for row, values in zip(rows, logits.tolist(), strict=True):
                found[row] = tuple(values)
        return found

    def _log_probability(self, hidden: Tensor, targets: np.ndarray) -> float:
        """Σ log p of `targets` (n,) after the states (n, ·) before them."""
        total = 0.0
        for start in range(0, len(targets), _ROWS):
            logits = self.model.head.all(hidden[start : start + _ROWS])
            chosen = torch.from_numpy(targets[start : start + _ROWS].astype(np.int64)).to(logits.device)
            total += float(logits.log_softmax(-1).gather(1, chosen[:, None]).double().sum())
        return total

    def _targets(self, prompt: Prompt, ids: np.ndarray, targets: Sequence[str]) -> list[tuple[np.ndarray, int]]:
        """Each target after the prompt as token ids, and how many of these come after the prompt's."""
        found = []
        for target in targets:
            whole = self.tokens.ids(replace(prompt, tail=prompt.tail + target))
            n = min(len(ids), len(whole))
            different = np.flatnonzero(ids[:n] != whole[:n])
            common = int(different[0]) if len(different) else n
            if len(whole) == common or not common:
                raise InputError(
                    f"the target {target!r} adds no token to its prompt in the tokenizer of {self.model.name}"
                )
            found.append((whole, len(whole) - common))
        return found

    def _written(self, jobs: Sequence[Job]) -> Iterator[list[tuple[int, int]]]:
        """(place, cached tokens) of the jobs that are done."""
        if self.model.packed is not None:
            for done in write(self.model.packed, self.model.head, jobs, self.room):
                yield [(job.place, job.cached) for job in done]
            return

        def run(batch: np.ndarray) -> list[tuple[int, int]]:
            members = [jobs[i] for i in batch]
            inputs = self.model.padded_inputs([job.ids for job in members])
            write_by_library(self.model.model, inputs, [job.writing for job in members])
            return [(int(i), 0) for i in batch]

        for batch in self.model.batches([len(job.ids) for job in jobs], self.room):
            yield from in_halves(run, batch, "texts")


def text_reply(writing: Writing, prompt: int, cached: int) -> Reply:
    writer = writing.writer
    return Reply(
        Usage(prompt, cached, len(writer.tokens)), text=writer.text(), finish="length" if writer.cut else "stop"
    )


def sifted(
    prompts: Sequence[int], answers: Sequence[int], tokens: HFTokens
) -> tuple[list[int], list[tuple[int, Failure]]]:
    """The places of calls that fit into the context, and a failure for each of the others."""
    limit, fits, failures = tokens.limit, [], []
    for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        if not prompt:
            failures.append((i, Failure("the prompt has no token")))
        elif limit is not None and prompt + max(0, answer - 1) > limit:
            wanted = f"{prompt} tokens" + (f" and {answer} for the answer" if answer > 1 else "")
            failures.append((i, Failure(f"the prompt has {wanted}, the limit of {tokens.name} is {limit}")))
        else:
            fits.append(i)
    return fits, failures


def check_finite(values: Iterable[float], name: str) -> None:
    values = list(values)
    if not np.isfinite(values).all():
        raise InputError(f"the model {name} answers with {values[:4]}: check its dtype and its weights")

"""Encoder–decoders (T5 and its kin): the encoder reads the prompt, the decoder starts with its tail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .batching import pad, plan_batches
from .library_generation import write_by_library
from .memory import in_halves
from .writing import Writing


class Source(NamedTuple):
    """What the encoder reads: one sequence of token ids, or several that it reads apart (Fusion-in-Decoder), whose
    states the decoder sees one after the other."""

    parts: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        return sum(map(len, self.parts))


class Seq2SeqModel:
    """`model` is an encoder–decoder of transformers with a language model's head; `token_budget` are padded tokens of the
    encoder a batch."""

    def __init__(self, name: str, model: Any, token_budget: int) -> None:
        self.name, self.model, self.token_budget = name, model, token_budget
        start = model.generation_config.decoder_start_token_id
        start = start if start is not None else getattr(model.config, "decoder_start_token_id", None)
        self.start = int(start if start is not None else model.config.pad_token_id or 0)

    def logits(self, sources: Sequence[Source], tails: Sequence[Sequence[int]]) -> Iterator[list[tuple[int, Tensor]]]:
        """(place, logits (len(tail) + 1, V) float32) for each source, batch by batch: what may follow the decoder's start
        token and each token of its tail. Equal sources are encoded once."""
        places: dict[Source, list[int]] = {}
        for i, source in enumerate(sources):
            places.setdefault(source, []).append(i)
        unique = list(places)

        def run(batch: np.ndarray) -> list[tuple[int, Tensor]]:
            return self._decoded(
                [unique[k] for k in batch], [[(i, tails[i]) for i in places[unique[k]]] for k in batch]
            )

        longest = [max(len(tails[i]) + 1 for i in places[source]) for source in unique]
        for batch in self._batches([source.length for source in unique], longest):
            yield from in_halves(run, batch)

    def _decoded(
        self, sources: Sequence[Source], tails: Sequence[Sequence[tuple[int, Sequence[int]]]]
    ) -> list[tuple[int, Tensor]]:
        """Logits after each of a source's tails. The decoder is padded on the right, where no earlier token sees it."""
        encoded, mask = self._encoded(sources)
        owners = torch.tensor([row for row, own in enumerate(tails) for _ in own], device=encoded.device)
        starts = [[self.start, *tail] for own in tails for _, tail in own]
        decoder = pad({"ids": starts}, range(len(starts)), {"ids": self.start}, left=False)["ids"]
        with torch.inference_mode():
            output = self.model(
                encoder_outputs=_output(encoded[owners]),
                attention_mask=mask[owners],
                decoder_input_ids=decoder.to(self.model.device),
                use_cache=False,
            )
        places = [place for own in tails for place, _ in own]
        return [(place, output.logits[row, : len(starts[row])].float()) for row, place in enumerate(places)]

    def write(
        self, sources: Sequence[Source], tails: Sequence[Sequence[int]], writings: Sequence[Writing]
    ) -> Iterator[list[int]]:
        """Write all texts, each after its tail; the places of those done, batch by batch. Equal sources of a batch are
        encoded once."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, tail in enumerate(tails):
            groups.setdefault(tuple(tail), []).append(i)
        for tail, members in groups.items():
            start = [self.start, *tail]

            def run(batch: np.ndarray, members: list[int] = members, start: list[int] = start) -> list[int]:
                places = [members[k] for k in batch]
                unique = {source: row for row, source in enumerate(dict.fromkeys(sources[i] for i in places))}
                encoded, mask = self._encoded(list(unique))
                owners = torch.tensor([unique[sources[i]] for i in places], device=encoded.device)
                inputs = {
                    "encoder_outputs": _output(encoded[owners]),
                    "attention_mask": mask[owners],
                    "decoder_input_ids": torch.tensor([start] * len(places), device=self.model.device),
                }
                write_by_library(self.model, inputs, [writings[i] for i in places])
                return places

            lengths = [sources[i].length for i in members]
            for batch in self._batches(lengths, [writings[i].writer.most for i in members]):
                yield from in_halves(run, batch, "texts")

    # ---- batches -----------------------------------------------------------------------------------------------------

    def _batches(self, lengths: Sequence[int], answers: Sequence[int]) -> Iterator[np.ndarray]:
        """Batches by the lengths of sources and of what the decoder has."""
        yield from plan_batches([max(a, b) for a, b in zip(lengths, answers, strict=True)], self.token_budget)

    def _encoded(self, sources: Sequence[Source]) -> tuple[Tensor, Tensor]:
        """Encoder states (B, longest, d) and their mask (B, longest)."""
        parts = [part for source in sources for part in source.parts]
        states: list[Tensor] = [torch.empty(0)] * len(parts)
        for batch in plan_batches([len(part) for part in parts], self.token_budget):
            for i, state in zip(batch, self._encode([parts[i] for i in batch]), strict=True):
                states[i] = state
        joined, at = [], 0
        for source in sources:
            joined.append(torch.cat(states[at : at + len(source.parts)]))
            at += len(source.parts)
        with torch.inference_mode():
            padded = torch.nn.utils.rnn.pad_sequence(joined, batch_first=True)
        lengths = torch.tensor([len(state) for state in joined], device=padded.device)
        mask = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
        return padded, mask.long()

    def _encode(self, parts: Sequence[Sequence[int]]) -> list[Tensor]:
        """States (n, d) of each sequence."""
        columns = {"ids": parts, "mask": [[1] * len(part) for part in parts]}
        batch = pad(columns, range(len(parts)), {"ids": self.model.config.pad_token_id or 0, "mask": 0}, left=False)
        ids, mask = batch["ids"].to(self.model.device), batch["mask"].to(self.model.device)
        with torch.inference_mode():
            states = self.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        return [states[row, : len(part)] for row, part in enumerate(parts)]


def _output(states: Tensor) -> Any:
    """Encoder states as the model takes them."""
    from transformers.modeling_outputs import BaseModelOutput

    return BaseModelOutput(last_hidden_state=states)

"""Generation by a packed causal model: prompts read once, then all texts go on together, a row of keys for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .label_head import LabelHead, WholeHead
from .memory import out_of_memory, say_halved
from .packed_attention import Form, Part, product
from .packed_forward import PackedModel, Reading
from .writing import Writing


class Job(NamedTuple):
    """A prompt, (n,) int32, and its text in the making."""

    ids: np.ndarray
    writing: Writing

    @property
    def room(self) -> int:
        """Tokens that prompt and text can have together."""
        return len(self.ids) + self.writing.writer.most


class Written(NamedTuple):
    """Job number `place` is done; `cached` tokens of its prompt others had paid for."""

    place: int
    cached: int


@dataclass
class _Rows:
    """Keys and values of texts in the making: per layer (B, L, G, D), row b filled up to `lengths[b]`."""

    lengths: np.ndarray
    room: int
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def fill(self, row: int, form: Form, key: Tensor, value: Tensor) -> None:
        """A prompt's keys and values (m, G, D) in one layer."""
        for store, tensor in ((self.keys, key), (self.values, value)):
            if len(store) == form.layer:
                store.append(tensor.new_zeros(len(self.lengths), self.room, *tensor.shape[1:]))
            store[form.layer][row, : len(tensor)] = tensor

    def keep(self, rows: list[int]) -> None:
        """Drop all other rows."""
        self.lengths = self.lengths[rows]
        for store in (self.keys, self.values):
            for layer, tensor in enumerate(store):
                store[layer] = tensor[torch.tensor(rows, device=tensor.device)]


class _Fill:
    """Observes the reading of one prompt."""

    def __init__(self, rows: _Rows, row: int) -> None:
        self.rows, self.row = rows, row

    def see(self, form: Form, query: Tensor, key: Tensor, value: Tensor) -> None:
        self.rows.fill(self.row, form, key, value)


@dataclass
class _Step:
    """The plan of a pass that reads the new tokens of every row: those of row b stand at `places[b]` (S,) in the batch,
    the last one repeated where there are fewer, and have `positions[b]`."""

    rows: _Rows
    owners: np.ndarray
    offsets: np.ndarray
    places: np.ndarray
    positions: np.ndarray
    calls: int = 0
    _parts: dict[int | None, Part] = field(default_factory=dict)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        keys, values = self.rows.keys[form.layer], self.rows.values[form.layer]
        at = torch.from_numpy(self.owners).to(key.device), torch.from_numpy(self.offsets).to(key.device)
        keys[at], values[at] = key, value
        part = self._part(form.window, query.device)
        seen = part.keys.shape[1]
        queries = query[part.rows].transpose(1, 2)
        result = product(queries, keys[:, :seen].transpose(1, 2), values[:, :seen].transpose(1, 2), part, form)
        out = query.new_empty(query.shape[0], query.shape[1], value.shape[2])
        out[part.rows] = result.transpose(1, 2)
        return out

    def _part(self, window: int | None, device: torch.device) -> Part:
        if window not in self._parts:
            depth = int(self.positions.max()) + 1
            seen = np.arange(depth) <= self.positions[:, :, None]
            if window is not None:
                seen &= np.arange(depth) > self.positions[:, :, None] - window
            self._parts[window] = Part(
                rows=torch.from_numpy(self.places).to(device),
                keys=torch.empty(0, depth, device=device),
                mask=torch.from_numpy(seen[:, None]).to(device),
                causal=False,
                real=None,
            )
        return self._parts[window]


def write(model: PackedModel, head: LabelHead | WholeHead, jobs: Sequence[Job], room: int) -> Iterator[list[Written]]:
    """Write all texts, in groups whose prompts and texts have at most `room` tokens together; those done, step by step.

    The prompts of a group are read as one batch of readings. A group that does not fit into memory is halved.
    """
    begun = {i: job.writing.unasked() for i, job in enumerate(jobs)}
    if whole := [Written(i, len(job.ids)) for i, job in enumerate(jobs) if job.writing.writer.done]:
        yield whole  # nothing was open, nothing is read
    order = sorted((i for i, job in enumerate(jobs) if not job.writing.writer.done), key=lambda i: -jobs[i].room)
    while order:
        longest = jobs[order[0]].room
        group = order[: max(1, room // longest)]
        try:
            prompts = [np.append(jobs[i].ids, np.asarray(begun[i], np.int32)) for i in group]
            rows, hidden, cached = _begin(model, prompts, longest)
        except Exception as error:
            if not out_of_memory(error) or len(group) == 1:
                raise
            room = longest * (len(group) // 2)
            say_halved("texts", len(group), len(group) // 2)
            continue
        cached = [min(n, len(jobs[i].ids)) for n, i in zip(cached, group, strict=True)]
        yield from _go_on(model, head, jobs, group, rows, hidden, cached)
        order = order[len(group) :]


def _begin(model: PackedModel, prompts: Sequence[np.ndarray], longest: int) -> tuple[_Rows, Tensor, list[int]]:
    """Read the prompts: their keys and values with room for the texts, their last states (B, d), cached tokens."""
    rows = _Rows(np.asarray([len(ids) for ids in prompts]), longest)
    cached = [0] * len(prompts)
    states: list[Tensor] = [torch.empty(0)] * len(prompts)
    observers = {row: _Fill(rows, row) for row in range(len(prompts))}
    for part in model.read([Reading(ids) for ids in prompts], observers=observers):
        for read in part:
            states[read.place], cached[read.place] = read.hidden[-1:], read.cached
    return rows, torch.cat(states), cached


def _go_on(
    model: PackedModel,
    head: LabelHead | WholeHead,
    jobs: Sequence[Job],
    group: list[int],
    rows: _Rows,
    hidden: Tensor,
    cached: list[int],
) -> Iterator[list[Written]]:
    """Token after token until all texts of the group are done."""
    alive = list(range(len(group)))
    while alive:
        writings = [jobs[group[row]].writing for row in alive]
        new = _choose(head, writings, hidden)
        left = [k for k, writing in enumerate(writings) if not writing.writer.done]
        if len(left) < len(alive):
            yield [Written(group[row], cached[row]) for k, row in enumerate(alive) if k not in left]
            alive, new = [alive[k] for k in left], [new[k] for k in left]
        if alive and len(left) < len(writings):
            rows.keep(left)
        if alive:
            hidden = _read_new(model, rows, new)


def _choose(head: LabelHead | WholeHead, writings: Sequence[Writing], hidden: Tensor) -> list[list[int]]:
    """Each text's next tokens from the states (B, d) of what it has."""
    free = [row for row, writing in enumerate(writings) if writing.writer.options() is None]
    whole = dict(zip(free, head.all(hidden[free]), strict=True)) if free else {}

    def logits(row: int) -> Callable[[list[int] | None], Tensor]:
        return lambda ids: whole[row] if ids is None else head.labels(hidden[row : row + 1], tuple(ids))[0]

    return [writing.step(logits(row)) for row, writing in enumerate(writings)]


def _read_new(model: PackedModel, rows: _Rows, new: Sequence[Sequence[int]]) -> Tensor:
    """Read each row's new tokens; the states (B, d) after them."""
    counts = np.asarray([len(tokens) for tokens in new])
    width, first = int(counts.max()), np.concatenate([[0], np.cumsum(counts)[:-1]])
    within = np.minimum(np.arange(width)[None], counts[:, None] - 1)
    owners = np.repeat(np.arange(len(new)), counts)
    positions = rows.lengths[owners] + np.arange(counts.sum()) - first[owners]
    step = _Step(rows, owners, positions, first[:, None] + within, rows.lengths[:, None] + within)
    ids = np.concatenate([np.asarray(tokens, np.int64) for tokens in new])
    hidden = model.forward(step, ids, positions, first + counts - 1)
    rows.lengths = rows.lengths + counts
    return hidden

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

#: Rows of logits of the whole vocabulary that are held at a time.
_ROWS = 64
#: Tokens that a text gets room for before it is known to be longer: a budget for thinking is seldom used up.
_EXPECTED = 256


class Job(NamedTuple):
    """A prompt, (n,) int32, and its text in the making."""

    ids: np.ndarray
    writing: Writing

    @property
    def room(self) -> int:
        """Tokens that prompt and text can have together."""
        return len(self.ids) + self.writing.writer.most

    @property
    def so_far(self) -> np.ndarray:
        """The prompt and what is written already, (m,) int32."""
        return np.append(self.ids, np.asarray(self.writing.writer.tokens, np.int32))

    @property
    def expected(self) -> int:
        """Tokens that it gets room for at first."""
        return min(self.room, len(self.so_far) + _EXPECTED)


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

    def grow(self, room: int) -> None:
        """Make room for longer texts."""
        for store in (self.keys, self.values):
            for layer, tensor in enumerate(store):
                store[layer] = torch.nn.functional.pad(tensor, (0, 0, 0, 0, 0, room - self.room))
        self.room = room

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
    _parts: dict[tuple[int | None, torch.device], Part] = field(default_factory=dict)

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
        if (window, device) not in self._parts:
            depth = int(self.positions.max()) + 1
            seen = np.arange(depth) <= self.positions[:, :, None]
            if window is not None:
                seen &= np.arange(depth) > self.positions[:, :, None] - window
            self._parts[window, device] = Part(
                rows=torch.from_numpy(self.places).to(device),
                keys=torch.empty(0, depth, device=device),
                mask=torch.from_numpy(seen[:, None]).to(device),
                causal=False,
                real=None,
            )
        return self._parts[window, device]


def write(model: PackedModel, head: LabelHead | WholeHead, jobs: Sequence[Job], room: int) -> Iterator[list[Written]]:
    """Write all texts; those done, step by step.

    What has no alternative is not asked for. Texts of one token cost the reading of their prompts only; longer ones are
    written in groups whose prompts and texts have at most `room` tokens together. Prompts that begin alike are read
    together. Texts that outgrow their group's room wait for a later group, which reads them again and goes on; a group
    that does not fit into memory is halved.
    """
    for job in jobs:
        job.writing.unasked()
    if whole := [Written(i, len(job.ids)) for i, job in enumerate(jobs) if job.writing.writer.done]:
        yield whole  # nothing was open, nothing is read
    still = [i for i, job in enumerate(jobs) if not job.writing.writer.done]
    single = [i for i in still if jobs[i].room == len(jobs[i].so_far) + 1]
    for part in model.read([Reading(jobs[i].so_far) for i in single]):
        places = [single[read.place] for read in part]
        _choose(head, [jobs[i].writing for i in places], [read.hidden[-1:] for read in part])
        yield [Written(i, min(read.cached, len(jobs[i].ids))) for i, read in zip(places, part, strict=True)]
    order = sorted(set(still) - set(single), key=lambda i: jobs[i].so_far.astype(">u4").tobytes())
    paid: dict[int, int] = {}
    limit = room
    while order:
        group = _group([jobs[i].expected for i in order], limit)
        chosen = [jobs[i] for i in order[:group]]
        try:
            rows, hidden, cached = _begin(model, chosen)
        except Exception as error:
            if not out_of_memory(error) or group == 1:
                raise
            limit = _rows_room(chosen) * (group // 2)
            say_halved("texts", group, group // 2)
            continue
        for k, tokens in enumerate(cached):
            paid.setdefault(order[k], min(tokens, len(chosen[k].ids)))
        waiting: list[int] = []
        for done, parked in _go_on(model, head, chosen, rows, hidden, limit):
            waiting += [order[k] for k in parked]
            if done:
                yield [Written(order[k], paid[order[k]]) for k in done]
        order = waiting + order[group:]


def _rows_room(jobs: Sequence[Job]) -> int:
    """Tokens that each row of a group gets room for at first."""
    return max(job.expected for job in jobs)


def _group(rooms: Sequence[int], room: int) -> int:
    """How many of the first texts fit: all get as much room as the longest."""
    longest, size = 0, 0
    for own in rooms:
        longest = max(longest, own)
        if size and (size + 1) * longest > room:
            break
        size += 1
    return size


def _begin(model: PackedModel, jobs: Sequence[Job]) -> tuple[_Rows, list[Tensor], list[int]]:
    """Read what there is: its keys and values with room for more, the last state (1, d) of each, cached tokens."""
    texts = [job.so_far for job in jobs]
    rows = _Rows(np.asarray([len(ids) for ids in texts]), _rows_room(jobs))
    cached = [0] * len(texts)
    states: list[Tensor] = [torch.empty(0)] * len(texts)
    observers = {row: _Fill(rows, row) for row in range(len(texts))}
    for part in model.read([Reading(ids) for ids in texts], observers=observers):
        for read in part:
            states[read.place], cached[read.place] = read.hidden[-1:], read.cached
    return rows, states, cached


def _go_on(
    model: PackedModel, head: LabelHead | WholeHead, jobs: Sequence[Job], rows: _Rows, states: list[Tensor], limit: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Token after token until all texts of the group are done or wait; the places of those that are done, and of those
    that wait as the others' growth leaves no room of `limit` tokens for them."""
    alive = list(range(len(jobs)))
    while alive:
        new = _choose(head, [jobs[k].writing for k in alive], states)
        done = [at for at, k in enumerate(alive) if jobs[k].writing.writer.done]
        left = [at for at in range(len(alive)) if at not in done]
        room = _room(rows, [jobs[alive[at]] for at in left], left, new)
        parked = left[max(1, limit // room) :] if room > rows.room else []
        left = left[: len(left) - len(parked)]
        yield [alive[at] for at in done], [alive[at] for at in parked]
        if left and len(left) < len(alive):
            rows.keep(left)
        alive, new = [alive[at] for at in left], [new[at] for at in left]
        if alive:
            if room > rows.room:
                rows.grow(room)
            states = list(_read_new(model, rows, new).split(1))


def _room(rows: _Rows, jobs: Sequence[Job], left: Sequence[int], new: Sequence[Sequence[int]]) -> int:
    """Tokens a row needs room for: as it is, or twice that, but for no more than the longest text can have."""
    needed = max((int(rows.lengths[at]) + len(new[at]) for at in left), default=0)
    return rows.room if needed <= rows.room else max(needed, min(2 * rows.room, max(job.room for job in jobs)))


def _choose(head: LabelHead | WholeHead, writings: Sequence[Writing], states: Sequence[Tensor]) -> list[list[int]]:
    """Each text's next tokens from the state (1, d) of what it has."""
    new: list[list[int]] = []
    for start in range(0, len(writings), _ROWS):
        part = writings[start : start + _ROWS]
        hidden = torch.cat(list(states[start : start + _ROWS]))
        free = [row for row, writing in enumerate(part) if writing.writer.options() is None]
        whole = dict(zip(free, head.all(hidden[free]), strict=True)) if free else {}
        new += [writing.step(_logits(head, hidden[row : row + 1], whole.get(row))) for row, writing in enumerate(part)]
    return new


def _logits(head: LabelHead | WholeHead, hidden: Tensor, whole: Tensor | None) -> Callable[[list[int] | None], Tensor]:
    """A state's logits as `Writing.step` asks for them: of some tokens, or of the whole vocabulary."""
    return lambda ids: whole if ids is None and whole is not None else head.labels(hidden, tuple(ids or ()))[0]


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

"""Forward passes of a causal language model over many sequences at once: no padding, common beginnings once.

A pass holds consecutive pieces of the plan (`shared_prefix`). Keys and values of the pieces that later ones build on
are kept from pass to pass; all others are gone when their layer is done. In the last layer only the rows that somebody
wants are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from .last_layer import LastLayer
from .memory import out_of_memory, say_halved
from .packed_attention import Form, Stretch, Stretches, Unsupported, packed, register
from .shared_prefix import Piece, plan_pieces


class Reading(NamedTuple):
    """A sequence to be read, (n,) int32, of which the states of the last `rows` tokens are wanted."""

    ids: np.ndarray
    rows: int = 1


class Read(NamedTuple):
    """What became of reading number `place`: hidden states (rows, d), and how many of its tokens others had paid for."""

    place: int
    hidden: Tensor
    cached: int


class Observer(Protocol):
    """Sees, in every layer, what the last piece of a sequence attends with and to; part by part where it is long."""

    def see(self, form: Form, query: Tensor, key: Tensor, value: Tensor) -> None:
        """query (n, H, D) of the part's rows; key and value (m, G, D) of the sequence from its beginning to their end."""


@dataclass
class Layout:
    """The pieces of one pass: token ids and positions (T,); `kept` tokens of the first piece's path stand before them.

    `wanted` are the rows whose states are read, `keep` the places (among kept and new keys) that the next pass needs.
    """

    pieces: Sequence[Piece]
    ids: np.ndarray
    positions: np.ndarray
    kept: int
    every: Stretches
    only: Stretches
    wanted: np.ndarray
    keep: np.ndarray
    observed: list[tuple[np.ndarray, np.ndarray, Observer]] = field(default_factory=list)


@dataclass
class _Pass:
    """The plan of one pass: attention by its layout, over the keys and values that were kept, (m, G, D) per layer."""

    layout: Layout
    kept: list[tuple[Tensor, Tensor]]
    last: int
    keeping: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    calls: int = 0
    _moved: dict[tuple[int, torch.device], Tensor] = field(default_factory=dict)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        layout = self.layout
        if layout.kept:
            kept_key, kept_value = self.kept[form.layer]
            key, value = torch.cat([kept_key, key]), torch.cat([kept_value, value])
        if len(layout.keep):
            keep = self._on(key.device, layout.keep)
            self.keeping.append((key.index_select(0, keep), value.index_select(0, keep)))
        for rows, places, observer in layout.observed:
            at = self._on(key.device, places)
            observer.see(form, query[self._on(query.device, rows)], key[at], value[at])
        stretches = layout.only if form.layer == self.last else layout.every
        return stretches.attend(query, key, value, form)

    def _on(self, device: torch.device, places: np.ndarray) -> Tensor:
        """Places on the device of a layer, where they are moved once."""
        key = (id(places), device)
        if key not in self._moved:
            self._moved[key] = torch.from_numpy(places).to(device)
        return self._moved[key]


class PackedModel:
    """A causal language model (`…ForCausalLM`) run packed. `token_budget` is the most tokens of one pass: a longer piece
    is read part by part.

    When memory runs out the budget is halved and the pass done again. With `whole_head` the states are the model's own
    logits of the whole vocabulary.
    """

    def __init__(self, model: Any, token_budget: int, *, whole_head: bool = False) -> None:
        register()
        self.model, self.token_budget, self.whole_head = model, token_budget, whole_head
        self.network = model.get_decoder()
        self.layers = int(model.config.get_text_config().num_hidden_layers)
        self.computed = 0  # tokens so far
        self.last_layer = LastLayer.of(self.network)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.network.get_input_embeddings().weight.device
        return device

    def read(
        self,
        readings: Sequence[Reading],
        *,
        observers: Mapping[int, Observer] | None = None,
        pieces: Sequence[Piece] | None = None,
    ) -> Iterator[list[Read]]:
        """What was read, pass by pass; every reading comes once. `observers` go with readings by their place. `pieces`
        are those of a plan of the caller's own."""
        pieces = plan_pieces([reading.ids for reading in readings]) if pieces is None else list(pieces)
        wanted = _wanted(pieces, readings)
        seen = {id(piece): [observers[row] for row in piece.ends if row in observers] for piece in pieces if observers}
        hidden: dict[int, Tensor] = {}
        kept: list[tuple[Tensor, Tensor]] = []
        start = 0
        while start < len(pieces):
            _split(pieces, start, self.token_budget, wanted, seen)
            stop = _cut(pieces, start, self.token_budget)
            layout = lay_out(pieces, start, stop, wanted, seen)
            try:
                states, kept = self._pass(layout, kept)
            except Exception as error:
                if not out_of_memory(error) or len(layout.ids) == 1:
                    raise
                self.token_budget = max(1, len(layout.ids) // 2)
                say_halved("tokens", len(layout.ids), self.token_budget)
                continue
            _spread(layout, states, wanted, hidden)
            yield _finished(layout.pieces, readings, wanted, hidden)
            start = stop

    def _pass(self, layout: Layout, kept: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """States (wanted, d), and what the next pass needs of keys and values."""
        plan = _Pass(layout, kept, self.layers - 1)
        states = self.forward(plan, layout.ids, layout.positions, layout.wanted)
        return states, plan.keeping

    def forward(self, plan: Any, ids: np.ndarray, positions: np.ndarray, wanted: np.ndarray) -> Tensor:
        """States (len(wanted), d) of the rows `wanted` after all layers and the last norm."""
        rows = torch.from_numpy(wanted).to(self.device)
        inputs = {
            "input_ids": torch.from_numpy(ids.astype(np.int64))[None].to(self.device),
            "position_ids": torch.from_numpy(positions.astype(np.int64))[None].to(self.device),
            "use_cache": False,
        }
        with torch.inference_mode(), packed(self.model, plan), self.last_layer.rows_only(rows, len(ids)):
            states: Tensor
            if self.whole_head:
                states = self.model(**inputs, logits_to_keep=rows).logits[0]
            else:
                states = self.network(**inputs).last_hidden_state[0]
                states = states[rows.to(states.device)]
        if plan.calls != self.layers:
            raise Unsupported(f"{plan.calls} of its {self.layers} layers attend by transformers' interface")
        self.computed += len(ids)
        return states


def _split(
    pieces: list[Piece],
    start: int,
    budget: int,
    wanted: dict[int, np.ndarray],
    observers: dict[int, list[Observer]],
) -> None:
    """Cut piece number `start` in two where it is longer than the budget; it stays the second of them."""
    long = pieces[start]
    if len(long.ids) <= budget:
        return
    head = Piece(long.ids[:budget], long.start, long.parent, first=long.first)
    offsets = wanted[id(long)]
    wanted[id(head)], wanted[id(long)] = offsets[offsets < budget], offsets[offsets >= budget] - budget
    if id(long) in observers:
        observers[id(head)] = observers[id(long)]
    long.ids, long.start, long.parent = long.ids[budget:], long.start + budget, head
    pieces.insert(start, head)


def _cut(pieces: Sequence[Piece], start: int, budget: int) -> int:
    """Where the pass that begins with piece `start` ends: within the budget, but one piece at least."""
    stop, tokens = start, 0
    while stop < len(pieces) and (stop == start or tokens + len(pieces[stop].ids) <= budget):
        tokens += len(pieces[stop].ids)
        stop += 1
    return stop


def _wanted(pieces: Sequence[Piece], readings: Sequence[Reading]) -> dict[int, np.ndarray]:
    """For each piece (by id) the offsets of its tokens whose states are wanted, ascending."""
    wanted: dict[int, set[int]] = {}
    for piece in pieces:
        for row in piece.ends:
            first = len(readings[row].ids) - readings[row].rows
            for above in piece.path():
                offsets = range(max(first, above.start) - above.start, len(above.ids))
                wanted.setdefault(id(above), set()).update(offsets)
    return {key: np.asarray(sorted(offsets), np.int64) for key, offsets in wanted.items()}


def lay_out(
    pieces: Sequence[Piece],
    start: int,
    stop: int,
    wanted: Mapping[int, np.ndarray],
    observers: Mapping[int, Sequence[Observer]],
) -> Layout:
    """The pass of pieces [start, stop). What is kept before it is the path of its first piece, without that piece."""
    inside = pieces[start:stop]
    kept = inside[0].start
    places: dict[int, np.ndarray] = {}
    at = kept
    for piece in inside:
        places[id(piece)] = np.arange(at, at + len(piece.ids))
        at += len(piece.ids)

    def path(piece: Piece) -> np.ndarray:
        parts = [places.get(id(above), np.arange(above.start, above.end)) for above in piece.path()]
        return np.concatenate(parts)

    every, only, rows, observed = [], [], [], []
    for piece in inside:
        keys, own = path(piece), places[id(piece)] - kept
        last = np.arange(piece.start, piece.end)
        every.append(Stretch(own, keys, last))
        offsets = wanted[id(piece)]
        if len(offsets):
            only.append(Stretch(own[offsets], keys[: int(last[offsets[-1]]) + 1], last[offsets]))
            rows.append(own[offsets])
        observed += [(own, keys, observer) for observer in observers.get(id(piece), ())]
    following = pieces[stop].parent if stop < len(pieces) else None
    return Layout(
        pieces=inside,
        ids=np.concatenate([piece.ids for piece in inside]),
        positions=np.concatenate([np.arange(piece.start, piece.end) for piece in inside]),
        kept=kept,
        every=Stretches(every),
        only=Stretches(only),
        wanted=np.concatenate(rows) if rows else np.zeros(0, np.int64),
        keep=path(following) if following is not None else np.zeros(0, np.int64),
        observed=observed,
    )


def _spread(layout: Layout, states: Tensor, wanted: Mapping[int, np.ndarray], hidden: dict[int, Tensor]) -> None:
    """File the states of a pass under their pieces."""
    at = 0
    for piece in layout.pieces:
        count = len(wanted[id(piece)])
        hidden[id(piece)] = states[at : at + count]
        at += count


def _finished(
    pieces: Sequence[Piece],
    readings: Sequence[Reading],
    wanted: Mapping[int, np.ndarray],
    hidden: dict[int, Tensor],
) -> list[Read]:
    """The readings that end with these pieces."""
    done = []
    for piece in pieces:
        for row in piece.ends:
            first = len(readings[row].ids) - readings[row].rows
            path = piece.path()
            parts = [hidden[id(part)][torch.from_numpy(wanted[id(part)] + part.start >= first)] for part in path]
            paid = sum(len(part.ids) for part in path if part.first == row)
            done.append(Read(row, torch.cat(parts), len(readings[row].ids) - paid))
    return done

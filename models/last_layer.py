"""In its last layer a network computes only the rows that are read: queries, output and the feed-forward part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

#: The parts of a decoder layer that work row by row and that nothing else in the layer reads other rows of.
_PARTS = ("self_attn.q_proj", "self_attn.o_proj", "mlp")


class LastLayer:
    """Narrows the parts of a decoder's last layer to the wanted rows. Their other rows are zeros, which nobody reads:
    keys and values are made of all rows. A network whose layers have other names computes all."""

    def __init__(self, network: nn.Module) -> None:
        self.rows: Tensor | None = None
        self.width = 0
        self.parts: list[str] = []
        layers = getattr(network, "layers", None)
        if not isinstance(layers, nn.ModuleList) or not len(layers):
            return
        for name in _PARTS:
            try:
                part = layers[-1].get_submodule(name)
            except AttributeError:
                continue
            part.register_forward_pre_hook(self._narrow)
            part.register_forward_hook(self._widen)
            self.parts.append(name)

    @classmethod
    def of(cls, network: nn.Module) -> LastLayer:
        """The one of this network: models are shared, and hooks should be on it once."""
        last: LastLayer = network.__dict__.setdefault("_last_layer", None) or cls(network)
        network.__dict__["_last_layer"] = last
        return last

    @contextmanager
    def rows_only(self, rows: Tensor, width: int) -> Iterator[None]:
        """Within, passes are (1, width, d), and only `rows` of them are read."""
        self.rows, self.width = (rows, width) if len(rows) < width else (None, 0)
        try:
            yield
        finally:
            self.rows = None

    def _narrow(self, part: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self.rows is None:
            return None
        return (inputs[0].index_select(1, self.rows.to(inputs[0].device)), *inputs[1:])

    def _widen(self, part: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if self.rows is None or not isinstance(output, torch.Tensor):
            return output
        wide = output.new_zeros(1, self.width, *output.shape[2:])
        wide[:, self.rows.to(output.device)] = output
        return wide

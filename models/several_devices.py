"""An encoder whose documents are spread over several devices, by one process each."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import SetupError
from ..records import Document
from ..vectors import Dense
from .encoder import Encoder
from .runtime import choose_device

#: Fewer documents for each process than this aren't worth the way there and back.
_LEAST = 16

_encoder: Encoder


def several(device: str) -> list[str]:
    """The devices that `device` names: with commas between, or `cuda:all` for every GPU that torch sees."""
    if device != "cuda:all":
        return [name.strip() for name in device.split(",")]
    choose_device("cuda")  # refuses a machine without
    import torch

    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


class SeveralDevicesEncoder(Encoder):
    """`Encoder` with a process for each of the devices named in `device`, such as `cuda:0,cuda:1`, or `cuda:all`.

    Documents are dealt out by length, so that all have as much to do; their vectors come back in order. Queries are
    encoded on the first device, in this process. Processes are spawned at the first documents: a script that uses this
    needs Python's usual `if __name__ == "__main__":`. Raises `SetupError` for a device that is not there, and when a
    process dies.
    """

    def __init__(self, model: str | os.PathLike[str] | None = None, *, device: str, **options: Any) -> None:
        self.devices, self.options = several(device), options
        super().__init__(model, device=self.devices[0], **options)
        self._cut_elsewhere = 0

    @property
    def truncated(self) -> int:
        """Texts cut at the maximum length so far, by all processes."""
        return super().truncated + self._cut_elsewhere

    @cached_property
    def workers(self) -> list[ProcessPoolExecutor]:
        """One pool of one process a device."""
        for device in self.devices:
            choose_device(device)
        context = multiprocessing.get_context("spawn")
        return [
            ProcessPoolExecutor(1, context, initializer=_load, initargs=(self.model, device, self.options))
            for device in self.devices
        ]

    def encode_documents(self, documents: Iterable[Document]) -> Dense:
        """As `Encoder.encode_documents`."""
        documents = list(documents)
        count = len(self.devices)
        if len(documents) < _LEAST * count:
            return super().encode_documents(documents)
        by_length = sorted(range(len(documents)), key=lambda row: len(documents[row].full_text))
        hands = [by_length[start::count] for start in range(count)]
        jobs = [
            worker.submit(_encode, [documents[row] for row in hand])
            for worker, hand in zip(self.workers, hands, strict=True)
        ]
        vectors = np.empty((len(documents), self.dim), np.float32)
        for device, hand, job in zip(self.devices, hands, jobs, strict=True):
            try:
                vectors[hand], cut = job.result()
            except BrokenProcessPool as error:
                raise SetupError(
                    f"the process of device {device} died (memory?): build with fewer devices or a smaller token_budget; "
                    "what is written is kept"
                ) from error
            self._cut_elsewhere += cut
        return Dense(vectors)


def _load(model: str | os.PathLike[str] | None, device: str, options: dict[str, Any]) -> None:
    global _encoder
    _encoder = Encoder(model, device=device, **options)


def _encode(documents: list[Document]) -> tuple[np.ndarray, int]:
    """Vectors (n, dim) float32, and how many texts were cut."""
    before = _encoder.truncated
    return _encoder.encode_documents(documents).values, _encoder.truncated - before

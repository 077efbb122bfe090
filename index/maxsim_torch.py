"""MaxSim on a GPU by torch: blocks of tokens, so that the matrix of all token pairs is never there at once."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..vectors import MultiVector
from .maxsim_blocks import LEAST, blocks, check_pair

#: Similarities of a block, in bytes.
_HELD = 256 << 20


def maxsim_torch(
    queries: MultiVector, documents: MultiVector, *, device: str = "cuda", similarity: str = "dot", mean: bool = False
) -> np.ndarray:
    """`maxsim.maxsim_all` on `device`: (queries, documents) float32; products in full float32 (no TF32), sums in float64.

    Blocks of documents go to the device one after another.
    """
    import torch

    check_pair(queries.tokens, documents.tokens, similarity)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        sizes = torch.from_numpy(np.diff(queries.offsets)).to(device)
        left = _unit(_moved(queries.tokens, device), similarity)
        scores = torch.empty((len(queries), len(documents)), dtype=torch.float64, device=device)
        for first, last in blocks(documents.offsets, max(64, _HELD // (4 * max(1, len(left))))):
            rows = documents.tokens[documents.offsets[first] : documents.offsets[last]]
            lengths = torch.from_numpy(np.diff(documents.offsets[first : last + 1])).to(device)
            right = _unit(_moved(rows, device), similarity)
            similarities = right @ left.T
            if similarity == "l2":
                similarities = 2 * similarities - (right * right).sum(1, keepdim=True) - (left * left).sum(1)
            best = torch.segment_reduce(similarities, "max", lengths=lengths, axis=0, unsafe=True, initial=-torch.inf)
            best[lengths == 0] = LEAST[similarity]
            sums = torch.segment_reduce(
                best.T.double().contiguous(), "sum", lengths=sizes, axis=0, unsafe=True, initial=0
            )
            scores[:, first:last] = sums
        if mean:
            scores /= sizes.clamp(min=1)[:, None]
        found: np.ndarray = scores.float().cpu().numpy()
        return found
    finally:
        torch.set_float32_matmul_precision(precision)


def _moved(values: np.ndarray, device: str) -> Any:
    """`values` as a float32 tensor on `device`."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of arrays that may not be written to: nothing is
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(device)


def _unit(values: Any, similarity: str) -> Any:
    import torch

    return torch.nn.functional.normalize(values, dim=1) if similarity == "cosine" else values

"""Symmetric distance calculation by torch, for GPUs: codes as whole numbers in matrix products, exact all the same.

A coordinate's value times 2^u is an odd whole number, and sums of their products stay below 2^24 (float32) or 2^53, so
that no product or sum is rounded; factors and order are those of `sdc.search`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .binary_codes import unpack
from .sdc import Queries, most

#: Documents, and queries, that are multiplied at a time.
_DOCUMENTS, _QUERIES = 1 << 16, 256


def search(
    segments: Sequence[tuple[int, np.ndarray, int, int]],
    queries: Queries,
    k: int,
    *,
    mask: np.ndarray | None,
    cosine: bool,
    device: str,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Per query scores (m,) float64 and rows (m,) int64 of its best k and all that tie with the last of them.

    `segments` are the first row, the codes (n, bytes), the width and the planes of consecutive rows.
    """
    import torch

    exact = max(most(queries.width, queries.planes, planes) for *_, planes in segments) < 1 << 24
    kind = torch.float32 if exact else torch.float64
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        for start in range(0, len(queries), _QUERIES):
            asked = queries[start : start + _QUERIES]
            left = _odd_numbers(asked.packed, asked.width, asked.planes, device, kind)
            yield from _best(segments, asked, left, k, mask, cosine, device, kind)
    finally:
        torch.set_float32_matmul_precision(precision)


def _best(
    segments: Sequence[tuple[int, np.ndarray, int, int]], asked: Queries, left: Any, k: int, mask: np.ndarray | None,
    cosine: bool, device: str, kind: Any,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    import torch

    scores: list[list[Any]] = [[] for _ in range(len(asked))]
    rows: list[list[Any]] = [[] for _ in range(len(asked))]
    threshold = torch.full((len(asked), 1), -torch.inf, device=device)
    of_query = torch.from_numpy(asked.factors * 2.0 ** (1 - asked.planes)).to(device)[:, None]
    for first, codes, width, planes in segments:
        for start in range(0, len(codes), _DOCUMENTS):
            right = _odd_numbers(codes[start : start + _DOCUMENTS], width, planes, device, kind)
            found = ((left @ right.T).double() * _factors(right, planes, cosine) * of_query).float()
            begin = first + start
            if mask is not None:
                allowed = torch.from_numpy(mask[begin : begin + len(right)]).to(device)
                found[:, ~allowed] = -torch.inf
            here = torch.topk(found, min(k, found.shape[1]), dim=1).values
            if here.shape[1] == k:
                threshold = torch.maximum(threshold, here[:, -1:])
            query, row = torch.nonzero((found >= threshold) & (found > -torch.inf), as_tuple=True)
            ends = np.searchsorted(query.cpu().numpy(), np.arange(len(asked) + 1))
            values, numbers = found[query, row].cpu().numpy(), row.cpu().numpy() + begin
            for q in range(len(asked)):
                scores[q].append(values[ends[q] : ends[q + 1]])
                rows[q].append(numbers[ends[q] : ends[q + 1]])
    for q in range(len(asked)):
        mine, numbers = np.concatenate(scores[q]), np.concatenate(rows[q])
        if len(mine) > k:
            good = mine >= np.partition(mine, -k)[-k]
            mine, numbers = mine[good], numbers[good]
        yield mine.astype(np.float64), numbers


def _odd_numbers(packed: np.ndarray, width: int, planes: int, device: str, kind: Any) -> Any:
    import torch

    numbers = unpack(np.ascontiguousarray(packed), width, planes).astype(np.int16)
    return torch.from_numpy(2 * numbers - ((1 << planes) - 1)).to(device).to(kind)


def _factors(right: Any, planes: int, cosine: bool) -> Any:
    """What `sdc.make_tiles` multiplies scores in whole numbers by; roots by numpy, as torch's may differ in the last bit."""
    import torch

    if not cosine:
        return 2.0 ** (1 - planes)
    products = (right.double() ** 2).sum(dim=1).cpu().numpy()
    return torch.from_numpy(1 / np.sqrt(products)).to(right.device)

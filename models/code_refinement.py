"""After the recurrence: codes whose errors lie where they cost scores least.

A sign or a step is chosen coordinate by coordinate, but what a document's code c gets wrong, c - t, counts only by its
product with the codes of queries: the mean square is (c - t)ᵀ M (c - t), with M the second moment of codes and t the
linear image of the vector that codes stand for. Coordinate descent lowers it: each coordinate in turn takes the value that
is best given the others, until none changes. (The idea is noise shaping's; in quantisation, iterated conditional modes.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

#: The arrays of a refinement.
TABLES = ("target", "constant", "metric")


@dataclass(frozen=True)
class Refinement:
    """`target` (width, dim) and `constant` (width,) say t = target · x + constant, `metric` (width, width) is M, all float32;
    at most `sweeps` go over the coordinates."""

    target: np.ndarray
    constant: np.ndarray
    metric: np.ndarray
    sweeps: int

    def __call__(self, values: np.ndarray, vectors: np.ndarray, planes: int) -> np.ndarray:
        """Better `values` (n, width) float32 for `vectors` (n, dim), of `planes` bits a coordinate."""
        wanted = vectors.astype(np.float64) @ self.target.T.astype(np.float64) + self.constant
        codes = values.astype(np.float64)
        _descend(codes, wanted, self.metric.astype(np.float64), 2.0 ** (1 - planes), self.sweeps)
        return codes.astype(np.float32)


def fit_refinement(
    values: np.ndarray, vectors: np.ndarray, planes: int, sweeps: int, *, again: bool = True
) -> Refinement:
    """The refinement of codes of `vectors` (n, dim) that are compared with codes of the `values` (n, width) of the same texts.

    t is the ridge regression of values on vectors, M the second moment of the values; `again`, it is that of the refined
    codes, where these are what they will be compared with.
    """
    wide = np.concatenate([vectors, np.ones((len(vectors), 1), np.float32)], axis=1).astype(np.float64)
    gram = wide.T @ wide
    gram[np.diag_indices(len(gram))] += 1e-6 * np.trace(gram)
    solved = np.linalg.solve(gram, wide.T @ values.astype(np.float64)).T
    target, constant = solved[:, :-1].astype(np.float32), solved[:, -1].astype(np.float32)
    first = Refinement(target, constant, _second_moment(values), sweeps)
    return first if not again else Refinement(target, constant, _second_moment(first(values, vectors, planes)), sweeps)


def _second_moment(values: np.ndarray) -> np.ndarray:
    moment: np.ndarray = (values.T @ values / len(values)).astype(np.float32)
    return moment


@numba.njit(cache=True, nogil=True)
def _descend(codes: np.ndarray, wanted: np.ndarray, metric: np.ndarray, step: float, sweeps: int) -> None:
    """Lower each row's (c - t)ᵀ M (c - t) in place; values are odd multiples of `step` up to 2 - step."""
    top = 2.0 - step
    for row in range(len(codes)):
        code = codes[row]
        slope = metric @ (code - wanted[row])
        for _ in range(sweeps):
            changed = False
            for j in range(len(code)):
                best = code[j] - slope[j] / metric[j, j]
                best = (2.0 * np.floor(best / (2.0 * step)) + 1.0) * step
                best = min(max(best, -top), top)
                difference = best - code[j]
                if difference != 0.0:
                    code[j] = best
                    changed = True
                    slope += metric[j] * difference
            if not changed:
                break

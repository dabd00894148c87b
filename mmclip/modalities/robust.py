"""Medians and median absolute deviations of many rows at once.

NumPy sorts and partitions rows with vector instructions; a loop that calls a median for each row
spends its time between the rows.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mmclip.arrays import Array, Lists

CACHE = 1 << 17  # values worked on at once, so that they stay in the processor's cache


def median(values: Array) -> NDArray[np.float64]:
    """Median of the finite values of each row ([rows, n] -> [rows]); NaN where there is none."""
    return _by_chunks(values, _median)


def mad(values: Array) -> NDArray[np.float64]:
    """Unscaled median absolute deviation of the finite values of each row; NaN for none.

    Multiply by 1.4826 for the standard deviation of a normal distribution.
    """
    return _by_chunks(values, lambda v: _median(np.abs(v - _median(v)[:, None])))


def median_of_lists(values: Lists) -> NDArray[np.float64]:
    """Median of the finite entries of each list ([rows]); NaN where there is none."""
    return _by_length(values, _median)


def mad_of_lists(values: Lists) -> NDArray[np.float64]:
    """Unscaled median absolute deviation of the finite entries of each list ([rows])."""
    return _by_length(values, lambda v: _median(np.abs(v - _median(v)[:, None])))


def _by_chunks(values: Array, of: Callable[[Array], Array]) -> NDArray[np.float64]:
    step = max(1, CACHE // max(1, values.shape[1]))
    out = np.full(len(values), np.nan)
    for start in range(0, len(values), step):
        out[start : start + step] = of(values[start : start + step].astype(np.float64))
    return out


def _by_length(values: Lists, of: Callable[[Array], Array]) -> NDArray[np.float64]:
    """Lists of like length are padded to one matrix, so a long one costs the others nothing."""
    lengths = values.lengths
    out = np.full(len(values), np.nan)
    sizes = np.ceil(np.log2(np.maximum(lengths, 1))).astype(int)
    for size in np.unique(sizes[lengths > 0]):
        rows = np.flatnonzero((sizes == size) & (lengths > 0))
        width = int(lengths[rows].max())
        step = max(1, CACHE // width)
        for start in range(0, len(rows), step):
            chunk = rows[start : start + step]
            out[chunk] = of(padded(values, chunk, width))
    return out


def padded(values: Lists, rows: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    """Lists as a matrix [rows, width], NaN after the end of each; longer ones are cut."""
    within = np.arange(width)
    inside = within < values.lengths[rows][:, None]
    place = np.where(inside, values.offsets[:-1][rows][:, None] + within, 0)
    if len(values.values) == 0:
        return np.full(inside.shape, np.nan)
    return np.where(inside, values.values[place].astype(np.float64), np.nan)


def _median(values: Array) -> NDArray[np.float64]:
    finite = np.isfinite(values)
    count = finite.sum(axis=1)
    n = values.shape[1]
    if n and (count == n).all():
        half = n // 2
        parted = np.partition(values, half, axis=1)
        upper = parted[:, half]
        lower = upper if n % 2 else parted[:, :half].max(axis=1)
        return np.asarray(0.5 * (lower + upper), np.float64)
    ordered = np.sort(np.where(finite, values, np.inf), axis=1)
    out = np.full(len(values), np.nan)
    some = np.flatnonzero(count)
    low, high = (count[some] - 1) // 2, count[some] // 2
    out[some] = 0.5 * (ordered[some, low] + ordered[some, high])
    return out

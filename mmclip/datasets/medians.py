"""Exact medians of data that are read again and again, in memory that does not grow with them.

The median of each column is found digit by digit, the highest first: numbers are taken as integers
of the same order, those that begin with the digits found so far are counted by their next digit,
and the count tells which digit the middle one has. Two bytes at a time need two passes over
float32 and four over float64.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pieces = Callable[[], Iterable[NDArray[Any]]]  # from the beginning each time: [rows, columns]
COUNTS = 64 * 2**20  # bytes of counters: 128 columns by two bytes, thousands by one


def median_and_mad(pieces: Pieces, columns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median, and unscaled median absolute deviation, of the finite values of each column.

    Args:
        pieces: Gives float32 arrays [rows, columns], the same each time it is called.
        columns: Their number.

    Returns:
        [columns] each, NaN where nothing is finite; what `mmclip.modalities.robust` gives.
    """
    middle = _median(pieces, columns, np.dtype(np.uint32))

    def away() -> Iterable[NDArray[np.float64]]:
        return (np.abs(piece.astype(np.float64) - middle) for piece in pieces())

    return middle, _median(away, columns, np.dtype(np.uint64))


def _median(pieces: Pieces, columns: int, kind: np.dtype[Any]) -> NDArray[np.float64]:
    lower, count = _lower(pieces, columns, kind)
    upto, after = np.zeros(columns, np.int64), np.full(columns, np.inf)
    for piece in pieces():
        upto += (np.isfinite(piece) & (piece <= lower)).sum(axis=0)
        above = np.where(np.isfinite(piece) & (piece > lower), piece, np.inf)
        after = np.minimum(after, above.min(axis=0, initial=np.inf))
    upper = np.where(upto > count // 2, lower, after)
    return np.where(count > 0, 0.5 * (lower + upper), np.nan)


def _lower(
    pieces: Pieces, columns: int, kind: np.dtype[Any]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The value of rank (count - 1) // 2 in each column, and the count of finite values."""
    bits, whole = 16, 8 * kind.itemsize
    if columns * 8 << bits > COUNTS:
        bits = 8
    first = (np.arange(columns) << bits)[None]
    found = np.zeros(columns, kind)
    count = rank = np.zeros(columns, np.int64)
    for shift in range(whole - bits, -1, -bits):
        tally = np.zeros(columns << bits, np.int64)
        for piece in pieces():
            key = _ordered(piece, kind) >> kind.type(shift)
            inside = np.isfinite(piece)
            if shift + bits < whole:
                inside &= key >> kind.type(bits) == found
            place = (key & kind.type((1 << bits) - 1)).astype(np.int64) + first
            np.add.at(tally, place[inside], 1)
        upto = tally.reshape(columns, -1).cumsum(axis=1)
        if shift + bits == whole:
            count = upto[:, -1].copy()
            rank = np.maximum(count - 1, 0) // 2
        digit = (upto > rank[:, None]).argmax(axis=1)
        below = np.where(digit > 0, upto[np.arange(columns), digit - 1], 0)
        rank = rank - below
        found = (found << kind.type(bits)) | digit.astype(kind)
    return _number(found), count


def _ordered(values: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    """Integers in the order of the numbers: all bits of a negative one turned, else the sign."""
    bits = values.view(kind)
    sign = kind.type(1 << 8 * kind.itemsize - 1)
    return np.where(bits & sign, ~bits, bits | sign)


def _number(keys: NDArray[Any]) -> NDArray[np.float64]:
    sign = keys.dtype.type(1 << 8 * keys.dtype.itemsize - 1)
    bits = np.where(keys & sign, keys ^ sign, ~keys)
    return bits.view(f"f{keys.dtype.itemsize}").astype(np.float64)

"""Training, validation and test: a hash of the sky, so it survives more data.

Two rows of one star, or two blended neighbours, lie in the same HEALPix cell and never on both
sides of the split. The cell is read off a Gaia source_id; other ids have theirs by position, and
objects without a position are hashed by their id.
"""

import numpy as np
from numpy.typing import NDArray

from mmclip import arrays, sky

SPLITS = ("train", "validation", "test")
FRACTIONS = (0.8, 0.1, 0.1)
CHUNK = 1 << 18  # objects worked on at a time
ORDER = 8  # HEALPix cells of about 14 arcmin: many cells even in a small survey


def cells(source_id: NDArray[np.int64]) -> NDArray[np.int64]:
    """HEALPix cell of order 8 (nested), read off a Gaia source_id: source_id >> 43."""
    return source_id >> (35 + 2 * (12 - ORDER))


def cells_at(ra: NDArray, dec: NDArray, order: int = ORDER) -> NDArray[np.int64]:
    """HEALPix cell (nested) of positions, deg; -1 where there is none."""
    ra, dec = np.asarray(ra), np.asarray(dec)
    found = np.empty(len(ra), np.int64)
    for start in range(0, len(ra), CHUNK):
        here = slice(start, start + CHUNK)
        found[here] = sky.cell(order, ra[here], dec[here])
    return found


def mix(values: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """64-bit hash of integers, another one for each seed."""
    with np.errstate(over="ignore"):
        step = np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        return arrays.splitmix64(values.astype(np.uint64) + step)


def assign(
    source_id: NDArray[np.int64], seed: int = 42, fractions: tuple[float, ...] = FRACTIONS
) -> NDArray[np.str_]:
    """`train`, `validation` or `test` for each star; depends on its cell and the seed alone."""
    return assign_by(cells(source_id), seed, fractions)


def assign_by(
    place: NDArray[np.int64], seed: int = 42, fractions: tuple[float, ...] = FRACTIONS
) -> NDArray[np.str_]:
    """The same for any number that what belongs together has in common."""
    return np.array(SPLITS)[codes(place, seed, fractions)]


def codes(
    place: NDArray[np.int64], seed: int = 42, fractions: tuple[float, ...] = FRACTIONS
) -> NDArray[np.int8]:
    """As `assign_by`, but the place in `SPLITS`: a byte an object."""
    edges = np.cumsum(fractions)[:-1]
    found = np.empty(len(place), np.int8)
    for start in range(0, len(place), CHUNK):
        uniform = mix(place[start : start + CHUNK], seed).astype(np.float64) / 2.0**64
        found[start : start + CHUNK] = np.searchsorted(edges, uniform, side="right")
    return found


def places(
    source_id: NDArray[np.int64], ra: NDArray | None = None, dec: NDArray | None = None
) -> NDArray[np.int64]:
    """What is hashed for each object: its HEALPix cell, or its id where it has none.

    Ids are Gaia's if the cell written in them is that of the position for most objects that have
    one. Where there are no positions at all, ids from 2^32 on are taken to be Gaia's.
    """
    if ra is None or dec is None:
        return np.where(source_id >= 2**32, cells(source_id), source_id)
    by_position = cells_at(ra, dec)
    known = by_position >= 0
    parts = (slice(start, start + CHUNK) for start in range(0, len(source_id), CHUNK))
    same = sum(int((cells(source_id[p]) == by_position[p])[known[p]].sum()) for p in parts)
    if 2 * same < known.sum():
        # Cells have numbers below 2^20: an id never passes for one.
        by_position[~known] = source_id[~known] + 2**20
        return by_position
    return np.where(source_id >= 2**32, cells(source_id), source_id)

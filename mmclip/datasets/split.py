"""Training, validation and test: a hash of the sky, so it survives more data.

Two rows of one star, or two blended neighbours, lie in the same HEALPix cell and never on both
sides of the split. The cell is read off a Gaia source_id; any other object has that of its
position, and one without a position is hashed by its id.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from mmclip import arrays, sky
from mmclip.ids import is_local

SPLITS = ("train", "validation", "test")
FRACTIONS = (0.8, 0.1, 0.1)
CHUNK = 1 << 18  # objects worked on at a time
TOGETHER = 5.0  # arcsec: rows nearer to one another are one star, or blended
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

    A Gaia id carries its cell; every other object has that of its position, so that a star lies on
    one side of the split under whatever id it comes. Rows within `TOGETHER` arcsec of one another
    across the edge of a cell share a place too. Ids are Gaia's if the cell written in them is that
    of the position for most objects that have one; without positions, ids from 2^32 on are.

    Args:
        source_id: [objects] Gaia's, or local ones (`mmclip.ids.local_id`).
        ra, dec: [objects] deg, ICRS; NaN where unknown. None: no object has a position.

    Returns:
        [objects] a number that is the same for rows that belong together.
    """
    by_id = np.where(source_id >= 2**32, cells(source_id), source_id)
    if ra is None or dec is None:
        return by_id
    by_position, local = cells_at(ra, dec), is_local(source_id)
    known = by_position >= 0
    parts = (slice(start, start + CHUNK) for start in range(0, len(source_id), CHUNK))
    same = sum(int((by_id[p] == by_position[p])[known[p]].sum()) for p in parts)
    gaia = ~local if 2 * same >= (known & ~local).sum() else np.zeros(len(local), bool)
    if gaia.all():
        return by_id
    # Cells have numbers below 2^20: an id never passes for one.
    place = np.where(gaia, by_id, np.where(known, by_position, source_id + 2**20))
    _join_across_edges(place, gaia, np.asarray(ra, float), np.asarray(dec, float), by_position)
    return place


def _join_across_edges(
    place: NDArray[np.int64], gaia: NDArray[np.bool_], ra: NDArray, dec: NDArray, own: NDArray
) -> None:
    """Give rows that lie together on two sides of a cell's edge one place: a Gaia row's, if any."""
    step = TOGETHER / 3600
    aside = step / np.maximum(np.cos(np.radians(dec)), 1e-6)
    around = ((ra + aside, dec), (ra - aside, dec), (ra, dec + step), (ra, dec - step))
    near = np.zeros(len(place), bool)
    for a, d in around:
        near |= (own >= 0) & (cells_at(a, np.clip(d, -90, 90)) != own)
    rows = np.flatnonzero(near | ((own >= 0) & (place != own)))
    if len(rows) < 2:
        return
    tree = KDTree(sky.unit_vectors(ra[rows], dec[rows]))
    pairs = tree.query_pairs(2 * np.sin(np.radians(step) / 2), output_type="ndarray")
    links = coo_array((np.ones(len(pairs), bool), pairs.T), shape=(len(rows), len(rows)))
    _, group = connected_components(links, directed=False)
    # Gaia's rows first, then the smallest place: the same whatever the order of the rows.
    order = np.lexsort((place[rows], ~gaia[rows], group))
    first = np.flatnonzero(np.diff(group[order], prepend=-1))
    chosen = np.empty(int(group.max()) + 1, np.int64)
    chosen[group[order][first]] = place[rows][order][first]
    place[rows] = np.where(gaia[rows], place[rows], chosen[group])

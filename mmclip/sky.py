"""Places on the sky: distances, proper motion, and HEALPix cells (nested), in NumPy."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmclip.arrays import Array

ARCSEC = np.pi / 180 / 3600
STRIPE = 65_536  # positions of a stripe of declination


def separation(
    ra1: ArrayLike, dec1: ArrayLike, ra2: ArrayLike, dec2: ArrayLike
) -> NDArray[np.float64]:
    """Great-circle distance in arcsec of positions in deg (haversine)."""
    a1, d1, a2, d2 = (np.radians(np.asarray(v, np.float64)) for v in (ra1, dec1, ra2, dec2))
    half = np.sin((d2 - d1) / 2) ** 2 + np.cos(d1) * np.cos(d2) * np.sin((a2 - a1) / 2) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))) * 3600)


def unit_vectors(ra: Array, dec: Array) -> NDArray[np.float64]:
    """Directions on the unit sphere ([positions, 3]) of positions in deg."""
    a, d = np.radians(np.asarray(ra, np.float64)), np.radians(np.asarray(dec, np.float64))
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)


def together(ra: Array, dec: Array, within: float) -> NDArray[np.int64]:
    """[positions] the first row of each group of positions linked by steps of `within` arcsec.

    A position (deg) that is not finite is a group of its own.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first = np.arange(len(ra))
    linked, ends = np.unique(_pairs(ra, dec, within), return_inverse=True)
    left, right = ends.reshape(-1, 2).T
    graph = coo_array((np.ones(len(left), bool), (left, right)), shape=(len(linked), len(linked)))
    _, start, group = np.unique(
        connected_components(graph, directed=False)[1], return_index=True, return_inverse=True
    )
    first[linked] = linked[start][group]
    return first


def _pairs(ra: Array, dec: Array, within: float) -> NDArray[np.int64]:
    """[pairs, 2] rows of positions within so many arcsec, found in stripes of declination."""
    from scipy.spatial import KDTree

    order = np.argsort(dec, kind="stable")  # NaN last
    chord = 2 * np.sin(np.radians(within / 3600) / 2)
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(order), STRIPE):
        last = dec[order[min(start + STRIPE, len(order)) - 1]]
        # Farther apart in declination than that is farther apart on the sky.
        stop = np.searchsorted(dec, last + 1.01 * within / 3600, "right", sorter=order)
        rows = order[start : max(stop, start + STRIPE)]
        rows = rows[np.isfinite(ra[rows]) & np.isfinite(dec[rows])]
        tree = KDTree(unit_vectors(ra[rows], dec[rows]))
        found.append(rows[tree.query_pairs(chord, output_type="ndarray")])
    return np.concatenate(found)


def propagate(
    ra: Array, dec: Array, pmra: Array, pmdec: Array, years: Array | float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions (deg) after `years` of proper motion, along the tangent plane.

    Args:
        ra, dec: deg.
        pmra, pmdec: mas / yr, pmra with the factor cos(dec); NaN counts as no motion.
        years: From the epoch of the positions to the wanted one.

    Source:
        Hipparcos and Tycho catalogues (ESA SP-1200), volume 1, section 1.5.5, without radial
        velocity and parallax.
    """
    a, d = np.radians(np.asarray(ra, np.float64)), np.radians(np.asarray(dec, np.float64))
    east = np.stack([-np.sin(a), np.cos(a), np.zeros_like(a)], axis=1)
    north = np.stack([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)], axis=1)
    step = np.reshape(ARCSEC / 1000 * np.asarray(years, np.float64), (-1, 1))
    moved = unit_vectors(ra, dec) + step * (
        np.nan_to_num(np.asarray(pmra, np.float64))[:, None] * east
        + np.nan_to_num(np.asarray(pmdec, np.float64))[:, None] * north
    )
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    return (
        np.mod(np.degrees(np.arctan2(moved[:, 1], moved[:, 0])), 360.0),
        np.degrees(np.arctan2(moved[:, 2], np.hypot(moved[:, 0], moved[:, 1]))),
    )


def cell(order: int, ra: Array, dec: Array) -> NDArray[np.int64]:
    """Nested HEALPix pixel of each position; -1 where the position is not finite.

    Args:
        order: Of the pixelisation, 0 to 29; NSIDE is 2^order.
        ra, dec: ICRS, deg ([positions]).

    Source:
        Gorski et al. 2005 (ApJ 622, 759), section 4.1 and equations 4-9: rings of equal area,
        z = sin(dec), and twelve base pixels.
    """
    ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    known = np.isfinite(ra) & np.isfinite(dec) & (np.abs(np.nan_to_num(dec)) <= 90)
    nside = 1 << order
    z = np.sin(np.radians(np.where(known, dec, 0.0)))
    tt = np.mod(np.where(known, ra, 0.0) / 90.0, 4.0)  # in quarters of a turn
    face = np.empty(len(z), np.int64)
    x, y = np.empty(len(z), np.int64), np.empty(len(z), np.int64)
    belt = np.abs(z) <= 2 / 3
    face[belt], x[belt], y[belt] = _belt(nside, z[belt], tt[belt])
    dec_cap = np.radians(np.where(known, dec, 0.0))[~belt]
    face[~belt], x[~belt], y[~belt] = _cap(nside, dec_cap, tt[~belt])
    pixel = face * (nside * nside) + _spread(x) + 2 * _spread(y)
    return np.where(known, pixel, -1)


def _belt(nside: int, z: Array, tt: Array) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Face and place on it between the polar caps."""
    up = np.floor(nside * (0.5 + tt - 0.75 * z)).astype(np.int64)  # along rising lines
    down = np.floor(nside * (0.5 + tt + 0.75 * z)).astype(np.int64)  # along falling lines
    a, b = up // nside, down // nside
    face = np.where(a == b, (a & 3) + 4, np.where(a < b, a & 3, (b & 3) + 8))
    return face, down & (nside - 1), nside - 1 - (up & (nside - 1))


def _cap(nside: int, dec: Array, tt: Array) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Face and place on it around a pole."""
    quarter = np.minimum(np.floor(tt), 3).astype(np.int64)
    along = tt - quarter
    # sqrt(3 (1 - |sin dec|)) without cancellation near the pole
    width = nside * np.sqrt(6.0) * np.abs(np.sin((np.pi / 2 - np.abs(dec)) / 2))
    rising = np.minimum(np.floor(along * width), nside - 1).astype(np.int64)
    falling = np.minimum(np.floor((1 - along) * width), nside - 1).astype(np.int64)
    north = dec >= 0
    face = np.where(north, quarter, quarter + 8)
    x = np.where(north, nside - 1 - falling, rising)
    y = np.where(north, nside - 1 - rising, falling)
    return face, x, y


def _spread(bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bits of an integer below 2^29 moved to the even places."""
    out = bits.astype(np.int64)
    for shift, mask in (
        (16, 0x0000FFFF0000FFFF), (8, 0x00FF00FF00FF00FF), (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333), (1, 0x5555555555555555),
    ):  # fmt: skip
        out = (out | (out << shift)) & mask
    return out

"""DBSCAN in bounded memory: neighbours are looked up some points at a time."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

NOISE = -1
ROOM = 1 << 25  # bytes of neighbours that are held at a time
Ints = NDArray[np.int64]


def dbscan(points: NDArray[np.float64], epsilon: float, min_samples: int) -> tuple[Ints, Ints]:
    """The groups of DBSCAN, as scikit-learn numbers them, and the rows of core points.

    Scikit-learn holds all neighbours of all points: the square of the size of a dense group.

    Args:
        points: [points, dim], finite.
        epsilon: Distance up to which two points are neighbours.
        min_samples: Neighbours, itself among them, that make a core point.

    Returns:
        [points] number of the group, -1 for noise; groups are in order of their first core point,
        and a point at the edge of several belongs to the first.

    Source:
        Ester et al. 1996, KDD 96, 226.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    every = np.arange(len(points))
    counts = np.zeros(len(points), np.int64)
    for rows, which, _ in _neighbours(points, points, every, epsilon):
        counts[rows] = np.bincount(which, minlength=len(rows))
    core = np.flatnonzero(counts >= min_samples)
    labels = np.full(len(points), NOISE, np.int64)
    if not len(core):
        return labels, core
    group = np.arange(len(core))
    for rows, which, near in _neighbours(points[core], points, core, epsilon):
        one, other = group[np.searchsorted(core, rows)[which]], group[near]
        links = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(core),) * 2)
        group = connected_components(links.tocsr(), directed=False)[1][group]
    _, start, number = np.unique(group, return_index=True, return_inverse=True)
    labels[core] = np.argsort(np.argsort(start))[number]
    edge = np.flatnonzero(counts < min_samples)
    for rows, which, near in _neighbours(points[core], points, edge, epsilon):
        first_of = np.full(len(rows), len(core))
        np.minimum.at(first_of, which, labels[core[near]])
        labels[rows] = np.where(first_of < len(core), first_of, NOISE)
    return labels, core


def _neighbours(
    among: NDArray[np.float64], points: NDArray[np.float64], rows: Ints, epsilon: float
) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Some rows at a time: those rows, and pairs (place in them, row of `among`) within epsilon."""
    from sklearn.neighbors import NearestNeighbors

    tree = NearestNeighbors(radius=epsilon).fit(among)
    step = max(ROOM // (8 * len(among)), 1)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        found = tree.radius_neighbors(points[part], return_distance=False)
        which = np.repeat(np.arange(len(part)), [len(f) for f in found])
        yield part, which, np.concatenate(found).astype(np.int64)

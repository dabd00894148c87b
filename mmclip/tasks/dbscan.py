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
    counts = _counts(points, epsilon)
    core = np.flatnonzero(counts >= min_samples)
    labels = np.full(len(points), NOISE, np.int64)
    if not len(core):
        return labels, core
    group = _meshed(points[core], epsilon)
    if group is None:
        group = _linked(points[core], epsilon)
    _, start, number = np.unique(group, return_index=True, return_inverse=True)
    labels[core] = np.argsort(np.argsort(start))[number]
    edge = np.flatnonzero(counts < min_samples)
    for rows, which, near in _neighbours(points[core], points, edge, epsilon):
        first_of = np.full(len(rows), len(core))
        np.minimum.at(first_of, which, labels[core[near]])
        labels[rows] = np.where(first_of < len(core), first_of, NOISE)
    return labels, core


def _counts(points: NDArray[np.float64], epsilon: float) -> Ints:
    """[points] how many lie within epsilon of each, itself among them."""
    if points.shape[1] == 2:
        from scipy.spatial import cKDTree

        near = cKDTree(points).query_ball_point(points, epsilon, return_length=True)
        return np.asarray(near, np.int64)
    counts = np.zeros(len(points), np.int64)
    for rows, which, _ in _neighbours(points, points, np.arange(len(points)), epsilon):
        counts[rows] = np.bincount(which, minlength=len(rows))
    return counts


def _meshed(points: NDArray[np.float64], epsilon: float) -> Ints | None:
    """[points] the group of each point of a plane, linked by steps up to epsilon; None: no mesh.

    The shortest tree through all points is a part of their Delaunay triangulation, so its sides
    up to epsilon link what steps up to epsilon link.

    Source:
        Toussaint 1980, Pattern Recognition 12, 261.
    """
    from scipy.spatial import Delaunay, QhullError

    if points.shape[1] != 2:
        return None
    different, place = np.unique(points, axis=0, return_inverse=True)
    try:
        mesh = Delaunay(different)
    except (QhullError, ValueError):  # fewer than three points, or all on a line
        return None
    if len(mesh.coplanar):
        return None  # points so near to others that the mesh has left them out
    one, other = mesh.simplices.reshape(-1), np.roll(mesh.simplices, 1, axis=1).reshape(-1)
    near = np.linalg.norm(different[one] - different[other], axis=1) <= epsilon
    return _components(one[near], other[near], len(different))[place.reshape(-1)]


def _linked(points: NDArray[np.float64], epsilon: float) -> Ints:
    """[points] the group of each, linked by steps up to epsilon; see `_neighbours`."""
    every = np.arange(len(points))
    group = every
    for rows, which, near in _neighbours(points, points, every, epsilon):
        group = _components(group[rows[which]], group[near], len(points))[group]
    return group


def _components(one: Ints, other: Ints, count: int) -> Ints:
    """[count] the group of each of so many, of which `one` and `other` are linked."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(one), bool), (one, other)), shape=(count, count))
    return np.asarray(connected_components(links.tocsr(), directed=False)[1])


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

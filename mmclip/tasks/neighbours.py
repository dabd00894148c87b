"""The nearest other stars: metric, weights, and what counts as the same star."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmclip.datasets import tables
from mmclip.datasets.build import Dataset
from mmclip.errors import UsageError
from mmclip.vectors.index import build

SAME_STAR = 2.0  # arcsec: two ids closer than this are one star, never each other's neighbour
LEAVE_ONE_OUT = "leave-one-out"


@dataclass(frozen=True)
class Options:
    """What changes a k-NN number; every row of an answer carries them.

    Attributes:
        k: Neighbours.
        weights: `uniform`, or `distance` (1 / distance; exact matches alone where there are any).
        metric: `euclidean`, `cosine` (1 - cosine) or `manhattan`. Vectors have unit length, so
            the first two find the same neighbours.
        scale: `none`, or `standard`: each dimension to mean 0 and deviation 1 of the references.
        split: Who is asked: `test`, `validation` (references: `train`) or `leave-one-out`.
        coverage: Part of the stars that the conformal interval is to hold.
        resamples: Of the bootstrap; 0 for none.
    """

    k: int = 13
    weights: str = "uniform"
    metric: str = "euclidean"
    scale: str = "none"
    split: str = "test"
    coverage: float = 0.683
    resamples: int = 0

    def __post_init__(self) -> None:
        known = {
            "weights": ("uniform", "distance"),
            "metric": ("euclidean", "cosine", "manhattan"),
            "scale": ("none", "standard"),
            "split": ("test", "validation", LEAVE_ONE_OUT),
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                reason = " would find each star in its own reference" if name == "split" else ""
                raise UsageError(
                    f"--{name} {getattr(self, name)}{reason or ' is not known'}",
                    f"choose {', '.join(values)}",
                )


def same_star(data: Dataset) -> NDArray[np.int64]:
    """[objects] a number that rows of one star share: ids closer than 2 arcsec on the sky."""
    count = len(data.source_id)
    if not {"ra", "dec"} <= set(data.objects.column_names):
        return np.arange(count)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    ra, dec = (np.radians(tables.column(data.objects, n).astype(float)) for n in ("ra", "dec"))
    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    place = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    chord = 2 * np.sin(np.radians(SAME_STAR / 3600) / 2)
    pairs = known[cKDTree(place[known]).query_pairs(chord, output_type="ndarray")]
    ones = np.ones(len(pairs), bool)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def neighbours(
    reference: NDArray[np.float32],
    queries: NDArray[np.float32],
    k: int,
    options: Options,
    groups: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distances and reference rows [queries, k] of the nearest references of other stars.

    Args:
        reference, queries: [stars, dim].
        k: At most the references that are left.
        options: Metric and scale.
        groups: The star of each reference and of each query; equal numbers are not neighbours.
    """
    known, asked = groups
    _, shared = np.unique(known, return_counts=True)
    extra = int(shared.max()) if np.isin(asked, known).any() else 0
    take = min(k + extra, len(reference))
    if options.scale == "standard":
        centre, spread = reference.mean(axis=0), reference.std(axis=0)
        spread = np.where(spread > 0, spread, 1)
        reference, queries = (reference - centre) / spread, (queries - centre) / spread
    if options.scale == "none" and options.metric != "manhattan":
        cosine, found = build(np.ascontiguousarray(reference)).search(queries, take)
        away = np.maximum(1 - cosine.astype(np.float64), 0.0)
        distance = away if options.metric == "cosine" else np.sqrt(2 * away)
    else:
        from sklearn.neighbors import NearestNeighbors

        made = NearestNeighbors(metric=options.metric, algorithm="brute").fit(reference)
        distance, found = made.kneighbors(queries, take)
    same = known[found] == asked[:, None]
    order = np.argsort(same, axis=1, kind="stable")[:, : max(1, min(k, take - extra))]
    return np.take_along_axis(distance, order, 1), np.take_along_axis(found, order, 1)


def weigh(distance: NDArray[np.float64], weights: str) -> NDArray[np.float64]:
    """[queries, k] weights that sum to 1; exact matches share the whole weight."""
    if weights == "uniform":
        return np.full(distance.shape, 1 / distance.shape[1])
    exact = distance <= 1e-6
    with np.errstate(divide="ignore", over="ignore"):
        raw = np.where(exact.any(axis=1, keepdims=True), exact, 1 / distance)
    return np.asarray(raw / raw.sum(axis=1, keepdims=True), float)

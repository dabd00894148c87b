"""Strange stars: far from their class, far from every neighbour, or with views that disagree."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.datasets.build import Dataset
from mmclip.errors import NotFound, UsageError, nearest
from mmclip.vectors.index import build
from mmclip.vectors.store import Store

Row = dict[str, Any]


def knn_distance(
    vectors: NDArray[np.float32], reference: NDArray[np.bool_], k: int
) -> NDArray[np.float64]:
    """Mean cosine distance to the k nearest reference stars, the star itself left out.

    Args:
        vectors: [stars, dim]; NaN for stars without the view, which get NaN.
        reference: [stars] True for the stars to compare with.
        k: Neighbours.
    """
    seen = np.isfinite(vectors[:, 0])
    rows = np.flatnonzero(reference & seen)
    if len(rows) < 2:
        raise UsageError(f"only {len(rows)} reference stars", "embed a larger data set")
    take = min(k, len(rows) - 1)
    cosine, found = build(np.ascontiguousarray(vectors[rows])).search(vectors[seen], take + 1)
    itself = rows[found] == np.flatnonzero(seen)[:, None]
    # A star that is no reference is not among its neighbours: drop the farthest instead.
    itself[~itself.any(axis=1), -1] = True
    distance = np.full(len(vectors), np.nan)
    distance[seen] = (1 - cosine[~itself].reshape(-1, take).astype(np.float64)).mean(axis=1)
    return distance


def centroid_distance(
    vectors: NDArray[np.float32], members: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Cosine distance to the mean direction of the members; NaN without the view."""
    seen = np.isfinite(vectors[:, 0])
    centre = vectors[members & seen].astype(np.float64).mean(axis=0)
    return 1 - vectors.astype(np.float64) @ (centre / np.linalg.norm(centre))


def outliers(
    store: Store,
    data: Dataset,
    kind: str | None = None,
    column: str = "class",
    k: int = 10,
    percentile: float = 99.0,
    also: Mapping[str, NDArray[np.float64]] | None = None,
) -> list[Row]:
    """Stars ordered by strangeness, the strangest first.

    Each view gives one measure (distance to the class centroid when a class is named, else mean
    distance to the k nearest training stars); each pair of views gives its disagreement,
    1 - cosine. Thresholds are the given percentile over training stars (of the class).

    Args:
        store: Vectors.
        data: The objects; its class column is needed only with `kind`.
        kind: A class, for example ROT.
        column: Which column holds the class.
        k: Neighbours.
        percentile: Of the training stars.
        also: More measures by name ([stars of the store], NaN where unknown; higher is stranger).

    Returns:
        source_id, split, one column a measure, `flags` (measures above their threshold), `views`
        (views whose distance is) and `score` (mean percentile rank of the measures, 0 to 100).

    Source:
        Rizhko & Bloom 2025, arXiv:2411.08842, outlier sections: centroids and 99th percentile.
    """
    members = class_members(store, data, kind, column)
    train = members & (store.split == "train")
    if train.sum() < 2:
        raise UsageError(
            f"only {int(train.sum())} training stars" + (f" of class {kind}" if kind else ""),
            "embed a larger data set",
        )
    vectors = {m: store.vectors(m) for m in store.modalities}
    measures: dict[str, NDArray[np.float64]] = {}
    for name, matrix in vectors.items():
        if kind is None:
            measures[f"distance {name}"] = knn_distance(matrix, train, k)
        else:
            measures[f"distance {name}"] = centroid_distance(matrix, train)
    names = sorted(vectors)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            cosine = np.einsum("ij,ij->i", vectors[a], vectors[b]).astype(np.float64)
            measures[f"disagreement {a}-{b}"] = 1 - cosine
    measures |= also or {}
    flags = np.zeros(len(store.source_id), int)
    views = np.zeros(len(store.source_id), int)
    ranks = []
    for name, value in measures.items():
        known = np.sort(value[train & np.isfinite(value)])
        if len(known) == 0:
            continue
        above = np.nan_to_num(value, nan=-np.inf) > np.percentile(known, percentile)
        flags += above
        views += above if name.startswith("distance") else 0
        rank = 100.0 * np.searchsorted(known, value, side="right") / len(known)
        ranks.append(np.where(np.isfinite(value), rank, np.nan))
    stacked = np.stack(ranks)
    counted = np.isfinite(stacked).sum(axis=0)
    score = np.where(counted > 0, np.nansum(stacked, axis=0) / np.maximum(counted, 1), np.nan)
    # Where nothing differs the percentile is 0, and so is every value.
    parts = [v / (np.nanpercentile(v[train], percentile) or 1.0) for v in measures.values()]
    total = np.nan_to_num(parts).sum(axis=0)
    order = sorted(np.flatnonzero(members), key=lambda r: (-flags[r], -float(total[r])))
    return [
        {
            "source_id": int(store.source_id[r]),
            "split": str(store.split[r]),
            "flags": int(flags[r]),
            "views": int(views[r]),
            "score": float(score[r]),
            **{n: float(v[r]) for n, v in measures.items()},
        }
        for r in order
    ]


def class_members(store: Store, data: Dataset, kind: str | None, column: str) -> NDArray[np.bool_]:
    """True for the stars of a class; for all stars without one.

    Raises:
        NotFound: If the data have no classes, or none of that name.
    """
    if kind is None:
        return np.ones(len(store.source_id), bool)
    if column not in data.objects.column_names:
        raise NotFound(
            f"class {kind} needs classified stars, and {data.artifact.path} has no column "
            f"'{column}'",
            "mmclip preprocess --labels FILE   (a table with source_id and class)",
        )
    classes = {
        int(s): c for s, c in zip(data.source_id, data.objects[column].to_pylist(), strict=True)
    }
    mine = np.array([str(classes.get(int(s)) or "") for s in store.source_id])
    if not (mine == kind).any():
        known = sorted(set(mine[mine != ""].tolist()))
        raise NotFound(
            f"no star of class '{kind}'; {nearest(kind, known)}", f"classes: {', '.join(known)}"
        )
    return mine == kind

"""Detectors of strange objects beside distance to the centroid: density, forests, neighbours."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.datasets.build import Dataset
from mmclip.errors import NotFound, UsageError
from mmclip.tasks.neighbours import Options, neighbours, same_star
from mmclip.vectors.index import build
from mmclip.vectors.store import Store

Row = dict[str, Any]
EDGES = np.geomspace(0.01, 10.0, 61)  # of the map's extent in units of its median neighbour gap


def classes_of(store: Store, data: Dataset, column: str) -> NDArray[np.object_]:
    """[stars of the store] class names, empty where unknown.

    Raises:
        NotFound: If the data have no such column.
    """
    if column not in data.objects.column_names:
        raise NotFound(
            f"{data.artifact.path} has no column '{column}' of classes",
            "mmclip preprocess --labels FILE   (a table with source_id and class)",
        )
    names = dict(zip(data.source_id.tolist(), data.objects[column].to_pylist(), strict=True))
    return np.array([str(names.get(int(s)) or "") for s in store.source_id], object)


@dataclass(frozen=True)
class Lonely:
    """Objects in no cluster, and the parameters that decided it."""

    noise: NDArray[np.bool_]
    epsilon: float
    min_samples: int


def in_no_cluster(
    vectors: NDArray[np.float32], min_samples: int = 5, epsilon: float | None = None
) -> Lonely:
    """The noise of DBSCAN (Euclidean, on unit vectors), without its clusters.

    An object is core if its `min_samples` nearest, itself among them, lie within epsilon; noise
    if it is not core and no core object lies within epsilon. What lies within epsilon of an
    object that is not core is among its nearest `min_samples`, so k-NN decides exactly.

    Args:
        vectors: [objects, dim]; NaN rows are never noise.
        min_samples: As scikit-learn counts it: the object itself is one.
        epsilon: None takes the 97th percentile of the distance to the last of `min_samples`.

    Source:
        Ester et al. 1996, KDD 96, 226; label -1 of DBSCAN on the full embeddings: Rizhko & Bloom
        2025, arXiv:2411.08842. Epsilon is not published.
    """
    seen = np.isfinite(vectors[:, 0])
    known = np.ascontiguousarray(vectors[seen])
    if len(known) < min_samples:
        raise UsageError(f"DBSCAN needs {min_samples} objects, here are {len(known)}")
    cosine, found = build(known).search(known, min_samples)
    distance = np.sqrt(np.maximum(2 - 2 * cosine.astype(np.float64), 0))
    if epsilon is None:
        epsilon = float(np.percentile(distance[:, -1], 97))
    core = distance[:, -1] <= epsilon
    near_core = ((distance <= epsilon) & core[found]).any(axis=1)
    noise = np.zeros(len(vectors), bool)
    noise[seen] = ~core & ~near_core
    return Lonely(noise, epsilon, min_samples)


def off_the_main_cluster(
    places: NDArray[np.float32], members: NDArray[np.bool_], share: float = 0.97,
    min_samples: int = 5,
) -> Lonely:  # fmt: skip
    """Members of a class that lie outside its one major cluster on the map.

    DBSCAN with the smallest epsilon of a grid for which the largest cluster holds `share` of the
    class; epsilon is in units of the map.

    Source:
        Rizhko & Bloom 2025, arXiv:2411.08842: DBSCAN per class on the UMAP plane, one major
        cluster; epsilon and min_samples are not published.
    """
    from sklearn.cluster import DBSCAN
    from sklearn.neighbors import NearestNeighbors

    rows = np.flatnonzero(members & np.isfinite(places[:, 0]))
    outside = np.zeros(len(places), bool)
    if len(rows) <= min_samples:
        return Lonely(outside, float("nan"), min_samples)
    here = places[rows].astype(float)
    gap = NearestNeighbors(n_neighbors=min_samples).fit(here).kneighbors(here)[0][:, -1]
    unit = float(np.median(gap)) or 1.0
    epsilon, labels = unit, np.zeros(len(rows), int)
    for edge in EDGES[EDGES >= 0.5]:
        epsilon = unit * float(edge)
        labels = DBSCAN(eps=epsilon, min_samples=min_samples).fit_predict(here)
        counts = np.bincount(labels[labels >= 0], minlength=1)
        if counts.max() >= share * len(rows):
            break
    main = np.bincount(labels[labels >= 0], minlength=1).argmax()
    outside[rows] = labels != main
    return Lonely(outside, epsilon, min_samples)


def forest(
    vectors: NDArray[np.float32], train: NDArray[np.bool_], seed: int = 42
) -> NDArray[np.float64]:
    """[objects] anomaly score of an isolation forest grown on the training objects; NaN unseen.

    Returns:
        2^(-mean path / expected path): 1 is isolated at once, 0.5 or less ordinary.

    Source:
        Liu, Ting & Zhou 2008, ICDM 413, equation 2; 200 trees of 256 objects.
    """
    from sklearn.ensemble import IsolationForest

    seen = np.isfinite(vectors[:, 0])
    if (train & seen).sum() < 2:
        raise UsageError("an isolation forest needs two training objects or more")
    trees = IsolationForest(n_estimators=200, random_state=seed).fit(vectors[train & seen])
    score = np.full(len(vectors), np.nan)
    score[seen] = -trees.score_samples(vectors[seen])
    return score


@dataclass(frozen=True)
class Votes:
    """What the neighbours of each object say of its class.

    Attributes:
        winner: [objects] the class most voted for.
        share: [objects] its part of the votes.
        own: [objects] the part of the object's own class.
    """

    winner: NDArray[np.object_]
    share: NDArray[np.float64]
    own: NDArray[np.float64]


def votes(
    store: Store, data: Dataset, view: str, classes: NDArray[np.object_], k: int = 15
) -> Votes:
    """The classes of the k nearest classified stars of each star, itself left out.

    Every star of every split may be a neighbour: this asks what is odd in a catalogue, and a
    star never votes for itself (nor does the same star under another id).

    Args:
        store: Vectors.
        data: The objects, whose positions tell which ids are one star.
        view: Vectors to compare, or `mean`.
        classes: [stars of the store] names, empty where unknown.
        k: Voters.
    """
    vectors = store.vectors(view)
    seen = np.isfinite(vectors[:, 0])
    known = np.flatnonzero(seen & (classes != ""))
    groups = dict(zip(data.source_id.tolist(), same_star(data).tolist(), strict=True))
    star = np.array([groups[int(s)] for s in store.source_id])
    _, found = neighbours(
        vectors[known], vectors[seen], k, Options(k), (star[known], star[seen])
    )  # fmt: skip
    names, codes = np.unique(classes[known].astype(str), return_inverse=True)
    cast = codes[found]
    counts = np.stack([(cast == c).sum(axis=1) for c in range(len(names))], axis=1)
    part = counts / cast.shape[1]
    winner = np.full(len(classes), "", object)
    share, own = np.full(len(classes), np.nan), np.full(len(classes), np.nan)
    winner[seen] = names[part.argmax(axis=1)]
    share[seen] = part.max(axis=1)
    place = {n: i for i, n in enumerate(names)}
    rows = np.flatnonzero(seen)
    at = np.array([place.get(str(c), -1) for c in classes[rows]])
    own[rows] = np.where(at >= 0, part[np.arange(len(rows)), np.maximum(at, 0)], np.nan)
    return Votes(winner, share, own)


def misclassified(
    store: Store, data: Dataset, column: str = "class", k: int = 15, least: float = 0.5
) -> list[Row]:
    """Stars whose neighbours in the space are of another class, the clearest first.

    Returns:
        source_id, its `class`, the class its neighbours vote for in the mean of its views, their
        `vote`, the part of its `own` class, and `agree`, in how many views the vote is the same.
        The order is that of 1 - own, ties by vote.
    """
    classes = classes_of(store, data, column)
    whole = votes(store, data, "mean", classes, k)
    agree = np.zeros(len(classes), int)
    for view in store.modalities:
        agree += votes(store, data, view, classes, k).winner == whole.winner
    odd = (classes != "") & (whole.winner != classes) & (whole.share >= least)
    order = sorted(np.flatnonzero(odd), key=lambda r: (whole.own[r], -whole.share[r]))
    return [
        {
            "source_id": int(store.source_id[r]), "split": str(store.split[r]),
            "class": str(classes[r]), "neighbours say": str(whole.winner[r]),
            "vote": float(whole.share[r]), "own": float(whole.own[r]), "agree": int(agree[r]),
        }
        for r in order
    ]  # fmt: skip

"""Detectors of outliers beside distance to the centroid: density, forests, votes of neighbours."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.arrays import decode
from mmclip.datasets import memmap
from mmclip.datasets.build import Dataset
from mmclip.errors import NotFound, UsageError
from mmclip.results import Result, from_rows
from mmclip.tasks.dbscan import dbscan
from mmclip.tasks.neighbours import (
    EXACT,
    Options,
    Search,
    asked,
    classes_in,
    neighbours,
    observed,
    star_of,
)
from mmclip.tasks.outliers import COLUMNS
from mmclip.vectors.exact import ExactRows
from mmclip.vectors.index import some
from mmclip.vectors.store import MEAN, Store

EDGES = np.geomspace(0.01, 10.0, 61)  # of the map's extent in units of its median neighbour gap
DRAWN = 32_768  # stars that an epsilon is the percentile of, where there are more
GROWN = 65_536  # training objects that a forest draws from, where there are more


def classes_of(store: Store, data: Dataset, column: str) -> NDArray[np.object_]:
    """[stars of the store] class names, empty where unknown; see `classified`."""
    return decode(*classified(store, data, column))


def classified(store: Store, data: Dataset, column: str) -> tuple[list[str], NDArray[np.int32]]:
    """The classes that a column names, sorted, and [stars of the store] which one; -1 unknown.

    Raises:
        NotFound: If the data have no such column.
    """
    check_classes(data, column)
    return classes_in(store, data, column)


def check_classes(data: Dataset, column: str) -> None:
    """Refuse a column that is not there.

    Raises:
        NotFound: If the data have no such column.
    """
    if column not in data.objects.column_names:
        raise NotFound(
            f"{data.artifact.path} has no column '{column}' of classes",
            "mmclip preprocess --labels FILE   (a table with source_id and class)",
        )


@dataclass(frozen=True)
class NoCluster:
    """Objects in no cluster, and the parameters that decided it."""

    noise: NDArray[np.bool_]
    epsilon: float
    min_samples: int


def outside_clusters(
    vectors: NDArray[np.float32],
    min_samples: int = 5,
    epsilon: float | None = None,
    rows: NDArray[np.int64] | None = None,
    search: Search = EXACT,
) -> NoCluster:
    """The noise of DBSCAN (Euclidean, on unit vectors), without its clusters.

    An object is core if its `min_samples` nearest, itself among them, lie within epsilon; noise
    if it is not core and no core object lies within epsilon. What lies within epsilon of an
    object that is not core is among its nearest `min_samples`, so k-NN decides exactly.

    Args:
        vectors: [objects, dim]; NaN rows are never noise.
        min_samples: As scikit-learn counts it: the object itself is one.
        epsilon: None takes the 97th percentile of the distance to the last of `min_samples`: over
            all objects, or 32,768 of them drawn at random.
        rows: Which objects are decided on; the others are said to be no noise. None: all.
        search: Says how far it is.

    Source:
        Ester et al. 1996, KDD 96, 226; label -1 of DBSCAN on the full embeddings: Rizhko & Bloom
        2025, arXiv:2411.08842. Epsilon is not published.
    """
    seen = observed(vectors)
    everything = np.flatnonzero(seen)
    if len(everything) < min_samples:
        raise UsageError(f"DBSCAN needs {min_samples} objects, here are {len(everything)}")
    among, last = ExactRows(vectors, seen), np.full(len(vectors), np.nan, np.float32)

    def learn(which: NDArray[np.int64]) -> None:
        which = which[np.isnan(last[which])]
        for part, cosine, _ in asked(among, vectors, which, min_samples, search.progress):
            last[which[part]] = cosine[:, -1]

    if epsilon is None:
        drawn = some(everything, DRAWN)
        learn(drawn)
        epsilon = float(np.percentile(_chord(last[drawn]), 97))
    wanted = everything if rows is None else rows[seen[rows]]
    learn(wanted)
    odd = wanted[_chord(last[wanted]) > epsilon]
    noise = np.zeros(len(vectors), bool)
    for part, cosine, found in asked(among, vectors, odd, min_samples, search.progress):
        within = _chord(cosine) <= epsilon
        learn(np.unique(found[within]))
        core = _chord(last[found]) <= epsilon
        noise[odd[part]] = ~(within & core).any(axis=1)
    return NoCluster(noise, epsilon, min_samples)


def _chord(cosine: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.sqrt(np.maximum(2 - 2 * cosine.astype(np.float64), 0))


def outside_main_cluster(
    places: NDArray[np.float32], members: NDArray[np.bool_], share: float = 0.97,
    min_samples: int = 5,
) -> NoCluster:  # fmt: skip
    """Members of a class that lie outside its one major cluster on the map.

    DBSCAN with the smallest epsilon of a grid for which the largest cluster holds `share` of the
    class; epsilon is in units of the map.

    Source:
        Rizhko & Bloom 2025, arXiv:2411.08842: DBSCAN per class on the UMAP plane, one major
        cluster; epsilon and min_samples are not published.
    """
    from sklearn.neighbors import NearestNeighbors

    rows = np.flatnonzero(members & np.isfinite(places[:, 0]))
    outside = np.zeros(len(places), bool)
    if len(rows) <= min_samples:
        return NoCluster(outside, float("nan"), min_samples)
    here = places[rows].astype(float)
    gap = NearestNeighbors(n_neighbors=min_samples).fit(here).kneighbors(here)[0][:, -1]
    unit = float(np.median(gap)) or 1.0
    epsilon, labels = unit, np.zeros(len(rows), int)
    for edge in EDGES[EDGES >= 0.5]:
        epsilon = unit * float(edge)
        labels = dbscan(here, epsilon, min_samples)[0]
        counts = np.bincount(labels[labels >= 0], minlength=1)
        if counts.max() >= share * len(rows):
            break
    main = np.bincount(labels[labels >= 0], minlength=1).argmax()
    outside[rows] = labels != main
    return NoCluster(outside, epsilon, min_samples)


def forest(
    vectors: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    train: NDArray[np.int64],
    rows: NDArray[np.int64],
    seed: int = 42,
) -> NDArray[np.float64]:
    """[rows] anomaly score of an isolation forest grown on the training objects; NaN unseen.

    Args:
        vectors: Gives those of some rows, [rows, dim]; NaN rows for objects without any view.
        train: Rows of the training objects; of more than 65,536 so many drawn at random.
        rows: Which objects are scored.
        seed: Of the trees.

    Returns:
        2^(-mean path / expected path): 1 is isolated at once, 0.5 or less ordinary.

    Source:
        Liu, Ting & Zhou 2008, ICDM 413, equation 2; 200 trees of 256 objects.
    """
    from sklearn.ensemble import IsolationForest

    sample = vectors(some(train, GROWN))
    sample = sample[np.isfinite(sample[:, 0])]
    if len(sample) < 2:
        raise UsageError("an isolation forest needs two training objects or more")
    trees = IsolationForest(n_estimators=200, random_state=seed).fit(sample)
    score = np.full(len(rows), np.nan)
    for part in memmap.blocks(len(rows), sample.shape[1]):
        mine = vectors(rows[part])
        seen = np.isfinite(mine[:, 0])
        if seen.any():
            score[part][seen] = -trees.score_samples(mine[seen])
    return score


@dataclass(frozen=True)
class Votes:
    """What the neighbours of some objects say of their class.

    Attributes:
        winner: [rows] code of the class most voted for; -1 for an object without the view.
        share: [rows] its part of the votes.
        own: [rows] the part of the object's own class; NaN where it has none.
    """

    winner: NDArray[np.int32]
    share: NDArray[np.float64]
    own: NDArray[np.float64]


def votes(
    store: Store,
    view: str,
    codes: NDArray[np.int32],
    star: NDArray[np.int64],
    rows: NDArray[np.int64],
    k: int = 15,
    search: Search = EXACT,
) -> Votes:
    """The classes of the k nearest classified stars of each star, itself left out.

    Every star of every split may be a neighbour: this asks what is odd in a catalogue, and a
    star never votes for itself (nor does the same star under another id).

    Args:
        store: Vectors.
        view: Vectors to compare, or `mean`.
        codes: [stars of the store] classes as numbers, -1 where unknown.
        star: [stars of the store] which ids are one star: `mmclip.tasks.neighbours.star_of`.
        rows: Whose neighbours are asked.
        k: Voters.
        search: How neighbours are found.
    """
    seen = observed(store.vectors(view))
    among = search.among(store, view, seen & (codes >= 0))
    place = np.flatnonzero(seen[rows])
    mine, kinds = rows[place], int(codes.max()) + 1
    winner = np.full(len(rows), -1, np.int32)
    share, own = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for part, _, found in neighbours(among, among.vectors, mine, Options(k), star, search.progress):
        cast = codes[found] + kinds * np.arange(len(found))[:, None]
        votes = np.bincount(cast.ravel(), minlength=kinds * len(found)).reshape(-1, kinds)
        votes = votes / cast.shape[1]
        at, class_ = place[part], codes[mine[part]]
        winner[at], share[at] = votes.argmax(axis=1), votes.max(axis=1)
        known = class_ >= 0
        own[at[known]] = votes[np.flatnonzero(known), class_[known]]
    return Votes(winner, share, own)


def misclassified(
    store: Store,
    data: Dataset,
    column: str = "class",
    k: int = 15,
    least: float = 0.5,
    kind: str | None = None,
    top: int | None = None,
    search: Search = EXACT,
) -> tuple[Result, int]:
    """Stars whose neighbours in the space are of another class, the clearest first.

    Args:
        store, data, column: Vectors, and the classes of their stars.
        k: Voters.
        least: Part of the votes that another class has at least.
        kind: Only stars of this class; None for all.
        top: How many are listed; None for all.
        search: How neighbours are found.

    Returns:
        A row a star: source_id, its `class`, the class its neighbours vote for in the mean of its
        views, their `vote`, the part of its `own` class, and `agree`, in how many views the vote
        is the same. The order is that of 1 - own, ties by vote. And how many stars there are.
    """
    names, codes = classified(store, data, column)
    star = star_of(store, data)
    among = [i for i, name in enumerate(names) if kind in (None, name)]
    rows = np.flatnonzero(np.isin(codes, among))
    whole = votes(store, MEAN, codes, star, rows, k, search)
    other = (whole.winner >= 0) & (whole.winner != codes[rows])
    odd = np.flatnonzero(other & (whole.share >= least))
    count = len(odd)
    odd = odd[np.lexsort((-whole.share[odd], whole.own[odd]))][:top]
    rows, winner = rows[odd], whole.winner[odd]
    agree = np.zeros(len(rows), int)
    for view in store.modalities:
        agree += votes(store, view, codes, star, rows, k, search).winner == winner
    splits = store.splits["split"].take(pa.array(rows)).to_pylist()
    listed = [
        {
            "source_id": int(store.source_id[r]), "split": split,
            "class": names[codes[r]], "neighbours say": names[w],
            "vote": float(whole.share[o]), "own": float(whole.own[o]), "agree": int(a),
        }
        for r, split, w, o, a in zip(rows, splits, winner, odd, agree, strict=True)
    ]  # fmt: skip
    title = f"stars whose neighbours are of another class: {count}"
    return from_rows(listed, title, COLUMNS, store.artifact), count

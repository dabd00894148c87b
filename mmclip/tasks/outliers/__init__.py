"""Outliers: far from their class, far from every neighbour, or with views that disagree."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.datasets import memmap
from mmclip.datasets.build import Dataset
from mmclip.errors import NotFound, UsageError, nearest
from mmclip.results import Result, from_table
from mmclip.tasks.neighbours import EXACT, Search, asked, classes_in, data_rows, observed
from mmclip.tasks.outliers import residual
from mmclip.tasks.predict import features
from mmclip.vectors.exact import ExactRows
from mmclip.vectors.store import Store

LEAST = 0.01  # of the median: a measure below it says no more than that it is small
COLUMNS = {
    "split": ("", "train, validation or test"),
    "flags": ("", "measures above their threshold"),
    "views": ("", "views whose distance is above its threshold"),
    "excess": ("", "geometric mean of a star's measures over their medians; 1 is the threshold"),
    "snr": ("", "median signal-to-noise ratio of the star's views, or the catalogue's snr"),
    "score": ("", "mean percentile rank of the measures among the training stars, 0 to 100"),
    "distance *": ("", "cosine distance to the class centroid or the k nearest training stars"),
    "residual *": ("", "rms of the spectrum less the components of ordinary ones"),
    "line *": ("", "its largest pixel, over the deviation of that pixel among ordinary stars"),
    "disagreement *": ("", "1 - cosine between two views of the star"),
    "surprise *": ("", "how unlike what is generated from one view is the other one"),
    "forest": ("", "score of an isolation forest on the mean vectors; higher is less ordinary"),
    "no cluster": ("", "noise of DBSCAN on the mean vectors"),
    "off map cluster": ("", "outside the main cluster of its class on the map"),
    "class": ("", "class of the star in the catalogue"),
    "neighbours say": ("", "class that most neighbours have"),
    "vote": ("", "fraction of the neighbours of that class"),
    "own": ("", "fraction of the neighbours of the star's own class"),
    "agree": ("", "views in which the neighbours vote for the same class"),
    "verdict": (
        "",
        "perhaps misclassified, outlier of its class, or nothing; only where there are classes",
    ),
}


def knn_distance(among: ExactRows, k: int, search: Search = EXACT) -> NDArray[np.float64]:
    """Mean cosine distance to the k nearest reference stars, the star itself left out.

    Args:
        among: The reference stars among vectors [stars, dim]; stars without the view get NaN.
        k: Neighbours.
        search: Says how far it is.
    """
    count = int(among.allowed.sum())
    if count < 2:
        raise UsageError(f"only {count} reference stars", "embed a larger data set")
    take = min(k, count - 1)
    rows = np.flatnonzero(observed(among.vectors))
    distance = np.full(len(among.vectors), np.nan)
    for part, cosine, found in asked(among, among.vectors, rows, take + 1, search.progress):
        itself = found == rows[part][:, None]
        # A star that is no reference is not among its neighbours: drop the farthest instead.
        itself[~itself.any(axis=1), -1] = True
        near = cosine[~itself].reshape(-1, take).astype(np.float64)
        distance[rows[part]] = (1 - near).mean(axis=1)
    return distance


def centroid_distance(
    vectors: NDArray[np.float32], members: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Cosine distance to the mean direction of the members; NaN without the view."""
    total = np.zeros(vectors.shape[1])
    for part in memmap.blocks(*vectors.shape):
        mine = vectors[part][members[part]]
        total += mine[np.isfinite(mine[:, 0])].sum(axis=0, dtype=np.float64)
    centre = total / np.linalg.norm(total)
    distance = np.empty(len(vectors))
    for part in memmap.blocks(*vectors.shape):
        distance[part] = 1 - vectors[part].astype(np.float64) @ centre
    return distance


def disagreement(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """[stars] 1 - cosine of two views' vectors [stars, dim]; NaN where one is missing."""
    cosine = np.empty(len(a), np.float32)
    for part in memmap.blocks(*a.shape):
        cosine[part] = np.einsum("ij,ij->i", a[part], b[part])
    return 1 - cosine.astype(np.float64)


@dataclass(frozen=True)
class Measures:
    """How far from the ordinary each star of a store is, by several measures.

    Attributes:
        members: [stars] True for those that were looked at.
        train: [stars] True for those that the thresholds come from.
        measures: [stars] each; NaN where unknown.
        flags, views: [stars] measures above their threshold; those of them that are distances.
        total: [stars] geometric mean of the measures a star has, each over the median of the
            stars `train`, in units of its own threshold; 0 for a star that has none.
        snr: [stars] signal-to-noise ratio, NaN unknown; None: of no star.
    """

    members: NDArray[np.bool_]
    train: NDArray[np.bool_]
    measures: dict[str, NDArray[np.float64]]
    flags: NDArray[np.int16]
    views: NDArray[np.int16]
    total: NDArray[np.float64]
    snr: NDArray[np.float64] | None = None

    def score(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """[rows] mean percentile rank of the measures among the training stars, 0 to 100."""
        total, counted = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
        for value in self.measures.values():
            known = np.sort(value[self.train & np.isfinite(value)])
            if len(known) == 0:
                continue
            mine = value[rows]
            rank = 100.0 * np.searchsorted(known, mine, side="right") / len(known)
            total += np.where(np.isfinite(mine), rank, 0)
            counted += np.isfinite(mine)
        return np.where(counted > 0, total / np.maximum(counted, 1), np.nan)

    def order(self, top: int | None = None, by_score: bool = False) -> NDArray[np.int64]:
        """Rows of the members, greatest outliers first: by `total` (the column `excess`).

        Args:
            top: How many; None for all.
            by_score: By score, then `total`: so stars of several classes are ordered alike.
        """
        rows = np.flatnonzero(self.members)
        rows = rows[np.argsort(-self.total[rows], kind="stable")]
        if by_score:
            rows = rows[np.argsort(-np.nan_to_num(self.score(rows)), kind="stable")]
        return rows[:top]

    def listed(self, store: Store, rows: NDArray[np.int64]) -> pa.Table:
        """One row a star: see `outliers`."""
        return pa.table({
            "source_id": store.source_id[rows],
            "split": store.splits["split"].take(pa.array(rows)).cast(pa.string()),
            "flags": self.flags[rows].astype(np.int64),
            "views": self.views[rows].astype(np.int64),
            "excess": self.total[rows],
            **({} if self.snr is None else {"snr": self.snr[rows]}),
            "score": self.score(rows),
            **{name: value[rows] for name, value in self.measures.items()},
        })  # fmt: skip


def outliers(
    store: Store,
    data: Dataset,
    kind: str | None = None,
    column: str = "class",
    k: int = 10,
    percentile: float = 99.0,
    also: Mapping[str, NDArray[np.float64]] | None = None,
    top: int | None = None,
    search: Search = EXACT,
    reference: NDArray[np.bool_] | None = None,
) -> Result:
    """Stars in order of their measures, the greatest outliers first.

    Args:
        store, data, kind, column, k, percentile, also, search, reference: See `measure`.
        top: How many; None for all.

    Returns:
        source_id, split, one column a measure, `flags` (measures above their threshold), `views`
        (views whose distance is) and `score` (mean percentile rank of the measures, 0 to 100).
    """
    found = measure(store, data, kind, column, k, percentile, also, search, reference)
    listed = found.listed(store, found.order(top))
    title = f"greatest outliers among {int(found.members.sum())} stars"
    return from_table(listed, title, COLUMNS, store.artifact)


def measure(
    store: Store,
    data: Dataset,
    kind: str | None = None,
    column: str = "class",
    k: int = 10,
    percentile: float = 99.0,
    also: Mapping[str, NDArray[np.float64]] | None = None,
    search: Search = EXACT,
    reference: NDArray[np.bool_] | None = None,
    discount_noise: bool = False,
) -> Measures:
    """The measures of every star and what is beyond their thresholds.

    Each view gives one measure (distance to the class centroid when a class is named, else mean
    distance to the k nearest training stars); each pair of views gives its disagreement,
    1 - cosine. Without a class each spectrum that the data set was opened with gives two more, what
    ordinary spectra leave of it (`residual`). Thresholds are the given percentile over training
    stars (of the class).

    Args:
        store: Vectors.
        data: The objects; its class column is needed only with `kind`.
        kind: A class, for example ROT.
        column: Which column holds the class.
        k: Neighbours.
        percentile: Of the training stars.
        also: More measures by name ([stars of the store], NaN where unknown; higher is
            less ordinary).
        search: How neighbours are found.
        reference: [stars of the store] what is ordinary, instead of the training stars.
        discount_noise: Divide distances by their median among reference stars of the same S/N.

    Raises:
        UsageError: If there are fewer than two reference stars, or no S/N to discount.

    Source:
        Rizhko & Bloom 2025, arXiv:2411.08842, outlier sections: centroids and 99th percentile.
    """
    members = class_members(store, data, kind, column)
    train = members & (store.of("train") if reference is None else reference)
    snr = signal_to_noise(store, data)
    if discount_noise and snr is None:
        raise UsageError("no star has a signal-to-noise ratio", "leave --discount-noise out")
    if train.sum() < 2:
        raise UsageError(
            f"only {int(train.sum())} {'training' if reference is None else 'reference'} stars"
            + (f" of class {kind}" if kind else ""),
            "embed a larger data set" if reference is None else "--reference for more stars",
        )
    names = sorted(store.modalities)
    measures: dict[str, NDArray[np.float64]] = {}
    for name in names:
        vectors = store.vectors(name)
        if kind is None:
            among = search.among(store, name, train & observed(vectors))
            measures[f"distance {name}"] = knn_distance(among, k, search)
        else:
            measures[f"distance {name}"] = centroid_distance(vectors, train)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            measures[f"disagreement {a}-{b}"] = disagreement(store.vectors(a), store.vectors(b))
    if kind is None:
        at = data_rows(store, data)
        at = np.arange(len(store.source_id)) if at is None else at
        for view in residual.spectra(data):
            ordinary = residual.learn(data, view, at[np.flatnonzero(train)])
            if ordinary is not None:
                measures |= residual.measures(ordinary, data, view, at)
    if discount_noise and snr is not None:
        for name in [n for n in measures if n.partition(" ")[0] in ("distance", *residual.KINDS)]:
            measures[name] = discounted(measures[name], snr, train)
    return flagged(members, train, measures | dict(also or {}), percentile, snr)


def signal_to_noise(store: Store, data: Dataset) -> NDArray[np.float64] | None:
    """[stars of the store] median S/N of a view with errors, else the column `snr`; None: neither.

    Only views that the data set was opened with are looked at.
    """
    found = np.power(10.0, features.noise_of(data, np.arange(len(data.source_id))))
    if not np.isfinite(found).any() and "snr" in data.objects.column_names:
        found = arrays.column(data.objects, "snr").astype(np.float64)
    if not np.isfinite(found).any():
        return None
    at = data_rows(store, data)
    return found if at is None else found[at]


def discounted(
    distance: NDArray[np.float64], snr: NDArray[np.float64], train: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """[stars] distances over the median distance of reference stars of the same S/N (20 parts)."""
    known = train & np.isfinite(distance) & np.isfinite(snr)
    if known.sum() < 40:
        return distance
    edges = np.unique(np.quantile(snr[known], np.linspace(0, 1, 21)[1:-1]))
    place = np.searchsorted(edges, np.nan_to_num(snr, nan=np.median(snr[known])), side="right")
    whole = float(np.median(distance[known])) or 1.0
    ordinary = np.full(len(edges) + 1, whole)
    for part in range(len(ordinary)):
        mine = distance[known & (place == part)]
        if len(mine) >= 2 and np.median(mine) > 0:
            ordinary[part] = np.median(mine)
    return np.asarray(distance * (whole / ordinary[place]))


def flagged(
    members: NDArray[np.bool_], train: NDArray[np.bool_],
    measures: dict[str, NDArray[np.float64]], percentile: float,
    snr: NDArray[np.float64] | None = None,
) -> Measures:  # fmt: skip
    """Measures with their flags: which are above the percentile of the stars `train`."""
    flags, views = (np.zeros(len(members), np.int16) for _ in range(2))
    total, counted = np.zeros(len(members)), np.zeros(len(members), np.int64)
    for name, value in measures.items():
        known = value[train]
        known = known[np.isfinite(known)]
        if len(known) == 0:
            continue
        edge = np.percentile(known, percentile)
        above = value > edge  # NaN is not
        flags += above
        views += above if name.startswith("distance") else 0
        # Where nothing differs the median is 0, and so is every value.
        ratio = np.maximum(value / (float(np.median(known)) or 1.0), LEAST)
        total += np.nan_to_num(np.log(ratio))
        counted += np.isfinite(value)
    total = np.where(counted > 0, np.exp(total / np.maximum(counted, 1)), 0.0)
    if (train & (counted > 0)).any():
        total /= float(np.percentile(total[train & (counted > 0)], percentile)) or 1.0
    return Measures(members, train, measures, flags, views, total, snr)


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
    names, mine = classes_in(store, data, column)
    here = [n for n, c in zip(names, np.bincount(mine + 1, minlength=len(names) + 1)[1:]) if c]
    if kind not in here:
        raise NotFound(
            f"no star of class '{kind}'; {nearest(kind, here)}", f"classes: {', '.join(here)}"
        )
    return np.asarray(mine == names.index(kind), np.bool_)

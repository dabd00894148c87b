"""Every detector at once: which stars are odd, in how many ways, and what they may be instead."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.datasets.build import Dataset
from mmclip.tasks.detectors import (
    Votes,
    classes_of,
    forest,
    in_no_cluster,
    off_the_main_cluster,
    votes,
)
from mmclip.tasks.outliers import class_members, outliers
from mmclip.vectors.store import Store

Row = dict[str, Any]
MISLABELLED, IN_CLASS = "perhaps misclassified", "outlier of its class"


def examine(
    store: Store,
    data: Dataset,
    kind: str | None = None,
    column: str = "class",
    k: int = 10,
    percentile: float = 99.0,
    agree: int = 2,
    places: NDArray[np.float32] | None = None,
    also: Mapping[str, NDArray[np.float64]] | None = None,
) -> tuple[list[Row], Row]:
    """The rows of `outliers` with what the other detectors say, and the parameters used.

    Args:
        store, data, kind, column, k, percentile: See `mmclip.tasks.outliers.outliers`.
        agree: In how many views a star must be beyond its threshold to be an outlier (or in all,
            if it has fewer).
        places: [stars, 2] of a map, or None.
        also: More measures, as in `outliers`; `tasks.generate.surprise` is one.

    Returns:
        Rows with, besides: `forest` (isolation forest on the mean vectors, higher is stranger),
        `no cluster` (DBSCAN on the full vectors), `off map cluster`; where there are classes
        `neighbours say`, `vote`; and `verdict`, one of "perhaps misclassified" (the neighbours,
        more than half of them, are of another class), "outlier of its class", "". The parameters
        hold epsilon and the thresholds' percentile.
    """
    rows = outliers(store, data, kind, column, k, percentile, also)
    members = class_members(store, data, kind, column)
    mean = store.average()
    trees = forest(mean, members & (store.split == "train"))
    lonely = in_no_cluster(store.vectors("mean"))
    about: Row = {"percentile": percentile, "agree": agree, "epsilon vectors": lonely.epsilon}
    off = None
    if places is not None:
        off = off_the_main_cluster(places, members)
        about["epsilon map"] = off.epsilon
    classes, cast = None, None
    if column in data.objects.column_names:
        classes = classes_of(store, data, column)
        if (classes != "").any():
            cast = votes(store, data, "mean", classes)
    place = {int(s): i for i, s in enumerate(store.source_id)}
    needed = min(agree, len(store.modalities))
    for row in rows:
        i = place[row["source_id"]]
        row |= {"forest": float(trees[i]), "no cluster": bool(lonely.noise[i])}
        if off is not None:
            row["off map cluster"] = bool(off.noise[i])
        row["verdict"] = _verdict(row, i, needed, classes, cast)
    return rows, about


def _verdict(row: Row, i: int, needed: int, classes: NDArray | None, cast: Votes | None) -> str:
    """Adds the vote to the row where there is one; what the star seems to be."""
    if classes is not None and cast is not None:
        row |= {
            "class": str(classes[i]), "neighbours say": str(cast.winner[i]),
            "vote": float(cast.share[i]),
        }  # fmt: skip
        if classes[i] and cast.winner[i] != classes[i] and cast.share[i] > 0.5:
            return MISLABELLED
    return IN_CLASS if row["views"] >= needed else ""

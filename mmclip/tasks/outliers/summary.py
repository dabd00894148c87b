"""Every detector at once: which stars are odd, in how many ways, and what they may be instead."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.datasets.build import Dataset
from mmclip.tasks.neighbours import EXACTLY, How, star_of
from mmclip.tasks.outliers import strangeness
from mmclip.tasks.outliers.detectors import (
    classified,
    forest,
    in_no_cluster,
    off_the_main_cluster,
    votes,
)
from mmclip.vectors.store import MEAN, Store

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
    top: int | None = None,
    by_score: bool = False,
    how: How = EXACTLY,
) -> tuple[list[Row], Row]:
    """The rows of `outliers` with what the other detectors say, and the parameters used.

    Args:
        store, data, kind, column, k, percentile: See `mmclip.tasks.outliers.strangeness`.
        agree: In how many views a star must be beyond its threshold to be an outlier (or in all,
            if it has fewer).
        places: [stars, 2] of a map, or None.
        also: More measures, as in `strangeness`; `tasks.generate.surprise` is one.
        top: How many stars are listed, and seen by the other detectors; None for all.
        by_score: Orders them by flags and score instead of flags and total.
        how: How neighbours are looked for; the mean of the views is always asked exactly.

    Returns:
        Rows with, besides: `forest` (isolation forest on the mean vectors, higher is stranger),
        `no cluster` (DBSCAN on the full vectors), `off map cluster`; where there are classes
        `neighbours say`, `vote`; and `verdict`, one of "perhaps misclassified" (the neighbours,
        more than half of them, are of another class), "outlier of its class", "". The parameters
        hold epsilon, the thresholds' percentile and how many `stars` were ordered.
    """
    found = strangeness(store, data, kind, column, k, percentile, also, how)
    shown = found.order(top, by_score)
    rows = found.listed(store, shown)
    members, train = found.members, found.train
    del found  # some 40 bytes a star that the searches below have use for
    trees = forest(store.average, np.flatnonzero(train), shown)
    lonely = in_no_cluster(store.vectors(MEAN), rows=shown, how=how)
    about: Row = {"stars": int(members.sum()), "percentile": percentile, "agree": agree,
                  "epsilon vectors": lonely.epsilon}  # fmt: skip
    for row, tree, i in zip(rows, trees.tolist(), shown, strict=True):
        row |= {"forest": tree, "no cluster": bool(lonely.noise[i])}
    if places is not None:
        off = off_the_main_cluster(places, members)
        about["epsilon map"] = off.epsilon
        for row, i in zip(rows, shown, strict=True):
            row["off map cluster"] = bool(off.noise[i])
    if column in data.objects.column_names:
        _vote(rows, store, data, column, shown, how)
    needed = min(agree, len(store.modalities))
    for row in rows:
        row["verdict"] = _verdict(row, needed)
    return rows, about


def _vote(
    rows: list[Row], store: Store, data: Dataset, column: str, shown: NDArray[np.int64], how: How
) -> None:
    """Add what the neighbours of each star say of its class, where there are classes."""
    names, codes = classified(store, data, column)
    if not names:
        return
    cast = votes(store, MEAN, codes, star_of(store, data), shown, how=how)
    spelled = [*names, ""]
    for row, own, winner, share in zip(rows, codes[shown], cast.winner, cast.share, strict=True):
        row |= {"class": spelled[own], "neighbours say": spelled[winner], "vote": float(share)}


def _verdict(row: Row, needed: int) -> str:
    """What the star seems to be."""
    own, other = row.get("class"), row.get("neighbours say")
    if own and other != own and row["vote"] > 0.5:
        return MISLABELLED
    return IN_CLASS if row["views"] >= needed else ""

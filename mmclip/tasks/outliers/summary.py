"""Every detector at once: which stars are outliers, by which measures, or perhaps misclassified."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip.config import Count, Range, Whole, check
from mmclip.datasets.build import Dataset
from mmclip.results import Result, from_table
from mmclip.tasks.neighbours import EXACT, Search, star_of
from mmclip.tasks.outliers import COLUMNS, measure
from mmclip.tasks.outliers.detectors import (
    classified,
    forest,
    outside_clusters,
    outside_main_cluster,
    votes,
)
from mmclip.vectors.store import MEAN, Store

MISLABELLED, IN_CLASS = "perhaps misclassified", "outlier of its class"
EACH = "each"  # instead of a class: every class
FEWEST = 20  # stars of a class that is looked at by `each`


@dataclass(frozen=True)
class Settings:
    """Settings of `mmclip outliers`.

    Attributes:
        kind: A class, `each` for every class of 20 stars or more, or None for all stars.
        column: Which column holds the class.
        k: Neighbours, without a class.
        percentile: Threshold of every measure, among the training stars.
        agree: Views in which an outlier is beyond the threshold (or all, if it has fewer).
        top: How many stars are listed; None for all.
        discount_noise: Divide distances by those of reference stars of the same S/N.
    """

    kind: str | None = None
    column: str = "class"
    k: Count = 10
    percentile: Annotated[float, Range(0, 100)] = 99.0
    agree: Whole = 2
    top: Count | None = 20
    discount_noise: bool = False

    def __post_init__(self) -> None:
        check("outliers", self)


def find(
    store: Store,
    data: Dataset,
    settings: Settings,
    positions: NDArray[np.float32] | None = None,
    also: Mapping[str, NDArray[np.float64]] | None = None,
    search: Search = EXACT,
    reference: NDArray[np.bool_] | None = None,
) -> Result:
    """The greatest outliers among all stars, of a class, or of each class.

    Args:
        store, data: Vectors, and the objects with their classes.
        settings: See `Settings`.
        positions: [stars, 2] on a map, or None.
        also: More measures; see `mmclip.tasks.outliers.measure`.
        search: How neighbours are found.
        reference: [stars of the store] what is ordinary; None for the training stars.

    Returns:
        Rows of `examine`; its notes are the parameters used for each class.
    """
    each = settings.kind == EACH
    kinds = _large_classes(store, data, settings.column) if each else [settings.kind]
    made: list[Result] = []
    notes: list[str] = []
    stars = 0
    for kind in kinds:
        result, used = examine(
            store, data, kind, settings.column, settings.k, settings.percentile, settings.agree,
            positions, also, settings.top, each, search, reference,
            settings.discount_noise,
        )  # fmt: skip
        stars += used.stars
        notes.append(f"{kind or 'all stars'}: {used}")
        made.append(result)
    table = pa.concat_tables([r.table for r in made], promote_options="default")
    if each:
        order = np.argsort(-np.nan_to_num(table["score"].to_numpy()), kind="stable")
        table = table.take(pa.array(order))
    among = f" of class {settings.kind}" if settings.kind else ""
    title = f"strangest stars among {stars}{among}"
    listed = table.slice(0, settings.top or len(table))
    return from_table(listed, title, COLUMNS, store.artifact, notes=notes)


def _large_classes(store: Store, data: Dataset, column: str) -> list[str | None]:
    names, codes = classified(store, data, column)
    counts = np.bincount(codes + 1, minlength=len(names) + 1)[1:]
    return [name for name, count in zip(names, counts) if count >= FEWEST]


@dataclass(frozen=True)
class Used:
    """How many stars were ordered, and the parameters of the detectors (None: not used)."""

    stars: int
    percentile: float
    agree: int
    epsilon_vectors: float
    epsilon_map: float | None

    def __str__(self) -> str:
        words = f"percentile {self.percentile:.4g}, agree {self.agree}"
        words += f", epsilon vectors {self.epsilon_vectors:.4g}"
        return words + (f", epsilon map {self.epsilon_map:.4g}" if self.epsilon_map else "")


def examine(
    store: Store,
    data: Dataset,
    kind: str | None = None,
    column: str = "class",
    k: int = 10,
    percentile: float = 99.0,
    agree: int = 2,
    positions: NDArray[np.float32] | None = None,
    also: Mapping[str, NDArray[np.float64]] | None = None,
    top: int | None = None,
    by_score: bool = False,
    search: Search = EXACT,
    reference: NDArray[np.bool_] | None = None,
    discount_noise: bool = False,
) -> tuple[Result, Used]:
    """The rows of `outliers` with what the other detectors say, and the parameters used.

    Args:
        store, data, kind, column, k, percentile: See `mmclip.tasks.outliers.measure`.
        agree: In how many views a star must be beyond its threshold to be an outlier (or in all,
            if it has fewer).
        positions: [stars, 2] on a map, or None.
        also: More measures, as in `measure`; `tasks.generate.surprise` is one.
        top: How many stars are listed, and seen by the other detectors; None for all.
        by_score: Orders them by score instead of `excess`.
        search: How neighbours are found; the mean of the views is always searched exactly.
        reference, discount_noise: See `measure`.

    Returns:
        Rows with, besides: `forest` (isolation forest on the mean vectors),
        `no cluster` (DBSCAN on the full vectors), `off map cluster`; where there are classes
        `neighbours say`, `vote`; and `verdict`, one of "perhaps misclassified" (the neighbours,
        more than half of them, are of another class), "outlier of its class", "". And the
        parameters used.
    """
    found = measure(
        store, data, kind, column, k, percentile, also, search, reference, discount_noise
    )
    shown = found.order(top, by_score)
    table = found.listed(store, shown)
    members, train = found.members, found.train
    del found  # some 40 bytes a star that the searches below have use for
    trees = forest(store.average, np.flatnonzero(train), shown)
    alone = outside_clusters(store.vectors(MEAN), rows=shown, search=search)
    table = table.append_column("forest", pa.array(trees))
    table = table.append_column("no cluster", pa.array(alone.noise[shown]))
    epsilon_map = None
    if positions is not None:
        outside = outside_main_cluster(positions, members)
        epsilon_map = outside.epsilon
        table = table.append_column("off map cluster", pa.array(outside.noise[shown]))
    if column in data.objects.column_names:
        table = _with_votes(table, store, data, column, shown, search)
    if "class" in table.column_names:  # without classes there is nothing to be wrong about
        table = table.append_column("verdict", _verdict(table, min(agree, len(store.modalities))))
    used = Used(int(members.sum()), percentile, agree, alone.epsilon, epsilon_map)
    title = "greatest outliers" + (f" of class {kind}" if kind else "")
    return from_table(table, title, COLUMNS, store.artifact), used


def _with_votes(
    table: pa.Table, store: Store, data: Dataset, column: str, shown: NDArray[np.int64],
    search: Search,
) -> pa.Table:  # fmt: skip
    """The table with what the neighbours of each star say of its class, where there are classes."""
    names, codes = classified(store, data, column)
    if not names:
        return table
    cast = votes(store, MEAN, codes, star_of(store, data), shown, search=search)
    spelled = pa.array([*names, ""])  # -1 is the last: unknown
    for name, kinds in (("class", codes[shown]), ("neighbours say", cast.winner)):
        table = table.append_column(name, spelled.take(pa.array(kinds % len(spelled))))
    return table.append_column("vote", pa.array(cast.share))


def _verdict(table: pa.Table, needed: int) -> pa.Array:
    """What each star seems to be."""
    beyond = table["views"].to_numpy() >= needed
    verdict = np.where(beyond, IN_CLASS, "").astype(object)
    if "class" in table.column_names:
        other = pc.and_(
            pc.not_equal(table["class"], ""), pc.not_equal(table["class"], table["neighbours say"])
        ).to_numpy()
        verdict[other & (table["vote"].to_numpy() > 0.5)] = MISLABELLED
    return pa.array(verdict, pa.string())

"""The nearest other stars: metric and weights, exact or by an index, never the star itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mmclip import arrays, sky
from mmclip.arrays import encode
from mmclip.artifacts import Artifact
from mmclip.config import Count, Range, Whole, check
from mmclip.datasets import memmap
from mmclip.datasets.build import Dataset
from mmclip.errors import UsageError
from mmclip.ids import reorder
from mmclip.results import Value
from mmclip.vectors import sharded
from mmclip.vectors.exact import ExactRows, Find
from mmclip.vectors.store import MEAN, Store

SAME_STAR = 2.0  # arcsec: two ids closer than this are one star, never each other's neighbour
LEAVE_ONE_OUT: Literal["leave-one-out"] = "leave-one-out"
Weights = Literal["uniform", "distance"]
Metric = Literal["euclidean", "cosine", "manhattan"]
Scale = Literal["none", "standard"]
Split = Literal["test", "validation", "leave-one-out"]
QUERIES = 16_384  # stars that ask an index at a time; four times as many are asked exactly
PAIR, DIMENSION = 3e-10, 2e-11  # s of one core that a pair of stars takes, and a dimension of it
LONG = 60.0  # s
WORKING = 64  # MB of distances that scikit-learn holds at a time
HINT = (
    "of a view an index asks fewer: mmclip index --add --factory 'IVF4096,Flat', then --index NAME"
)


@dataclass(frozen=True)
class Options:
    """Settings of k-NN that change its numbers; every row of an answer carries them.

    Attributes:
        k: Neighbours.
        weights: `uniform`, or `distance` (1 / distance; exact matches alone where there are any).
        metric: `euclidean`, `cosine` (1 - cosine) or `manhattan`. Vectors have unit length, so
            the first two find the same neighbours.
        scale: `none`, or `standard`: each dimension to mean 0 and deviation 1 of the references.
        split: Who is asked: `test`, `validation` (references: `train`) or `leave-one-out`.
        coverage: Fraction of the stars that the conformal interval should hold.
        resamples: Of the bootstrap; 0 for none.
        numbered: Columns of numbers hold numbers of classes too, and are not averaged.
    """

    k: Count = 13
    weights: Weights = "uniform"
    metric: Metric = "euclidean"
    scale: Scale = "none"
    split: Split = "test"
    coverage: Annotated[float, Range(0, 1, above=True, below=True)] = 0.683
    resamples: Whole = 0
    numbered: bool = False

    def __post_init__(self) -> None:
        if self.split not in get_args(Split):
            raise UsageError(
                f"--split {self.split} would find each star in its own reference",
                f"choose {', '.join(get_args(Split))}",
            )
        check("knn", self)


@dataclass(frozen=True)
class Search:
    """Search strategy: exact, or an index.

    Attributes:
        index: A sharded index of the store's views; None: exact search. The mean of the views has
            no index and is always searched exactly.
        progress: Is given a line about each long search, and how far it is.
    """

    index: Artifact | None = None
    progress: Callable[[str], None] = lambda text: None

    def among(self, store: Store, view: str, allowed: NDArray[np.bool_]) -> ExactRows:
        """The stars of a store that may be neighbours in a view.

        Raises:
            UsageError: If the index lacks some of them.
        """
        vectors = store.vectors(view)
        if self.index is None or view == MEAN:
            return ExactRows(vectors, allowed)
        index = sharded.read(self.index, store, view)
        lacking = allowed.copy()
        for rows in index.rows:
            lacking[rows] = False
        if lacking.any():
            raise UsageError(
                f"{self.index.path} lacks {int(lacking.sum())} of the stars that were observed in "
                f"{view}",
                f"mmclip index --add --index {self.index.path.name}",
            )
        return ExactRows(vectors, allowed, index)

    def about(self, view: str) -> dict[str, Value]:
        """Which index is asked in a view, and its recall; nothing where the search is exact."""
        if self.index is None or view == MEAN:
            return {}
        found = self.index.manifest.notes["indexes"][view]
        return {
            "index": f"{self.index.path.name} ({found['factory']})",
            "index recall@10": found["recall@10"],
        }


EXACT = Search()


def observed(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """[objects] True where a row is finite."""
    seen = np.empty(len(vectors), np.bool_)
    for part in memmap.blocks(*vectors.shape):
        seen[part] = np.isfinite(vectors[part, 0])
    return seen


def asked(
    among: ExactRows,
    queries: NDArray[np.float32],
    rows: NDArray[np.int64],
    k: int,
    progress: Callable[[str], None] = EXACT.progress,
) -> Iterator[tuple[slice, NDArray[Any], NDArray[np.int64]]]:
    """Neighbours of rows of a matrix, some at a time.

    Args:
        among: Who may be found.
        queries: [objects, dim], held or mapped.
        rows: Which of them ask.
        k: Neighbours each.
        progress: Is given a line before a search of more than a minute, and how far it is.

    Returns:
        Iterator over (part of `rows`, scores [part, k], rows of `among.vectors` [part, k]).
    """
    seconds = len(rows) * int(among.allowed.sum()) * (PAIR + DIMENSION * queries.shape[1])
    long = among.index is None and seconds > LONG
    if long:
        progress(
            f"{len(rows):,} stars against {int(among.allowed.sum()):,}, exactly: at most about "
            f"{seconds / 60:,.0f} core minutes" + (f" ({HINT})" if seconds > 10 * LONG else "")
        )
    long |= among.index is not None and len(rows) > 16 * QUERIES
    step = 4 * QUERIES if among.index is None else QUERIES
    for start in range(0, len(rows), step):
        part = slice(start, min(start + step, len(rows)))
        yield part, *among.search(queries[rows[part]], k)
        if long:
            progress(f"{part.stop:,} of {len(rows):,} stars asked")


def same_star(data: Dataset) -> NDArray[np.int64]:
    """[objects] a number that rows of one star share: ids closer than 2 arcsec on the sky."""
    if not {"ra", "dec"} <= set(data.objects.column_names):
        return np.arange(len(data.objects))
    ra, dec = (arrays.column(data.objects, n).astype(float, copy=False) for n in ("ra", "dec"))
    return sky.together(ra, dec, SAME_STAR)


def star_of(store: Store, data: Dataset) -> NDArray[np.int64]:
    """[stars of the store] a number that rows of one star share; see `same_star`.

    Raises:
        UsageError: If the data set lacks a star of the store.
    """
    number, at = same_star(data), data_rows(store, data)
    return number if at is None else number[at]


def data_rows(store: Store, data: Dataset) -> NDArray[np.int64] | None:
    """[stars of the store] row of each in the data set; None if they are in the same order.

    Raises:
        UsageError: If the data set lacks one.
    """
    at = reorder(data.source_id, store.source_id)
    if at is not None and (at < 0).any():
        raise UsageError(
            f"{data.artifact.path} lacks stars of {store.artifact.path}", "mmclip embed --force"
        )
    return at


def classes_in(store: Store, data: Dataset, column: str) -> tuple[list[str], NDArray[np.int32]]:
    """The texts of a column, sorted, and [stars of the store] which one; -1 where unknown."""
    names, codes = encode(data.objects, column)
    at = reorder(data.source_id, store.source_id)
    return names, codes if at is None else np.where(at >= 0, codes[at], np.int32(-1))


def neighbours(
    among: ExactRows,
    queries: NDArray[np.float32],
    rows: NDArray[np.int64],
    options: Options,
    star: NDArray[np.int64],
    progress: Callable[[str], None] = EXACT.progress,
) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.int64]]]:
    """Distances and rows of the nearest references of other stars, some queries at a time.

    Args:
        among: The references, rows of a matrix [stars, dim].
        queries: [stars, dim], row by row the same stars.
        rows: Which of them ask.
        options: Number of neighbours, metric and scale.
        star: [stars] equal numbers are not neighbours; see `same_star`.
        progress: See `asked`.

    Returns:
        Iterator over (part of `rows`, distances [part, k], rows of references [part, k]); k is at
        most the references that are left.

    Raises:
        UsageError: If an index is to find neighbours in a metric that is not its own.
    """
    count = int(among.allowed.sum())
    shared = np.bincount(star[among.allowed], minlength=int(star.max()) + 1)
    extra = int(shared.max()) if shared[star[rows]].any() else 0
    take = min(options.k + extra, count)
    plain = options.scale == "none" and options.metric != "manhattan"
    if not plain:
        if among.index is not None:
            raise UsageError(
                "an index knows the euclidean and cosine metric without a scale", "no --index"
            )
        among = ExactRows(among.vectors, among.allowed, find=_finder(among, options))
    for part, score, found in asked(among, queries, rows, take, progress):
        away = np.maximum(1 - score.astype(np.float64), 0.0) if plain else -score
        distance = np.sqrt(2 * away) if plain and options.metric != "cosine" else away
        same = star[found] == star[rows[part]][:, None]
        order = np.argsort(same, axis=1, kind="stable")[:, : max(1, min(options.k, take - extra))]
        yield part, np.take_along_axis(distance, order, 1), np.take_along_axis(found, order, 1)


def _finder(among: ExactRows, options: Options) -> Find:
    """A block's nearest in a metric of scikit-learn, dimensions scaled if that is asked."""
    if options.scale == "standard":
        return partial(_measured, options.metric, *moments(among.vectors, among.allowed))
    return partial(_measured, options.metric, np.zeros(1, np.float32), np.ones(1, np.float32))


def _measured(
    metric: str,
    centre: NDArray[Any],
    spread: NDArray[Any],
    queries: NDArray[Any],
    block: NDArray[Any],
    k: int,
) -> tuple[NDArray[Any], NDArray[Any]]:
    from sklearn import config_context
    from sklearn.neighbors import NearestNeighbors

    made = NearestNeighbors(metric=metric, algorithm="brute").fit((block - centre) / spread)
    with config_context(working_memory=WORKING):
        distance, found = made.kneighbors((queries - centre) / spread, k)
    return -distance, found


def moments(
    vectors: NDArray[np.float32], allowed: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation (1 where it is 0) of each dimension, a block at a time."""
    total, square = (np.zeros(vectors.shape[1]) for _ in range(2))
    for part in memmap.blocks(*vectors.shape):
        total += vectors[part][allowed[part]].sum(axis=0, dtype=np.float64)
    centre = total / allowed.sum()
    for part in memmap.blocks(*vectors.shape):
        square += ((vectors[part][allowed[part]] - centre) ** 2).sum(axis=0)
    spread = np.sqrt(square / allowed.sum())
    return centre.astype(np.float32), np.where(spread > 0, spread, 1).astype(np.float32)


def weigh(distance: NDArray[np.float64], weights: Weights) -> NDArray[np.float64]:
    """[queries, k] weights that sum to 1; exact matches share the whole weight."""
    if weights == "uniform":
        return np.full(distance.shape, 1 / distance.shape[1])
    exact = distance <= 1e-6
    with np.errstate(divide="ignore", over="ignore"):
        raw = np.where(exact.any(axis=1, keepdims=True), exact, 1 / distance)
    return np.asarray(raw / raw.sum(axis=1, keepdims=True), float)

"""Exact search by cosine: over all vectors, or over those rows that may be neighbours.

Vectors may lie in memory or stay on disk, mapped: they are compared a block at a time, and none is
copied. `Index` and `Found` are what every way of searching is and gives.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmclip.artifacts import Artifact, Json, paths, write_atomic
from mmclip.datasets import memmap
from mmclip.vectors import cells

SCORES = 2**21  # at a time: 8 MB, and 24 MB while the best are found
BACKEND = "numpy, exact, mapped from disk"
BLOCK = 16 * 2**20  # bytes of vectors that are compared with the queries at a time
FARTHEST = 64  # times k: beyond so many candidates of an index the search is exact

CLOSE = 4e-6  # cosines in float32 that differ by less may be in the wrong order
PAIRS, FEW = 2**25, 1024  # from and up to so many answers compiled loops pay, their loading too
MOST = 8192  # candidates of a query that are put in order by the differences of their vectors

# Scores and rows [queries, k], best first; row -1 where there are fewer than k.
Found = tuple[NDArray[np.floating], NDArray[np.int64]]
Block = tuple[NDArray[np.int64], NDArray[np.float32]]  # numbers of vectors, and these
Find = Callable[[NDArray[np.float32], NDArray[np.float32], int], Found]


class Index(Protocol):
    """What every backend answers."""

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """See `Found`."""


class Entries(Index, Protocol):
    """An index over some rows of a matrix, in one part or several."""

    @property
    def rows(self) -> tuple[NDArray[np.int64], ...]:
        """The row behind each entry of each part."""


def have_faiss() -> bool:
    """True if the module `faiss` can be imported."""
    return find_spec("faiss") is not None


@dataclass(frozen=True)
class Exact:
    """Inner products with vectors [objects, dim]; a row of NaN is none and never found.

    Attributes:
        vectors: Held or mapped; a block at a time is looked at.
        among: Ascending rows that alone may be found, and are counted then; None: all.
    """

    vectors: NDArray[np.float32]
    among: NDArray[np.int64] | None = None

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """See `Found`; a row of `among` is named by its place there."""
        return best_of(queries, k, self._blocks())

    def _blocks(self) -> Iterator[Block]:
        for part in memmap.blocks(*self.vectors.shape):
            if self.among is None:
                yield np.arange(part.start, part.stop), self.vectors[part]
                continue
            first, end = np.searchsorted(self.among, (part.start, part.stop)).tolist()
            if end > first:
                yield np.arange(first, end), self.vectors[self.among[first:end]]


def best_of(queries: NDArray[np.float32], k: int, blocks: Iterable[Block]) -> Found:
    """The k vectors of all blocks with the largest inner products; of equal ones the lower numbers.

    Args:
        queries: [queries, dim].
        k: Answers each.
        blocks: Vectors [rows, dim] and their numbers, ascending; a row of NaN is none.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    for numbers, block in blocks:
        pays = len(queries) * len(block) >= PAIRS and k <= FEW
        if pays and cells.update(queries, numbers, block, scores, rows):
            continue
        step = max(1, SCORES // len(block))
        for start in range(0, len(queries), step):
            some = slice(start, start + step)
            found = queries[some] @ block.T
            scores[some], rows[some] = _merged(scores[some], rows[some], found, numbers)
    return scores, rows


def _merged(
    scores: NDArray[np.floating], rows: NDArray[np.int64], found: NDArray[np.float32],
    numbers: NDArray[np.int64],
) -> Found:  # fmt: skip
    """The best k of [queries, k] scores and of those of one more block, whose numbers are given."""
    k = scores.shape[1]
    found[np.isnan(found)] = -np.inf
    best = _best(found, k)
    scores = np.concatenate([scores, np.take_along_axis(found, best, 1)], axis=1)
    rows = np.concatenate([rows, numbers[best]], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    scores = np.take_along_axis(scores, order, 1)
    return scores, np.where(scores > -np.inf, np.take_along_axis(rows, order, 1), -1)


def _best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns of the k highest of each row, all of them if they are fewer; ascending columns."""
    if k >= scores.shape[1]:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)


def merge(scores: NDArray[np.floating], rows: NDArray[np.int64], k: int) -> Found:
    """The k best of candidates [queries, any number], by score, then by row; padded with -1."""
    order = np.lexsort((rows, -scores), axis=-1)[:, :k]
    best, which = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
    lacking = ((0, 0), (0, k - order.shape[1]))
    return (
        np.pad(best, lacking, constant_values=-np.inf),
        np.pad(which, lacking, constant_values=-1),
    )


def rescored(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """[queries, candidates] cosines in float64, from the differences of unit vectors.

    1 - |a - b|^2 / 2 is exact where the product of a and b in float32 is 1 for all that are closer
    than 3e-4 rad; 1 for equal vectors, -inf for row -1.
    """
    scores = np.full(rows.shape, -np.inf)
    step = max(BLOCK // (8 * max(rows.shape[1], 1) * vectors.shape[1]), 1)
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        there = rows[some] >= 0
        if there.any():
            query, column = np.nonzero(there)
            away = vectors[rows[some][there]].astype(np.float64) - queries[some][query]
            scores[start + query, column] = 1 - 0.5 * np.einsum("ij,ij->i", away, away)
    scores[np.isnan(scores)] = -np.inf
    return scores


def refined(
    search: Callable[[NDArray[np.float32], int], Found],
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    k: int,
    count: int,
) -> Found:
    """The k nearest in the order of `rescored`, of candidates that a coarser search names.

    The search is asked for more than k, and again for more where the last of them is as close as
    the k-th to within what float32 tells apart.

    Args:
        search: (queries, how many) -> scores and rows of `vectors`, best first.
        vectors: [objects, dim] unit vectors.
        queries: [queries, dim] unit vectors.
        k: Neighbours.
        count: How many there are to be found.
    """
    scores, rows = np.full((len(queries), k), -np.inf), np.full((len(queries), k), -1, np.int64)
    asked, take = np.arange(len(queries)), min(2 * k + 8, count)
    while len(asked) and take:
        coarse, found = search(queries[asked], take)
        again = np.zeros(len(asked), bool)
        if take < min(count, MOST) and take > k:
            again = (coarse[:, k - 1] - coarse[:, -1] <= CLOSE) & (found[:, -1] >= 0)
        done = ~again
        found = found[done]
        fine = rescored(vectors, queries[asked[done]], found)
        scores[asked[done]], rows[asked[done]] = merge(fine, np.where(fine > -np.inf, found, -1), k)
        asked, take = asked[again], min(8 * take, max(MOST, k), count)
    return scores, rows


@dataclass(frozen=True)
class ExactRows:
    """The rows of a matrix that may be neighbours; see `Index`.

    Blocks and their order depend on the matrix's shape alone, so vectors mapped from the disk have
    the neighbours of the same vectors in memory, ties included: of equal scores the lower row goes
    first.

    Attributes:
        vectors: [objects, dim].
        allowed: [objects] True for those that may be found; finite ones alone.
        index: An index in parts over `vectors` that is asked instead; None: exact. Its candidates
            are scored by their vectors. A query for which it finds fewer than k is asked exactly.
        find: How a block is searched, a higher score is nearer; None: by cosine.
    """

    vectors: NDArray[np.float32]
    allowed: NDArray[np.bool_]
    index: Entries | None = None
    find: Find | None = None

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """Scores and rows of `vectors` [queries, k], best first; row -1 where there are fewer.

        Of unit vectors cosines, in float64; see `refined`.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        if self.find is not None:
            return self._coarse(queries, k)
        return refined(self._coarse, self.vectors, queries, k, int(self.allowed.sum()))

    def _coarse(self, queries: NDArray[np.float32], k: int) -> Found:
        if self.index is None:
            return self._exactly(queries, k)
        count = int(self.allowed.sum())
        entries = sum(len(rows) for rows in self.index.rows)
        take = int(np.ceil(1.1 * k * entries / max(count, 1))) + 4
        if take > FARTHEST * k:
            return self._exactly(queries, k)
        scores, rows = self._candidates(self.index, queries, min(take, entries), k)
        lacking = rows[:, min(k, count) - 1] < 0
        if lacking.any():
            scores[lacking], rows[lacking] = self._exactly(queries[lacking], k)
        return scores, rows

    def _exactly(self, queries: NDArray[np.float32], k: int) -> Found:
        if self.find is None:
            return best_of(queries, k, self._blocks())
        scores, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), int)
        for mine, block in self._blocks():
            value, near = self.find(queries, block, min(k, len(mine)))
            value, near = np.concatenate([scores, value], 1), np.concatenate([rows, mine[near]], 1)
            scores, rows = merge(value, near, k)
        return merge(scores, rows, k)

    def _blocks(self) -> Iterator[Block]:
        step = max(BLOCK // (4 * self.vectors.shape[1]), 1)
        for start in range(0, len(self.vectors), step):
            mine = start + np.flatnonzero(self.allowed[start : start + step])
            if len(mine):
                yield mine, self.vectors[mine]

    def _candidates(self, index: Entries, queries: NDArray[np.float32], take: int, k: int) -> Found:
        """The best k of those that the index names, by the products of the vectors themselves."""
        scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), int)
        step = max(BLOCK // (8 * take * self.vectors.shape[1]), 1)
        for start in range(0, len(queries), step):
            some = slice(start, start + step)
            found = index.search(queries[some], take)[1]
            value = np.einsum("qkd,qd->qk", self.vectors[found], queries[some])
            value[(found < 0) | ~self.allowed[found]] = -np.inf
            found[np.isneginf(value)] = -1
            scores[some], rows[some] = merge(value, found, k)
        return scores, rows


def write(folder: Path, name: str, count: int) -> Json:
    """Write `index/<name>.json`, which says that the vectors themselves are searched."""
    (folder / "index").mkdir(exist_ok=True)
    about = {
        "modality": name, "factory": "Flat", "metric": "inner product of unit vectors (cosine)",
        "vectors": count, "recall@10": 1.0, "held out": 0, "backend": BACKEND,
    }  # fmt: skip
    write_atomic(folder / paths.index_notes(name), json.dumps(about, indent=2).encode())
    return about


def stored(artifact: Artifact, name: str) -> bool:
    """Whether there is no index of the view besides its vectors."""
    return paths.index(name) not in artifact.manifest.files

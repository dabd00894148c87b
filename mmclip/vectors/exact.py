"""Exact search by cosine: over all vectors, or over those rows that may be neighbours.

Vectors may lie in memory or stay on disk, mapped: they are compared a block at a time, and none is
copied. `Index` and `Found` are what every way of searching is and gives.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmclip.artifacts import Artifact, Json, paths, write_atomic
from mmclip.datasets import memmap

SCORES = 2**21  # at a time: 8 MB, and 24 MB while the best are found
BACKEND = "numpy, exact, mapped from disk"
BLOCK = 16 * 2**20  # bytes of vectors that are compared with the queries at a time
FARTHEST = 64  # times k: beyond so many candidates of an index the search is exact

# Scores and rows [queries, k], best first; row -1 where there are fewer than k.
Found = tuple[NDArray[np.float32], NDArray[np.int64]]
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
    """Inner products with every vector [objects, dim]; a row of NaN is none and never found."""

    vectors: NDArray[np.float32]

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """See `Found`."""
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        parts = list(memmap.blocks(*self.vectors.shape))
        step = max(1, SCORES // max((p.stop - p.start for p in parts), default=1))
        for start in range(0, len(queries), step):
            some = slice(start, start + step)
            for part in parts:
                found = queries[some] @ self.vectors[part].T
                scores[some], rows[some] = _merged(scores[some], rows[some], found, part.start)
        return scores, rows


def _merged(
    scores: NDArray[np.float32], rows: NDArray[np.int64], found: NDArray[np.float32], first: int
) -> Found:
    """The best k of [queries, k] scores and of those of one more block that begins at `first`."""
    k = scores.shape[1]
    found[np.isnan(found)] = -np.inf
    best = _best(found, k)
    scores = np.concatenate([scores, np.take_along_axis(found, best, 1)], axis=1)
    rows = np.concatenate([rows, best + first], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    scores = np.take_along_axis(scores, order, 1)
    return scores, np.where(scores > -np.inf, np.take_along_axis(rows, order, 1), -1)


def _best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns of the k highest of each row, all of them if they are fewer; ascending columns."""
    if k >= scores.shape[1]:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)


def merge(scores: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> Found:
    """The k best of candidates [queries, any number], by score, then by row; padded with -1."""
    order = np.lexsort((rows, -scores), axis=-1)[:, :k]
    best, which = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
    lacking = ((0, 0), (0, k - order.shape[1]))
    return (
        np.pad(best, lacking, constant_values=-np.inf),
        np.pad(which, lacking, constant_values=-1),
    )


def cosines(queries: NDArray[np.float32], block: NDArray[np.float32], k: int) -> Found:
    """Scores and rows [queries, k] of the vectors of a block with the largest inner products."""
    if not have_faiss():
        return Exact(block).search(queries, k)
    import faiss

    found: Found = faiss.knn(queries, block, k, metric=faiss.METRIC_INNER_PRODUCT)
    return found


@dataclass(frozen=True)
class ExactRows:
    """The rows of a matrix that may be neighbours; see `Index`.

    Blocks and their order depend on the matrix's shape alone, so vectors mapped from the disk have
    the neighbours of the same vectors in memory, ties included: of equal scores the lower row goes
    first, and within a block FAISS decides which of them are kept.

    Attributes:
        vectors: [objects, dim].
        allowed: [objects] True for those that may be found; finite ones alone.
        index: An index in parts over `vectors` that is asked instead; None: exact. Its candidates
            are scored by their vectors. A query for which it finds fewer than k is asked exactly.
        find: How a block is searched; a higher score is nearer.
    """

    vectors: NDArray[np.float32]
    allowed: NDArray[np.bool_]
    index: Entries | None = None
    find: Find = cosines

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """Scores and rows of `vectors` [queries, k], best first; row -1 where there are fewer."""
        queries = np.ascontiguousarray(queries, np.float32)
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
        scores, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), int)
        step = max(BLOCK // (4 * self.vectors.shape[1]), 1)
        for start in range(0, len(self.vectors), step):
            mine = start + np.flatnonzero(self.allowed[start : start + step])
            if len(mine) == 0:
                continue
            value, near = self.find(queries, self.vectors[mine], min(k, len(mine)))
            value, near = np.concatenate([scores, value], 1), np.concatenate([rows, mine[near]], 1)
            scores, rows = merge(value, near, k)
        return merge(scores, rows, k)

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
